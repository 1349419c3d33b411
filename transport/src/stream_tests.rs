//! Messages over real streams: whole, in order, bounded, and by priority.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::error::{ConnectionLost, RecvError, SendError, close};
use crate::frame::{FrameError, Limits, PREAMBLE_LEN, Preamble};
use crate::options::TransportOptions;
use crate::outbox::{Outbox, PushError};
use crate::stream::{RecvHalf, SendHalf};
use crate::testing::{LIMITS, Pair, pair, patient, within};

/// A stream of a pair: the dialing side's halves, then the accepting side's.
struct Stream {
    pair: Pair,
    near: (SendHalf, RecvHalf),
    far: (SendHalf, RecvHalf),
}

/// Opens a stream by a first, empty message of kind 0.
async fn open(pair: &Pair, priority: i32) -> ((SendHalf, RecvHalf), (SendHalf, RecvHalf)) {
    let mut near = pair.dialing.open_bi(priority).await.unwrap();
    near.0.send(0, &[], &mut []).await.unwrap();
    let mut far = pair.accepting.accept_bi().await.unwrap();
    let hello = far.1.recv(&LIMITS).await.unwrap().unwrap();
    assert_eq!(hello.kind, 0);
    (near, far)
}

async fn stream(options: &TransportOptions) -> Stream {
    within(async {
        let pair = pair(options).await;
        let (near, far) = open(&pair, 0).await;
        Stream { pair, near, far }
    })
    .await
}

/// A body that differs at each position and for each seed.
fn body(seed: usize, len: usize) -> Bytes {
    (0..len)
        .map(|i| (i * 31 + seed * 7 + i / 251) as u8)
        .collect()
}

#[tokio::test]
async fn many_messages_with_large_bodies_go_both_ways_at_once() {
    const LENGTHS: [usize; 7] = [0, 1, 2_047, 70_000, 1 << 20, 3, 5 << 20];
    async fn send_all(send: &mut SendHalf) {
        for (i, len) in LENGTHS.iter().cycle().take(28).enumerate() {
            let whole = body(i, *len);
            let cut = len / 3;
            let mut pieces = [whole.slice(..cut), whole.slice(cut..)];
            let head = vec![i as u8; i * 100];
            send.send(i as u8, &head, &mut pieces).await.unwrap();
        }
        send.finish();
    }
    async fn recv_all(recv: &mut RecvHalf) {
        for (i, len) in LENGTHS.iter().cycle().take(28).enumerate() {
            let message = recv.recv(&LIMITS).await.unwrap().unwrap();
            assert_eq!(message.kind, i as u8);
            assert_eq!(message.head, vec![i as u8; i * 100]);
            assert!(message.body == body(i, *len), "body {i}");
        }
        assert!(recv.recv(&LIMITS).await.unwrap().is_none());
    }
    let Stream {
        pair: _pair,
        mut near,
        mut far,
    } = stream(&patient()).await;
    within(async {
        tokio::join!(
            send_all(&mut near.0),
            send_all(&mut far.0),
            recv_all(&mut near.1),
            recv_all(&mut far.1),
        )
    })
    .await;
}

#[tokio::test]
async fn a_receiver_dropped_half_way_goes_on_where_it_was() {
    let mut s = stream(&patient()).await;
    let whole = body(1, 3 << 20);
    let mut pieces = [whole.clone()];
    let sending = s.near.0.send(7, b"head", &mut pieces);
    let receiving = async {
        let mut abandoned = 0;
        loop {
            // `biased`: the receiver gets one look at what has come, and is dropped if that is not all.
            tokio::select! {
                biased;
                message = s.far.1.recv(&LIMITS) => return (message.unwrap().unwrap(), abandoned),
                () = tokio::task::yield_now() => abandoned += 1,
            }
        }
    };
    let (sent, (message, abandoned)) = within(async { tokio::join!(sending, receiving) }).await;
    sent.unwrap();
    assert!(message.body == whole);
    assert!(abandoned > 0, "never dropped half-way: nothing was shown");
}

