//! Rot: bytes at rest that change, and the atlas of what is spoiled where.
//!
//! Owns the rule that every committed entry keeps a good copy on another voter that holds it durably; whatever else there is may rot:
//! other copies, one of the two ballots of a file, a snapshot that is not the only one. Where an entry rots, those after it in the same log
//! count as spoiled, too: a log may have to take its end for lost from there on. Must not know how a node finds out, nor how it comes right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use plimsoll::controller::CONTROLLER_GROUP;
use plimsoll::raft::invariants::View;
use plimsoll::raft::{Index, NodeId};
use segment_store::fs::Fs;
use segment_store::{FRAME_ALIGN, HEADER_LEN, LogReader, Scrub, snapshot};

use crate::node::{DATA, Death, Node};
use crate::swarm::{SNAPSHOTS_NEVER, pick};
use crate::world::{Event, MILLI, Micros, World};

/// Entries that one fault spoils, at most.
const FLIPS_MAX: u64 = 4;
/// What a disk writes at a time, where it was told to or elsewhere.
const SECTOR: u64 = 4096;
/// Where a segment's header page says which entry is the first, and how much of the page says anything.
const BASE_INDEX_AT: u64 = 48;
const HEADER_BYTES: u64 = 608;
/// When a scrub looks at what rots under a running node, if it comes by at all.
const SCRUB_WITHIN: Micros = 200 * MILLI;
/// Bytes that a scrub reads at a time.
const SCRUB_BYTES: usize = 64 << 10;

/// What is spoiled.
#[derive(Debug, Default)]
pub(crate) struct Atlas {
    /// By node and group, runs of entries.
    spoiled: BTreeMap<(NodeId, u64), Vec<RangeInclusive<Index>>>,
    /// Whose snapshots have rotted once.
    snapshots: BTreeSet<(NodeId, u64)>,
}

impl Atlas {
    /// Whether any of these copies has been spoiled since the group was last whole there.
    pub(crate) fn is_spoiled(
        &self,
        node: NodeId,
        group: u64,
        copies: &RangeInclusive<Index>,
    ) -> bool {
        let mut spoiled = self.spoiled.get(&(node, group)).into_iter().flatten();
        spoiled.any(|run| run.start() <= copies.end() && copies.start() <= run.end())
    }

    /// Whether anything of the group is spoiled there.
    pub(crate) fn has_rot(&self, node: NodeId, group: u64) -> bool {
        self.spoiled.contains_key(&(node, group))
    }

    fn spoil(&mut self, node: NodeId, group: u64, entries: RangeInclusive<Index>) {
        self.spoiled.entry((node, group)).or_default().push(entries);
    }

    /// Everything of the group was read there, and is whole.
    pub(crate) fn made_whole(&mut self, node: NodeId, group: u64) {
        self.spoiled.remove(&(node, group));
    }
}

/// An entry that may be spoilt, with all that follow it in its log.
struct Candidate {
    index: Index,
    place: Place,
    spoils: Spoils,
}

/// What happens to it.
enum Spoils {
    Bit,
    /// A write that was meant for elsewhere.
    Landing {
        position: u64,
        bytes: Vec<u8>,
    },
}

/// Where a frame lies.
struct Place {
    path: PathBuf,
    position: u64,
    len: u64,
}

impl World {
    /// Bytes of a node change, most often while its process is down: of entries that another voter has, or of a page that can be known
    /// otherwise.
    pub(crate) fn rot(&mut self, id: NodeId) {
        let group = self.any_group();
        let node = self.node(id);
        let running = node
            .process
            .as_ref()
            .and_then(|process| process.groups.get(&group));
        let Some(running) = running.filter(|_| node.cut.is_none()) else {
            return;
        };
        // One that this process saved: of what others left behind, one slot may never have reached the platter.
        let view = View::of(running.replica.raft());
        let ballot_at_rest = view.ballot_saved && view.ballot != running.first_ballot;
        let committed = self.checks.group(group).committed();
        let candidates = self.entries_to_spoil(id, group);
        let lives_on = self.rng.u32(0..3) == 0;
        let last = match lives_on {
            // What follows in the same files may go with the end as well.
            true => Index::MAX,
            false => view.last_index,
        };
        if !lives_on {
            let death = pick(&mut self.rng, &[Death::Kill, Death::PowerCut]);
            self.die(id, death);
        }
        for Candidate {
            index,
            place,
            spoils,
        } in candidates
        {
            match spoils {
                Spoils::Bit => self.flip(id, group, index, &place),
                Spoils::Landing { position, bytes } => {
                    self.node(id).fs.overwrite(&place.path, position, &bytes);
                    self.summary.misdirected += 1;
                    self.note(id, "is overwritten", [group, index, position, 0]);
                }
            }
            self.checks.atlas.spoil(id, group, index..=last);
            self.summary.uncommitted_spoilt += u64::from(view.durable_index > committed);
            self.summary.spoilt_running += u64::from(lives_on);
        }
        if lives_on {
            if self.rng.bool() {
                let wait = self.rng.u64(0..SCRUB_WITHIN);
                self.after(wait, Event::Scrub(id, group));
            }
            return;
        }
        match self.rng.u32(0..4) {
            0 if ballot_at_rest => self.rot_a_ballot(id, group),
            1 => self.rot_a_snapshot(id, group),
            _ => {}
        }
    }

