//! The words of the shipped `sync` modules, as loom has them or as stand-ins of the same contract.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

pub(crate) use loom::sync::Arc;
use loom::sync::Mutex;
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// As tokio's: wakes everybody who has begun to wait.
#[derive(Debug)]
pub(crate) struct Notify {
    state: Mutex<(u64, Vec<Waker>)>,
}

impl Notify {
    pub(crate) fn new() -> Notify {
        Notify {
            state: Mutex::new((0, Vec::new())),
        }
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        let seen = self.state.lock().unwrap().0;
        Notified { notify: self, seen }
    }

    pub(crate) fn notify_waiters(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Ready once a notification has come since it was made.
pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    seen: u64,
}

impl Notified<'_> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        self.notify.state.lock().unwrap().0 != self.seen
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.notify.state.lock().unwrap();
        if state.0 != self.seen {
            return Poll::Ready(());
        }
        state.1.push(context.waker().clone());
        Poll::Pending
    }
}

/// As arc-swap's: whoever loads shares the value from then on.
#[derive(Debug)]
pub(crate) struct ArcSwap<T>(Mutex<std::sync::Arc<T>>);

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> ArcSwap<T> {
        ArcSwap(Mutex::new(std::sync::Arc::new(value)))
    }

    pub(crate) fn load(&self) -> std::sync::Arc<T> {
        self.load_full()
    }

    pub(crate) fn load_full(&self) -> std::sync::Arc<T> {
        std::sync::Arc::clone(&self.0.lock().unwrap())
    }

    pub(crate) fn store(&self, value: std::sync::Arc<T>) {
        let old = std::mem::replace(&mut *self.0.lock().unwrap(), value);
        drop(old);
    }
}
