//! The admin port: `/livez`, `/readyz` and `/metrics` over HTTP, on a thread of its own.
//!
//! Owns the listener, the thread and the three answers. Must not know replicas, QUIC or the disk: what it tells, it asks of a
//! [`Probe`]. On no walk, by design: a scrape, however slow, shares no thread with heartbeats.

mod capped;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::metrics::sample::{PeerLag, Sample};
use capped::Capped;

/// Open connections; what scrapes and probes need, many times over.
const CONNECTIONS_MAX: usize = 64;
/// Between two foldings of the histograms.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Longest wait for the lags of peers; a scrape of a node whose loop is stuck goes without them.
const LAGS_LIMIT: Duration = Duration::from_secs(1);

/// What the admin port asks of its node. Called on the admin thread; must not block.
pub trait Probe: Send + Sync + 'static {
    /// What the node still lacks to serve, one sentence each: empty when it is ready.
    fn missing(&self) -> Vec<String>;

    /// Puts what the node is at this moment into the sample.
    fn sample(&self, sample: &Sample<'_>);

    /// How far the peers of the groups led here are behind. The replicas' loop answers, so it may take a while, or for ever.
    fn lags(&self) -> Pin<Box<dyn Future<Output = Vec<PeerLag>> + Send + '_>>;
}

/// The running admin port. Stops, and frees the port, when dropped.
#[derive(Debug)]
pub struct AdminServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    metrics: Metrics,
    probe: Arc<dyn Probe>,
}

impl AdminServer {
    /// Binds `address` and serves it from a thread named `admin`.
    ///
    /// # Errors
    /// What the system says when the address cannot be bound or the thread cannot be made.
    pub fn start(address: SocketAddr, metrics: Metrics, probe: Arc<dyn Probe>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let bound = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || {
                runtime.block_on(serve(listener, Shared { metrics, probe }, stopped));
            })?;
        Ok(Self {
            address: bound,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The address bound: the one asked for, with the port the system chose if that was 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until told to stop; requests under way are cut off, as nobody depends on their end.
async fn serve(listener: TcpListener, shared: Shared, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => Capped::new(listener, CONNECTIONS_MAX),
        Err(error) => {
            tracing::error!(%error, "the admin port cannot be served");
            return;
        }
    };
    let metrics = shared.metrics.clone();
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .with_state(shared);
    tokio::select! {
        ended = async { axum::serve(listener, router).await } => {
            tracing::error!(?ended, "the admin port has stopped serving");
        }
        () = upkeep(&metrics) => {}
        _ = stopped => {}
    }
}

async fn upkeep(metrics: &Metrics) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.upkeep();
    }
}

/// The process runs and this thread answers. Nothing more: a node without a quorum is alive, and restarting it helps nobody.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let missing = shared.probe.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut body = String::from("not ready\n");
    for sentence in missing {
        body.push_str("- ");
        body.push_str(&sentence);
        body.push('\n');
    }
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn scrape(State(shared): State<Shared>) -> impl IntoResponse {
    let lags = tokio::time::timeout(LAGS_LIMIT, shared.probe.lags()).await;
    let text = shared.metrics.render(|sample| {
        shared.probe.sample(sample);
        lags.iter().flatten().for_each(|lag| sample.peer_lag(lag));
    });
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text)
}
