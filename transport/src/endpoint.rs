//! A UDP socket that speaks QUIC: dials whom it must, lets in whom it should.
//!
//! Owns the socket, the settings of both sides, and the dialing half of the handshake; `accept.rs` owns the other half. Knows nothing of
//! streams and messages. On every walk, at its very start.
//!
//! A handshake has one step more than TLS: the accepting side sends a *welcome*, one byte on a stream of its own, once it has judged the identity.
//! In TLS 1.3 the dialing side is done before its certificate has been looked at; without the welcome a refused node would believe
//! itself connected, and a link would dial again without ever backing off.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use quinn::{ClientConfig, EndpointConfig, ServerConfig, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::time::timeout;

use crate::accept::{Doorkeeper, WELCOME};
use crate::connection::{Connection, canonical};
use crate::credentials::Credentials;
use crate::error::{ConnectError, ConnectionLost, close, var_int};
use crate::identity::{Alpn, Identity};
use crate::options::{Side, TransportOptions};
use crate::tls::{self, ResetKey, TlsError};

pub use crate::accept::Incoming;

/// Largest datagram taken in. Announced to the other side, whose MTU discovery it bounds; the path decides.
const UDP_PAYLOAD_BYTES_MAX: u16 = 65_000;

/// A node that has started again tells everybody whose connections it forgot so, one packet each, when they say something; between two such packets lies so
/// much. With the default of 20 ms, whoever comes just after another is told nothing, and his next packet may be a second away: a few hundred clients
/// would wait for their idle timeouts. Each is smaller than the packet that it answers.
const RESET_INTERVAL_MIN: std::time::Duration = std::time::Duration::from_micros(100);

/// One UDP socket, its connections in and out. Cheap to clone. Must be made and used within a tokio runtime.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    quinn: quinn::Endpoint,
    local_addr: SocketAddr,
    identity: Identity,
    options: TransportOptions,
    /// Indexed by protocol, then by whether the path is the loopback interface.
    dial: [[ClientConfig; 2]; 2],
    doorkeeper: Option<Doorkeeper>,
}

impl Endpoint {
    /// An endpoint that accepts connections at `listen`, and dials from there. Needs a node's credentials.
    pub fn server(
        credentials: &Credentials,
        listen: SocketAddr,
        options: &TransportOptions,
    ) -> Result<Endpoint, EndpointError> {
        if credentials.identity().node_id().is_none() {
            return Err(EndpointError::NotANode {
                identity: credentials.identity().clone(),
            });
        }
        options.check().map_err(EndpointError::Options)?;
        let crypto = Arc::new(tls::server_config(credentials)?);
        let configs = [false, true].map(|loopback| {
            let mut config = ServerConfig::with_crypto(crypto.clone());
            config.transport_config(Arc::new(options.for_quinn(Side::Accepting, loopback)));
            crate::accept::bound_floods(&mut config, options);
            Arc::new(config)
        });
        let first = ServerConfig::clone(&configs[0]);
        let doorkeeper = Doorkeeper::new(configs, credentials.identity().clone(), options.clone());

        let key = ResetKey::derive(credentials);
        let id_key = key.connection_id_key();
        let mut config = EndpointConfig::new(Arc::new(key));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
        config.min_reset_interval(RESET_INTERVAL_MIN);
        let socket = bind(listen, options).map_err(|source| EndpointError::Bind {
            address: listen,
            source,
        })?;
        Endpoint::build(
            credentials,
            options,
            config,
            Some((first, doorkeeper)),
            socket,
        )
    }

    /// An endpoint that only dials, from any port.
    pub fn client(
        credentials: &Credentials,
        options: &TransportOptions,
    ) -> Result<Endpoint, EndpointError> {
        options.check().map_err(EndpointError::Options)?;
        let any_v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let any_v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        // Where the machine has no IPv6, IPv4 alone will do.
        let socket = bind(any_v6, options)
            .or_else(|_| bind(any_v4, options))
            .map_err(|source| EndpointError::Bind {
                address: any_v4,
                source,
            })?;
        Endpoint::build(
            credentials,
            options,
            EndpointConfig::default(),
            None,
            socket,
        )
    }

    fn build(
        credentials: &Credentials,
        options: &TransportOptions,
        mut config: EndpointConfig,
        server: Option<(ServerConfig, Doorkeeper)>,
        socket: std::net::UdpSocket,
    ) -> Result<Endpoint, EndpointError> {
        config
            .max_udp_payload_size(UDP_PAYLOAD_BYTES_MAX)
            .expect("65,000 lies between 1,200 and 65,527");
        let dial = [
            dial_configs(credentials, options, Alpn::Peer)?,
            dial_configs(credentials, options, Alpn::Client)?,
        ];
        let (server, doorkeeper) = server.unzip();
        let socket_error = |source| EndpointError::Socket { source };
        let local_addr = socket.local_addr().map_err(socket_error)?;
        let quinn = quinn::Endpoint::new(config, server, socket, Arc::new(TokioRuntime))
            .map_err(socket_error)?;
        Ok(Endpoint {
            inner: Arc::new(Inner {
                quinn,
                local_addr,
                identity: credentials.identity().clone(),
                options: options.clone(),
                dial,
                doorkeeper,
            }),
        })
    }

    /// The address bound; tells the port when `listen` left it to the system.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// Who this endpoint speaks for.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The next one to knock; `None` once the endpoint is closed, and always for one that only dials. Spawn a task for each, and call
    /// [`Incoming::identify`] there. Those above the limits of [`TransportOptions`] are turned away in here. Cancel-safe.
    pub async fn accept(&self) -> Option<Incoming> {
        let doorkeeper = self.inner.doorkeeper.as_ref()?;
        loop {
            let incoming = self.inner.quinn.accept().await?;
            if let Some(incoming) = doorkeeper.admit(incoming, self.open_connections()) {
                return Some(incoming);
            }
        }
    }

