//! A group with a state machine: commands, results, snapshots, and a log that forgets its prefix.

use plimsoll::raft::LogId;
use plimsoll::replica::{Answer, StateMachine};

use crate::batches::batch;
use crate::cluster::{Cluster, Options};

/// Counts commands and adds up their bytes.
#[derive(Default)]
pub(crate) struct Sum {
    commands: u64,
    bytes: u64,
}

impl StateMachine for Sum {
    fn apply(&mut self, _: LogId, command: &[u8]) -> Vec<u8> {
        self.commands += 1;
        self.bytes += command.len() as u64;
        self.snapshot()
    }

    fn snapshot(&self) -> Vec<u8> {
        [self.commands.to_le_bytes(), self.bytes.to_le_bytes()].concat()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let (commands, bytes) = snapshot.split_at(8);
        self.commands = u64::from_le_bytes(commands.try_into().unwrap());
        self.bytes = u64::from_le_bytes(bytes.try_into().unwrap());
        Ok(())
    }
}

fn cluster() -> Cluster {
    let mut options = Options {
        machine: Some(|| Box::<Sum>::default()),
        ..Options::default()
    };
    options.replica.snapshot_every_entries = 8;
    Cluster::with(options)
}

/// Proposes a command of `len` bytes and returns (commands, bytes) as of then.
pub(crate) fn run(cluster: &mut Cluster, id: u64, len: usize) -> (u64, u64) {
    let token = cluster.command(id, &vec![7; len]);
    cluster.quiet();
    match cluster.reply(id, token) {
        Some(Ok(Answer::Applied(sum))) => {
            let (commands, bytes) = sum.split_at(8);
            (
                u64::from_le_bytes(commands.try_into().unwrap()),
                u64::from_le_bytes(bytes.try_into().unwrap()),
            )
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_are_applied_in_order_and_answered_with_their_own_result() {
    let mut cluster = cluster();
    let tokens: Vec<u64> = (0..5)
        .map(|len| cluster.command(1, &vec![7; len]))
        .collect();
    cluster.quiet();
    let mut bytes = 0_u64;
    for (at, token) in tokens.into_iter().enumerate() {
        bytes += at as u64;
        let sum = [(at as u64 + 1).to_le_bytes(), bytes.to_le_bytes()].concat();
        assert_eq!(cluster.reply(1, token), Some(Ok(Answer::Applied(sum))));
    }
}

#[test]
fn follower_passes_a_command_on_and_returns_its_result() {
    let mut cluster = cluster();
    assert_eq!(run(&mut cluster, 1, 10), (1, 10));
    assert_eq!(run(&mut cluster, 3, 10), (2, 20));
}

#[test]
fn records_for_a_group_of_commands_are_refused() {
    let mut cluster = cluster();
    let refused = cluster.produce(1, &batch(5, 0, 0, 1));
    assert!(matches!(refused, Some(Err(error)) if !error.is_retriable()));
}

#[test]
fn log_forgets_what_every_voter_has_and_a_restart_goes_on_from_the_snapshot() {
    let mut cluster = cluster();
    for at in 1..=60 {
        assert_eq!(run(&mut cluster, 1, 5_000), (at, at * 5_000));
    }
    cluster.run_for(500);
    for id in 1..=3 {
        assert!(
            cluster.node(id).reader.first_index() > 1,
            "node {id} kept everything"
        );
    }
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.run_until(|cluster| cluster.leader().is_some());
    cluster.quiet();
    let leader = cluster.leader().unwrap();
    assert_eq!(run(&mut cluster, leader, 1), (61, 300_001));
    cluster.run_for(200);
    cluster.check_identical();
}

#[test]
fn log_keeps_what_a_voter_that_is_away_still_lacks() {
    let mut cluster = cluster();
    run(&mut cluster, 1, 5_000);
    cluster.isolate(3);
    let has = cluster.node(3).replica.raft().durable_index();
    for _ in 0..60 {
        run(&mut cluster, 1, 5_000);
    }
    for id in 1..=2 {
        assert!(cluster.node(id).reader.first_index() <= has + 1);
    }
    cluster.heal();
    cluster.run_for(2_000);
    let leaders = cluster.node(1).published.applied_index;
    assert_eq!(cluster.node(3).published.applied_index, leaders);
    cluster.check_identical();
}
