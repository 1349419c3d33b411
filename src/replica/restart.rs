//! What a replica knows when it starts: owns the way from ballot, snapshot and log back to the state.
//!
//! It must not know how files are opened. The snapshot says what the log amounts to up to its index; the
//! entries after it are read again, headers and batch heads only. They count as not committed until the
//! group says otherwise.

use std::collections::VecDeque;

use segment_store::{Frame, LogBase, LogReader, ReadError, Recovered, kind};

use super::error::OpenError;
use super::producers::{Producers, Stamp};
use super::snapshot::{MembershipRow, Snapshot};
use super::tail::EntryMeta;
use crate::raft::{Ballot, Index, LogId, Membership, NodeId, Restored, Run, mutation};
use crate::wire::peek_head;

/// Bytes read from the log at a time.
const READ_BYTES: usize = 4 << 20;

/// Everything a replica starts with. All of it is durable.
#[derive(Debug)]
pub struct Restart {
    /// For the consensus core.
    pub(crate) restored: Restored,
    /// The last entry known to be committed and here: the snapshot's, unless the log has not reached that yet.
    pub(crate) base: EntryMeta,
    /// The entries after it.
    pub(crate) entries: VecDeque<EntryMeta>,
    /// Batches of the whole log; those after `base` as not committed.
    pub(crate) producers: Producers,
    /// Index of the snapshot, 0 if there is none, and the checksum of that entry's header.
    pub(crate) snapshot: (Index, u32),
    /// The snapshot was given by a peer.
    pub(crate) given: bool,
    /// The membership as of the snapshot, and the index of its entry.
    pub(crate) base_membership: (Index, Membership),
    /// The state machine's part of the snapshot.
    pub(crate) machine: Option<Vec<u8>>,
    /// First offset kept.
    pub(crate) log_start: u64,
}

impl Restart {
    /// What the state machine said of itself in the snapshot, if there is one.
    pub fn machine_state(&self) -> Option<&[u8]> {
        self.machine.as_deref()
    }
}

/// What was found on the disk of one group.
#[derive(Debug)]
pub struct Found<'a> {
    /// The group.
    pub group: u64,
    /// Voters it was created with.
    pub voters: &'a [NodeId],
    /// The saved ballot.
    pub ballot: Ballot,
    /// What opening the log told.
    pub recovered: &'a Recovered,
    /// The newest snapshot.
    pub snapshot: Option<&'a [u8]>,
    /// Longest payload a frame may have.
    pub payload_bytes_max: usize,
}

