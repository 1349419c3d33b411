//! The scripted cluster: owns nodes with simulated disks, a network that delivers what it is told to, and
//! time that moves when asked. After every input the invariants of the core are checked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use plimsoll::raft::invariants::{View, check};
use plimsoll::raft::{self, Millis, NodeId, Role};
use plimsoll::replica::{
    Acked, Acks, Answer, DiskJob, DiskReport, DiskWorker, Durability, Effect, GroupFiles, Input,
    Lane, Meters, OpenError, Published, Replica, ReplicaConfig, Restart, StateMachine, open_files,
};
use plimsoll::wire::{ApiError, BatchCaps, Content, Envelope, check_batches};
use segment_store::fs::{Fs, SimFs};
use segment_store::{LogIdentity, LogOptions, LogReader, UnstampedRun};

pub(crate) const GROUP: u64 = 7;
pub(crate) const DIR: &str = "/group";
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;

/// What came back for a request.
pub(crate) type Reply = Result<Answer, ApiError>;

pub(crate) struct Node {
    pub(crate) replica: Replica,
    pub(crate) reader: LogReader,
    worker: DiskWorker,
    /// Work that the disk has not begun.
    jobs: Vec<DiskJob>,
    /// Whether the disk works at all now.
    pub(crate) disk_paused: bool,
    pub(crate) published: Published,
    /// Messages sent to peers that were far behind.
    pub(crate) bulk_sends: u64,
    pub(crate) replies: BTreeMap<u64, Reply>,
    /// Tokens in the order of their answers.
    pub(crate) answered: Vec<u64>,
    view: Option<View>,
}

pub(crate) struct Cluster {
    pub(crate) now: Millis,
    nodes: BTreeMap<NodeId, Option<Node>>,
    pub(crate) disks: BTreeMap<NodeId, SimFs>,
    network: VecDeque<(NodeId, NodeId, Envelope)>,
    /// Nodes whose messages are lost, both ways.
    isolated: BTreeSet<NodeId>,
    /// Messages that are lost, whoever sends them.
    pub(crate) lose: fn(&Content) -> bool,
    pub(crate) options: Options,
    next_token: u64,
    starts: u64,
}

#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) replica: ReplicaConfig,
    pub(crate) log: LogOptions,
    pub(crate) machine: Option<fn() -> Box<dyn StateMachine>>,
    /// From when on a peer is far behind.
    pub(crate) catch_up_lag_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        let caps = BatchCaps {
            payload_bytes_max: PAYLOAD_MAX,
            records_bytes_max: PAYLOAD_MAX,
        };
        Options {
            replica: ReplicaConfig {
                batch_caps: caps,
                ..ReplicaConfig::new(GROUP)
            },
            log: LogOptions {
                segment_bytes_first: 64 << 10,
                segment_bytes_max: 64 << 10,
                payload_bytes_max: PAYLOAD_MAX,
                ..LogOptions::default()
            },
            machine: None,
            catch_up_lag_bytes: u64::MAX,
        }
    }
}

impl Cluster {
    /// Three nodes, started; node 1 leads once everything is quiet.
    pub(crate) fn three() -> Cluster {
        Cluster::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Cluster {
        let mut cluster = Cluster {
            now: 1_000,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            network: VecDeque::new(),
            isolated: BTreeSet::new(),
            lose: |_| false,
            options,
            next_token: 1,
            starts: 0,
        };
        for id in 1..=3 {
            let fs = SimFs::new(id);
            fs.create_dir(Path::new(DIR)).unwrap();
            fs.sync_dir(Path::new("/")).unwrap();
            cluster.disks.insert(id, fs);
            cluster.start(id);
        }
        cluster.run_until(|cluster| cluster.leader() == Some(1));
        cluster.quiet();
        cluster
    }

    /// Starts a node from what is on its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let opened = self.try_open(id);
        let (files, restart) = opened.unwrap();
        self.starts += 1;
        let core = raft::Config {
            // The first election goes to the lowest node that takes part.
            first_timeout_ms: Some(20 * id),
            catch_up_lag_bytes: self.options.catch_up_lag_bytes,
            ..raft::Config::new(id, self.starts * 100 + id)
        };
        let reader = files.log.reader();
        let fs = self.disks[&id].clone();
        let mut worker = DiskWorker::new(Arc::new(fs), Meters::default(), Durability::Fsync);
        let mut machine = self.options.machine.map(|make| make());
        if let (Some(machine), Some(state)) = (&mut machine, restart.machine_state()) {
            machine.restore(state).unwrap();
        }
        let files = Box::new(files);
        worker.turn(vec![DiskJob::Open {
            group: GROUP,
            files,
        }]);
        let replica = Replica::new(
            self.options.replica.clone(),
            core,
            restart,
            machine,
            reader.clone(),
            self.now,
        );
        let node = Node {
            replica,
            reader,
            worker,
            jobs: Vec::new(),
            disk_paused: false,
            published: Published::default(),
            bulk_sends: 0,
            replies: BTreeMap::new(),
            answered: Vec::new(),
            view: None,
        };
        self.nodes.insert(id, Some(node));
    }

