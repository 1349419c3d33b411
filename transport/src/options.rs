//! Every limit of QUIC, set on purpose.
//!
//! Owns the settings and their translation for quinn, with the reason beside each. Knows nothing of connections. On every walk, once per
//! endpoint.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::congestion::CeilingConfig;

/// Limits and settings of an endpoint. The defaults are meant for a node and for its clients alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Largest UDP payload that MTU discovery tries on a network path, in bytes, 1200 to 6500 (see `docs/decisions`).
    pub mtu_max: u16,
    /// Largest UDP payload tried when both ends are on the loopback interface, in bytes, 1200 to 65000.
    pub mtu_max_loopback: u16,
    /// Bytes a stream may hold received and unread.
    pub stream_window: u32,
    /// Bytes all streams of a connection may hold received and unread, when the other side is a node. Several times `stream_window`: streams
    /// that nobody reads must not keep the others from being heard.
    pub connection_window_peer: u32,
    /// The same when the other side is a client.
    pub connection_window_client: u32,
    /// Bytes of a connection that may be written and not yet acknowledged. Above it writes wait, whatever their priority: so it is far above
    /// what one stream may hold.
    pub send_window: u32,
    /// Bytes of a connection that may be under way, sent and neither acknowledged nor lost. Half the socket buffer, which more than one sender
    /// fills; at 1 ms of round trip it allows 2 GB/s.
    pub congestion_window_max: u32,
    /// Streams a node may have open towards us at once: one for control, one per group.
    pub streams_max_peer: u32,
    /// Streams a client may have open towards us at once.
    pub streams_max_client: u32,
    /// Silence after which a connection is given up. The smaller value of the two ends counts.
    pub idle_timeout: Duration,
    /// Silence after which a sign of life is sent; well below `idle_timeout`.
    pub keep_alive: Duration,
    /// Time a handshake may take, at both ends.
    pub handshake_timeout: Duration,
    /// Handshakes under way at once. From half of it on, who knocks must first prove its address; above it, it is turned away.
    pub handshakes_max: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// Size of the socket's receive and of its send buffer, in bytes.
    pub socket_buffer_bytes: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        TransportOptions {
            mtu_max: 6_500,
            mtu_max_loopback: 65_000,
            stream_window: 8 << 20,
            connection_window_peer: 64 << 20,
            connection_window_client: 16 << 20,
            send_window: 64 << 20,
            congestion_window_max: 2 << 20,
            streams_max_peer: 4_096,
            streams_max_client: 256,
            idle_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(750),
            handshake_timeout: Duration::from_secs(2),
            handshakes_max: 256,
            connections_max: 4_096,
            socket_buffer_bytes: 4 << 20,
        }
    }
}

/// The largest datagram that a batched send (GSO) can carry whole: one send takes at most 64 KiB, and quinn puts ten datagrams into it. A
/// larger one than about 6,550 bytes makes the send fail, unseen, until the link falls to the smallest datagrams.
const MTU_MAX_WITH_GSO: u16 = 6_500;
/// The smallest datagram size QUIC allows as a limit (RFC 9000, 14).
const MTU_MIN: u16 = 1_200;
/// Largest UDP payload over IPv4 is 65,507; some room is left for options.
const MTU_MAX: u16 = 65_000;
/// Received before the other side is identified; it may not even open a stream by then.
const WINDOW_UNIDENTIFIED: u32 = 64 << 10;
/// Round-trip time assumed before the first sample. The default of 333 ms repeats a lost first packet after one second; a data centre is
/// quicker, and between continents a needless repetition costs one packet.
const INITIAL_RTT: Duration = Duration::from_millis(50);
/// What may be under way before the first acknowledgement. The default of some 14 KB is less than one probe of MTU discovery on loopback: while
/// the probe is under way nothing else may leave, not even the message that closes the connection.
const INITIAL_CONGESTION_WINDOW: u64 = 1 << 20;
/// Out-of-order handshake bytes kept: certificates are a few KiB.
const CRYPTO_BUFFER_BYTES: usize = 16 << 10;

/// Which end of a connection settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialing,
    Accepting,
}

impl TransportOptions {
    /// Holds both MTUs to `bytes`, 1200 to 65000; what is lower stays.
    #[must_use]
    pub fn with_mtu_max(mut self, bytes: u16) -> Self {
        self.mtu_max = self.mtu_max.min(bytes);
        self.mtu_max_loopback = self.mtu_max_loopback.min(bytes);
        self
    }

