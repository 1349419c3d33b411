//! Good bytes for each target, made by the code that writes them: where mutation and the fuzzer begin.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use plimsoll::config::{
    ClientConfig, Config, LimitsConfig, LogConfig, NetworkConfig, NodeAddress, NodeConfig,
    RaftConfig, TlsConfig, new_cluster_id,
};
use plimsoll::controller::{
    Command, ControllerMachine, ControllerView, Outcome, encode_command, encode_outcome,
};
use plimsoll::raft::{Append, AppendOutcome, LogId, Membership, Message, Run};
use plimsoll::replica::StateMachine;
use plimsoll::wire::{
    ApiError, BatchBuilder, Codec, Content, Envelope, FetchFrom, ForwardAck, Greeting, Metadata,
    NodeInfo, NodeReport, PartitionInfo, ProducerStamp, ReplicaReport, ReplicaRole, Reply, Request,
    StreamHello, TopicInfo, encode_envelopes, encode_frames, encode_greeting, encode_hello,
    encode_reply, encode_report, encode_request,
};
use segment_store::fs::Fs;
use segment_store::{BallotFile, Frame, FrameHeader, UnstampedFrame, kind, snapshot};

use super::targets::{CLUSTER, DIR, GROUP, PAYLOAD_MAX, SNAPSHOT, disk, open};

/// The corpus of the target of that name. Never empty, and each input is good.
pub(crate) fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(),
        "batch" => batches().iter().map(batch).collect(),
        "segment" => (0..)
            .zip(log_files())
            .map(|(at, (_, bytes))| led_by(at, &bytes))
            .collect(),
        "footer" => footers(),
        "ballot" => vec![ballot()],
        "snapshot" => vec![
            led_by(0, &snapshot_file().1),
            led_by(1, &controller_state()),
        ],
        "peer" => peers(),
        "client" => clients(),
        "command" => commands(),
        "config" => configs(),
        other => panic!("no target is called {other}"),
    }
}

fn led_by(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mut led = vec![first];
    led.extend_from_slice(bytes);
    led
}

/// Batches of three records under each codec, as whole unstamped frames.
fn batches() -> Vec<Bytes> {
    let build = |codec| {
        let mut builder = BatchBuilder::new(PAYLOAD_MAX, 0);
        for at in 0..3 {
            let value = "a value that repeats itself ".repeat(at + 1);
            let headers = [("trace", b"12".as_slice())];
            let pushed = builder.push(Some(b"key"), Some(value.as_bytes()), &headers, 1_000);
            pushed.expect("the batch is small");
        }
        let stamp = ProducerStamp {
            id: 3,
            epoch: 0,
            first_sequence: 0,
        };
        builder.build(stamp, GROUP, codec)
    };
    [Codec::None, Codec::Lz4, Codec::Zstd].map(build).into()
}

/// Codec, count of records, payload.
fn batch(frame: &Bytes) -> Vec<u8> {
    let frame = UnstampedFrame::parse(frame[..].into(), PAYLOAD_MAX).expect("a whole frame");
    let mut bytes = vec![frame.header().codec, 3];
    bytes.extend_from_slice(frame.payload());
    bytes
}

/// A chain of frames: a membership, a no-op, batches.
fn chain(count: u64) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut base_offset = 0;
    for index in 1..=count {
        let records = u32::from(index > 2) * 3;
        let header = FrameHeader {
            kind: match index {
                1 => kind::MEMBERSHIP,
                2 => kind::NOOP,
                _ => kind::RECORDS,
            },
            codec: 0,
            flags: 0,
            index,
            term: 1 + index / 8,
            base_offset,
            max_timestamp: 1_000 + index,
            payload_len: 0,
            payload_crc: 0,
            prev_header_crc: frames.last().map_or(0, Frame::header_crc),
            record_count: records,
            group: GROUP,
        };
        let payload = if index == 2 {
            vec![]
        } else {
            vec![index as u8; 700]
        };
        frames.push(Frame::build(header, &payload));
        base_offset += u64::from(records);
    }
    frames
}

fn frames() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = batches().into_iter().map(|bytes| bytes.to_vec()).collect();
    let chained: Vec<u8> = chain(4)
        .iter()
        .flat_map(|frame| frame.bytes().to_vec())
        .collect();
    all.push(chained);
    // Of one request.
    all.push(batches().concat());
    all
}

