//! The mutation list of this crate's own tests: each bug must be caught by the test beside the code it stands in.

use super::{Bug, assert_each_is_caught};

const fn bug(name: &'static str, real: &'static str, test: &'static str) -> Bug {
    Bug { name, real, test }
}

const BUGS: &[Bug] = &[
    bug(
        "term and vote saved in two writes",
        "1",
        "ballot::tests::a_power_cut_at_any_operation_leaves_the_old_or_the_new_ballot",
    ),
    bug(
        "a ballot that is not synced",
        "4",
        "ballot::tests::a_power_cut_at_any_operation_leaves_the_old_or_the_new_ballot",
    ),
    bug(
        "found names are trusted",
        "56",
        "data_dir::tests::a_vote_outlives_the_power_although_the_first_start_was_killed_at_a_sync_that_failed",
    ),
    bug(
        "the old snapshot goes before the new one is there",
        "52",
        "snapshot::tests::a_power_cut_at_any_operation_leaves_the_old_or_the_new_snapshot",
    ),
    bug(
        "a short write is taken for the whole",
        "58",
        "fs::real::tests::short_writes_and_interruptions_are_carried_on",
    ),
    bug(
        "an index is believed unchecked",
        "62",
        "footer::tests::a_footer_with_any_byte_changed_does_not_count",
    ),
    bug(
        "a length is believed",
        "70",
        "frame::tests::an_unstamped_frame_cut_short_or_with_bytes_behind_it_is_refused",
    ),
];

#[test]
fn every_bug_put_back_is_caught() {
    eprintln!("{}", assert_each_is_caught(BUGS));
}
