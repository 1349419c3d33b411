//! How two nodes make themselves known on a new connection: which data directory, which start of it.
//!
//! Owns the first message on the first stream of every connection between nodes, and its answer, which is another. Must not know what
//! either side makes of it. Walks: append, before its very start.

use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;
use super::head::{at_most, kind, open, seal};

/// Longest head of a [`Greeting`], in bytes.
pub const GREETING_HEAD_BYTES_MAX: usize = 1024;
/// Most nonces in one greeting.
const NONCES_MAX: usize = 64;

/// Who a node is, beyond what its certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
#[rkyv(derive(Debug))]
pub struct Greeting {
    /// Identity of the cluster, as in every file.
    pub cluster: [u8; 16],
    /// The node's number.
    pub node: u64,
    /// Identity of its data directory.
    pub replica: [u8; 16],
    /// Which start of that directory this is, from 1.
    pub boot: u64,
    /// What was drawn at this start, and at those before, the latest first.
    pub nonces: Vec<u64>,
}

/// Kind byte and head of a greeting.
pub fn encode_greeting(greeting: &Greeting) -> (u8, Vec<u8>) {
    (kind::GREETING, seal(greeting))
}

/// Reads a greeting back.
///
/// # Errors
/// [`WireError`] for another kind or version, a head or list over its cap, or an archive that does not validate.
pub fn decode_greeting(kind: u8, head: &[u8]) -> Result<Greeting, WireError> {
    open::<Greeting>(
        kind,
        self::kind::GREETING,
        head,
        GREETING_HEAD_BYTES_MAX,
        |greeting| at_most("list of nonces", greeting.nonces.len(), NONCES_MAX),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            cluster: [0xcc; 16],
            node: 3,
            replica: [0xee; 16],
            boot: 7,
            nonces: vec![0x0a, 0x0b],
        }
    }

    #[test]
    fn a_greeting_comes_back_as_it_went_and_its_bytes_are_pinned() {
        let (kind, head) = encode_greeting(&greeting());
        assert_eq!(decode_greeting(kind, &head), Ok(greeting()));
        let hex: String = head.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "010a000000000000000b00000000000000cccccccccccccccccccccccccccccccc0300000000000000",
                "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee0700000000000000c0ffffff02000000"
            )
        );
    }

    #[test]
    fn what_is_no_greeting_is_refused() {
        let (kind, head) = encode_greeting(&greeting());
        assert!(decode_greeting(kind + 1, &head).is_err());
        for len in 0..head.len() {
            assert!(decode_greeting(kind, &head[..len]).is_err(), "{len} bytes");
        }
        let many = Greeting {
            nonces: vec![1; NONCES_MAX + 1],
            ..greeting()
        };
        let (kind, head) = encode_greeting(&many);
        assert!(matches!(
            decode_greeting(kind, &head),
            Err(WireError::TooLong { .. })
        ));
    }
}
