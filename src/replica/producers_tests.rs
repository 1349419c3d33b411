//! Deduplication: what a producer may rely on, and what a truncation takes back.

use super::*;

fn stamp(producer_id: u64, epoch: u32, first_sequence: u64, record_count: u32) -> Stamp {
    Stamp {
        producer_id,
        epoch,
        first_sequence,
        record_count,
    }
}

/// Appends batches of ten records of producer 7, epoch 0, from sequence 0, at indexes `from..`.
fn with_batches(count: u64) -> Producers {
    let mut producers = Producers::new();
    for at in 0..count {
        let batch = stamp(7, 0, at * 10, 10);
        assert_eq!(producers.check(&batch), Verdict::New);
        producers.appended(at + 1, at * 10, &batch);
    }
    producers
}

#[test]
fn unknown_producer_must_start_at_sequence_zero() {
    let producers = Producers::new();
    assert_eq!(producers.check(&stamp(7, 0, 0, 1)), Verdict::New);
    let later = producers.check(&stamp(7, 0, 5, 1));
    assert_eq!(later, Verdict::OutOfOrder { expected: 0 });
}

#[test]
fn gap_is_refused_with_the_sequence_that_is_expected() {
    let producers = with_batches(2);
    let gap = producers.check(&stamp(7, 0, 21, 10));
    assert_eq!(gap, Verdict::OutOfOrder { expected: 20 });
}

#[test]
fn every_batch_of_the_window_is_recognised_before_and_after_commit() {
    let window = PRODUCER_WINDOW_BATCHES as u64;
    let mut producers = with_batches(window);
    for commit in [0, window / 2, window] {
        producers.commit(commit);
        for at in 0..window {
            let verdict = producers.check(&stamp(7, 0, at * 10, 10));
            let original = Verdict::Duplicate {
                index: at + 1,
                base_offset: at * 10,
            };
            assert_eq!(verdict, original, "committed {commit}, batch {at}");
        }
    }
}

#[test]
fn same_start_with_another_count_is_no_duplicate() {
    let producers = with_batches(2);
    let verdict = producers.check(&stamp(7, 0, 10, 9));
    assert_eq!(verdict, Verdict::OutOfOrder { expected: 20 });
}

#[test]
fn batch_older_than_the_window_is_refused() {
    let mut producers = with_batches(PRODUCER_WINDOW_BATCHES as u64 + 1);
    producers.commit(u64::MAX);
    let expected = (PRODUCER_WINDOW_BATCHES as u64 + 1) * 10;
    let verdict = producers.check(&stamp(7, 0, 0, 10));
    assert_eq!(verdict, Verdict::OutOfOrder { expected });
}

#[test]
fn older_epoch_is_fenced_and_newer_one_starts_at_zero() {
    let mut producers = with_batches(1);
    let newer = stamp(7, 3, 0, 1);
    assert_eq!(producers.check(&newer), Verdict::New);
    assert_eq!(
        producers.check(&stamp(7, 3, 10, 1)),
        Verdict::OutOfOrder { expected: 0 }
    );
    producers.appended(2, 10, &newer);
    let older = producers.check(&stamp(7, 0, 10, 10));
    assert_eq!(older, Verdict::Fenced { epoch: 3 });
}

#[test]
fn truncation_drops_the_uncommitted_batches_and_their_epoch() {
    let mut producers = with_batches(2);
    producers.commit(1);
    producers.appended(3, 20, &stamp(7, 1, 0, 5));
    producers.truncate(1);
    assert_eq!(producers.check(&stamp(7, 0, 10, 10)), Verdict::New);
    assert!(matches!(
        producers.check(&stamp(7, 0, 0, 10)),
        Verdict::Duplicate { index: 1, .. }
    ));
}

#[test]
fn truncation_of_a_producers_only_batch_forgets_the_producer() {
    let mut producers = with_batches(1);
    producers.truncate(0);
    assert_eq!(producers.check(&stamp(7, 0, 0, 4)), Verdict::New);
    assert!(producers.producers.is_empty());
}

