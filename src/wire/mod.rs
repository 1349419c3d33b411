//! Messages: what lies inside a frame of records, what a client asks a node, what nodes tell each other.
//!
//! Owns the layout of every payload and every message head, and the checks that stand between outside bytes and the
//! rest of the house. Knows the raft core's message types and the frame header; knows nothing of sockets, files, tasks or
//! time. On every walk: produce, fetch, append.
//!
//! Every head is one version byte followed by an rkyv archive (little-endian, unaligned), accessed with checks. A head
//! longer than its cap is refused unread; a list or string inside it is measured against its cap before it is copied out.

pub mod batch;
mod error;
mod greeting;
mod head;
mod mirror;
mod node;
mod peer;
mod reply;
mod request;
pub mod topic_name;

pub use batch::{
    BatchBuilder, BatchCaps, BatchHead, BatchReader, Codec, ProducerStamp, RecordRef, check_batch,
    check_batches, peek_head,
};
pub use error::{ApiError, BatchError, PushError, WireError};
pub use greeting::{GREETING_HEAD_BYTES_MAX, Greeting, decode_greeting, encode_greeting};
pub use head::kind;
pub use node::{
    HELLO_HEAD_BYTES_MAX, NodeReport, ReplicaReport, StreamHello, decode_frames, decode_hello,
    decode_report, encode_frames, encode_hello, encode_report,
};
pub use peer::{Content, Envelope, ForwardAck, PeerCaps, decode_envelopes, encode_envelopes};
pub use reply::{
    ACKS_MAX, ClusterStatus, GroupStatus, Metadata, NodeInfo, NodeStatus, NodeUsage, PartitionInfo,
    ProducedAck, ReplicaRole, ReplicaStatus, Reply, TopicInfo, decode_reply, encode_reply,
};
pub use request::{FetchFrom, PRODUCE_MERGED_BYTES_MAX, Request, decode_request, encode_request};

/// Version of every message head in this room; a head that starts with another byte is refused.
pub const WIRE_VERSION: u8 = 1;

/// Longest head of a request, in bytes.
pub const REQUEST_HEAD_BYTES_MAX: usize = 1 << 20;

/// Longest head of a reply, in bytes: metadata of tens of thousands of partitions.
pub const REPLY_HEAD_BYTES_MAX: usize = 8 << 20;

/// Longest string in any message, in bytes: an address, a reason, a name about to be refused with a reason.
pub const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests;
