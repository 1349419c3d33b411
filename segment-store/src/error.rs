//! What can go wrong, one small enum per operation. Owns the words an operator reads; must not know how recovery decides.
//!
//! A [`Fault`] is a broken promise of the machine and ends the replica; everything else is an answer its caller must expect.

use std::path::PathBuf;

use crate::fault::Fault;

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("frame cut short: {need} bytes needed, {have} there")]
    Short {
        /// Length of the whole frame (or of its header, if not even that is there).
        need: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A header version this code does not read.
    #[error("frame version {version} is not known here (this is version 1): upgrade this node")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The header does not match its checksum.
    #[error("frame header does not match its checksum")]
    HeaderCrc,
    /// The payload does not match its checksum.
    #[error("frame payload does not match its checksum")]
    PayloadCrc,
    /// Unknown or reserved kind.
    #[error("frame kind {kind} is not known here")]
    Kind {
        /// The kind found.
        kind: u8,
    },
    /// Unknown codec.
    #[error("codec {codec} is not known here")]
    Codec {
        /// The codec found.
        codec: u8,
    },
    /// A batch without records, or records in a frame that is no batch.
    #[error("a frame of kind {kind} cannot have {count} records")]
    RecordCount {
        /// The frame's kind.
        kind: u8,
        /// The number of records it claims.
        count: u32,
    },
    /// The payload is longer than allowed.
    #[error("payload of {payload_len} bytes is over the limit of {max}")]
    TooLong {
        /// Length claimed by the header.
        payload_len: u32,
        /// The limit in bytes.
        max: usize,
    },
    /// Bytes after the end of the frame.
    #[error("{extra} bytes follow the frame")]
    TrailingBytes {
        /// How many.
        extra: usize,
    },
    /// Padding that is not zero.
    #[error("frame padding is not zero")]
    Padding,
    /// A producer's frame that claims a place in the log.
    #[error("a producer's frame must leave index, term, base offset and link zero")]
    AlreadyStamped,
    /// Offsets would pass the largest number.
    #[error("offsets overflow")]
    Overflow,
}

/// Why a log does not open. Nothing on disk was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a segment file of ours.
    #[error("{path}: not a segment file; move it out of the log's directory")]
    NotASegment {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error(
        "{path}: segment format version {version} is newer than this release reads (1); upgrade this node"
    )]
    FutureVersion {
        /// The file.
        path: PathBuf,
        /// The version found.
        version: u32,
    },
    /// A segment of another cluster or another group.
    #[error(
        "{path}: belongs to {found}, this log is {expected}; the directories were mixed up, put the file back where it came from"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Cluster and group in the file.
        found: String,
        /// Cluster and group of this log.
        expected: String,
    },
    /// A file shorter than it was made.
    #[error("{path}: cut to {actual} bytes of {expected}; repair the log from its peers")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length it was made with.
        expected: u64,
        /// The length it has.
        actual: u64,
    },
    /// A header page is damaged: the file does not say what it holds.
    #[error("{path}: the header page is damaged; repair the log from its peers")]
    DamagedHeader {
        /// The file.
        path: PathBuf,
    },
    /// A segment lies under the name of another one.
    #[error("{path}: this is another segment's content; give the file its own name back")]
    Misnamed {
        /// The file.
        path: PathBuf,
    },
    /// Entries that had been durable are damaged or missing, and others follow.
    #[error("{path}: damaged or cut short at index {index}; repair the log from its peers")]
    Damaged {
        /// The file that holds the entry, or should.
        path: PathBuf,
        /// First index concerned.
        index: u64,
    },
    /// No room to create the first segment.
    #[error("{path}: no space left to create a segment; free some and start again")]
    NoSpace {
        /// The log's directory.
        path: PathBuf,
    },
    /// The machine failed us.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl OpenError {
    /// Whether the files are damaged in a way that [`crate::Repair`] can deal with; nothing that waiting or another program would mend.
    pub fn is_damage(&self) -> bool {
        match self {
            OpenError::NotASegment { .. }
            | OpenError::Truncated { .. }
            | OpenError::DamagedHeader { .. }
            | OpenError::Damaged { .. } => true,
            OpenError::Fault(fault) => fault.is_unreadable(),
            OpenError::FutureVersion { .. }
            | OpenError::Foreign { .. }
            | OpenError::Misnamed { .. }
            | OpenError::NoSpace { .. } => false,
        }
    }
}

/// Why frames were not appended. In every case nothing was published and the log is as before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// No room for another segment. Nothing changed; the same append may be tried again later.
    #[error("no space left for another segment")]
    NoSpace,
    /// The machine failed us: the log is poisoned and takes no more writes.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The entry was removed with the log's prefix.
    #[error("index {index} was trimmed: the log starts at index {first_index}")]
    Trimmed {
        /// The index asked for.
        index: u64,
        /// First index kept.
        first_index: u64,
    },
    /// The offset is not in the log.
    #[error(
        "offset {offset} is out of range: the log holds {log_start} to {next_offset} (exclusive)"
    )]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: u64,
        /// First offset kept.
        log_start: u64,
        /// The offset the next record gets.
        next_offset: u64,
    },
    /// What lies in the file is not what was written.
    #[error("{path}: damaged at position {position}, where index {index} was expected")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Index expected there.
        index: u64,
        /// Byte in the file.
        position: u64,
    },
    /// The disk could not give the bytes.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl ReadError {
    /// Whether the log's files are damaged: what [`crate::Repair`] is for.
    pub fn is_damage(&self) -> bool {
        match self {
            ReadError::Damaged { .. } => true,
            ReadError::Fault(fault) => fault.is_unreadable(),
            ReadError::Trimmed { .. } | ReadError::OffsetOutOfRange { .. } => false,
        }
    }
}
