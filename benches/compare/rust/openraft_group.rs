//! Three nodes of openraft on one runtime, their logs in memory; a call to a peer is a call of its handle.
//!
//! Owns the storage and the network that the library asks for. Entries share their payload, so that nothing but the library takes time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, OnceLock};

use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::{
    Config, EmptyNode, Entry, EntryPayload, LogId, OptionalSend, Raft, RaftLogReader,
    RaftSnapshotBuilder, SnapshotMeta, SnapshotPolicy, StorageError, StoredMembership, Vote,
};

use super::Group;

type NodeId = u64;
type Stored<T> = Result<T, StorageError<NodeId>>;

/// A record.
#[derive(Clone)]
pub struct Payload(Arc<[u8]>);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the state machine answers.
#[derive(Debug)]
pub struct Applied;

openraft::declare_raft_types!(
    pub Types:
        D = Payload,
        R = Applied,
        NodeId = NodeId,
        Node = EmptyNode,
        Entry = Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
);

type Handles = Arc<OnceLock<Vec<Raft<Types>>>>;

pub struct Openraft {
    leader: Raft<Types>,
    /// The others live as long.
    _handles: Handles,
}

impl Group for Openraft {
    async fn write(&self, payload: Arc<[u8]>) {
        let written = self.leader.client_write(Payload(payload)).await;
        written.expect("the leader goes on leading");
    }
}

pub async fn start() -> Openraft {
    let config = Config {
        heartbeat_interval: 100,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        max_payload_entries: 1024,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    let config = Arc::new(config.validate().expect("the settings are sound"));
    let handles = Handles::default();
    let mut rafts = Vec::new();
    for id in 0..3 {
        let network = Network(Arc::clone(&handles));
        let raft = Raft::new(
            id,
            Arc::clone(&config),
            network,
            Log::default(),
            Machine::default(),
        )
        .await;
        rafts.push(raft.expect("an empty node starts"));
    }
    let leader = rafts[0].clone();
    assert!(handles.set(rafts).is_ok(), "set once");
    let members: BTreeMap<NodeId, EmptyNode> = (0..3).map(|id| (id, EmptyNode {})).collect();
    leader.initialize(members).await.expect("it is new");
    let wait = leader.wait(None);
    let elected = wait.state(openraft::ServerState::Leader, "node 0 leads");
    elected.await.expect("nobody else campaigns");
    Openraft {
        leader,
        _handles: handles,
    }
}

#[derive(Clone)]
struct Network(Handles);

struct Link {
    handles: Handles,
    target: NodeId,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, _: &EmptyNode) -> Link {
        Link {
            handles: Arc::clone(&self.0),
            target,
        }
    }
}

impl Link {
    fn peer(&self) -> &Raft<Types> {
        &self.handles.get().expect("set before anyone leads")[self.target as usize]
    }
}

type Called<T, E = openraft::error::Infallible> =
    Result<T, RPCError<NodeId, EmptyNode, RaftError<NodeId, E>>>;

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Called<AppendEntriesResponse<NodeId>> {
        let answer = self.peer().append_entries(rpc).await;
        answer.map_err(|error| RemoteError::new(self.target, error).into())
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Called<InstallSnapshotResponse<NodeId>, InstallSnapshotError> {
        let answer = self.peer().install_snapshot(rpc).await;
        answer.map_err(|error| RemoteError::new(self.target, error).into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Called<VoteResponse<NodeId>> {
        let answer = self.peer().vote(rpc).await;
        answer.map_err(|error| RemoteError::new(self.target, error).into())
    }
}

/// A log that is never purged: entries are small, as they share their payload.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// Index 0 first.
    entries: VecDeque<Entry<Types>>,
    vote: Option<Vote<NodeId>>,
}

impl Log {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().expect("nobody panics with it")
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Stored<Vec<Entry<Types>>> {
        let kept = self.kept();
        let from = match range.start_bound() {
            Bound::Included(from) => *from as usize,
            Bound::Excluded(before) => *before as usize + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => *last as usize + 1,
            Bound::Excluded(end) => *end as usize,
            Bound::Unbounded => usize::MAX,
        };
        let to = to.min(kept.entries.len());
        Ok(kept.entries.range(from.min(to)..to).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Stored<LogState<Types>> {
        Ok(LogState {
            last_purged_log_id: None,
            last_log_id: self.kept().entries.back().map(|entry| entry.log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Stored<()> {
        self.kept().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Stored<Option<Vote<NodeId>>> {
        Ok(self.kept().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Stored<()>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.kept().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<NodeId>) -> Stored<()> {
        self.kept().entries.truncate(log_id.index as usize);
        Ok(())
    }

    async fn purge(&mut self, _: LogId<NodeId>) -> Stored<()> {
        unreachable!("without snapshots nothing is purged")
    }
}

/// A state machine that keeps nothing but where it is.
#[derive(Clone, Default)]
struct Machine {
    applied: Option<LogId<NodeId>>,
    membership: StoredMembership<NodeId, EmptyNode>,
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Stored<(Option<LogId<NodeId>>, StoredMembership<NodeId, EmptyNode>)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Stored<Vec<Applied>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            answers.push(Applied);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Stored<Box<Cursor<Vec<u8>>>> {
        unreachable!("no node makes snapshots")
    }

    async fn install_snapshot(
        &mut self,
        _: &SnapshotMeta<NodeId, EmptyNode>,
        _: Box<Cursor<Vec<u8>>>,
    ) -> Stored<()> {
        unreachable!("no node makes snapshots")
    }

    async fn get_current_snapshot(&mut self) -> Stored<Option<Snapshot<Types>>> {
        Ok(None)
    }
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Stored<Snapshot<Types>> {
        unreachable!("no node makes snapshots")
    }
}
