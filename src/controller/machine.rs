//! The state machine that the replica of group 0 drives: decodes a committed command, applies it, publishes the state.
//!
//! Must not know where the commands come from or when a snapshot is due.

use super::command::{Outcome, Refusal, decode_command, encode_outcome};
use super::snapshot;
use super::state::State;
use super::view::ControllerView;
use crate::raft::LogId;
use crate::replica::StateMachine;

/// Group 0's state machine; publishes into the view it was made with.
#[derive(Debug)]
pub struct ControllerMachine {
    state: State,
    view: ControllerView,
}

impl ControllerMachine {
    /// An empty controller. What it applies shows up in `view`.
    pub fn new(view: ControllerView) -> ControllerMachine {
        ControllerMachine {
            state: State::default(),
            view,
        }
    }
}

impl StateMachine for ControllerMachine {
    /// A command that cannot be read is refused, on every node alike, and changes nothing.
    fn apply(&mut self, id: LogId, command: &[u8]) -> Vec<u8> {
        let outcome = match decode_command(command) {
            Ok(command) => self.state.apply(command),
            Err(error) => {
                tracing::error!(term = id.term, index = id.index, %error, "a controller command was refused");
                Outcome::Refused(Refusal::InvalidRequest {
                    reason: error.to_string(),
                })
            }
        };
        match outcome {
            Outcome::TopicCreated { .. }
            | Outcome::TopicDeleted { .. }
            | Outcome::Changed { .. } => self.view.publish(self.state.clone()),
            Outcome::ProducerIds { .. } | Outcome::Refused(_) => {}
        }
        encode_outcome(&outcome)
    }

    fn snapshot(&self) -> Vec<u8> {
        snapshot::encode(&self.state)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.state = snapshot::decode(bytes).map_err(|error| error.to_string())?;
        self.view.publish(self.state.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::{Command, decode_outcome, encode_command};
    use super::*;

    fn founded(view: ControllerView) -> ControllerMachine {
        let mut machine = ControllerMachine::new(view);
        let nodes = vec![(1, "host:1".to_owned())];
        machine.apply(
            LogId { term: 1, index: 1 },
            &encode_command(&Command::Found { nodes }),
        );
        machine
    }

    fn create(name: &str) -> Vec<u8> {
        encode_command(&Command::CreateTopic {
            name: name.into(),
            partitions: 2,
            replicas: 1,
            partitions_max: 10_000,
            token: 7,
        })
    }

    #[test]
    fn applied_topics_are_published_and_survive_a_snapshot() {
        let (view, restored_view) = (ControllerView::default(), ControllerView::default());
        let mut machine = founded(view.clone());
        let outcome = machine.apply(LogId { term: 1, index: 2 }, &create("ships"));
        assert_eq!(
            decode_outcome(&outcome).unwrap(),
            Outcome::TopicCreated { topic: 1 }
        );
        assert_eq!(view.state().topic("ships").unwrap().partitions.len(), 2);
        let mut restored = ControllerMachine::new(restored_view.clone());
        restored.restore(&machine.snapshot()).unwrap();
        assert_eq!(*restored_view.state(), *view.state());
    }

    #[test]
    fn bytes_that_are_no_command_are_refused_and_change_nothing() {
        let mut machine = ControllerMachine::new(ControllerView::default());
        let before = machine.state.clone();
        let mut future = create("ships");
        future[0] = 9;
        for bytes in [&[][..], &[2], &[2, 2, 3, 4], &future] {
            let outcome = machine.apply(LogId { term: 1, index: 2 }, bytes);
            assert!(matches!(
                decode_outcome(&outcome).unwrap(),
                Outcome::Refused(Refusal::InvalidRequest { .. })
            ));
        }
        assert_eq!(machine.state, before);
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing() {
        let mut machine = founded(ControllerView::default());
        machine.apply(LogId { term: 1, index: 2 }, &create("ships"));
        let (before, bytes) = (machine.state.clone(), machine.snapshot());
        for len in 0..bytes.len() {
            assert!(
                machine.restore(&bytes[..len]).is_err(),
                "{len} of {} bytes",
                bytes.len()
            );
        }
        assert_eq!(machine.state, before);
    }
}