#[tokio::test]
async fn a_message_over_the_cap_is_refused_before_its_body_comes() {
    let mut s = stream(&patient()).await;
    let small = Limits {
        head_bytes_max: 10,
        body_bytes_max: 1_000,
    };
    let bomb = Preamble::new(1, 0, u32::MAX as usize).unwrap();
    s.near.0.write_raw(&bomb.encode()).await;
    let verdict = within(s.far.1.recv(&small)).await;
    let too_long = RecvError::Frame(FrameError::TooLong {
        part: "body",
        len: u64::from(u32::MAX),
        max: 1_000,
    });
    assert_eq!(verdict.unwrap_err(), too_long);
    // And it stays refused: what follows on the stream cannot be told apart any more.
    s.near.0.write_raw(&[0; 100]).await;
    assert_eq!(within(s.far.1.recv(&small)).await.unwrap_err(), too_long);
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_an_unknown_kind_passes() {
    let mut s = stream(&patient()).await;
    s.near.0.send(255, b"x", &mut []).await.unwrap();
    let message = within(s.far.1.recv(&LIMITS)).await.unwrap().unwrap();
    assert_eq!(message.kind, 255);
    let mut future = Preamble::new(1, 0, 0).unwrap().encode();
    future[0] = 2;
    s.near.0.write_raw(&future).await;
    let verdict = within(s.far.1.recv(&LIMITS)).await;
    let unknown = FrameError::UnknownVersion { version: 2 };
    assert_eq!(verdict.unwrap_err(), RecvError::Frame(unknown));
}

#[tokio::test]
async fn a_message_cut_short_is_an_error_and_not_the_end() {
    for cut in [1, PREAMBLE_LEN - 1, PREAMBLE_LEN, PREAMBLE_LEN + 3] {
        let mut s = stream(&patient()).await;
        let mut wire = Preamble::new(1, 2, 2).unwrap().encode().to_vec();
        wire.extend_from_slice(b"hhbb");
        s.near.0.write_raw(&wire[..cut]).await;
        s.near.0.finish();
        let verdict = within(s.far.1.recv(&LIMITS)).await.unwrap_err();
        let expected = if cut < PREAMBLE_LEN { 16 } else { 20 };
        let received = cut as u64;
        assert_eq!(verdict, RecvError::CutShort { received, expected });
    }
}

#[tokio::test]
async fn a_send_abandoned_half_way_closes_the_stream() {
    let small = TransportOptions {
        stream_window: 64 << 10,
        ..patient()
    };
    let mut s = stream(&small).await;
    // Nobody reads: the window fills and the send waits.
    let mut pieces = [body(1, 4 << 20)];
    tokio::select! {
        biased;
        sent = s.near.0.send(1, &[], &mut pieces) => panic!("{sent:?}"),
        () = tokio::task::yield_now() => {}
    }
    let again = s.near.0.send(2, &[], &mut []).await;
    assert_eq!(again, Err(SendError::Closed));
    drop(s.near.0);
    let verdict = within(s.far.1.recv(&LIMITS)).await.unwrap_err();
    assert_eq!(
        verdict,
        RecvError::Reset {
            code: close::DROPPED
        }
    );
}

#[tokio::test]
async fn a_stopped_stream_tells_the_sender() {
    let mut s = stream(&patient()).await;
    s.far.1.stop(0x123);
    let stopped = SendError::Stopped { code: 0x123 };
    assert_eq!(within(s.near.0.stopped()).await, stopped);
    assert_eq!(within(s.near.0.send(1, &[], &mut [])).await, Err(stopped));
}

#[tokio::test]
async fn a_lost_connection_ends_streams_on_both_sides() {
    let mut s = stream(&patient()).await;
    s.pair.accepting.close(0x200, "enough");
    let lost = ConnectionLost::ClosedByPeer {
        code: 0x200,
        reason: "enough".to_owned(),
    };
    let verdict = within(s.near.1.recv(&LIMITS)).await.unwrap_err();
    assert_eq!(verdict, RecvError::Lost(lost.clone()));
    assert_eq!(within(s.pair.dialing.closed()).await, lost);
    let here = within(s.far.1.recv(&LIMITS)).await.unwrap_err();
    assert_eq!(here, RecvError::Lost(ConnectionLost::ClosedHere));
}

#[tokio::test]
async fn streams_above_the_limit_wait_until_one_ends() {
    let few = TransportOptions {
        streams_max_peer: 1,
        ..patient()
    };
    let s = stream(&few).await;
    let mut second = Box::pin(s.pair.dialing.open_bi(0));
    tokio::select! {
        biased;
        opened = &mut second => panic!("above the limit: {opened:?}"),
        () = tokio::task::yield_now() => {}
    }
    drop((s.near, s.far));
    assert!(within(second).await.is_ok());
}

#[tokio::test]
#[should_panic(expected = "streams are opened by the side that dialed")]
async fn the_accepting_side_opens_no_streams() {
    let pair = within(pair(&patient())).await;
    let _ = pair.accepting.open_bi(0).await;
}

#[tokio::test]
async fn a_heartbeat_is_answered_while_bulk_is_stuck_and_while_it_flows() {
    let pair = Arc::new(within(pair(&patient())).await);
    let (mut bulk, mut sink) = within(open(&pair, -10)).await;
    let (mut heart, mut echo) = within(open(&pair, 10)).await;
    echo.0.set_priority(10);
    const BULK: usize = 160;
    let flow = tokio::spawn(async move {
        let chunk = body(0, 1 << 20);
        for _ in 0..BULK {
            bulk.0.send(1, &[], &mut [chunk.clone()]).await.unwrap();
        }
        bulk.0.finish();
    });
    let echoing = tokio::spawn(async move {
        while let Some(beat) = echo.1.recv(&LIMITS).await.unwrap() {
            echo.0.send(beat.kind, &beat.head, &mut []).await.unwrap();
        }
    });
    let mut beat = async |n: u32| {
        heart.0.send(2, &n.to_le_bytes(), &mut []).await.unwrap();
        let answer = heart.1.recv(&LIMITS).await.unwrap().unwrap();
        assert_eq!(answer.head, n.to_le_bytes()[..]);
    };
    // Nobody reads the bulk: its stream's window fills, and the heart beats on.
    for n in 0..200 {
        within(beat(n)).await;
    }
    assert!(
        !flow.is_finished(),
        "the bulk fits a window: nothing was shown"
    );
    // Now it flows, and the heart beats on.
    let drain = tokio::spawn(async move {
        let mut received = 0;
        while let Some(message) = sink.1.recv(&LIMITS).await.unwrap() {
            received += message.body.len();
        }
        received
    });
    let mut beats_under_flow = 0;
    while !drain.is_finished() {
        within(beat(beats_under_flow)).await;
        beats_under_flow += 1;
    }
    assert_eq!(within(drain).await.unwrap(), BULK << 20);
    assert!(beats_under_flow > 3, "{beats_under_flow} beats");
    within(flow).await.unwrap();
    echoing.abort();
}

#[tokio::test]
async fn loopback_grows_to_large_datagrams_without_a_black_hole() {
    let s = stream(&patient()).await;
    let (mut send, mut recv) = (s.near.0, s.far.1);
    let sending = tokio::spawn(async move {
        let chunk = body(0, 1 << 20);
        for _ in 0..64 {
            send.send(1, &[], &mut [chunk.clone()]).await.unwrap();
        }
        send
    });
    for _ in 0..64 {
        within(recv.recv(&LIMITS)).await.unwrap().unwrap();
    }
    within(sending).await.unwrap();
    let stats = s.pair.dialing.stats();
    assert!(stats.mtu > 60_000, "{stats:?}");
    assert!(stats.sent_bytes > 64 << 20 && stats.sent_packets > 1_000);
}

#[tokio::test]
async fn an_outbox_sends_in_order_and_ends_the_stream_when_dropped() {
    let Stream {
        pair: _pair,
        near,
        far: (_far_send, mut recv),
    } = stream(&patient()).await;
    let outbox = Outbox::spawn(near.0, 64 << 20);
    for i in 0..500_usize {
        let whole = body(i, i * 37);
        let cut = whole.len() / 2;
        let pieces = vec![whole.slice(..cut), whole.slice(cut..)];
        let head = Bytes::copy_from_slice(&i.to_le_bytes());
        outbox.try_push(i as u8, head, pieces).unwrap();
    }
    drop(outbox);
    for i in 0..500_usize {
        let message = within(recv.recv(&LIMITS)).await.unwrap().unwrap();
        assert_eq!(message.kind, i as u8);
        assert_eq!(message.head, i.to_le_bytes()[..]);
        assert!(message.body == body(i, i * 37));
    }
    assert!(within(recv.recv(&LIMITS)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_outbox_is_full_at_its_bytes_and_empties_as_the_reader_reads() {
    let small = TransportOptions {
        stream_window: 64 << 10,
        ..patient()
    };
    let mut s = stream(&small).await;
    let outbox = Outbox::spawn(s.near.0, 100_000);
    let mut accepted = 0;
    // Nobody reads: window and queue fill up. Between pushes the writer gets its turn.
    while outbox
        .try_push(1, Bytes::new(), vec![body(0, 10_000)])
        .is_ok()
    {
        accepted += 1;
        assert!(outbox.queued_bytes() <= 100_000);
        tokio::task::yield_now().await;
        assert!(accepted < 1_000, "unbounded");
    }
    let full = outbox.try_push(1, Bytes::new(), vec![body(0, 10_000)]);
    assert_eq!(full, Err(PushError::Full));
    for _ in 0..accepted {
        within(s.far.1.recv(&LIMITS)).await.unwrap().unwrap();
    }
    // A message above the limit goes into the empty queue all the same.
    within(async {
        while outbox.queued_bytes() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    outbox
        .try_push(2, Bytes::new(), vec![body(0, 200_000)])
        .unwrap();
    let large = within(s.far.1.recv(&LIMITS)).await.unwrap().unwrap();
    assert_eq!(large.body.len(), 200_000);
}

#[tokio::test]
async fn an_outbox_reports_the_loss_of_its_stream() {
    let mut s = stream(&patient()).await;
    let outbox = Outbox::spawn(s.near.0, 1 << 20);
    s.far.1.stop(9);
    let stopped = SendError::Stopped { code: 9 };
    assert_eq!(within(outbox.lost()).await, stopped);
    let refused = outbox.try_push(1, Bytes::new(), Vec::new());
    assert_eq!(refused, Err(PushError::Lost(stopped)));
}

#[tokio::test]
async fn an_outbox_reports_the_loss_of_its_connection_while_idle() {
    let s = stream(&patient()).await;
    let outbox = Outbox::spawn(s.near.0, 1 << 20);
    s.pair.accepting.close(close::STOPPING, "bye");
    let lost = within(outbox.lost()).await;
    let reason = "bye".to_owned();
    let code = close::STOPPING;
    assert_eq!(
        lost,
        SendError::Lost(ConnectionLost::ClosedByPeer { code, reason })
    );
}

#[tokio::test]
async fn gathered_messages_arrive_one_by_one_after_a_single_flush() {
    let Stream {
        pair: _pair,
        mut near,
        mut far,
    } = stream(&patient()).await;
    within(async {
        for i in 0..300 {
            let whole = body(i, i * 20);
            let pieces = [whole.slice(..i), whole.slice(i..)];
            let gathered = near
                .0
                .gather(i as u8, &[i as u8], whole.len(), pieces.iter());
            gathered.unwrap();
        }
        let (sent, ()) = tokio::join!(near.0.flush(), async {
            for i in 0..300 {
                let message = far.1.recv(&LIMITS).await.unwrap().unwrap();
                assert_eq!((message.kind, &message.head[..]), (i as u8, &[i as u8][..]));
                assert!(message.body == body(i, i * 20), "body {i}");
            }
        });
        sent.unwrap();
    })
    .await;
}

#[tokio::test]
async fn streams_that_write_in_turn_each_come_round_while_the_window_of_the_connection_is_full() {
    const STREAMS: usize = 4;
    const ROUNDS: usize = 5;
    let narrow = TransportOptions {
        connection_window_peer: 64 << 10,
        ..patient()
    };
    let pair = within(pair(&narrow)).await;
    let written = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(within(open(&pair, 0)).await);
    }
    for (number, (mut near, mut far)) in streams.into_iter().enumerate() {
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                far.1.recv(&LIMITS).await.unwrap().unwrap();
            }
        });
        let written = Arc::clone(&written);
        tasks.spawn(async move {
            // Several times the window.
            let long = body(number, 300 << 10);
            for _ in 0..ROUNDS {
                let pieces = [long.clone()];
                near.0.gather(1, &[], long.len(), pieces.iter()).unwrap();
                near.0.flush_in_turn().await.unwrap();
                written.lock().unwrap().push(number);
            }
        });
    }
    within(tasks.join_all()).await;
    for round in written.lock().unwrap().chunks_mut(STREAMS) {
        round.sort_unstable();
        assert_eq!(round, [0, 1, 2, 3], "each once before any twice");
    }
}