    fn flip(&mut self, id: NodeId, group: u64, index: Index, place: &Place) {
        let position = place.position + self.rng.u64(0..place.len);
        let bit = self.rng.u8(0..8);
        self.node(id).fs.flip_bit(&place.path, position, bit);
        self.summary.flips += 1;
        self.summary.header_pages += u64::from(place.position == 0);
        self.note(id, "rots", [group, index, position, u64::from(bit)]);
    }

    /// A node reads all of a group's log, to find what rotted while it runs.
    pub(crate) fn scrub(&mut self, id: NodeId, group: u64) {
        let process = self.node(id).process.as_ref();
        let Some(running) = process.and_then(|process| process.groups.get(&group)) else {
            return;
        };
        let mut scrub = Scrub::new(running.reader.clone());
        self.summary.scrubs += 1;
        loop {
            match scrub.step(SCRUB_BYTES, None) {
                Ok(step) if step.done => return,
                Ok(_) => {}
                Err(error) if error.is_damage() => {
                    self.summary.scrub_finds += 1;
                    return self.met_damage(id, &[group]);
                }
                Err(error) => panic!("the disk of node {id} reads well: {error}"),
            }
        }
    }

    /// Some entries of a node that may rot there, and how they do.
    fn entries_to_spoil(&mut self, id: NodeId, group: u64) -> Vec<Candidate> {
        let Some(process) = &self.node(id).process else {
            return Vec::new();
        };
        let reader = process.groups[&group].reader.clone();
        let raft = process.groups[&group].replica.raft();
        let (first, last) = (reader.first_index(), raft.durable_index());
        let members = match self.members_of(group) {
            Some((_, members)) => members,
            None => return Vec::new(),
        };
        // A log that gives way to snapshots may be let go of by whoever has the good copies, before anybody asks for them.
        let kept =
            group != CONTROLLER_GROUP || self.swarm.snapshot_every_entries >= SNAPSHOTS_NEVER;
        if first > last || !kept {
            return Vec::new();
        }
        // Learners do not count: nobody asks them for a vote, so a lone voter that lost its end would not learn of it.
        let voters = members.voters.iter().chain(&members.voters_outgoing);
        let others: Vec<NodeId> = voters.copied().filter(|voter| *voter != id).collect();
        // Of a run as well as of single entries; the last ones most often.
        let count = self.rng.u64(1..=FLIPS_MAX);
        let start = match self.rng.bool() {
            true => last.saturating_sub(self.rng.u64(0..8)).max(first),
            false => self.rng.u64(first..=last),
        };
        let step = pick(&mut self.rng, &[1, 1, 3]);
        let mut found = Vec::new();
        for index in (0..count)
            .map(|at| start + at * step)
            .take_while(|index| *index <= last)
        {
            let Some(place) = self.place_at(id, group, &reader, index) else {
                continue;
            };
            let candidate = match self.rng.u32(0..12) {
                0..4 => self.landing(id, group, &reader, last, (index, place)),
                4 => self.header_page(id, place),
                _ => Some(Candidate {
                    index,
                    place,
                    spoils: Spoils::Bit,
                }),
            };
            let held = |candidate: &Candidate| {
                let index = candidate.index;
                let committed = self.checks.group(group).committed();
                let committed = committed.clamp(index - 1, last);
                // What is not committed yet may be any moment, by an ack that was given here; not everybody who gave one may lose it.
                let mut held = |entries| self.checks.held_by_any(&others, group, id, entries);
                held(index..=committed) && held(committed + 1..=last)
            };
            found.extend(candidate.filter(held));
        }
        found
    }

    /// The header page of the segment in which an entry lies: in the worst case nothing tells any more what the file holds.
    fn header_page(&mut self, id: NodeId, place: Place) -> Option<Candidate> {
        let mut index = [0; 8];
        let file = self.node(id).fs.open_read(&place.path).ok()?;
        file.read_exact_at(&mut index, BASE_INDEX_AT).ok()?;
        Some(Candidate {
            index: Index::from_le_bytes(index),
            place: Place {
                position: 0,
                len: HEADER_BYTES,
                ..place
            },
            spoils: Spoils::Bit,
        })
    }

    fn place_at(
        &mut self,
        id: NodeId,
        group: u64,
        reader: &LogReader,
        index: Index,
    ) -> Option<Place> {
        let run = reader.read(index, index, 1).ok()?;
        place_of(self.node(id), group, &run.bytes)
    }

