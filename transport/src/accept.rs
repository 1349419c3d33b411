//! The door: who knocks is counted, identified, judged, and welcomed or told why not.
//!
//! Owns the accepting half of the handshake and the limits against floods of handshakes. Knows nothing of dialing, streams and messages. On
//! every walk, at its very start.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use quinn::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use crate::connection::{Connection, canonical};
use crate::error::{ConnectionLost, RefusedError, close, var_int};
use crate::identity::{Alpn, Identity};
use crate::options::{Side, TransportOptions};
use crate::tls;

/// What the accepting side sends, on a stream of its own, once it has accepted.
pub(crate) const WELCOME: [u8; 1] = [1];

/// Bytes kept of what someone sends who has not been looked at yet. There is no 0-RTT data; the rest of a first flight is a packet or two.
const UNSEEN_BYTES_MAX: u64 = 16 << 10;

/// Bounds what strangers can make us keep before [`Doorkeeper::admit`] has seen them.
pub(crate) fn bound_floods(config: &mut ServerConfig, options: &TransportOptions) {
    // Above this quinn drops packets unseen; up to it `admit` still answers.
    config.max_incoming(2 * options.handshakes_max);
    config.incoming_buffer_size(UNSEEN_BYTES_MAX);
    config.incoming_buffer_size_total(UNSEEN_BYTES_MAX * options.handshakes_max as u64);
}

/// What is needed to judge who knocks.
#[derive(Clone, Debug)]
pub(crate) struct Doorkeeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// For a network path, and for the loopback interface.
    configs: [Arc<ServerConfig>; 2],
    identity: Identity,
    options: TransportOptions,
    handshakes: AtomicUsize,
    turned_away: AtomicU64,
}

impl Doorkeeper {
    pub(crate) fn new(
        configs: [Arc<ServerConfig>; 2],
        identity: Identity,
        options: TransportOptions,
    ) -> Doorkeeper {
        Doorkeeper {
            inner: Arc::new(Inner {
                configs,
                identity,
                options,
                handshakes: AtomicUsize::new(0),
                turned_away: AtomicU64::new(0),
            }),
        }
    }

    /// Takes a place among the handshakes under way. `None`: turned away, or asked to prove its address and come again.
    pub(crate) fn admit(&self, quinn: quinn::Incoming, open: usize) -> Option<Incoming> {
        let options = &self.inner.options;
        let under_way = self.inner.handshakes.load(Ordering::Relaxed);
        if open >= options.connections_max || under_way >= options.handshakes_max {
            self.turn_away(quinn, open, under_way);
            return None;
        }
        // From here on a forged sender address is possible, and the flood may consist of nothing else: who answers a retry is real.
        if under_way >= options.handshakes_max / 2 && !quinn.remote_address_validated() {
            if let Err(error) = quinn.retry() {
                error.into_incoming().ignore();
            }
            return None;
        }
        Some(Incoming {
            remote: canonical(quinn.remote_address()),
            quinn,
            place: Place::take(self.clone()),
        })
    }

    /// The log must not grow with the flood: only the first, second, fourth, eighth ... is worth a line.
    fn turn_away(&self, quinn: quinn::Incoming, open: usize, under_way: usize) {
        let count = self.inner.turned_away.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            let remote = canonical(quinn.remote_address());
            tracing::warn!(%remote, count, open, under_way, "turned away: too many connections or handshakes at once");
        }
        quinn.refuse();
    }
}

/// One of the handshakes under way; given back when dropped.
struct Place(Doorkeeper);

