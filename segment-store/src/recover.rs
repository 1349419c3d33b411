//! What opening a log found.

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Index of the first entry kept; `last_index + 1` if there is none.
    pub first_index: u64,
    /// Term of the entry before the first (0 if that is the log's beginning).
    pub prev_term: u64,
    /// Index of the last entry; `first_index - 1` if there is none.
    pub last_index: u64,
    /// Term of the last entry; `prev_term` if there is none.
    pub last_term: u64,
    /// `(first index, term)` of each run of entries of one term, ascending.
    pub term_runs: Vec<(u64, u64)>,
    /// Header checksum of the last entry: the link of the next one.
    pub last_header_crc: u32,
    /// Offset that the next record gets.
    pub next_offset: u64,
    /// First offset kept.
    pub log_start: u64,
    /// Indexes of the membership entries, ascending.
    pub memberships: Vec<u64>,
    /// How the log ended.
    pub tail: TailVerdict,
}

/// How a log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailVerdict {
    /// At the end of a complete write.
    Clean,
    /// In a write that was not finished, nothing of which had been synced: cut off, and the log goes on in a fresh file.
    Torn {
        /// Bytes cut off.
        bytes: u64,
    },
    /// Entries that had been durable are damaged or missing from `index` on. Nothing is deleted; the log is open for reading
    /// what comes before, and refuses to append.
    Damaged {
        /// First damaged index.
        index: u64,
        /// Byte in the file that should hold it.
        position: u64,
    },
}
