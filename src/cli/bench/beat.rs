//! When records are due: the beat of an open loop.
//!
//! Owns the timer. Must not know what is sent.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// Beats of which several would ring within this time ring together, once in it: a ring costs some ten microseconds of the CPU that is being
/// measured. What comes late by that is counted as late.
const RING_MIN: Duration = Duration::from_micros(250);
/// Slower beats than this many in that time ring one by one.
const RING_TOGETHER: f64 = 5.0;

/// Says when each record is due, never earlier, whether or not the last one is done. Nothing is left out: a reader that is late gets the
/// times at which records *were* due.
///
/// Rings by a timer of the kernel, as a runtime's own are a millisecond coarse.
pub(super) struct Beat {
    timer: AsyncFd<OwnedFd>,
    span: Range<Instant>,
    per_second: f64,
    ring_min: Duration,
    number: u64,
}

impl Beat {
    /// `per_second` times a second, first at the begin of `span`, last before its end.
    pub(super) fn new(per_second: f64, span: Range<Instant>) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let ring_min = match per_second * RING_MIN.as_secs_f64() > RING_TOGETHER {
            true => RING_MIN,
            false => Duration::from_nanos(1),
        };
        #[expect(
            deprecated,
            reason = "its successor is unsafe for what is not owned; this is"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self {
            timer,
            span,
            per_second,
            ring_min,
            number: 0,
        })
    }

    /// When the next record is or was due; waits until then. `None` at the end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Instant>> {
        let offset = Duration::from_secs_f64(self.number as f64 / self.per_second);
        let due = self.span.start + offset;
        if due >= self.span.end {
            return Ok(None);
        }
        self.number += 1;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(due));
            }
            self.ring_in(left.max(self.ring_min)).await?;
        }
    }

    async fn ring_in(&mut self, left: Duration) -> io::Result<()> {
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: left.as_secs().cast_signed(),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        let mut ready = self.timer.readable().await?;
        // It rings once until it is set again, so nothing is missed.
        ready.clear_ready();
        rustix::io::read(&self.timer, &mut [0; 8])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beat_gives_each_due_time_in_order_never_early_and_however_late_it_is_read() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let began = Instant::now();
            // The first hundred are long past, the others are yet to come.
            let span = began - Duration::from_millis(100)..began + Duration::from_millis(20);
            let start = span.start;
            let mut beat = Beat::new(1000.0, span).unwrap();
            let mut times = Vec::new();
            while let Some(due) = beat.next().await.unwrap() {
                assert!(Instant::now() >= due);
                times.push(due);
            }
            let expected: Vec<Instant> = (0..120)
                .map(|ms| start + Duration::from_millis(ms))
                .collect();
            assert_eq!(times, expected);
        });
    }
}