/// All files of a folder but the data of nobody.
fn read_all(fs: &dyn Fs) -> Vec<(String, Vec<u8>)> {
    let names = fs.list(Path::new(DIR)).expect("the folder is there");
    let read = |name: String| {
        let file = fs.open_read(&Path::new(DIR).join(&name)).expect("a file");
        let mut bytes = vec![0; usize::try_from(file.len()).expect("a small file")];
        file.read_exact_at(&mut bytes, 0).expect("it can be read");
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// The files of a log of two segments, the first one sealed, by name.
pub(crate) fn log_files() -> Vec<(String, Vec<u8>)> {
    let sim = disk([]);
    let fs: Arc<dyn Fs> = Arc::new(sim);
    let mut log = open(&fs).expect("an empty folder is an empty log");
    for group in chain(16).chunks(4) {
        log.append(group).expect("there is room");
        log.sync().expect("the disk is well");
    }
    log.close().expect("the disk is well");
    let files = read_all(&*fs);
    assert_eq!(files.len(), 2, "a sealed segment and a tail");
    files
}

/// The last sectors of the sealed segment, and no more than its fixed part.
fn footers() -> Vec<Vec<u8>> {
    let sealed = &log_files()[0].1;
    [1024, 128]
        .map(|len| sealed[sealed.len() - len..].to_vec())
        .into()
}

fn ballot() -> Vec<u8> {
    let sim = disk([]);
    let path = Path::new(DIR).join("ballot");
    let (mut file, _) = BallotFile::open(&sim, &path).expect("a new ballot");
    file.save(5, 2).expect("the disk is well");
    file.save(6, 3).expect("the disk is well");
    let files = read_all(&sim);
    let ballot = files.into_iter().find(|(name, _)| name == "ballot");
    ballot.expect("it was written").1
}

pub(crate) fn snapshot_file() -> (String, Vec<u8>) {
    let sim = disk([]);
    let written = snapshot::write(&sim, Path::new(DIR), SNAPSHOT, 9, 2, b"what was applied");
    written.expect("the disk is well");
    read_all(&sim).remove(0)
}

fn topic(name: &str) -> Command {
    Command::CreateTopic {
        name: name.to_owned(),
        partitions: 3,
        replicas: 3,
        partitions_max: 100,
        token: 4,
    }
}

fn found() -> Command {
    let node = |node| (node, format!("host-{node}.example:7610"));
    Command::Found {
        nodes: [1, 2, 3].map(node).into(),
    }
}

fn controller_state() -> Vec<u8> {
    let mut machine = ControllerMachine::new(ControllerView::default());
    let commands = [found(), topic("ships"), topic("a-name-that-is-not-inlined")];
    for (index, command) in (1..).zip(commands) {
        machine.apply(LogId { term: 1, index }, &encode_command(&command));
    }
    machine.snapshot()
}

fn commands() -> Vec<Vec<u8>> {
    let delete = Command::DeleteTopic {
        name: "ships".to_owned(),
    };
    let ids = Command::AllocateProducerIds { count: 100 };
    let replace = Command::ReplaceNode {
        old: 2,
        new: 4,
        address: "host-4.example:7610".to_owned(),
    };
    let settle = Command::Settle {
        groups: vec![(1, 2), (3, 4)],
    };
    let mut all: Vec<Vec<u8>> = [found(), topic("ships"), delete, ids, replace, settle]
        .iter()
        .map(encode_command)
        .collect();
    all.push(encode_outcome(&Outcome::TopicCreated { topic: 1 }));
    all
}

fn envelope(content: Content, frames: Vec<Bytes>) -> Envelope {
    Envelope {
        group: GROUP,
        content,
        frames,
    }
}

/// Two bytes of the head's length, the head, the body.
fn framed(head: &[u8], body: &[Bytes]) -> Vec<u8> {
    let len = u16::try_from(head.len()).expect("a short head");
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend_from_slice(head);
    body.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
    bytes
}

fn peers() -> Vec<Vec<u8>> {
    let last = LogId { term: 2, index: 9 };
    let run: Bytes = chain(3)
        .iter()
        .flat_map(|frame| frame.bytes().to_vec())
        .collect();
    let append = Message::Append(Append {
        term: 2,
        prev: LogId::ZERO,
        runs: vec![Run { first: 1, term: 1 }, Run { first: 3, term: 2 }],
        last_index: 3,
        memberships: vec![(1, Membership::of_voters(1..=3))],
        commit: 2,
    });
    let accepted = Message::AppendReply {
        term: 2,
        outcome: AppendOutcome::Accepted {
            matched: last,
            commit: 8,
        },
    };
    let answer = Content::ForwardReply {
        token: 5,
        result: Ok(ForwardAck {
            index: 4,
            base_offset: 7,
            result: b"told".to_vec(),
        }),
    };
    let leader = Some((2, "host:7610".to_owned()));
    let refused = Content::ForwardReply {
        token: 6,
        result: Err(ApiError::NotLeader { leader }),
    };
    let many = [
        envelope(Content::Raft(Message::PreVote { term: 3, last }), vec![]),
        envelope(Content::Raft(append), vec![run.clone()]),
        envelope(Content::Raft(accepted), vec![]),
        envelope(Content::Forward { token: 5 }, vec![run]),
        envelope(answer, vec![]),
        envelope(refused, vec![]),
    ];
    let mut all: Vec<Vec<u8>> = Vec::new();
    for envelopes in [&many[..1], &many[1..2], &many[..]] {
        let (_, head, body) = encode_envelopes(1, envelopes);
        all.push(framed(&head, &body));
    }
    all.push(framed(
        &encode_hello(&StreamHello::Replication { group: GROUP }).1,
        &[],
    ));
    let report = NodeReport {
        node: 2,
        replicas: vec![ReplicaReport {
            group: GROUP,
            role: ReplicaRole::Leader,
            term: 3,
            leader: Some(2),
            durable_index: 9,
            commit_index: 8,
            high_watermark: 20,
            log_start: 0,
            voters: vec![1, 2, 3],
            learners: vec![4],
            followers: vec![(1, 9)],
        }],
    };
    all.push(framed(&encode_report(&report).1, &[]));
    let greeting = Greeting {
        cluster: CLUSTER,
        node: 3,
        replica: [0xee; 16],
        boot: 7,
        nonces: vec![1, 2, 3],
    };
    all.push(framed(&encode_greeting(&greeting).1, &[]));
    all.push(framed(&encode_frames(GROUP, 9).1, &[]));
    all
}

fn clients() -> Vec<Vec<u8>> {
    let requests = [
        Request::Produce {
            correlation: 1,
            group: GROUP,
            forward: true,
        },
        Request::Fetch {
            group: GROUP,
            from: FetchFrom::Offset(3),
            max_bytes: 4,
            follow: true,
        },
        Request::Metadata {
            topics: Some(vec![
                "ships".to_owned(),
                "a-name-that-is-not-inlined".to_owned(),
            ]),
        },
        Request::EndOffset { group: GROUP },
    ];
    let metadata = Metadata {
        cluster: "dev".to_owned(),
        controller_leader: Some(1),
        nodes: vec![NodeInfo {
            id: 1,
            address: "127.0.0.1:7600".to_owned(),
        }],
        topics: vec![TopicInfo {
            name: "ships".to_owned(),
            id: 7,
            partitions: vec![PartitionInfo {
                partition: 0,
                group: GROUP,
                leader: Some(2),
                replicas: vec![2, 3, 1],
            }],
        }],
    };
    let replies = [Reply::Metadata(metadata), Reply::EndOffset { offset: 4 }];
    let requests = requests.iter().map(|request| encode_request(request).1);
    requests
        .chain(replies.iter().map(|reply| encode_reply(reply).1))
        .collect()
}

fn configs() -> Vec<Vec<u8>> {
    let tls = TlsConfig {
        ca: "ca.pem".into(),
        cert: "node.pem".into(),
        key: "node.key".into(),
    };
    let nodes: Vec<NodeAddress> = (1..=3)
        .map(|id| NodeAddress {
            id,
            address: format!("127.0.0.1:760{id}"),
        })
        .collect();
    let client = ClientConfig {
        cluster: "dev".to_owned(),
        ca: tls.ca.clone(),
        cert: tls.cert.clone(),
        key: tls.key.clone(),
        nodes: nodes.clone(),
        mtu_max: Some(6_500),
    };
    let node = Config {
        node: NodeConfig {
            id: 1,
            cluster: "dev".to_owned(),
            cluster_id: new_cluster_id(),
            data_dir: "data".into(),
            listen: "127.0.0.1:7601".parse().expect("an address"),
            admin: "127.0.0.1:7701".parse().expect("an address"),
            joins: false,
        },
        tls,
        nodes,
        raft: RaftConfig::default(),
        log: LogConfig::default(),
        limits: LimitsConfig::default(),
        network: NetworkConfig::default(),
    };
    vec![node.to_toml().into_bytes(), client.to_toml().into_bytes()]
}