    /// Opens a node's files.
    pub(crate) fn try_open(&self, id: NodeId) -> Result<(GroupFiles, Restart), OpenError> {
        let fs: Arc<dyn Fs> = Arc::new(self.disks[&id].clone());
        let identity = LogIdentity {
            cluster: [9; 16],
            group: GROUP,
        };
        open_files(
            &fs,
            Path::new(DIR),
            identity,
            &self.options.log,
            None,
            &[1, 2, 3],
            Acks::default(),
        )
    }

    /// Ends a node's process; its disk keeps what it promised, and perhaps more.
    pub(crate) fn crash(&mut self, id: NodeId) {
        self.nodes.insert(id, None);
        self.disks[&id].power_cycle();
        self.network
            .retain(|(from, to, _)| *from != id && *to != id);
    }

    pub(crate) fn restart(&mut self, id: NodeId) {
        self.crash(id);
        self.start(id);
    }

    pub(crate) fn disk(&self, id: NodeId) -> &SimFs {
        &self.disks[&id]
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes
            .get_mut(&id)
            .unwrap()
            .as_mut()
            .expect("the node runs")
    }

    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].is_some()
    }

    pub(crate) fn live(&self) -> Vec<NodeId> {
        let live = self.nodes.iter().filter(|(_, node)| node.is_some());
        live.map(|(id, _)| *id).collect()
    }

    /// The leader of the highest term, if there is one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let nodes = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.as_ref()?)));
        let leaders = nodes.filter(|(_, node)| node.replica.raft().role() == Role::Leader);
        leaders
            .max_by_key(|(_, node)| node.replica.raft().term())
            .map(|(id, _)| id)
    }

    pub(crate) fn isolate(&mut self, id: NodeId) {
        self.isolated.insert(id);
    }

    pub(crate) fn heal(&mut self) {
        self.isolated.clear();
    }

    /// Gives one input to one node. Its effects wait for [`Cluster::turn`].
    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        let node = self.node(id);
        node.replica.handle(now, input);
        node.check_invariants();
    }

    /// Ends the turn of a node: its effects leave for the disk, the network and the callers.
    pub(crate) fn turn(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        let mut sends = Vec::new();
        let mut warm = Vec::new();
        let mut ballot = None;
        let mut ops = Vec::new();
        for effect in node.replica.take_effects(now) {
            match effect {
                Effect::Disk { number, op } => ops.push((number, op)),
                Effect::SaveBallot(newer) => ballot = Some(newer),
                Effect::Send { to, envelope, lane } => {
                    node.bulk_sends += u64::from(lane == Lane::Bulk);
                    sends.push((to, envelope));
                }
                Effect::Warm {
                    peer,
                    first,
                    bytes_max,
                } => {
                    node.reader.populate(first, bytes_max).unwrap();
                    warm.push((peer, first));
                }
                Effect::Damaged => panic!("nothing spoils a log here while it is open"),
                Effect::Publish(published) => {
                    assert!(published.high_watermark >= node.published.high_watermark);
                    node.published = published;
                }
                Effect::Reply { token, result } => {
                    let before = node.replies.insert(token, result);
                    assert!(before.is_none(), "token {token} was answered twice");
                    node.answered.push(token);
                }
            }
        }
        node.check_invariants();
        if ballot.is_some() || !ops.is_empty() {
            let group = GROUP;
            node.jobs.push(DiskJob::Write { group, ballot, ops });
        }
        for (to, envelope) in sends {
            self.network.push_back((id, to, envelope));
        }
        for (peer, first) in warm {
            self.input(id, Input::Warmed { peer, first });
        }
    }

    /// Lets the disk of a node do its work, if it is not paused.
    pub(crate) fn work_disk(&mut self, id: NodeId) -> bool {
        let node = self.node(id);
        if node.disk_paused || (node.jobs.is_empty() && !node.worker.is_stalled()) {
            return false;
        }
        let jobs = std::mem::take(&mut node.jobs);
        let idle = jobs.is_empty();
        let mut reports = node.worker.turn(jobs);
        reports.extend(node.worker.retry());
        let done = !idle || !reports.is_empty();
        for report in reports {
            let input = match report {
                DiskReport::Done { through, .. } => Input::DiskDone { through },
                DiskReport::BallotDurable { ballot, .. } => Input::BallotDurable(ballot),
                DiskReport::Full { full, .. } => Input::DiskFull(full),
                DiskReport::Fault { reason, .. } => Input::Poison { reason },
            };
            self.input(id, input);
        }
        done
    }

    /// Delivers the next message; false if there is none.
    pub(crate) fn deliver(&mut self) -> bool {
        let Some((from, to, envelope)) = self.network.pop_front() else {
            return false;
        };
        let lost = self.isolated.contains(&from) || self.isolated.contains(&to);
        if lost || (self.lose)(&envelope.content) || self.nodes[&to].is_none() {
            return true;
        }
        let input = Input::Peer {
            from,
            content: envelope.content,
            frames: envelope.frames,
        };
        self.input(to, input);
        true
    }

    /// Messages under way, for looking at and tampering.
    pub(crate) fn network(&mut self) -> &mut VecDeque<(NodeId, NodeId, Envelope)> {
        &mut self.network
    }

    /// Runs until no message and no disk work is left. Time stands still.
    pub(crate) fn quiet(&mut self) {
        for _ in 0..10_000 {
            let mut busy = false;
            for id in self.live() {
                self.turn(id);
                busy |= self.work_disk(id);
                self.turn(id);
            }
            busy |= self.deliver();
            if !busy && self.network.is_empty() {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Moves time to the next deadline of any node.
    pub(crate) fn tick(&mut self) {
        let live = self.live();
        let deadlines = live.iter().map(|id| {
            let node = self.nodes[id].as_ref().unwrap();
            node.replica.next_deadline()
        });
        let next = deadlines.min().unwrap_or(self.now);
        self.now = next.max(self.now + 1);
        for id in live {
            if self.node(id).replica.next_deadline() <= self.now {
                self.input(id, Input::Tick);
            }
        }
        self.quiet();
    }

    /// Lets `ms` of time go by and nothing else happen.
    pub(crate) fn advance(&mut self, ms: Millis) {
        self.now += ms;
        for id in self.live() {
            if self.node(id).replica.next_deadline() <= self.now {
                self.input(id, Input::Tick);
            }
        }
    }

    /// Lets time go by until `done`, for a minute of the cluster's time at most.
    pub(crate) fn run_until(&mut self, done: impl Fn(&mut Cluster) -> bool) {
        let end = self.now + 60_000;
        while !done(self) {
            assert!(self.now < end, "it does not happen within a minute");
            self.tick();
        }
    }

    /// Lets `ms` of time go by.
    pub(crate) fn run_for(&mut self, ms: Millis) {
        let end = self.now + ms;
        while self.now < end {
            self.tick();
        }
    }

    /// Makes `to` the leader.
    pub(crate) fn transfer(&mut self, to: NodeId) {
        let (leader, token) = (self.leader().unwrap(), self.token());
        self.input(leader, Input::Transfer { token, to });
        self.run_until(|cluster| cluster.leader() == Some(to));
        self.quiet();
    }

    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    /// Offers a batch, or several in a row, to a node; the answer comes under the token.
    pub(crate) fn offer(&mut self, id: NodeId, batch: &Bytes, forward: bool) -> u64 {
        let token = self.token();
        let run = UnstampedRun::parse(BytesMut::from(&batch[..]), PAYLOAD_MAX).unwrap();
        let caps = &self.options.replica.batch_caps;
        let head = check_batches(&run, GROUP, caps).unwrap();
        let input = Input::Produce {
            token,
            run,
            head,
            forward,
        };
        self.input(id, input);
        token
    }

    /// Offers a batch to a node and runs until all is quiet.
    pub(crate) fn produce(&mut self, id: NodeId, batch: &Bytes) -> Option<Reply> {
        let token = self.offer(id, batch, false);
        self.quiet();
        self.node(id).replies.remove(&token)
    }

    /// Offers a batch and expects its ack.
    pub(crate) fn acked(&mut self, id: NodeId, batch: &Bytes) -> Acked {
        match self.produce(id, batch) {
            Some(Ok(Answer::Acked(acked))) => acked,
            other => panic!("no ack but {other:?}"),
        }
    }

    /// Offers a command to a node.
    pub(crate) fn command(&mut self, id: NodeId, payload: &[u8]) -> u64 {
        let token = self.token();
        let payload = payload.to_vec();
        self.input(id, Input::Command { token, payload });
        token
    }

    /// The answer under `token`, if it has come.
    pub(crate) fn reply(&mut self, id: NodeId, token: u64) -> Option<Reply> {
        self.node(id).replies.remove(&token)
    }
}

impl Node {
    fn check_invariants(&mut self) {
        let after = View::of(self.replica.raft());
        if let Some(before) = &self.view {
            check(before, &after);
        }
        self.view = Some(after);
    }

    /// End offset of what readers of this node may see.
    pub(crate) fn high_watermark(&self) -> u64 {
        self.published.high_watermark
    }
}
