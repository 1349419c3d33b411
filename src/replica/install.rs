//! A state in place of entries: made by a leader for a peer that lacks what is trimmed here, taken by a follower.
//!
//! Owns the bytes of states on their way, and what taking one changes in the shell. It must not know when the core asks for it. A
//! state is what a snapshot holds, together with the entry that the log begins anew after; that entry may come earlier than the
//! snapshot's, for a partition's log is its data. What the state contains counts at once; the entries up to there follow through
//! the log, and take no effect a second time.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use segment_store::LogBase;

use super::effects::{DiskOp, Lane};
use super::producers::Producers;
use super::replica::Replica;
use super::snapshot::{BaseRow, Snapshot};
use super::tail::{EntryMeta, Tail};
use super::writes::OnDisk;
use crate::raft::{INSTALL_BYTES_MAX, Index, Install, InstallPlan, LogId, Millis, NodeId, Offer};
use crate::wire::Content;

/// Bytes of a state in one message.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// States on their way.
#[derive(Debug, Default)]
pub(super) struct Installs {
    /// At a leader: what each peer is being given.
    sending: BTreeMap<NodeId, Bytes>,
    /// At a follower: what has been received.
    received: Vec<u8>,
    /// A state whose last piece has just arrived, checked.
    ready: Option<Box<Ready>>,
    /// States that the disk has not finished.
    under_way: u32,
    /// The last entry that the state here contains though the log may not have reached it, and the checksum of its header.
    contained: (Index, u32),
}

/// A checked state.
#[derive(Debug)]
struct Ready {
    snapshot: Snapshot,
    base: LogBase,
    producers: Producers,
    bytes: Vec<u8>,
}

impl Installs {
    /// As a replica starts whose snapshot ends with the entry at `index`.
    pub(super) fn new(index: Index, header_crc: u32) -> Installs {
        Installs {
            contained: (index, header_crc),
            ..Installs::default()
        }
    }

    /// Whether the disk is not done with a state.
    pub(super) fn under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Whether the effect of the entry at `index` is part of the state already.
    pub(super) fn contain(&self, index: Index) -> bool {
        index <= self.contained.0
    }

    /// Bytes of states held here.
    pub(super) fn bytes(&self) -> u64 {
        let sending = self.sending.values().map(|state| state.len() as u64);
        sending.sum::<u64>() + self.received.capacity() as u64
    }

    /// Forgets what is being sent: this replica does not lead any more.
    pub(super) fn stop_sending(&mut self) {
        self.sending.clear();
    }
}

/// Why a piece was refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the piece is {carried} bytes long, the message says {named}")]
    Length { named: u64, carried: u64 },
    #[error("the state does not match its checksum")]
    Digest,
    #[error("the state cannot be read: {0}")]
    State(String),
    #[error("the state is not the one that was offered")]
    Another,
}

impl Replica {
    // ---- at the leader ----

    /// Sends `peer` the next piece of a state, if it needs one.
    pub(super) fn pump_install(&mut self, now: Millis, peer: NodeId) {
        let mut plan = self.raft.next_install(peer);
        if plan == Some(InstallPlan::Offer) {
            let Some((offer, bytes)) = self.make_offer() else {
                return;
            };
            tracing::info!(
                group = self.config.group,
                peer,
                base = offer.base.index,
                bytes = bytes.len(),
                "a peer lacks entries that are trimmed here: it is given a state instead"
            );
            self.raft.offer_install(peer, offer);
            self.installs.sending.insert(peer, bytes);
            plan = self.raft.next_install(peer);
        }
        let Some(InstallPlan::Piece { offset }) = plan else {
            return;
        };
        if self.must_wait(now) {
            return;
        }
        let state = self.installs.sending.get(&peer);
        let state = state.expect("what is offered is kept until the next offer");
        let start = usize::try_from(offset).expect("positions of a state fit in memory");
        let piece = state.slice(start..state.len().min(start + PIECE_BYTES));
        let len = piece.len() as u64;
        self.config.pacer.spend(len);
        let message = self.raft.install_sent(now, peer, len);
        self.send_on(Lane::Bulk, peer, Content::Raft(message), vec![piece]);
    }

    /// The state as of the last applied entry, to go in front of the log as it is kept now. `None` while a trim that the disk
    /// has done is not reported yet.
    fn make_offer(&self) -> Option<(Offer, Bytes)> {
        let base = self.reader.base();
        let id = LogId {
            term: base.term,
            index: base.index,
        };
        if base.index + 1 != self.raft.first_index() {
            return None;
        }
        let snapshot = self.snapshot_of_applied(Some(base));
        let membership = (
            snapshot.membership_index,
            snapshot.membership.to_membership(),
        );
        let bytes = Bytes::from(snapshot.encode());
        if bytes.len() as u64 > INSTALL_BYTES_MAX {
            let (group, len) = (self.config.group, bytes.len());
            tracing::error!(
                group,
                len,
                "the state of this group is too large to be given to a peer"
            );
            return None;
        }
        let offer = Offer {
            base: id,
            snapshot: LogId {
                term: snapshot.term,
                index: snapshot.index,
            },
            membership,
            bytes: bytes.len() as u64,
            digest: crc32fast::hash(&bytes),
        };
        Some((offer, bytes))
    }