impl Place {
    fn take(doorkeeper: Doorkeeper) -> Place {
        doorkeeper.inner.handshakes.fetch_add(1, Ordering::Relaxed);
        Place(doorkeeper)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.inner.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Someone who knocks. Dropped without [`Incoming::identify`], it is refused.
pub struct Incoming {
    quinn: quinn::Incoming,
    remote: SocketAddr,
    place: Place,
}

impl Incoming {
    /// The address the packets come from.
    pub fn remote_address(&self) -> SocketAddr {
        self.remote
    }

    /// Carries the handshake through and lets the other side in, or refuses, tells it why, and logs that.
    pub async fn identify(self) -> Result<Connection, RefusedError> {
        let remote = self.remote;
        let time = self.place.0.inner.options.handshake_timeout;
        let outcome = timeout(time, self.shake_hands())
            .await
            .unwrap_or(Err(RefusedError::TimedOut));
        match &outcome {
            Ok(connection) => {
                tracing::debug!(%remote, identity = %connection.identity(), alpn = ?connection.alpn(), "connection accepted");
            }
            Err(reason) => tracing::warn!(%remote, %reason, "connection refused"),
        }
        outcome
    }

    async fn shake_hands(self) -> Result<Connection, RefusedError> {
        let Incoming {
            quinn,
            remote,
            place,
        } = self;
        let door = &place.0.inner;
        let failed = |lost: ConnectionLost| RefusedError::Handshake { reason: lost };
        let config = door.configs[usize::from(remote.ip().is_loopback())].clone();
        let connecting = quinn
            .accept_with(config)
            .map_err(|error| failed(error.into()))?;
        let quinn = connecting.await.map_err(|error| failed(error.into()))?;
        match judge(&quinn, &door.identity) {
            Ok((identity, alpn)) => {
                raise_limits(&quinn, &identity, alpn, &door.options);
                welcome(&quinn).await.map_err(failed)?;
                Ok(Connection::new(quinn, identity, alpn, Side::Accepting))
            }
            Err((code, refusal)) => {
                quinn.close(var_int(code), refusal.to_string().as_bytes());
                Err(refusal)
            }
        }
    }
}

/// Who it is, and for what; or the code to close with, and why.
fn judge(
    quinn: &quinn::Connection,
    own: &Identity,
) -> Result<(Identity, Alpn), (u32, RefusedError)> {
    let identity = identity_of_peer(quinn)
        .map_err(|reason| (close::NO_IDENTITY, RefusedError::NoIdentity { reason }))?;
    if identity.cluster() != own.cluster() {
        let refusal = RefusedError::ForeignCluster {
            theirs: identity.cluster().to_owned(),
            ours: own.cluster().to_owned(),
        };
        return Err((close::FOREIGN_CLUSTER, refusal));
    }
    let alpn = alpn_of(quinn).ok_or_else(|| {
        let reason = ConnectionLost::Broken {
            reason: "no protocol was agreed on".to_owned(),
        };
        (close::PROTOCOL, RefusedError::Handshake { reason })
    })?;
    match (&identity, alpn) {
        (Identity::Client { name, .. }, Alpn::Peer) => {
            let name = name.clone();
            Err((close::CLIENT_AS_PEER, RefusedError::ClientAsPeer { name }))
        }
        _ => Ok((identity, alpn)),
    }
}

/// The identity in the certificate that rustls verified.
pub(crate) fn identity_of_peer(quinn: &quinn::Connection) -> Result<Identity, String> {
    let chain = quinn
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or_else(|| "no certificate was shown".to_owned())?;
    let leaf = chain
        .first()
        .ok_or_else(|| "no certificate was shown".to_owned())?;
    tls::identity_of(leaf)
}

fn alpn_of(quinn: &quinn::Connection) -> Option<Alpn> {
    let data = quinn
        .handshake_data()?
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .ok()?;
    Alpn::from_bytes(&data.protocol?)
}

/// Until now the other side could not even open a stream.
fn raise_limits(
    quinn: &quinn::Connection,
    identity: &Identity,
    alpn: Alpn,
    options: &TransportOptions,
) {
    let is_peer = identity.node_id().is_some() && alpn == Alpn::Peer;
    let (window, streams) = if is_peer {
        (options.connection_window_peer, options.streams_max_peer)
    } else {
        (options.connection_window_client, options.streams_max_client)
    };
    quinn.set_receive_window(window.into());
    quinn.set_max_concurrent_bi_streams(streams.into());
}

async fn welcome(quinn: &quinn::Connection) -> Result<(), ConnectionLost> {
    let mut stream = quinn.open_uni().await?;
    match stream.write_all(&WELCOME).await {
        Ok(()) => {}
        Err(quinn::WriteError::ConnectionLost(lost)) => return Err(lost.into()),
        Err(other) => {
            return Err(ConnectionLost::Broken {
                reason: other.to_string(),
            });
        }
    }
    // It fails only if the stream was finished or stopped already, and then the other side has gone its way.
    let _ = stream.finish();
    Ok(())
}
