//! What QUIC alone can do on this machine: the floor under every figure of the whole system.
//!
//! Two threads, each with a runtime and an endpoint of its own, over loopback, with real certificates: one stream of 1 MiB messages (throughput and CPU),
//! then 100 bytes there and back, one at a time (latency). Prints one line per setting; compare lines of one run only.
//!
//! `cargo bench -p transport --bench quic_floor`

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use transport::{
    Alpn, Authority, Connection, Credentials, Endpoint, Issued, Limits, TransportOptions,
};

const MESSAGES: usize = 1_536;
const BODY_BYTES: usize = 1 << 20;
const ROUND_TRIPS: usize = 5_000;
const LIMITS: Limits = Limits {
    head_bytes_max: 1_024,
    body_bytes_max: BODY_BYTES,
};

fn main() {
    let authority = Authority::create("floor").expect("a fixed, valid name");
    println!(
        "setting                        MB/s   CPU-s/GB   RTT p50 us   p99 us   lost packets   mtu"
    );
    for (name, mtu, buffer) in [
        ("mtu 1452, GSO", 1_452, 4 << 20),
        ("mtu 6500, GSO", 6_500, 4 << 20),
        ("mtu 16000, no GSO", 16_000, 4 << 20),
        ("mtu 65000, no GSO", 65_000, 4 << 20),
        ("mtu 65000, buffers 208 KiB", 65_000, 208 << 10),
    ] {
        let options = TransportOptions {
            mtu_max_loopback: mtu,
            socket_buffer_bytes: buffer,
            ..TransportOptions::default()
        };
        measure(name, &authority, &options);
    }
}

fn measure(name: &str, authority: &Authority, options: &TransportOptions) {
    let server = credentials(authority, authority.issue_node(1).expect("node 1"));
    let client = credentials(
        authority,
        authority.issue_client("bench").expect("a valid name"),
    );
    let (tell, told) = std::sync::mpsc::channel();
    let options_there = options.clone();
    let serving = std::thread::spawn(move || {
        in_runtime(async {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let endpoint = Endpoint::server(&server, listen, &options_there).expect("binds");
            tell.send(endpoint.local_addr()).expect("main waits");
            let incoming = endpoint.accept().await.expect("open");
            answer(incoming.identify().await.expect("our own client")).await;
        });
    });
    let address = told.recv().expect("the server tells");
    in_runtime(async {
        let endpoint = Endpoint::client(&client, options).expect("binds");
        let connection = endpoint
            .connect(address, 1, Alpn::Client)
            .await
            .expect("our own server");
        // Lets MTU discovery finish.
        push(&connection, 64).await;
        let cpu = cpu_seconds();
        let start = Instant::now();
        push(&connection, MESSAGES).await;
        let seconds = start.elapsed().as_secs_f64();
        let bytes = (MESSAGES * BODY_BYTES) as f64;
        let cpu = (cpu_seconds() - cpu) / (bytes / 1e9);
        let rtt = round_trips(&connection).await;
        let stats = connection.stats();
        println!(
            "{name:27} {:7.0} {cpu:10.2} {:12.0} {:8.0} {:14} {:5}",
            bytes / 1e6 / seconds,
            rtt[ROUND_TRIPS / 2].as_secs_f64() * 1e6,
            rtt[ROUND_TRIPS * 99 / 100].as_secs_f64() * 1e6,
            stats.lost_packets,
            stats.mtu,
        );
        endpoint.close(0, "done").await;
    });
    serving.join().expect("the server ends in order");
}

/// Sends messages on a stream of its own, and waits for word that all have come.
async fn push(connection: &Connection, messages: usize) {
    let (mut send, mut recv) = connection.open_bi(0).await.expect("open");
    let body = Bytes::from(vec![7; BODY_BYTES]);
    for _ in 0..messages {
        send.send(1, &[], &mut [body.clone()]).await.expect("open");
    }
    send.finish();
    recv.recv(&LIMITS).await.expect("open").expect("the word");
}

async fn round_trips(connection: &Connection) -> Vec<Duration> {
    let (mut send, mut recv) = connection.open_bi(0).await.expect("open");
    let mut taken = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        send.send(2, &[7; 84], &mut []).await.expect("open");
        recv.recv(&LIMITS).await.expect("open").expect("an answer");
        taken.push(start.elapsed());
    }
    taken.sort_unstable();
    taken
}

/// Answers each message of kind 2, and the end of a stream of any other.
async fn answer(connection: Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        let mut kind = 0;
        while let Ok(Some(message)) = recv.recv(&LIMITS).await {
            kind = message.kind;
            if kind == 2 {
                send.send(kind, &message.head, &mut []).await.expect("open");
            }
        }
        if kind != 2 {
            send.send(kind, &[], &mut []).await.expect("open");
        }
    }
}

fn credentials(authority: &Authority, issued: Issued) -> Credentials {
    let Issued { cert_pem, key_pem } = issued;
    Credentials::from_pem(authority.cert_pem(), &cert_pem, &key_pem).expect("just issued")
}

fn in_runtime(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("threads and sockets can be had")
        .block_on(future);
}

/// CPU time of this process so far, both ends together, user and system (`/proc/self/stat`, in ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |field: usize| -> f64 {
        let value = after_name.split_whitespace().nth(field);
        value.and_then(|text| text.parse().ok()).unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / 100.0
}
