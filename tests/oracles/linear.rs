//! Linearizability by a checker that nobody here wrote: what clients of a running cluster saw must fit one order of all operations.
//!
//! Clients work at the same time through different nodes; what each asked and was told is recorded in real time, and judged by
//! `stateright`'s `LinearizabilityTester` against a model of a few lines. The search is exponential, so histories are short and many.
//! That a topic *exists* may be told from memory (only a list, and that a topic is *not* there, is read up to date), so the history
//! asks by lists.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use plimsoll::client::{Client, ClientError, Record};
use plimsoll::config::ClientConfig;
use plimsoll::wire::ApiError;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::harness::{Cluster, PATIENCE};

const CLIENTS: usize = 3;
const OPERATIONS: usize = 4;
const HISTORIES: u64 = 25;

/// What happened, in the order in which it did.
#[derive(Clone, Debug)]
enum Event<Op, Ret> {
    Asked(usize, Op),
    Told(usize, Ret),
}

type History<S> = Vec<Event<<S as SequentialSpec>::Op, <S as SequentialSpec>::Ret>>;

/// Whether some order of the operations, each between its question and its answer, is one that `model` allows.
fn is_linearizable<S>(model: S, history: &History<S>) -> bool
where
    S: SequentialSpec + Clone,
    S::Op: Clone + std::fmt::Debug,
    S::Ret: Clone + std::fmt::Debug + PartialEq,
{
    let mut tester = LinearizabilityTester::new(model);
    for event in history {
        match event.clone() {
            Event::Asked(client, op) => tester.on_invoke(client, op).unwrap(),
            Event::Told(client, ret) => tester.on_return(client, ret).unwrap(),
        };
    }
    tester.is_consistent()
}

// ---- the models ----

#[derive(Clone, Copy, Debug)]
enum TopicOp {
    Create(u8),
    Delete(u8),
    List,
}

#[derive(Clone, Debug, PartialEq)]
enum TopicRet {
    Done,
    /// It exists already, or there is none.
    Refused,
    Listed(BTreeSet<u8>),
}

/// Topics by the number in their name.
#[derive(Clone, Debug, Default)]
struct Topics(BTreeSet<u8>);

impl SequentialSpec for Topics {
    type Op = TopicOp;
    type Ret = TopicRet;

