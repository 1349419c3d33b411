//! What every system is asked to do.
//!
//! Owns the list of works and the flags that the load programs share. Knows no system.

/// Seconds before each measurement in which connections, leaders and pages get warm; `plimsoll bench` has the same.
pub(crate) const WARM_UP_SECONDS: u64 = 1;
/// Records under way where each goes in a message of its own.
pub(crate) const ALONE_IN_FLIGHT: u32 = 1000;

/// How records are offered, or read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One producer, as fast as it goes, in the batches the system's own client makes.
    Produce,
    /// One producer, [`ALONE_IN_FLIGHT`] records under way, each in a request of its own.
    Alone,
    /// The next record once the last is acknowledged.
    OneInFlight,
    /// So many records a second, each sent when it is due; nothing waits for company.
    Rate(u32),
    /// From the start, again and again.
    Consume,
    /// SIGKILL of the leader; the time until a record sent after it is acknowledged.
    Failover,
}

pub(crate) struct Work {
    /// On the command line and in the file of results.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) record_bytes: u32,
}

impl Work {
    /// Whether it is the time that counts, and not the number of records.
    pub(crate) fn is_latency(&self) -> bool {
        matches!(
            self.kind,
            Kind::OneInFlight | Kind::Rate(_) | Kind::Failover
        )
    }
}

const fn work(name: &'static str, title: &'static str, kind: Kind, record_bytes: u32) -> Work {
    Work {
        name,
        title,
        kind,
        record_bytes,
    }
}

/// In the order in which they run on a cluster; killing its leader comes last.
pub(crate) const ALL: [Work; 9] = [
    work(
        "1k",
        "Produce, 1 KiB records, one producer, in batches where the client makes them",
        Kind::Produce,
        1024,
    ),
    work(
        "100b",
        "Produce, 100 B records, one producer, in batches where the client makes them",
        Kind::Produce,
        100,
    ),
    work(
        "1k-alone",
        "Produce, 1 KiB records, 1,000 in flight, each in a message of its own",
        Kind::Alone,
        1024,
    ),
    work(
        "one",
        "Latency of an ack, 1 KiB, one record in flight",
        Kind::OneInFlight,
        1024,
    ),
    work(
        "5k",
        "Latency of an ack, 1 KiB, 5,000 records/s, open loop",
        Kind::Rate(5_000),
        1024,
    ),
    work(
        "20k",
        "Latency of an ack, 1 KiB, 20,000 records/s, open loop",
        Kind::Rate(20_000),
        1024,
    ),
    work(
        "read-1k",
        "Consume from the start, 1 KiB records, one consumer",
        Kind::Consume,
        1024,
    ),
    work(
        "read-100b",
        "Consume from the start, 100 B records, one consumer",
        Kind::Consume,
        100,
    ),
    work(
        "failover",
        "SIGKILL of the leader: time until a record sent after it is acknowledged",
        Kind::Failover,
        1024,
    ),
];

/// The flags of a load program: the same for all of them. `in_flight` is what the system takes at full speed.
pub(crate) fn flags(work: &Work, seconds: u64, in_flight: u32) -> Vec<String> {
    let (verb, in_flight, rate) = match work.kind {
        Kind::Produce => ("produce", in_flight, 0),
        Kind::Alone => ("produce", ALONE_IN_FLIGHT, 0),
        Kind::OneInFlight => ("produce", 1, 0),
        Kind::Rate(rate) => ("produce", in_flight, rate),
        Kind::Consume => ("consume", in_flight, 0),
        Kind::Failover => ("failover", in_flight, 0),
    };
    // Half a gigabyte of them, as far as the time to write them goes.
    let records_max = (512 << 20) / work.record_bytes;
    [
        ("--work", verb.to_owned()),
        ("--record-bytes", work.record_bytes.to_string()),
        ("--in-flight", in_flight.to_string()),
        ("--rate", rate.to_string()),
        ("--seconds", seconds.to_string()),
        ("--warm-up", WARM_UP_SECONDS.to_string()),
        ("--records-max", records_max.to_string()),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}
