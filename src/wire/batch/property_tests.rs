//! Any records there and back; any bytes, and any change to a valid batch, without a panic.

use proptest::prelude::*;
use segment_store::Frame;

use super::tests::{GROUP, STAMP, builder, check, parse, stamped, three, with_payload};
use super::*;

/// Whatever is accepted can be read from end to end, and is within the caps.
fn read_all(frame: &Frame) {
    let caps = BatchCaps {
        payload_bytes_max: 1 << 16,
        records_bytes_max: 1 << 16,
    };
    let _ = check_batch(frame.header(), &frame.payload(), GROUP, &caps);
    if let Ok(reader) = BatchReader::parse(frame, &caps) {
        let bytes: usize = reader
            .records()
            .map(|r| {
                let headers: usize = r
                    .headers
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                r.key.map_or(0, <[u8]>::len) + r.value.map_or(0, <[u8]>::len) + headers
            })
            .sum();
        assert!(bytes <= caps.records_bytes_max);
    }
}

fn codecs() -> impl Strategy<Value = Codec> {
    prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)]
}

type Given = (
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Vec<u8>)>,
    u32,
);

fn records() -> impl Strategy<Value = Vec<Given>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let some = || proptest::option::of(bytes());
    let headers = proptest::collection::vec(("[a-zé]{0,5}", bytes()), 0..3);
    proptest::collection::vec(
        (some(), some(), headers, any::<u32>().prop_map(|t| t / 4)),
        1..20,
    )
}

fn built(given: &[Given], codec: Codec) -> Frame {
    let mut batch = builder();
    for (key, value, headers, timestamp) in given {
        let headers: Vec<(&str, &[u8])> = headers
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        batch
            .push(
                key.as_deref(),
                value.as_deref(),
                &headers,
                u64::from(*timestamp),
            )
            .unwrap();
    }
    stamped(&batch.build(STAMP, GROUP, codec))
}

proptest! {
    #[test]
    fn any_records_come_back(given in records(), codec in codecs()) {
        let frame = built(&given, codec);
        prop_assert!(check(&frame).is_ok());
        let reader = parse(&frame).unwrap();
        prop_assert_eq!(reader.record_count() as usize, given.len());
        for ((key, value, headers, timestamp), record) in given.iter().zip(reader.records()) {
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            prop_assert_eq!(record.timestamp_ms, u64::from(*timestamp));
            let seen: Vec<_> = record.headers.map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
            prop_assert_eq!(&seen, headers);
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(payload in proptest::collection::vec(any::<u8>(), 0..300), codec in codecs(), count in 0_u32..20) {
        let header = FrameHeader { record_count: count, codec: codec.to_byte(), ..*three(Codec::None).header() };
        read_all(&Frame::build(header, &payload));
    }

    #[test]
    fn no_change_to_a_batch_makes_a_reader_panic(
        given in records(),
        codec in codecs(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let changed = with_payload(&built(&given, codec), |payload| {
            for (at, byte) in &changes {
                let at = at.index(payload.len());
                payload[at] = *byte;
            }
            if let Some(cut) = cut {
                payload.truncate(cut.index(payload.len()));
            }
        });
        read_all(&changed);
    }
}
