//! The lines of the table. Must not know how they are measured.

const MIB: usize = 1 << 20;
/// Largest datagrams of the loopback interface, as the product has it.
const MTU_LOOPBACK: u16 = 65_000;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Sends batches and hears when they are durable.
    Produce,
    /// Reads what the leader sends from memory, and looks at nothing: a bare stream.
    Consume,
}

/// One line of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) mtu: u16,
    pub(crate) streams: usize,
    pub(crate) batch_bytes: usize,
    /// Overrides the number in flight: the latency floor has one.
    pub(crate) in_flight: Option<u64>,
    pub(crate) sync: bool,
    /// Whether the files are new, with their room reserved and nothing written yet, as those of a log that never trimmed are.
    pub(crate) fresh: bool,
}

const fn case(name: &'static str, streams: usize, batch_bytes: usize) -> Case {
    Case {
        name,
        work: Work::Produce,
        mtu: MTU_LOOPBACK,
        streams,
        batch_bytes,
        in_flight: None,
        sync: true,
        fresh: false,
    }
}

impl Case {
    const fn mtu(self, mtu: u16) -> Case {
        Case { mtu, ..self }
    }

    const fn one_in_flight(self) -> Case {
        Case {
            in_flight: Some(1),
            ..self
        }
    }

    const fn unsynced(self) -> Case {
        Case {
            sync: false,
            ..self
        }
    }

    const fn fresh(self) -> Case {
        Case {
            fresh: true,
            ..self
        }
    }

    const fn consume(self) -> Case {
        Case {
            work: Work::Consume,
            ..self
        }
    }
}

/// Streams are led by the nodes in turn, as the partitions of a topic are.
pub(crate) const CASES: [Case; 16] = [
    case("produce, 1 MiB batches", 1, MIB),
    case("produce, fresh files, 1 MiB batches", 1, MIB).fresh(),
    case("produce, MTU 6500, 1 MiB batches", 1, MIB).mtu(6_500),
    case("produce, MTU 1452, 1 MiB batches", 1, MIB).mtu(1_452),
    case("produce, unsynced, 1 MiB batches", 1, MIB).unsynced(),
    case("produce, 256 KiB batches", 1, 256 << 10),
    case("produce, 16 KiB batches", 1, 16 << 10),
    case("produce, 4 streams, 1 MiB batches", 4, MIB),
    case("produce, 100 streams, 16 KiB batches", 100, 16 << 10),
    case("produce, fresh files, 4 streams, 1 MiB", 4, MIB).fresh(),
    case("latency, 100 bytes", 1, 100).one_in_flight(),
    case("latency, 1 KiB", 1, 1 << 10).one_in_flight(),
    case("latency, unsynced, 1 KiB", 1, 1 << 10)
        .one_in_flight()
        .unsynced(),
    case("consume, bare stream", 1, MIB).consume(),
    case("consume, MTU 6500, bare stream", 1, MIB)
        .consume()
        .mtu(6_500),
    case("consume, MTU 1452, bare stream", 1, MIB)
        .consume()
        .mtu(1_452),
];