    /// A sector of an entry, and what lands there although it was meant for another place of the same disk. The entry becomes the first one
    /// that is hit. `durable` is the last one that this disk has.
    fn landing(
        &mut self,
        id: NodeId,
        group: u64,
        reader: &LogReader,
        durable: Index,
        (mut index, mut place): (Index, Place),
    ) -> Option<Candidate> {
        // Not where the log ends: what tells a promised end from a write that never came lies right behind the last frame, by decision, and a
        // sector lost with both is lost without a trace. Nor where something is still under way to the disk: that write brings the whole
        // sector along and covers what landed, and what it carries has no copy elsewhere yet.
        let last = self.place_at(id, group, reader, durable)?;
        let end = (last.position + last.len) / SECTOR;
        let in_tail = last.path == place.path;
        let sectors = place.position / SECTOR..(place.position + place.len).div_ceil(SECTOR);
        if in_tail && sectors.end > end {
            return None;
        }
        let position = self.rng.u64(sectors) * SECTOR;
        while place.position > position {
            let Some(before) = self.place_at(id, group, reader, index - 1) else {
                break;
            };
            if before.path != place.path || before.position + before.len <= position {
                break;
            }
            (index, place) = (index - 1, before);
        }
        let bytes = self.any_sector(id)?;
        // Zeros behind the last good frame were never written, as far as anybody can tell.
        let from = place.position.saturating_sub(position);
        let tells = bytes
            .iter()
            .skip(usize::try_from(from).ok()?)
            .any(|byte| *byte != 0);
        tells.then_some(Candidate {
            index,
            place,
            spoils: Spoils::Landing { position, bytes },
        })
    }

    /// A sector of any file of any group of a node.
    fn any_sector(&mut self, id: NodeId) -> Option<Vec<u8>> {
        let dir = dir_of(self.any_group());
        let names = self.node(id).fs.list(&dir).ok()?;
        let path = dir.join(
            &names[self
                .rng
                .usize(0..names.len().max(1))
                .min(names.len().checked_sub(1)?)],
        );
        let file = self.node(id).fs.open_read(&path).ok()?;
        let sectors = file.len() / SECTOR;
        let sector = self.rng.u64(0..sectors.max(1));
        let mut bytes = vec![0; SECTOR as usize];
        file.read_exact_at(&mut bytes, sector * SECTOR).ok()?;
        Some(bytes)
    }

    /// One of the two slots of a ballot rots, or what was meant for elsewhere lands there; the other says the same.
    fn rot_a_ballot(&mut self, id: NodeId, group: u64) {
        let path = dir_of(group).join("ballot");
        let position = self.rng.u64(0..8192);
        if self.rng.u32(0..3) == 0
            && let Some(bytes) = self.any_sector(id)
        {
            let position = position / SECTOR * SECTOR;
            self.node(id).fs.overwrite(&path, position, &bytes);
            self.summary.misdirected += 1;
            return self.note(id, "ballot is overwritten", [group, position, 0, 0]);
        }
        let node = self.node(id);
        node.fs.flip_bit(&path, position, 0);
        self.summary.flips += 1;
        self.note(id, "ballot rots", [group, position, 0, 0]);
    }

    /// The newest of several snapshots rots, once a run: the one before it and the log say the same.
    fn rot_a_snapshot(&mut self, id: NodeId, group: u64) {
        let dir = dir_of(group);
        let node = self.node(id);
        let files = snapshot::files(&node.fs, &dir, "replica").unwrap_or_default();
        let (Some((newest, path)), true) = (files.last(), files.len() > 1) else {
            return;
        };
        if !self.checks.atlas.snapshots.insert((id, group)) {
            return;
        }
        let node = self.node(id);
        let len = node.fs.open_read(path).map_or(0, |file| file.len());
        let position = self.rng.u64(0..len.max(1));
        self.node(id).fs.flip_bit(path, position, 0);
        self.summary.flips += 1;
        self.note(id, "snapshot rots", [group, *newest, position, 0]);
    }
}

fn dir_of(group: u64) -> PathBuf {
    Path::new(DATA).join("groups").join(group.to_string())
}

/// Finds a frame in the files of a group by its header, which no other frame has.
fn place_of(node: &Node, group: u64, frame: &[u8]) -> Option<Place> {
    let dir = dir_of(group);
    let header = frame.get(..HEADER_LEN)?;
    for name in node.fs.list(&dir).ok()? {
        let path = dir.join(name);
        let Ok(file) = node.fs.open_read(&path) else {
            continue;
        };
        let len = usize::try_from(file.len()).expect("files are small");
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let at = bytes.chunks(FRAME_ALIGN).position(|piece| piece == header);
        if let Some(at) = at {
            return Some(Place {
                path,
                position: (at * FRAME_ALIGN) as u64,
                len: frame.len() as u64,
            });
        }
    }
    None
}
