//! What is sent: the bytes of records, their sizes and their keys.
//!
//! Owns the generator. Must not know producers: it says what, others send.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::RECORD_BYTES_MAX;

/// Bytes that records are cut from.
const POOL_BYTES: usize = 4 << 20;
/// Words in the made-up vocabulary.
const WORDS: usize = 2000;
/// Bytes of a key, such as `key-00000042`.
const KEY_BYTES: usize = 12;
/// Bytes at the begin of a value that tell when it was sent, where somebody wants to know.
pub(super) const STAMP_BYTES: usize = 8;

/// How the sizes of records are spread around their mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sizes {
    /// All have the same
    Fixed,
    /// From 1 byte to twice the mean, evenly
    Uniform,
    /// Many small ones and a few large ones, up to 1 MiB
    Exponential,
}

impl Sizes {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Uniform => "uniform",
            Self::Exponential => "exponential",
        }
    }

    fn draw(self, mean: u32, random: &mut fastrand::Rng) -> usize {
        let bytes = match self {
            Self::Fixed => mean,
            Self::Uniform => random.u32(1..2 * mean),
            // The logarithm of what is drawn from 0 to 1, 0 excluded.
            Self::Exponential => (-(1.0 - random.f64()).ln() * f64::from(mean)) as u32,
        };
        bytes.clamp(1, RECORD_BYTES_MAX) as usize
    }
}

/// Records: text of made-up words, which compresses about as text does. Cut from a pool that all producers share, so that making one costs
/// nothing.
#[derive(Clone)]
pub(super) struct Values {
    pool: Arc<[u8]>,
    mean: u32,
    sizes: Sizes,
    keys: u32,
    key: [u8; KEY_BYTES],
    stamped: Vec<u8>,
    next: usize,
    random: fastrand::Rng,
}

impl Values {
    /// Values of `mean` bytes in the mean, and so many different keys; none if 0.
    pub(super) fn new(mean: u32, sizes: Sizes, keys: u32) -> Self {
        let mut random = fastrand::Rng::with_seed(7);
        let words: Vec<Vec<u8>> = (0..WORDS)
            .map(|_| {
                (0..random.usize(3..10))
                    .map(|_| random.u8(b'a'..=b'z'))
                    .collect()
            })
            .collect();
        let longest = match sizes {
            Sizes::Fixed => mean,
            Sizes::Uniform => 2 * mean,
            Sizes::Exponential => RECORD_BYTES_MAX,
        } as usize;
        let mut pool = Vec::with_capacity(POOL_BYTES + longest + 16);
        while pool.len() < POOL_BYTES + longest {
            pool.extend_from_slice(&words[random.usize(..WORDS)]);
            pool.push(b' ');
        }
        Self {
            pool: pool.into(),
            mean,
            sizes,
            keys,
            key: *b"key-00000000",
            stamped: Vec::new(),
            next: 0,
            random,
        }
    }

    /// The same, beginning elsewhere: for one more producer.
    pub(super) fn fork(&mut self) -> Self {
        Self {
            next: self.random.usize(..POOL_BYTES),
            random: self.random.fork(),
            ..self.clone()
        }
    }

    /// The next key, if there are any, and value.
    pub(super) fn next(&mut self) -> (Option<&[u8]>, &[u8]) {
        let value = self.cut();
        self.draw_key();
        (self.key(), &self.pool[value])
    }

    /// The same, with a moment in its first bytes.
    pub(super) fn next_stamped(&mut self, moment: Duration) -> (Option<&[u8]>, &[u8]) {
        let value = self.cut();
        self.draw_key();
        self.stamped.clear();
        self.stamped.extend_from_slice(&stamp(moment));
        let rest = value.len().saturating_sub(STAMP_BYTES);
        let rest = value.start..value.start + rest;
        self.stamped.extend_from_slice(&self.pool[rest]);
        (self.key(), &self.stamped)
    }

    fn cut(&mut self) -> std::ops::Range<usize> {
        let bytes = self.sizes.draw(self.mean, &mut self.random);
        let at = self.next;
        self.next = (at + bytes) % POOL_BYTES;
        at..at + bytes
    }

    fn draw_key(&mut self) {
        if self.keys == 0 {
            return;
        }
        let mut number = self.random.u32(..self.keys);
        for digit in self.key[4..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }

    fn key(&self) -> Option<&[u8]> {
        (self.keys > 0).then_some(&self.key)
    }
}

fn stamp(moment: Duration) -> [u8; STAMP_BYTES] {
    u64::try_from(moment.as_nanos())
        .unwrap_or(u64::MAX)
        .to_le_bytes()
}

/// The moment that a stamped value tells.
pub(super) fn stamp_of(value: &[u8]) -> Option<Duration> {
    let stamp = value.first_chunk::<STAMP_BYTES>()?;
    Some(Duration::from_nanos(u64::from_le_bytes(*stamp)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_fixed_size_have_the_size_asked_for_and_differ() {
        for record_bytes in [1, 100, RECORD_BYTES_MAX] {
            let mut values = Values::new(record_bytes, Sizes::Fixed, 0);
            let first = values.next().1.to_vec();
            assert_eq!(first.len(), record_bytes as usize);
            if record_bytes > 1 {
                assert_ne!(values.next().1, first);
            }
            for _ in 0..20_000 / record_bytes.min(1000) {
                assert_eq!(values.next().1.len(), record_bytes as usize);
            }
        }
    }

    #[test]
    fn sizes_that_vary_keep_their_mean() {
        for sizes in [Sizes::Uniform, Sizes::Exponential] {
            let mut values = Values::new(1000, sizes, 0);
            let lengths: Vec<usize> = (0..20_000).map(|_| values.next().1.len()).collect();
            let mean = lengths.iter().sum::<usize>() / lengths.len();
            assert!((900..1100).contains(&mean), "{sizes:?}: {mean}");
            assert!(lengths.iter().any(|bytes| *bytes < 200));
            assert!(lengths.iter().any(|bytes| *bytes > 1800));
        }
    }

    #[test]
    fn keys_are_so_many_as_asked_for() {
        let mut values = Values::new(10, Sizes::Fixed, 3);
        let seen: std::collections::BTreeSet<Vec<u8>> = (0..100)
            .map(|_| values.next().0.unwrap().to_vec())
            .collect();
        let expected: Vec<&[u8]> = vec![b"key-00000000", b"key-00000001", b"key-00000002"];
        assert!(seen.iter().eq(expected));
        assert_eq!(Values::new(10, Sizes::Fixed, 0).next().0, None);
    }

    #[test]
    fn stamped_value_tells_its_moment_and_keeps_its_size() {
        let moment = Duration::from_nanos(123_456_789);
        for bytes in [STAMP_BYTES as u32, 100] {
            let mut values = Values::new(bytes, Sizes::Fixed, 0);
            let value = values.next_stamped(moment).1;
            assert_eq!(value.len(), bytes as usize);
            assert_eq!(stamp_of(value), Some(moment));
        }
        assert_eq!(stamp_of(b"short"), None);
    }
}
