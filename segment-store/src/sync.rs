//! What writer and readers of a log meet through: atomics and the list that is swapped whole.
//!
//! Owns nothing but the choice. It exists so that `view` and `index` can be compiled again over a model of these words, in which every
//! order of every thread's steps is tried (tests/oracles/models). Must not know: what is published.

pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

pub(crate) use arc_swap::ArcSwap;
