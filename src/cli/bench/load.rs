//! What is sent, and when: the bytes of records and the beat of a given rate.
//!
//! Owns the generator. Must not know producers: it says what and when, others send.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// Bytes that records are cut from.
const POOL_BYTES: usize = 4 << 20;
/// Words in the made-up vocabulary.
const WORDS: usize = 2000;

/// Record values: text of made-up words, which compresses about as text does. Cut from a pool, so that making one costs nothing.
pub(super) struct Values {
    pool: Vec<u8>,
    record_bytes: usize,
    next: usize,
}

impl Values {
    pub(super) fn new(record_bytes: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let words: Vec<Vec<u8>> = (0..WORDS)
            .map(|_| {
                (0..random.usize(3..10))
                    .map(|_| random.u8(b'a'..=b'z'))
                    .collect()
            })
            .collect();
        let record_bytes = record_bytes as usize;
        let mut pool = Vec::with_capacity(POOL_BYTES + record_bytes + 16);
        while pool.len() < POOL_BYTES + record_bytes {
            pool.extend_from_slice(&words[random.usize(..WORDS)]);
            pool.push(b' ');
        }
        Self {
            pool,
            record_bytes,
            next: 0,
        }
    }

    /// The next value.
    pub(super) fn next(&mut self) -> &[u8] {
        let at = self.next;
        self.next = (at + self.record_bytes) % POOL_BYTES;
        &self.pool[at..at + self.record_bytes]
    }
}

/// The beat of an open loop: says when each record is due, never earlier, whether or not the last one is done.
///
/// It has a thread of its own, as a runtime's timers are a millisecond coarse. Nothing it says is lost: a reader that is late
/// gets the times at which records *were* due.
pub(super) struct Beat {
    due: mpsc::UnboundedReceiver<Instant>,
}

impl Beat {
    /// `per_second` times a second, from `began` until before `ends`.
    pub(super) fn spawn(per_second: f64, began: Instant, ends: Instant) -> std::io::Result<Self> {
        let (sender, due) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("beat".to_owned())
            .spawn(move || {
                for number in 0_u64.. {
                    let next = began + Duration::from_secs_f64(number as f64 / per_second);
                    if next >= ends {
                        break;
                    }
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                    if sender.send(next).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self { due })
    }

    /// When the next record is or was due; waits until then. `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        self.due.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_asked_for_and_differ() {
        for record_bytes in [1, 100, 1_048_576] {
            let mut values = Values::new(record_bytes);
            let first = values.next().to_vec();
            assert_eq!(first.len(), record_bytes as usize);
            if record_bytes > 1 {
                assert_ne!(values.next(), first);
            }
            for _ in 0..20_000 / record_bytes.min(1000) {
                assert_eq!(values.next().len(), record_bytes as usize);
            }
        }
    }

    #[test]
    fn beat_gives_each_due_time_in_order_however_late_it_is_read() {
        let began = Instant::now();
        let mut beat = Beat::spawn(1000.0, began, began + Duration::from_millis(20)).unwrap();
        let mut times = Vec::new();
        while let Some(due) = beat.due.blocking_recv() {
            times.push(due);
        }
        let expected: Vec<Instant> = (0..20)
            .map(|ms| began + Duration::from_millis(ms))
            .collect();
        assert_eq!(times, expected);
    }
}