    // ---- at the follower ----

    /// Checks a piece at the border, and the whole state if it is the last. False if it must not reach the core.
    pub(super) fn admit_piece(
        &mut self,
        from: NodeId,
        install: &Install,
        pieces: &[Bytes],
    ) -> bool {
        self.installs.ready = None;
        match self.check_piece(install, pieces) {
            Ok(ready) => {
                self.installs.ready = ready.map(Box::new);
                true
            }
            Err(refusal) => {
                let group = self.config.group;
                tracing::warn!(group, from, %refusal, "a piece of a state was refused");
                self.installs.received = Vec::new();
                self.raft.install_refused();
                false
            }
        }
    }

    fn check_piece(&self, install: &Install, pieces: &[Bytes]) -> Result<Option<Ready>, Refusal> {
        let carried = pieces.iter().map(|piece| piece.len() as u64).sum();
        if carried != install.len {
            let named = install.len;
            return Err(Refusal::Length { named, carried });
        }
        let offer = &install.offer;
        let received: &[u8] = match install.offset {
            0 => &[],
            _ => &self.installs.received,
        };
        let last = install.offset.checked_add(install.len) == Some(offer.bytes);
        if !last || received.len() as u64 != install.offset {
            return Ok(None);
        }
        let mut bytes = received.to_vec();
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        if crc32fast::hash(&bytes) != offer.digest {
            return Err(Refusal::Digest);
        }
        let snapshot = Snapshot::decode(&bytes);
        let snapshot = snapshot.map_err(|error| Refusal::State(error.to_string()))?;
        let base = snapshot.base.as_ref().map(BaseRow::to_base);
        let base = base.filter(|base| {
            (base.index, base.term) == (offer.base.index, offer.base.term)
                && (snapshot.index, snapshot.term) == (offer.snapshot.index, offer.snapshot.term)
                && snapshot.next_offset >= base.next_offset
                && snapshot.membership_index == offer.membership.0
                && snapshot.membership.to_membership() == offer.membership.1
        });
        let base = base.ok_or(Refusal::Another)?;
        let producers = Producers::from_rows(&snapshot.producers).map_err(Refusal::State)?;
        Ok(Some(Ready {
            snapshot,
            base,
            producers,
            bytes,
        }))
    }

    /// The core keeps the piece that arrived, behind `offset` bytes.
    pub(super) fn keep_piece(&mut self, offset: u64, pieces: &[Bytes]) {
        let received = &mut self.installs.received;
        if offset == 0 {
            received.clear();
        }
        assert_eq!(
            received.len() as u64,
            offset,
            "the core counts what is kept here"
        );
        for piece in pieces {
            received.extend_from_slice(piece);
        }
    }

    /// Forgets pieces that the core no longer counts, and a state that it did not take.
    pub(super) fn drop_pieces(&mut self) {
        self.installs.ready = None;
        if !self.raft.is_receiving() && !self.installs.received.is_empty() {
            self.installs.received = Vec::new();
        }
    }

    /// The core takes the state whose last piece has just been checked: all that was known gives way to it.
    pub(super) fn install(&mut self, offer: &Offer) {
        let ready = self.installs.ready.take();
        let Ready {
            snapshot,
            base,
            producers,
            bytes,
        } = *ready.expect("the last piece was checked at the border");
        let id = LogId {
            term: base.term,
            index: base.index,
        };
        assert_eq!(
            id, offer.base,
            "the state that was checked is the one taken"
        );
        if let Some(machine) = &mut self.machine
            && let Err(what) = machine.restore(&snapshot.machine)
        {
            return self.poison(format!("the state of a peer cannot be taken over: {what}"));
        }
        tracing::info!(
            group = self.config.group,
            base = base.index,
            snapshot = snapshot.index,
            "the log begins anew behind the state that a peer gave"
        );
        self.tail = Tail::new(
            EntryMeta {
                id,
                next_offset: base.next_offset,
                header_crc: base.header_crc,
                ..EntryMeta::default()
            },
            VecDeque::new(),
        );
        self.producers = producers;
        self.memberships.clear();
        self.applied_membership = (
            snapshot.membership_index,
            snapshot.membership.to_membership(),
        );
        self.log_start = base.next_offset;
        self.installs.received = Vec::new();
        self.installs.contained = (snapshot.index, snapshot.header_crc);
        self.installs.under_way += 1;
        let (index, term) = (snapshot.index, snapshot.term);
        let op = DiskOp::Install {
            index,
            term,
            bytes,
            base,
        };
        let base = base.index;
        self.save_install(op, OnDisk::Installed { index, base });
    }

    /// The state is durable, and so is the new beginning of the log.
    pub(super) fn on_installed(&mut self, now: Millis, index: Index, base: Index) {
        self.installs.under_way -= 1;
        self.snapshots.begin_anew(index, base);
        self.raft.install_durable(now);
    }

    /// Applies `entry`; if it is the last one that the state contains, it must be the very same.
    pub(super) fn check_contained(&mut self, entry: &EntryMeta) {
        let (index, header_crc) = self.installs.contained;
        if entry.id.index == index && entry.header_crc != header_crc {
            self.poison(format!(
                "entry {index} is not the one that the state given by a peer ends with"
            ));
        }
    }
}
