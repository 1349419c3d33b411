//! The mutation list: bugs that other systems had, put back one at a time, each to be caught by one test of this program.
//!
//! Exists in builds with `--cfg plimsoll_mutations` alone. Owns the table; what a bug changes stands where the switch of its name is asked.

use segment_store::mutation::{Bug, assert_each_is_caught};

const fn bug(name: &'static str, real: &'static str, test: &'static str) -> Bug {
    Bug { name, real, test }
}

const BUGS: &[Bug] = &[
    bug(
        "votes after a failed write",
        "12",
        "disks::node_whose_ballot_cannot_be_synced_never_votes",
    ),
    bug(
        "followers ack before their disk",
        "27",
        "producing::no_ack_leaves_before_a_majority_has_the_batch_on_disk",
    ),
    bug(
        "bytes of lost proposals stay counted",
        "31",
        "leaders::room_of_proposals_that_were_lost_is_given_back",
    ),
    bug(
        "sequences outlive a truncation",
        "34",
        "leaders::batch_that_only_the_fallen_leader_had_is_cut_with_its_deduplication",
    ),
    bug(
        "tickets outlive their leader",
        "35",
        "leaders::isolated_leader_acks_nothing_and_steps_down",
    ),
    bug(
        "a leader serves reads before it has applied",
        "38",
        "producing::read_index_at_a_leader_whose_disk_is_behind_waits_for_it",
    ),
    bug(
        "the log is trimmed past the snapshots",
        "48",
        "snapshots::log_forgets_what_every_voter_has_and_a_restart_goes_on_from_the_snapshot",
    ),
    bug(
        "a snapshot names one entry more than it holds",
        "53",
        "restarts::restart_from_snapshot_and_log_recognises_retries_from_before_and_after_the_snapshot",
    ),
    bug(
        "success after a failed sync",
        "55",
        "disks::leader_whose_sync_failed_acks_nothing_and_says_nothing_more",
    ),
    bug(
        "a log that is not synced",
        "57",
        "disks::acked_batches_survive_a_power_cut_of_any_node_at_any_disk_operation",
    ),
    bug(
        "a full disk is never tried again",
        "65",
        "disks::leader_with_a_full_disk_refuses_and_resumes_by_itself",
    ),
    bug(
        "memberships forgotten at a restart",
        "42",
        "members::members_are_what_the_log_says_after_a_restart_of_all_of_them",
    ),
    bug(
        "sequences forgotten at a restart",
        "68",
        "restarts::restart_of_all_nodes_keeps_what_was_acked_and_who_sent_it",
    ),
    bug(
        "commands forgotten at a restart",
        "69",
        "snapshots::log_forgets_what_every_voter_has_and_a_restart_goes_on_from_the_snapshot",
    ),
];

#[test]
fn every_bug_put_back_is_caught() {
    eprintln!("{}", assert_each_is_caught(BUGS));
}