    /// Says which setting cannot work, and why.
    pub(crate) fn check(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("{name} is {value}, must be {min} to {max}"))
            }
        };
        let mtu_min = u64::from(MTU_MIN);
        let window_max = u64::from(u32::MAX >> 1);
        within(
            "mtu_max",
            self.mtu_max.into(),
            mtu_min,
            MTU_MAX_WITH_GSO.into(),
        )?;
        within(
            "mtu_max_loopback",
            self.mtu_max_loopback.into(),
            mtu_min,
            MTU_MAX.into(),
        )?;
        for (name, value) in [
            ("stream_window", self.stream_window),
            ("connection_window_peer", self.connection_window_peer),
            ("connection_window_client", self.connection_window_client),
            ("send_window", self.send_window),
            ("congestion_window_max", self.congestion_window_max),
        ] {
            within(name, value.into(), WINDOW_UNIDENTIFIED.into(), window_max)?;
        }
        within("streams_max_peer", self.streams_max_peer.into(), 1, 1 << 20)?;
        within(
            "streams_max_client",
            self.streams_max_client.into(),
            1,
            1 << 20,
        )?;
        within("handshakes_max", self.handshakes_max as u64, 2, 1 << 16)?;
        within("connections_max", self.connections_max as u64, 1, 1 << 20)?;
        within(
            "socket_buffer_bytes",
            self.socket_buffer_bytes as u64,
            64 << 10,
            1 << 30,
        )?;
        let idle = u64::try_from(self.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        within("idle_timeout (ms)", idle, 100, 3_600_000)?;
        if self.keep_alive.is_zero() || self.keep_alive > self.idle_timeout / 2 {
            return Err("keep_alive must be above 0 and at most half of idle_timeout".to_owned());
        }
        if self.handshake_timeout.is_zero() {
            return Err("handshake_timeout must be above 0".to_owned());
        }
        Ok(())
    }

    /// The settings of one connection, as quinn takes them. What is not set here is at quinn's default on purpose; acknowledgement frequency
    /// gained nothing when measured.
    pub(crate) fn for_quinn(&self, side: Side, loopback: bool) -> TransportConfig {
        let mtu_max = if loopback {
            self.mtu_max_loopback
        } else {
            self.mtu_max
        };
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu_max);
        // A congested path can look like a black hole; ten seconds at the smallest datagrams are enough.
        discovery.black_hole_cooldown(Duration::from_secs(10));

        let mut config = TransportConfig::default();
        // `initial_mtu` stays at 1200: a handshake that starts with datagrams the path does not carry never ends.
        config.mtu_discovery_config(Some(discovery));
        config.enable_segmentation_offload(mtu_max <= MTU_MAX_WITH_GSO);
        config.stream_receive_window(self.stream_window.into());
        config.send_window(self.send_window.into());
        match side {
            // The dialing side opens the streams and the other side answers on them; the one exception is the welcome.
            Side::Dialing => {
                config.receive_window(self.connection_window_peer.into());
                config.max_concurrent_bidi_streams(0u32.into());
                config.max_concurrent_uni_streams(1u32.into());
            }
            // Raised once it is known who dialed.
            Side::Accepting => {
                config.receive_window(WINDOW_UNIDENTIFIED.into());
                config.max_concurrent_bidi_streams(0u32.into());
                config.max_concurrent_uni_streams(0u32.into());
            }
        }
        let idle = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        config.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))));
        config.keep_alive_interval(Some(self.keep_alive));
        config.initial_rtt(INITIAL_RTT);
        let mut cubic = CubicConfig::default();
        cubic.initial_window(INITIAL_CONGESTION_WINDOW);
        config.congestion_controller_factory(Arc::new(CeilingConfig {
            cubic: Arc::new(cubic),
            window_max: self.congestion_window_max.into(),
        }));
        config.crypto_buffer_size(CRYPTO_BUFFER_BYTES);
        // QUIC datagrams (unreliable, beside streams) are not used.
        config.datagram_receive_buffer_size(None);
        // Tells observers of the path the round-trip time; nobody asked for it.
        config.allow_spin(false);
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound() {
        assert_eq!(TransportOptions::default().check(), Ok(()));
    }

    #[test]
    fn largest_datagram_is_held_down_and_never_raised() {
        let mtus = |bytes| {
            let held = TransportOptions::default().with_mtu_max(bytes);
            held.check().unwrap();
            (held.mtu_max, held.mtu_max_loopback)
        };
        assert_eq!(mtus(1_452), (1_452, 1_452));
        assert_eq!(mtus(20_000), (6_500, 20_000));
        assert_eq!(mtus(u16::MAX), (6_500, 65_000));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let refuse = |change: fn(&mut TransportOptions), name: &str| {
            let mut options = TransportOptions::default();
            change(&mut options);
            let complaint = options.check().unwrap_err();
            assert!(complaint.contains(name), "{complaint}");
        };
        refuse(|o| o.mtu_max = 9_000, "mtu_max");
        refuse(|o| o.mtu_max = 1_199, "mtu_max");
        refuse(|o| o.mtu_max_loopback = 65_001, "mtu_max_loopback");
        refuse(|o| o.stream_window = 0, "stream_window");
        refuse(|o| o.congestion_window_max = 0, "congestion_window_max");
        refuse(|o| o.streams_max_client = 0, "streams_max_client");
        refuse(|o| o.handshakes_max = 1, "handshakes_max");
        refuse(|o| o.connections_max = 0, "connections_max");
        refuse(|o| o.socket_buffer_bytes = 0, "socket_buffer_bytes");
        refuse(|o| o.idle_timeout = Duration::ZERO, "idle_timeout");
        refuse(|o| o.keep_alive = o.idle_timeout, "keep_alive");
        refuse(
            |o| o.handshake_timeout = Duration::ZERO,
            "handshake_timeout",
        );
    }
}