impl Found<'_> {
    /// Puts it together.
    ///
    /// # Errors
    /// [`OpenError`] if the parts do not fit together, or the log is damaged.
    pub fn restart(&self, reader: &LogReader) -> Result<Restart, OpenError> {
        let recovered = self.recovered;
        let snapshot = self.snapshot()?;
        let prev = LogId {
            term: recovered.prev_term,
            index: recovered.first_index - 1,
        };
        if snapshot.index < prev.index {
            return Err(self.damaged(format!(
                "the log starts at index {}, and no snapshot reaches that far (the newest ends at {})",
                recovered.first_index, snapshot.index
            )));
        }
        let ahead = snapshot.index > recovered.last_index;
        if ahead && snapshot.base.is_none() {
            return Err(self.damaged(format!(
                "the snapshot contains index {}, and the log ends at {}: committed entries are missing",
                snapshot.index, recovered.last_index
            )));
        }
        let producers = Producers::from_rows(&snapshot.producers);
        let producers = producers.map_err(|what| self.inconsistent(what))?;
        let base_membership = (
            snapshot.membership_index,
            snapshot.membership.to_membership(),
        );
        let mut restart = Restart {
            restored: self.restored(prev, &snapshot),
            base: match ahead {
                true => meta_of(reader.base()),
                false => meta_of(LogBase {
                    index: snapshot.index,
                    term: snapshot.term,
                    header_crc: snapshot.header_crc,
                    next_offset: snapshot.next_offset,
                }),
            },
            entries: VecDeque::new(),
            producers,
            snapshot: (snapshot.index, snapshot.header_crc),
            given: snapshot.base.is_some(),
            base_membership,
            machine: self
                .snapshot
                .filter(|_| !mutation::is("commands forgotten at a restart"))
                .map(|_| snapshot.machine),
            log_start: recovered.log_start,
        };
        self.replay(reader, &mut restart)?;
        Ok(restart)
    }

    fn snapshot(&self) -> Result<Snapshot, OpenError> {
        let Some(bytes) = self.snapshot else {
            let mut voters = self.voters.to_vec();
            voters.sort_unstable();
            voters.dedup();
            let membership = Membership {
                voters,
                ..Membership::default()
            };
            return Ok(Snapshot {
                membership: MembershipRow::of(&membership),
                ..Snapshot::default()
            });
        };
        Snapshot::decode(bytes).map_err(|error| self.inconsistent(error.to_string()))
    }

    fn restored(&self, prev: LogId, snapshot: &Snapshot) -> Restored {
        let runs = self.recovered.term_runs.iter();
        // What was in force before the snapshot no longer matters: the log cannot be cut below it.
        let base = snapshot.membership_index.min(prev.index);
        Restored {
            ballot: self.ballot,
            prev,
            runs: runs.map(|&(first, term)| Run { first, term }).collect(),
            last_index: self.recovered.last_index,
            memberships: vec![(base, snapshot.membership.to_membership())],
            commit_index: match snapshot.index > self.recovered.last_index {
                true => prev.index,
                false => snapshot.index,
            },
            suspect_tail: self.recovered.suspect_tail,
            forgotten_term: None,
            pending_index: snapshot.index,
        }
    }

    /// Reads the entries after the snapshot; all of them, if the log has not reached it.
    fn replay(&self, reader: &LogReader, restart: &mut Restart) -> Result<(), OpenError> {
        let group = self.group;
        let last = self.recovered.last_index;
        let mut next = restart.base.id.index + 1;
        while next <= last {
            let read_error = |source: ReadError| match source.is_damage() {
                true => self.damaged(source.to_string()),
                false => OpenError::Read { group, source },
            };
            if reader.is_cold(next, READ_BYTES) {
                reader.populate(next, READ_BYTES).map_err(read_error)?;
            }
            let run = reader.read(next, last, READ_BYTES).map_err(read_error)?;
            let mut bytes = run.bytes;
            if bytes.is_empty() {
                return Err(self.damaged(format!("index {next} cannot be read")));
            }
            while !bytes.is_empty() {
                // That of the tail was checked when the log was opened, that of a sealed segment was not.
                let frame = Frame::split_from(&mut bytes, self.payload_bytes_max, true)
                    .map_err(|error| self.damaged(format!("index {next}: {error}")))?;
                self.replay_frame(&frame, restart)?;
                next = frame.header().index + 1;
            }
        }
        Ok(())
    }

    fn replay_frame(&self, frame: &Frame, restart: &mut Restart) -> Result<(), OpenError> {
        let header = frame.header();
        let index = header.index;
        let before = restart.entries.back().unwrap_or(&restart.base);
        if index != before.id.index + 1
            || header.prev_header_crc != before.header_crc
            || header.base_offset != before.next_offset
        {
            // Whole, and not what was written there: the log's own damage, as when a write of the disk lands elsewhere.
            return Err(self.damaged(format!("index {index} does not follow the entry before")));
        }
        match header.kind {
            // What the snapshot contains already takes no effect a second time.
            kind::RECORDS if index <= restart.snapshot.0 => {}
            kind::RECORDS => {
                let head = peek_head(&frame.payload());
                let head =
                    head.map_err(|error| self.inconsistent(format!("index {index}: {error}")))?;
                if let Some(stamp) = Stamp::of(&head, header.record_count)
                    && !mutation::is("sequences forgotten at a restart")
                {
                    restart
                        .producers
                        .appended(index, header.base_offset, &stamp);
                }
            }
            kind::MEMBERSHIP if mutation::is("memberships forgotten at a restart") => {}
            kind::MEMBERSHIP => {
                let membership = MembershipRow::decode(&frame.payload());
                let membership = membership
                    .map_err(|error| self.inconsistent(format!("index {index}: {error}")))?;
                restart
                    .restored
                    .memberships
                    .push((index, membership.to_membership()));
            }
            _ => {}
        }
        restart.entries.push_back(EntryMeta::of(frame));
        Ok(())
    }

    fn damaged(&self, what: String) -> OpenError {
        OpenError::Damaged {
            group: self.group,
            what,
        }
    }

    fn inconsistent(&self, what: String) -> OpenError {
        OpenError::Inconsistent {
            group: self.group,
            what,
        }
    }
}

fn meta_of(base: LogBase) -> EntryMeta {
    EntryMeta {
        id: LogId {
            term: base.term,
            index: base.index,
        },
        next_offset: base.next_offset,
        header_crc: base.header_crc,
        ..EntryMeta::default()
    }
}

/// The entry that the log should begin anew after, if a peer gave `snapshot` and a crash came before the log followed it. A log
/// that holds that entry has followed, or need not.
pub(super) fn unfinished_install(snapshot: &[u8], recovered: &Recovered) -> Option<LogBase> {
    // A snapshot that cannot be read is refused later, by who says why.
    let base = Snapshot::decode(snapshot).ok()?.base?.to_base();
    let prev_index = recovered.first_index - 1;
    let term = match base.index {
        index if index < prev_index => return None,
        index if index > recovered.last_index => None,
        index if index == prev_index => Some(recovered.prev_term),
        index => {
            let runs = recovered.term_runs.iter().rev();
            let mut runs = runs.skip_while(|(first, _)| *first > index);
            runs.next().map(|(_, term)| *term)
        }
    };
    (term != Some(base.term)).then_some(base)
}
