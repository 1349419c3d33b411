//! The mutation list: bugs that other systems had, put back one at a time, each to be caught by one test of this program.
//!
//! Exists in builds with `--cfg plimsoll_mutations` alone. Owns the table; what a bug changes stands where the switch of its name is asked.

use segment_store::mutation::{Bug, assert_each_is_caught};

const fn bug(name: &'static str, real: &'static str, test: &'static str) -> Bug {
    Bug { name, real, test }
}

const BUGS: &[Bug] = &[
    bug(
        "a second vote in one term",
        "3",
        "elections::voter_votes_once_a_term_and_remembers_it_across_a_crash",
    ),
    bug(
        "logs compared by index alone",
        "5",
        "elections::vote_goes_only_to_a_log_at_least_as_up_to_date",
    ),
    bug(
        "votes of nodes outside count",
        "7",
        "elections::votes_of_strangers_and_learners_do_not_count",
    ),
    bug(
        "a learner campaigns",
        "8",
        "prevotes::learner_does_not_campaign_but_votes",
    ),
    bug(
        "a pre-vote restarts the timer",
        "9",
        "prevotes::pre_vote_changes_nothing_at_the_voter",
    ),
    bug(
        "stale pre-votes stay unanswered",
        "10",
        "prevotes::pre_votes_of_mixed_terms_do_not_deadlock",
    ),
    bug(
        "late pre-votes campaign again",
        "11",
        "prevotes::stale_pre_vote_reply_starts_no_campaign",
    ),
    bug(
        "stale requests to campaign are obeyed",
        "11",
        "transfer::stale_request_to_campaign_is_ignored",
    ),
    bug(
        "a restarted leader goes on in its term",
        "13",
        "prevotes::restarted_leader_leads_only_a_later_term",
    ),
    bug(
        "term zero stands for unknown",
        "14",
        "replication::follower_rejects_append_that_would_leave_a_gap_or_follow_a_conflict",
    ),
    bug(
        "a node that returns campaigns at once",
        "15",
        "prevotes::isolated_node_returns_without_disturbing_the_leader",
    ),
    bug(
        "entries of earlier terms committed by counting",
        "16",
        "figures::entry_of_an_earlier_term_on_a_majority_is_not_committed_and_may_be_overwritten",
    ),
    bug(
        "commit beyond what was compared",
        "17",
        "replication::follower_commits_no_further_than_the_leader_has_shown_its_log",
    ),
    bug(
        "a short append cuts what follows it",
        "18",
        "replication::old_append_does_not_truncate_what_came_after_it",
    ),
    bug(
        "what is trimmed is a conflict",
        "20",
        "replication::append_that_begins_below_the_trimmed_prefix_is_no_conflict",
    ),
    bug(
        "acks of earlier terms count",
        "21",
        "pacing::ack_of_an_earlier_leadership_is_void_although_the_entry_is_ours",
    ),
    bug(
        "acks of an earlier leadership count",
        "22",
        "pacing::stale_and_foreign_acks_do_not_count",
    ),
    bug(
        "completions matched by index alone",
        "24",
        "replication::completion_of_a_write_from_before_a_truncation_is_ignored",
    ),
    bug(
        "completions from before a truncation count",
        "24",
        "replication::completion_of_a_write_from_before_a_truncation_is_ignored",
    ),
    bug(
        "completions in any order count",
        "25",
        "replication::completions_out_of_order_and_of_other_terms_are_harmless",
    ),
    bug(
        "refusals of empty appends are ignored",
        "28",
        "pacing::leader_finds_the_end_of_the_common_log_by_skipping_terms",
    ),
    bug(
        "numbers of requests start over",
        "29",
        "reads::reply_to_an_earlier_life_is_no_answer",
    ),
    bug(
        "a full window takes more",
        "30",
        "pacing::window_is_bounded_in_bytes_and_given_back",
    ),
    bug(
        "what did not fit counts as sent",
        "32",
        "pacing::window_is_bounded_in_bytes_and_given_back",
    ),
    bug(
        "an append names no entry before it",
        "33",
        "pacing::leader_offers_new_entries_to_every_peer_before_its_own_disk_has_them",
    ),
    bug(
        "a state takes what follows it along",
        "49",
        "install::state_that_is_not_needed_is_answered_with_an_ack_and_changes_nothing",
    ),
    bug(
        "a log that conflicts with a state stays",
        "50",
        "install::uncommitted_entries_give_way_to_the_state",
    ),
    bug(
        "a state is never sent",
        "51",
        "install::follower_behind_the_kept_log_is_given_a_state_and_then_entries",
    ),
    bug(
        "a piece is taken for the whole",
        "54",
        "install::pieces_count_in_order_and_a_gap_is_asked_for_again",
    ),
    bug(
        "reads before the term's first commit",
        "36",
        "reads::read_right_after_an_election_waits_for_the_no_op",
    ),
    bug(
        "a truncated membership stays in force",
        "43",
        "membership::truncated_membership_gives_way_to_the_one_before",
    ),
    bug(
        "membership changes before the term's first commit",
        "40",
        "membership::new_leader_changes_nothing_before_its_term_has_a_commit",
    ),
    bug(
        "voters change without a joint membership",
        "40",
        "changes::new_node_learns_then_votes_and_the_leader_itself_leaves_the_joint_membership",
    ),
    bug(
        "a membership counts once it is committed",
        "41",
        "changes::new_node_learns_then_votes_and_the_leader_itself_leaves_the_joint_membership",
    ),
    bug(
        "a joint membership of an earlier term is never left",
        "44",
        "membership::later_leader_leaves_the_joint_membership_it_finds",
    ),
    bug(
        "a leader outside the voters is counted",
        "45",
        "membership::leader_outside_the_new_voters_is_not_counted_there",
    ),
    bug(
        "a candidate counts by what is committed",
        "47",
        "membership::candidate_needs_the_quorum_of_what_it_has_appended",
    ),
    bug(
        "conditional votes count like others",
        "64",
        "suspects::suspect_vote_does_not_help_a_shorter_log_while_another_voter_is_away",
    ),
    bug(
        "a suspect follows the leader of its former life",
        "64",
        "suspects::leader_of_the_former_life_is_told_a_later_term",
    ),
    bug(
        "a replica that comes back votes",
        "46",
        "returns::replicas_that_come_back_empty_elect_nobody_by_the_memberships_of_their_former_life",
    ),
    bug(
        "a group rests without a member that is behind",
        "",
        "rest::leader_does_not_rest_while_a_peer_is_missing_for_a_moment",
    ),
    bug(
        "a leader at rest sleeps through a proposal",
        "",
        "rest::proposal_wakes_the_leader_and_its_entry_the_followers",
    ),
    bug(
        "a suspect tail is trusted as soon as it grows",
        "64",
        "suspects::only_a_durable_entry_of_a_later_term_settles_it",
    ),
];

#[test]
fn every_bug_put_back_is_caught() {
    eprintln!("{}", assert_each_is_caught(BUGS));
}
