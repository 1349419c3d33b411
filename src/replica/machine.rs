//! What a group may compute from its log: the face of a replicated state machine.
//!
//! Only group 0 has one; a partition's log is its own state. Implementations must be deterministic: the
//! same commands in the same order give the same results and the same snapshot on every replica.

use crate::raft::LogId;

/// A state that is a function of the committed commands of a group.
pub trait StateMachine: Send {
    /// Applies the committed command of entry `id` and returns what its proposer is told. Called once per
    /// command, in log order; after a restart again for those that the last snapshot does not contain.
    fn apply(&mut self, id: LogId, command: &[u8]) -> Vec<u8>;

    /// The whole state, to be given to [`StateMachine::restore`] some day, perhaps of a newer program.
    fn snapshot(&self) -> Vec<u8>;

    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// What is wrong with the bytes; the state is then not to be used.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}
