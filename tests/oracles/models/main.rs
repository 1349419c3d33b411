//! Every order of every thread's steps, for the few places where threads meet without a lock: the publication of a replica and that
//! of a log, and the life of a file's map.
//!
//! The code under test is the shipped one, file by file; only the words it is made of (`sync`) are loom's, and what it names besides
//! is cut down to what it reads. Two of those words are stand-ins of the same contract, because loom has no model of theirs: `Notify`
//! (a waiter made before `notify_waiters` is woken by it) and `ArcSwap` (a load gives the list as it was at one moment, and keeps it).
//! An order takes a thread off at most [`PREEMPTIONS_MAX`] times where it could go on: more than that finds next to nothing, and takes
//! for ever. Without a test harness, because the shipped files bring unit tests of their own, for the real words.

#![allow(dead_code, reason = "the models use a part of each file")]
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

mod sync;

/// The terms of the consensus core that `watermark` speaks of.
mod raft {
    pub(crate) type Index = u64;
    pub(crate) type NodeId = u64;
    pub(crate) type Term = u64;
}

#[path = "../../../src/replica/watermark.rs"]
mod watermark;

#[path = "../../../segment-store/src/index.rs"]
mod index;
#[path = "../../../segment-store/src/view.rs"]
mod view;

/// What `view` reads of a segment's sums.
mod contents {
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Contents {
        pub(crate) last_index: u64,
        pub(crate) next_offset: u64,
        pub(crate) end_position: u64,
        pub(crate) max_timestamp: u64,
    }
}

/// What `view` reads of a segment's header.
mod segment {
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Identity {
        pub(crate) group: u64,
    }
    #[derive(Clone, Debug, Default)]
    pub(crate) struct SegmentHeader {
        pub(crate) base_index: u64,
        pub(crate) base_offset: u64,
        pub(crate) prev_term: u64,
        pub(crate) prev_header_crc: u32,
        pub(crate) identity: Identity,
    }
}

/// A map of a file: here of a few words.
mod fs {
    pub(crate) trait MapRead: Send + Sync + std::fmt::Debug {
        fn len(&self) -> usize;
        /// The word at `at`, as the page cache has it.
        fn word(&self, at: usize) -> u64;
    }
}

use std::sync::Arc;

use loom::thread;

use crate::contents::Contents;
use crate::fs::MapRead;
use crate::index::{IndexEntry, SparseIndex};
use crate::segment::SegmentHeader;
use crate::sync::{AtomicU64, Ordering};
use crate::view::{SegmentView, Shared, is_last_reference, map_of_retired};
use crate::watermark::{Published, Watermark};

/// How often a thread is made to wait although it could go on.
const PREEMPTIONS_MAX: usize = 3;

/// The pages of a file: what is written to them is seen by whoever maps it, in no order that nobody makes.
#[derive(Debug)]
struct Pages(Arc<Vec<AtomicU64>>);

impl Pages {
    fn new(words: usize) -> Pages {
        Pages(Arc::new((0..words).map(|_| AtomicU64::new(0)).collect()))
    }

    fn write(&self, at: usize, word: u64) {
        self.0[at].store(word, Ordering::Relaxed);
    }

    fn map(&self) -> Arc<dyn MapRead> {
        Arc::new(Map(Arc::clone(&self.0)))
    }
}

#[derive(Debug)]
struct Map(Arc<Vec<AtomicU64>>);

impl MapRead for Map {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn word(&self, at: usize) -> u64 {
        self.0[at].load(Ordering::Relaxed)
    }
}

fn published(high_watermark: u64, leader: Option<u64>) -> Published {
    Published {
        high_watermark,
        applied_index: high_watermark,
        commit_index: high_watermark,
        leader,
        ..Published::default()
    }
}

/// Whoever sees the mark sees the bytes below it, and indexes that fit it.
fn mark_shows_what_lies_below_it() {
    let (mark, pages) = (Watermark::new(1), Pages::new(1));
    let (reader, map) = (mark.clone(), pages.map());
    let reading = thread::spawn(move || {
        if reader.high_watermark() == 1 {
            assert_eq!(map.word(0), 7, "the bytes below the mark");
            assert_eq!(reader.applied_index(), 1, "what is applied");
        }
        let applied = reader.applied_index();
        assert!(
            reader.commit_index() >= applied,
            "what is applied is committed"
        );
    });
    pages.write(0, 7);
    mark.publish(published(1, None));
    reading.join().unwrap();
}

/// A reader that waits is woken, whenever it began to.
fn waiter_is_woken_by_a_publication() {
    let mark = Watermark::new(1);
    let reader = mark.clone();
    let waiting = thread::spawn(move || loom::future::block_on(reader.changed(1)));
    mark.publish(published(1, None));
    mark.publish(published(2, None));
    assert_eq!(waiting.join().unwrap(), 2);
}

/// The same, when it waits for another leader.
fn waiter_is_woken_by_another_leader() {
    let mark = Watermark::new(1);
    let reader = mark.clone();
    let waiting = thread::spawn(move || loom::future::block_on(reader.leader_changed(None)));
    mark.publish(published(0, Some(3)));
    assert_eq!(waiting.join().unwrap(), Some(3));
}

