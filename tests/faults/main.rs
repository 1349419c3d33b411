//! Real processes under real faults: what an ack promised is still there, exactly once, and service goes on by itself.
//!
//! The nodes are `plimsoll serve` processes with real files, real fsync and real certificates; between them, where a scenario asks for
//! it, relays that lose, delay, double, reorder and cut. Whatever is judged is judged from outside, by the public client and the
//! offline tools. `PLIMSOLL_KILL_CYCLES` makes the runs longer, `PLIMSOLL_FAULT_SEED` draws the same faults again.

#![allow(clippy::unwrap_used, missing_docs)]

mod clocks;
mod cluster;
mod files;
mod frames;
mod full_disk;
mod history;
mod kills;
mod partitions;
mod pauses;
mod relay;
mod relay_tests;
mod returned;
mod same_offset;
mod scene;
mod spoiled;
mod workload;