    fn invoke(&mut self, op: &TopicOp) -> TopicRet {
        let done = match op {
            TopicOp::Create(name) => self.0.insert(*name),
            TopicOp::Delete(name) => self.0.remove(name),
            TopicOp::List => return TopicRet::Listed(self.0.clone()),
        };
        if done {
            TopicRet::Done
        } else {
            TopicRet::Refused
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum LogOp {
    /// A record; answered with its offset.
    Append,
    /// The end of the log.
    End,
}

/// A log by its length.
#[derive(Clone, Debug, Default)]
struct Length(u64);

impl SequentialSpec for Length {
    type Op = LogOp;
    type Ret = u64;

    fn invoke(&mut self, op: &LogOp) -> u64 {
        let before = self.0;
        self.0 += u64::from(matches!(op, LogOp::Append));
        before
    }
}

// ---- recording ----

/// The history of one run, written by all its clients.
struct Recorder<Op, Ret>(Mutex<Vec<Event<Op, Ret>>>);

impl<Op: Copy, Ret> Recorder<Op, Ret> {
    fn new() -> Arc<Recorder<Op, Ret>> {
        Arc::new(Recorder(Mutex::new(Vec::new())))
    }

    async fn record(&self, client: usize, op: Op, answer: impl Future<Output = Ret>) {
        self.0.lock().unwrap().push(Event::Asked(client, op));
        let ret = answer.await;
        self.0.lock().unwrap().push(Event::Told(client, ret));
    }

    fn take(&self) -> Vec<Event<Op, Ret>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A client that was told of one node only, so that each begins at another.
async fn client_of(cluster: &Cluster, node: usize) -> Client {
    let config = cluster.client_config();
    let config = ClientConfig {
        nodes: vec![config.nodes[node % config.nodes.len()].clone()],
        ..config.clone()
    };
    Client::connect(&config).await.unwrap()
}

async fn clients(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in 0..CLIENTS {
        clients.push(client_of(cluster, node).await);
    }
    clients
}

fn outcome(result: Result<(), ClientError>) -> TopicRet {
    match result {
        Ok(()) => TopicRet::Done,
        Err(ClientError::Refused(ApiError::TopicExists | ApiError::UnknownTopic)) => {
            TopicRet::Refused
        }
        Err(other) => panic!("{other}"),
    }
}

/// One client's operations on the two topics of history `number`.
async fn use_topics(
    client: Client,
    id: usize,
    number: u64,
    recorder: Arc<Recorder<TopicOp, TopicRet>>,
) {
    let mut rng = Rng::with_seed(number * 10 + id as u64);
    let admin = client.admin().timeout(PATIENCE);
    let (name, prefix) = (|at: u8| format!("h{number}-{at}"), format!("h{number}-"));
    for _ in 0..OPERATIONS {
        let at = rng.u8(0..2);
        let op = match rng.u8(0..3) {
            0 => TopicOp::Create(at),
            1 => TopicOp::Delete(at),
            _ => TopicOp::List,
        };
        let answer = async {
            match op {
                TopicOp::Create(at) => outcome(admin.create_topic(&name(at), 1, 1).await),
                TopicOp::Delete(at) => outcome(admin.delete_topic(&name(at)).await),
                TopicOp::List => {
                    let topics = admin.list_topics().await.unwrap();
                    let ours = topics
                        .iter()
                        .filter_map(|topic| topic.name.strip_prefix(&prefix));
                    TopicRet::Listed(ours.map(|at| at.parse().unwrap()).collect())
                }
            }
        };
        recorder.record(id, op, answer).await;
    }
}

/// One client's records and questions for the end of one log.
async fn use_log(client: Client, id: usize, number: u64, recorder: Arc<Recorder<LogOp, u64>>) {
    let mut rng = Rng::with_seed(number * 10 + id as u64);
    let topic = format!("log-{number}");
    let admin = client.admin().timeout(PATIENCE);
    let producer = client.producer(&topic).build().await.unwrap();
    for _ in 0..OPERATIONS {
        let op = if rng.bool() {
            LogOp::Append
        } else {
            LogOp::End
        };
        let answer = async {
            match op {
                LogOp::Append => {
                    let record = Record::value("a record").partition(0);
                    let delivery = producer.send(record).await.unwrap();
                    delivery.await.unwrap().offset
                }
                LogOp::End => admin.end_offset(&topic, 0).await.unwrap(),
            }
        };
        recorder.record(id, op, answer).await;
    }
    producer.close().await.unwrap();
}

// ---- the tests ----

#[tokio::test]
async fn topics_created_deleted_and_listed_through_all_nodes_are_linearizable() {
    let cluster = Cluster::start(3);
    let clients = clients(&cluster).await;
    let mut refused = 0;
    for number in 0..HISTORIES {
        let recorder = Recorder::new();
        let work = clients.iter().cloned().enumerate();
        let work: Vec<_> = work
            .map(|(id, client)| tokio::spawn(use_topics(client, id, number, Arc::clone(&recorder))))
            .collect();
        for client in work {
            client.await.unwrap();
        }
        let history = recorder.take();
        assert!(
            is_linearizable(Topics::default(), &history),
            "no order explains history {number}: {history:#?}"
        );
        let says_no = |event: &&Event<_, _>| matches!(event, Event::Told(_, TopicRet::Refused));
        refused += history.iter().filter(says_no).count();
    }
    assert!(refused > 0, "clients were in each other's way");
}

#[tokio::test]
async fn ends_of_a_log_and_appends_are_linearizable_while_leadership_moves() {
    let cluster = Cluster::start(3);
    let clients = clients(&cluster).await;
    let admin = clients[0].admin().timeout(PATIENCE);
    for number in 0..HISTORIES {
        let topic = format!("log-{number}");
        admin.create_topic(&topic, 1, 3).await.unwrap();
        let recorder = Recorder::new();
        let work = clients.iter().cloned().enumerate();
        let work: Vec<_> = work
            .map(|(id, client)| tokio::spawn(use_log(client, id, number, Arc::clone(&recorder))))
            .collect();
        // Leadership wanders meanwhile. That it cannot at the moment is no failure.
        let _ = admin.transfer_leader(&topic, 0, number % 3 + 1).await;
        for client in work {
            client.await.unwrap();
        }
        let history = recorder.take();
        assert!(
            is_linearizable(Length::default(), &history),
            "no order explains history {number}: {history:#?}"
        );
    }
}

#[test]
fn stale_list_lost_topic_and_a_end_before_an_ack_are_refused() {
    use Event::{Asked, Told};
    let listed = |names: &[u8]| TopicRet::Listed(names.iter().copied().collect());
    let overlapping = vec![
        Asked(0, TopicOp::Create(1)),
        Asked(1, TopicOp::List),
        Told(0, TopicRet::Done),
        Told(1, listed(&[])),
    ];
    assert!(is_linearizable(Topics::default(), &overlapping));
    let stale = vec![
        Asked(0, TopicOp::Create(1)),
        Told(0, TopicRet::Done),
        Asked(1, TopicOp::List),
        Told(1, listed(&[])),
    ];
    assert!(!is_linearizable(Topics::default(), &stale));
    let twice = vec![
        Asked(0, TopicOp::Create(1)),
        Asked(1, TopicOp::Create(1)),
        Told(0, TopicRet::Done),
        Told(1, TopicRet::Done),
    ];
    assert!(!is_linearizable(Topics::default(), &twice));
    let short = vec![
        Asked(0, LogOp::Append),
        Told(0, 0),
        Asked(1, LogOp::End),
        Told(1, 0),
    ];
    assert!(!is_linearizable(Length::default(), &short));
    let same_offset = vec![
        Asked(0, LogOp::Append),
        Asked(1, LogOp::Append),
        Told(0, 0),
        Told(1, 0),
    ];
    assert!(!is_linearizable(Length::default(), &same_offset));
}
