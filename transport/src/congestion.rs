//! Congestion control: Cubic, with a ceiling on what may be under way.
//!
//! Owns the ceiling. Knows nothing of streams and their priorities. On every walk between two processes, under the bulk of it.
//!
//! The receiver's socket buffer is shared by all who send to it, and what passes it is lost. Cubic finds its size only by losing packets, again
//! and again; the ceiling stays below it. It also bounds what a heartbeat can find in the kernel's queue before it, where its priority no longer
//! counts. QUIC's own send window would bound the same bytes, but it holds writes back, heartbeats too; a congestion window holds packets back, and
//! the next packet carries the highest priority.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// Makes a controller for each connection.
#[derive(Debug)]
pub(crate) struct CeilingConfig {
    pub(crate) cubic: Arc<CubicConfig>,
    /// Bytes that may be sent and neither acknowledged nor lost, at most.
    pub(crate) window_max: u64,
}

impl ControllerFactory for CeilingConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Ceiling {
            cubic: self.cubic.clone().build(now, current_mtu),
            window_max: self.window_max,
        })
    }
}

struct Ceiling {
    cubic: Box<dyn Controller>,
    window_max: u64,
}

impl Controller for Ceiling {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    /// Cubic must not grow above the ceiling in secret: a loss would then shrink a window that was never used, and change nothing.
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        let at_ceiling = self.cubic.window() >= self.window_max;
        self.cubic
            .on_ack(now, sent, bytes, app_limited || at_ceiling, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.window_max)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Ceiling {
            cubic: self.cubic.clone_box(),
            window_max: self.window_max,
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window().min(self.window_max)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controller(initial: u64, window_max: u64) -> Box<dyn Controller> {
        let mut cubic = CubicConfig::default();
        cubic.initial_window(initial);
        let cubic = Arc::new(cubic);
        Arc::new(CeilingConfig { cubic, window_max }).build(Instant::now(), 1_200)
    }

    #[test]
    fn the_window_never_passes_the_ceiling() {
        let capped = controller(5 << 20, 2 << 20);
        assert_eq!(capped.window(), 2 << 20);
        assert_eq!(capped.initial_window(), 2 << 20);
        assert_eq!(capped.clone_box().window(), 2 << 20);
    }

    #[test]
    fn a_loss_at_the_ceiling_shrinks_the_window() {
        let mut capped = controller(2 << 20, 2 << 20);
        let now = Instant::now();
        capped.on_congestion_event(now, now, false, 1_200);
        assert!(capped.window() < 2 << 20);
    }
}
