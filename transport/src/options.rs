//! Every limit of QUIC, set on purpose.
//!
//! Owns the settings and their translation for quinn, with the reason beside each. Knows nothing of connections. On every walk, once per
//! endpoint.

use std::time::Duration;

/// Limits and settings of an endpoint. The defaults are meant for a node and for its clients alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportOptions {
    /// Largest UDP payload that MTU discovery tries on a network path, in bytes, 1200 to 6500 (see `docs/decisions`).
    pub mtu_max: u16,
    /// Largest UDP payload tried when both ends are on the loopback interface, in bytes, 1200 to 65000.
    pub mtu_max_loopback: u16,
    /// Bytes a stream may hold received and unread.
    pub stream_window: u32,
    /// Bytes all streams of a connection may hold received and unread, when the other side is a node.
    pub connection_window_peer: u32,
    /// The same when the other side is a client.
    pub connection_window_client: u32,
    /// Bytes of a connection that may be sent and not yet acknowledged.
    pub send_window: u32,
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
            stream_window: 16 << 20,
            connection_window_peer: 32 << 20,
            connection_window_client: 16 << 20,
            send_window: 32 << 20,
            streams_max_peer: 4_096,
            streams_max_client: 256,
            idle_timeout: Duration::from_secs(3),
            keep_alive: Duration::from_millis(750),
            handshake_timeout: Duration::from_secs(3),
            handshakes_max: 256,
            connections_max: 4_096,
            socket_buffer_bytes: 4 << 20,
        }
    }
}