    /// Dials `address`, where node `node` of our own cluster is expected, and returns once that node has accepted us.
    pub async fn connect(
        &self,
        address: SocketAddr,
        node: u64,
        alpn: Alpn,
    ) -> Result<Connection, ConnectError> {
        let local = |reason: String| ConnectError::Local { address, reason };
        let expected = Identity::node(self.inner.identity.cluster(), node)
            .map_err(|error| local(error.to_string()))?;
        let loopback = usize::from(canonical(address).ip().is_loopback());
        let config = self.inner.dial[alpn as usize][loopback].clone();
        let connecting = self
            .inner
            .quinn
            .connect_with(config, address, &expected.dns_name())
            .map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => ConnectError::Closed,
                error => local(error.to_string()),
            })?;
        match timeout(
            self.inner.options.handshake_timeout,
            shake_hands(connecting, address, expected, alpn),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(ConnectError::NoAnswer { address, node }),
        }
    }

    /// Connections open now, in and out.
    pub fn open_connections(&self) -> usize {
        self.inner.quinn.open_connections()
    }

    /// Closes all connections with this code and reason, refuses new ones, and waits until the other sides have been told: about three round
    /// trips.
    pub async fn close(&self, code: u32, reason: &str) {
        self.inner.quinn.close(var_int(code), reason.as_bytes());
        self.inner.quinn.wait_idle().await;
    }
}

fn dial_configs(
    credentials: &Credentials,
    options: &TransportOptions,
    alpn: Alpn,
) -> Result<[ClientConfig; 2], TlsError> {
    let crypto = Arc::new(tls::client_config(credentials, alpn)?);
    Ok([false, true].map(|loopback| {
        let mut config = ClientConfig::new(crypto.clone());
        config.transport_config(Arc::new(options.for_quinn(Side::Dialing, loopback)));
        config
    }))
}

/// The dialing half of the handshake: TLS, the identity, the welcome.
async fn shake_hands(
    connecting: quinn::Connecting,
    address: SocketAddr,
    expected: Identity,
    alpn: Alpn,
) -> Result<Connection, ConnectError> {
    let node = expected
        .node_id()
        .expect("connect builds the identity of a node");
    let not_that_node = |reason: String| ConnectError::NotThatNode {
        address,
        node,
        reason,
    };
    let refused = |lost: ConnectionLost| match lost {
        ConnectionLost::TimedOut => ConnectError::NoAnswer { address, node },
        ConnectionLost::Broken { reason } => not_that_node(reason),
        ConnectionLost::ClosedHere => ConnectError::Closed,
        reason => ConnectError::Refused {
            address,
            node,
            reason,
        },
    };
    let quinn = connecting.await.map_err(|error| refused(error.into()))?;
    // rustls has verified the name; a certificate with a wildcard would have passed as well, and is no identity.
    match crate::accept::identity_of_peer(&quinn) {
        Ok(identity) if identity == expected => {}
        Ok(identity) => {
            let reason = format!("it is {identity}");
            quinn.close(var_int(close::NO_IDENTITY), b"not the node dialed");
            return Err(not_that_node(reason));
        }
        Err(reason) => {
            quinn.close(var_int(close::NO_IDENTITY), reason.as_bytes());
            return Err(not_that_node(reason));
        }
    }
    let mut welcome = quinn
        .accept_uni()
        .await
        .map_err(|error| refused(error.into()))?;
    let mut byte = [0; WELCOME.len()];
    match welcome.read_exact(&mut byte).await {
        Ok(()) if byte == WELCOME => Ok(Connection::new(quinn, expected, alpn, Side::Dialing)),
        Err(quinn::ReadExactError::ReadError(quinn::ReadError::ConnectionLost(lost))) => {
            Err(refused(lost.into()))
        }
        Ok(()) | Err(_) => {
            quinn.close(var_int(close::PROTOCOL), b"that was no welcome");
            Err(not_that_node(
                "it broke the protocol at the welcome".to_owned(),
            ))
        }
    }
}

/// A UDP socket with large buffers: the system's default of some 200 KiB loses packets under load and stalls for tens of milliseconds.
fn bind(address: SocketAddr, options: &TransportOptions) -> std::io::Result<std::net::UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_recv_buffer_size(options.socket_buffer_bytes)?;
    socket.set_send_buffer_size(options.socket_buffer_bytes)?;
    // Linux answers with twice what is usable: its own bookkeeping is counted in.
    let share = if cfg!(target_os = "linux") { 2 } else { 1 };
    let receive = socket.recv_buffer_size()? / share;
    let send = socket.send_buffer_size()? / share;
    let wanted = options.socket_buffer_bytes;
    if receive < wanted || send < wanted {
        tracing::warn!(
            wanted,
            receive,
            send,
            "the kernel gives smaller UDP socket buffers than wanted: packets will be lost under load; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Why no endpoint could be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The socket was bound, and cannot be used.
    #[error("cannot use the UDP socket: {source}")]
    Socket {
        /// What the system said.
        source: std::io::Error,
    },
    /// Only nodes accept connections.
    #[error("a node's certificate is needed to accept connections, this one is of {identity}")]
    NotANode {
        /// Whose certificate was given.
        identity: Identity,
    },
    /// A setting that cannot work.
    #[error("transport setting: {0}")]
    Options(String),
    /// The TLS layer does not take the credentials.
    #[error("these credentials cannot be used for TLS: {0}")]
    Tls(String),
}

impl From<TlsError> for EndpointError {
    fn from(error: TlsError) -> EndpointError {
        EndpointError::Tls(error.to_string())
    }
}
