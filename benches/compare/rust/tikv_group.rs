//! Three nodes of tikv's `raft`, each on a thread, with the library's own storage in memory.
//!
//! Owns the loop that the library leaves to its user: ticks, messages, what is ready. Payloads are copied, as the library's entries own their bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use raft::eraftpb::{Entry, Message};
use raft::storage::MemStorage;
use raft::{Config, RawNode};
use tokio::sync::oneshot;

use super::Group;

const NODES: u64 = 3;
const TICK: Duration = Duration::from_millis(50);
/// Applied entries that stay in memory: more than a follower is ever behind here.
const KEPT: u64 = 100_000;

enum Input {
    Message(Box<Message>),
    Propose(Arc<[u8]>, oneshot::Sender<()>),
}

pub struct Tikv {
    leader: Sender<Input>,
}

impl Group for Tikv {
    async fn write(&self, payload: Arc<[u8]>) {
        let (done, applied) = oneshot::channel();
        self.leader
            .send(Input::Propose(payload, done))
            .expect("the leader runs");
        applied.await.expect("the leader goes on leading");
    }
}

pub async fn start() -> Tikv {
    let (links, inputs): (Vec<_>, Vec<_>) = (0..NODES).map(|_| channel()).unzip();
    let (leads, led) = oneshot::channel();
    let mut leads = Some(leads);
    for (inputs, id) in inputs.into_iter().zip(1..) {
        let (links, leads) = (links.clone(), leads.take());
        std::thread::spawn(move || Node::new(id, links).run(&inputs, leads));
    }
    led.await.expect("node 1 is elected");
    Tikv {
        leader: links[0].clone(),
    }
}

struct Node {
    raft: RawNode<MemStorage>,
    links: Vec<Sender<Input>>,
    /// Callers, in the order of their entries.
    waiting: VecDeque<oneshot::Sender<()>>,
    applied: u64,
    compacted: u64,
}

impl Node {
    fn new(id: u64, links: Vec<Sender<Input>>) -> Self {
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 2,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            batch_append: true,
            ..Config::default()
        };
        let voters: Vec<u64> = (1..=NODES).collect();
        let storage = MemStorage::new_with_conf_state((voters, vec![]));
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        let mut raft = RawNode::new(&config, storage, &silent).expect("the settings are sound");
        if id == 1 {
            raft.campaign().expect("nobody leads yet");
        }
        Self {
            raft,
            links,
            waiting: VecDeque::new(),
            applied: 0,
            compacted: 0,
        }
    }

    fn run(mut self, inputs: &Receiver<Input>, mut leads: Option<oneshot::Sender<()>>) {
        let mut ticked = Instant::now();
        loop {
            match inputs.recv_timeout(TICK.saturating_sub(ticked.elapsed())) {
                Ok(input) => {
                    self.take(input);
                    while let Ok(input) = inputs.try_recv() {
                        self.take(input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if ticked.elapsed() >= TICK {
                self.raft.tick();
                ticked = Instant::now();
            }
            while self.raft.has_ready() {
                self.work_off();
            }
            // The first entry of its term is applied: it may take proposals.
            if self.applied > 0 && self.raft.raft.leader_id == 1 {
                if let Some(leads) = leads.take() {
                    let _ = leads.send(());
                }
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Message(message) => self
                .raft
                .step(*message)
                .expect("messages come from members"),
            Input::Propose(payload, done) => {
                self.raft
                    .propose(vec![], payload.to_vec())
                    .expect("node 1 leads");
                self.waiting.push_back(done);
            }
        }
    }

    fn work_off(&mut self) {
        let mut ready = self.raft.ready();
        self.send(ready.take_messages());
        self.apply(ready.take_committed_entries());
        let mut store = self.raft.mut_store().wl();
        store
            .append(ready.entries())
            .expect("entries follow each other");
        if let Some(state) = ready.hs() {
            store.set_hardstate(state.clone());
        }
        drop(store);
        self.send(ready.take_persisted_messages());
        let mut rest = self.raft.advance(ready);
        if let Some(commit) = rest.commit_index() {
            self.raft
                .mut_store()
                .wl()
                .mut_hard_state()
                .set_commit(commit);
        }
        self.send(rest.take_messages());
        self.apply(rest.take_committed_entries());
        self.raft.advance_apply();
        if self.applied > self.compacted + 2 * KEPT {
            self.compacted = self.applied - KEPT;
            self.raft
                .mut_store()
                .wl()
                .compact(self.compacted)
                .expect("all of it is applied");
        }
    }

    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = message.to as usize - 1;
            let _ = self.links[to].send(Input::Message(Box::new(message)));
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.applied = entry.index;
            // The first entry of a term is empty, and nobody's. Followers have nobody waiting.
            if !entry.data.is_empty() {
                if let Some(done) = self.waiting.pop_front() {
                    let _ = done.send(());
                }
            }
        }
    }
}