/// The same, when the group is closed.
fn waiter_is_woken_by_the_close() {
    let mark = Watermark::new(1);
    let reader = mark.clone();
    let waiting = thread::spawn(move || loom::future::block_on(reader.changed(0)));
    mark.close();
    assert_eq!(waiting.join().unwrap(), 0);
}

/// A frame's place in the index is found only with the frame.
fn end_shows_frames_and_their_index() {
    let pages = Pages::new(2);
    let index = Arc::new(SparseIndex::for_segment(0, 1));
    let view = view_of(&pages, &index);
    let reader = Arc::clone(&view);
    let reading = thread::spawn(move || {
        let end = reader.end_position();
        for at in 0..end as usize {
            assert_eq!(reader.map.word(at), 10 + at as u64, "a published frame");
        }
        if end > 0 {
            let entry = reader.index.floor(|entry| entry.position < end);
            assert_eq!(
                entry.unwrap().index,
                1,
                "the index entry of a published frame"
            );
            assert!(reader.max_timestamp() >= 5, "and its time");
        }
    });
    for at in 0..2 {
        pages.write(at, 10 + at as u64);
        if at == 0 {
            index.push(IndexEntry {
                index: 1,
                base_offset: 0,
                position: 0,
                max_timestamp: 0,
            });
        }
        view.publish(&contents(at as u64 + 1));
    }
    reading.join().unwrap();
}

fn contents(end: u64) -> Contents {
    Contents {
        last_index: end,
        next_offset: end,
        end_position: end,
        max_timestamp: 5 * end,
    }
}

fn view_of(pages: &Pages, index: &Arc<SparseIndex>) -> Arc<SegmentView> {
    Arc::new(SegmentView::new(
        "a segment".into(),
        &SegmentHeader::default(),
        &Contents::default(),
        Arc::clone(index),
        pages.map(),
        None,
    ))
}

/// A reader goes on reading what it holds, while the writer trims the segment and, if it may, writes the file anew.
fn retired_file_is_not_rewritten_under_a_reader() {
    let pages = Pages::new(1);
    let index = Arc::new(SparseIndex::of(&[]));
    let view = view_of(&pages, &index);
    pages.write(0, 10);
    view.publish(&contents(1));
    let next = view_of(&Pages::new(1), &index);
    let shared = Arc::new(Shared::new(vec![view], &contents(1)));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let first = Arc::clone(&shared.segments.load()[0]);
                if first.end_position() == 1 {
                    // The slice keeps the map, as the bytes on their way to a client do; the view is let go.
                    let slice = Arc::clone(&first.map);
                    drop(first);
                    drop(shared);
                    thread::yield_now();
                    assert_eq!(slice.word(0), 10, "what was handed out stays");
                }
            })
        })
        .collect();
    let retired = shared.segments.load()[0].clone();
    shared.segments.store(Arc::new(vec![next]));
    let mut map = map_of_retired(retired);
    if is_last_reference(&mut map) {
        drop(map);
        pages.write(0, 99);
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

/// Both ends of a log: whoever sees the last index finds the segment that holds it.
fn last_index_is_in_the_list_that_is_loaded_after_it() {
    let index = Arc::new(SparseIndex::of(&[]));
    let first = view_of(&Pages::new(1), &index);
    let second = view_of(&Pages::new(1), &index);
    let shared = Arc::new(Shared::new(vec![Arc::clone(&first)], &Contents::default()));
    let reader = Arc::clone(&shared);
    let reading = thread::spawn(move || {
        let last = reader.last_index();
        let list = reader.segments.load_full();
        let written: u64 = list.iter().map(|segment| segment.end_position()).sum();
        assert!(
            written >= last,
            "{last} entries are published, {written} found"
        );
        assert!(reader.next_offset() >= last, "and their offsets");
    });
    first.publish(&contents(1));
    shared.publish(&contents(1), 1);
    shared
        .segments
        .store(Arc::new(vec![first, Arc::clone(&second)]));
    second.publish(&contents(1));
    shared.publish(&contents(2), 1);
    reading.join().unwrap();
}

fn main() {
    let models: [(&str, fn()); 7] = [
        (
            "mark shows what lies below it",
            mark_shows_what_lies_below_it,
        ),
        (
            "waiter is woken by a publication",
            waiter_is_woken_by_a_publication,
        ),
        (
            "waiter is woken by another leader",
            waiter_is_woken_by_another_leader,
        ),
        ("waiter is woken by the close", waiter_is_woken_by_the_close),
        (
            "end shows frames and their index",
            end_shows_frames_and_their_index,
        ),
        (
            "retired file is not rewritten under a reader",
            retired_file_is_not_rewritten_under_a_reader,
        ),
        (
            "last index is in the list that is loaded after it",
            last_index_is_in_the_list_that_is_loaded_after_it,
        ),
    ];
    for (name, model) in models {
        let orders = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let count = Arc::clone(&orders);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(PREEMPTIONS_MAX);
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            model();
        });
        println!("model {name}: {} orders", orders.load(Ordering::Relaxed));
    }
}