#[test]
fn truncation_after_a_full_window_still_leaves_the_whole_window() {
    let window = PRODUCER_WINDOW_BATCHES as u64;
    let mut producers = with_batches(window * 2);
    producers.commit(window);
    producers.truncate(window);
    for at in 0..window {
        let verdict = producers.check(&stamp(7, 0, at * 10, 10));
        assert!(matches!(verdict, Verdict::Duplicate { .. }), "batch {at}");
    }
}

#[test]
fn producer_whose_last_commit_is_oldest_is_forgotten_first() {
    let mut producers = Producers::with_limit(2);
    for (index, producer) in [(1, 1), (2, 2), (3, 3)] {
        producers.appended(index, index, &stamp(producer, 0, 0, 1));
    }
    producers.appended(4, 4, &stamp(1, 0, 1, 1));
    producers.commit(2);
    // Producer 1 has a batch that is not committed: only its committed ones are forgotten.
    producers.commit(3);
    let of_one = producers.check(&stamp(1, 0, 0, 1));
    assert_eq!(of_one, Verdict::OutOfOrder { expected: 2 });
    producers.commit(4);
    assert_eq!(producers.check(&stamp(2, 0, 0, 1)), Verdict::New);
    assert!(matches!(
        producers.check(&stamp(1, 0, 1, 1)),
        Verdict::Duplicate { index: 4, .. }
    ));
}

#[test]
fn state_restored_from_its_rows_judges_the_same_and_leaves_out_what_is_uncommitted() {
    let mut producers = with_batches(6);
    producers.appended(7, 60, &stamp(9, 2, 0, 1));
    producers.commit(4);
    let mut restored = Producers::from_rows(&producers.rows()).unwrap();
    producers.truncate(4);
    for first_sequence in [0, 10, 30, 40, 50] {
        let batch = stamp(7, 0, first_sequence, 10);
        assert_eq!(restored.check(&batch), producers.check(&batch));
    }
    assert_eq!(restored.rows(), producers.rows());
    restored.appended(5, 40, &stamp(7, 0, 40, 10));
    restored.commit(5);
    assert_eq!(restored.rows().len(), 1);
}

#[test]
fn rows_that_no_replica_wrote_are_refused() {
    let empty = ProducerRow {
        producer_id: 1,
        batches: Vec::new(),
    };
    assert!(Producers::from_rows(&[empty]).is_err());
    let mut one = with_batches(1);
    one.commit(1);
    let row = one.rows().remove(0);
    assert!(Producers::from_rows(&[row.clone(), row]).is_err());
}

#[test]
fn windows_shrink_as_producers_come_and_leave_each_its_share() {
    assert_eq!((window(0), window(1), window(128)), (1024, 1024, 1024));
    assert_eq!(
        (window(256), window(PRODUCERS_MAX), window(1 << 20)),
        (512, 32, 32)
    );
    let mut producers = with_batches(1024);
    producers.commit(1024);
    let others: Vec<u64> = (100..355).collect();
    for (index, producer) in (1025..).zip(&others) {
        producers.appended(index, index, &stamp(*producer, 0, 0, 1));
    }
    producers.commit(u64::MAX);
    // It is at its own next commit that a producer's window shrinks.
    assert!(matches!(
        producers.check(&stamp(7, 0, 0, 10)),
        Verdict::Duplicate { index: 1, .. }
    ));
    producers.appended(2000, 20_000, &stamp(7, 0, 10_240, 10));
    producers.commit(u64::MAX);
    let oldest_kept = 1025 - 512;
    assert!(matches!(
        producers.check(&stamp(7, 0, oldest_kept * 10, 10)),
        Verdict::Duplicate { .. }
    ));
    assert_eq!(
        producers.check(&stamp(7, 0, (oldest_kept - 1) * 10, 10)),
        Verdict::OutOfOrder { expected: 10_250 }
    );
}
