//! The applied state of group 0 as the rest of the node sees it: read without a lock, with notification of changes.
//!
//! Must not know how the state comes about.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::state::State;

/// A handle on the latest applied controller state; clones see the same state.
#[derive(Clone, Debug)]
pub struct ControllerView {
    state: Arc<ArcSwap<State>>,
    revision: Arc<watch::Sender<u64>>,
}

impl Default for ControllerView {
    fn default() -> ControllerView {
        ControllerView {
            state: Arc::default(),
            revision: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl ControllerView {
    /// The latest applied state. Never blocks; what it returns does not change any more.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// A number that rises after each published state. Mark it seen before reading the state, and no change is missed.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(super) fn publish(&self, state: State) {
        self.state.store(Arc::new(state));
        self.revision.send_modify(|revision| *revision += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_state_is_seen_by_every_clone_and_announced_once() {
        let view = ControllerView::default();
        let reader = view.clone();
        let mut changes = reader.subscribe();
        assert!(!changes.has_changed().unwrap());
        view.publish(State {
            next_group: 9,
            ..State::default()
        });
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        assert_eq!(reader.state().next_group, 9);
        assert!(!changes.has_changed().unwrap());
    }
}
