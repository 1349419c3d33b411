//! What the steps of the hot walks cost on a CPU, by the record and by the byte: batches, messages, the consensus core.
//!
//! `cargo bench --bench micro`; those of frames and the log are in `segment-store/benches`. `docs/PERFORMANCE.md` tells how two commits are compared.

#![allow(clippy::unwrap_used, missing_docs)]

mod cores;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use plimsoll::raft::{Append, LogId, Message, Run};
use plimsoll::wire::{
    BatchBuilder, BatchCaps, BatchReader, Codec, Content, Envelope, PeerCaps, ProducedAck,
    ProducerStamp, Reply, Request, check_batch, decode_envelopes, decode_reply, decode_request,
    encode_envelopes, encode_reply, encode_request,
};
use segment_store::{Frame, UnstampedFrame};

use cores::Cores;

const GROUP: u64 = 7;
const BATCH_BYTES: usize = 256 << 10;
const STAMP: ProducerStamp = ProducerStamp {
    id: 1,
    epoch: 0,
    first_sequence: 0,
};

/// A batch of about 256 KiB of records of one size.
fn build(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(8 << 20, BATCH_BYTES);
    for _ in 0..BATCH_BYTES / value.len() {
        builder
            .push(None, Some(value), &[], 1)
            .expect("sound by its making");
    }
    builder.build(STAMP, GROUP, Codec::None)
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    let caps = BatchCaps::default();
    for record_bytes in [100, 1024] {
        let value = vec![7; record_bytes];
        let records = BATCH_BYTES / record_bytes;
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(
            BenchmarkId::new("build, a record", record_bytes),
            |bencher| {
                bencher.iter(|| build(black_box(&value)));
            },
        );
        let sent = build(&value);
        let unstamped =
            UnstampedFrame::parse(BytesMut::from(&sent[..]), 8 << 20).expect("sound by its making");
        group.bench_function(
            BenchmarkId::new("check at the server, a record", record_bytes),
            |bencher| {
                bencher.iter(|| {
                    let (header, payload) = (unstamped.header(), unstamped.payload());
                    check_batch(black_box(header), payload, GROUP, &caps)
                        .expect("sound by its making")
                });
            },
        );
        let unstamped =
            UnstampedFrame::parse(BytesMut::from(&sent[..]), 8 << 20).expect("sound by its making");
        let frame: Frame = unstamped.stamp(1, 1, 0, 0);
        group.bench_function(
            BenchmarkId::new("check and scan at the consumer, a record", record_bytes),
            |bencher| {
                bencher.iter(|| {
                    let reader =
                        BatchReader::parse(black_box(&frame), &caps).expect("sound by its making");
                    let bytes = reader.records().filter_map(|record| record.value);
                    bytes.map(<[u8]>::len).sum::<usize>()
                });
            },
        );
    }
    group.finish();
}

fn append(frames: u64) -> Envelope {
    let append = Append {
        term: 3,
        prev: LogId { term: 3, index: 99 },
        runs: vec![Run {
            first: 100,
            term: 3,
        }],
        last_index: 99 + frames,
        memberships: Vec::new(),
        commit: 99,
    };
    Envelope {
        group: GROUP,
        content: Content::Raft(Message::Append(append)),
        frames: vec![Bytes::from(vec![0; 64]); frames as usize],
    }
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("message");
    let request = Request::Produce {
        correlation: 1,
        group: GROUP,
        forward: false,
    };
    group.bench_function("encode a produce request", |bencher| {
        bencher.iter(|| encode_request(black_box(&request)));
    });
    let (kind, head) = encode_request(&request);
    group.bench_function("access and check a produce request", |bencher| {
        bencher.iter(|| decode_request(kind, black_box(&head)).expect("sound by its making"));
    });
    let reply = Reply::Produced {
        acks: vec![ProducedAck {
            correlation: 1,
            base_offset: 2,
        }],
    };
    let (kind, head) = encode_reply(&reply);
    group.bench_function("access and check an ack", |bencher| {
        bencher.iter(|| decode_reply(kind, black_box(&head)).expect("sound by its making"));
    });
    let caps = PeerCaps::default();
    for envelopes in [1, 64] {
        let envelopes: Vec<Envelope> = (0..envelopes).map(|_| append(1)).collect();
        group.throughput(Throughput::Elements(envelopes.len() as u64));
        let id = |name| BenchmarkId::new(name, envelopes.len());
        group.bench_function(id("encode appends to a peer, an append"), |bencher| {
            bencher.iter(|| encode_envelopes(1, black_box(&envelopes)));
        });
        let (kind, head, body) = encode_envelopes(1, &envelopes);
        let body = Bytes::from(body.concat());
        group.bench_function(id("access and check appends, an append"), |bencher| {
            bencher.iter_batched(
                || body.clone(),
                |body| {
                    decode_envelopes(kind, black_box(&head), body, &caps)
                        .expect("sound by its making")
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn raft(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft");
    for entries in [1, 64] {
        let mut cores = Cores::elected();
        group.throughput(Throughput::Elements(entries));
        let id = BenchmarkId::new("propose to commit on three cores, an entry", entries);
        group.bench_function(id, |bencher| {
            bencher.iter(|| cores.commit(black_box(entries)));
        });
    }
    group.finish();
}

criterion_group!(benches, batches, messages, raft);
criterion_main!(benches);
