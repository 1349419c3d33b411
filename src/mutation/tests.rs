//! The mutation list of the library's own tests: each bug must be caught by the test beside the code it stands in.

use segment_store::mutation::{Bug, assert_each_is_caught};

const fn bug(name: &'static str, real: &'static str, test: &'static str) -> Bug {
    Bug { name, real, test }
}

const BUGS: &[Bug] = &[
    bug(
        "half is a majority",
        "23",
        "raft::quorum::tests::reached_index_is_the_largest_that_a_majority_of_each_set_has",
    ),
    bug(
        "numbers of requests start over",
        "29",
        "replica::waiting::tests::tokens_of_two_starts_do_not_meet",
    ),
    bug(
        "bytes of lost proposals stay counted",
        "31",
        "replica::pending::tests::cut_takes_the_tickets_of_lost_entries_and_leaves_the_others",
    ),
    bug(
        "a wiped node comes back under its number",
        "46",
        "server::peer::greet::tests::an_emptied_a_rolled_back_and_a_copied_directory_are_told_apart_and_refused",
    ),
    bug(
        "the silence of a node wakes nobody at rest",
        "",
        "replica::beats::tests::silence_is_told_once_and_counted_from_the_last_beat",
    ),
    bug(
        "a node that restarts passes for the one it was",
        "",
        "replica::beats::tests::node_that_started_again_or_closed_a_group_is_another",
    ),
    bug(
        "batches of other groups are taken",
        "67",
        "wire::batch::tests::a_batch_for_another_group_is_refused",
    ),
    bug(
        "batches of other groups are taken",
        "67",
        "client::consumer::fetcher::tests::a_frame_of_another_group_is_refused",
    ),
];

#[test]
fn every_bug_put_back_is_caught() {
    eprintln!("{}", assert_each_is_caught(BUGS));
}
