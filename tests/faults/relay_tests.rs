//! The relay by itself, between plain sockets.

use std::net::UdpSocket;
use std::time::Duration;

use crate::relay::{End, Relays, Weather};

/// A node that is a plain socket, a client, and the relay between them.
struct Bench {
    node: UdpSocket,
    client: UdpSocket,
    relays: Relays,
}

impl Bench {
    fn new() -> Bench {
        let bound = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            socket
        };
        let (node, client) = (bound(), bound());
        let relays = Relays::start(vec![node.local_addr().unwrap()], 7);
        Bench {
            node,
            client,
            relays,
        }
    }

    fn say(&self, text: &str) {
        self.client
            .send_to(text.as_bytes(), self.relays.address(1))
            .unwrap();
    }
}

fn heard(socket: &UdpSocket) -> (String, std::net::SocketAddr) {
    let mut buffer = [0; 100];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..len]).into_owned(), from)
}

#[test]
fn a_relay_carries_questions_and_answers() {
    let bench = Bench::new();
    bench.say("question");
    let (question, from) = heard(&bench.node);
    assert_eq!(question, "question");
    bench.node.send_to(b"answer", from).unwrap();
    let (answer, from) = heard(&bench.client);
    assert_eq!(answer, "answer");
    assert_eq!(from, bench.relays.address(1));
}

#[test]
fn a_cut_in_one_direction_leaves_the_other() {
    let bench = Bench::new();
    bench.say("first");
    let (_, from) = heard(&bench.node);
    bench.relays.cut(End::Node(1), End::Client);
    bench.node.send_to(b"not heard", from).unwrap();
    bench.say("second");
    assert_eq!(heard(&bench.node).0, "second");
    while bench.relays.counts().cut == 0 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    bench.relays.heal();
    bench.node.send_to(b"heard", from).unwrap();
    assert_eq!(heard(&bench.client).0, "heard");
}

#[test]
fn weather_loses_doubles_and_delays() {
    let bench = Bench::new();
    let weather = |weather| bench.relays.weather(End::Client, End::Node(1), weather);
    weather(Weather {
        doubled: 1.0,
        delay: Duration::from_millis(1),
        ..Weather::default()
    });
    bench.say("twice");
    assert_eq!(
        [heard(&bench.node).0, heard(&bench.node).0],
        ["twice", "twice"]
    );
    weather(Weather {
        loss: 1.0,
        ..Weather::default()
    });
    bench.say("lost");
    while bench.relays.counts().lost == 0 {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    weather(Weather::default());
    bench.say("after");
    assert_eq!(heard(&bench.node).0, "after");
    let counts = bench.relays.counts();
    assert_eq!(
        (counts.doubled, counts.delayed, counts.lost),
        (1, 2, 1),
        "{counts:?}"
    );
}
