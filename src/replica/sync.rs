//! What a replica's publication is made of: atomics, shared ownership, the wake-up.
//!
//! Owns nothing but the choice. It exists so that `watermark` can be compiled again over a model of these words, in which every order
//! of every thread's steps is tried (tests/oracles/models).

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use tokio::sync::Notify;
