//! Rot: bytes at rest that change, and the atlas of what is spoiled where.
//!
//! Owns the rule that every committed entry keeps a good copy on another voter that holds it durably; whatever else there is may rot:
//! other copies, one of the two ballots of a file, a snapshot that is not the only one. Where an entry rots, those after it in the same log
//! count as spoiled, too: a log may have to take its end for lost from there on. Must not know how a node finds out, nor how it comes right.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use plimsoll::raft::invariants::View;
use plimsoll::raft::{Index, NodeId};
use segment_store::fs::Fs;
use segment_store::{FRAME_ALIGN, HEADER_LEN, snapshot};

use crate::node::{DATA, Death, Node};
use crate::swarm::pick;
use crate::world::World;

/// Flips of one fault, at most.
const FLIPS_MAX: u64 = 4;

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

/// Where a frame lies.
struct Place {
    path: PathBuf,
    position: u64,
    len: u64,
}

impl World {
    /// Bytes of a node change while its process is down: of entries that another member has, or of a page that can be known otherwise.
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
        let last = running.replica.raft().last_index();
        let death = pick(&mut self.rng, &[Death::Kill, Death::PowerCut]);
        let candidates = self.entries_to_spoil(id, group);
        self.die(id, death);
        for (index, place) in candidates {
            let position = place.position + self.rng.u64(0..place.len);
            let bit = self.rng.u8(0..8);
            self.node(id).fs.flip_bit(&place.path, position, bit);
            self.checks.atlas.spoil(id, group, index..=last);
            self.summary.flips += 1;
            self.note(id, "rots", [group, index, position, u64::from(bit)]);
        }
        match self.rng.u32(0..4) {
            0 if ballot_at_rest => self.rot_a_ballot(id, group),
            1 => self.rot_a_snapshot(id, group),
            _ => {}
        }
    }

    /// Some entries of a node that may rot there.
    fn entries_to_spoil(&mut self, id: NodeId, group: u64) -> Vec<(Index, Place)> {
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
        if first > last {
            return Vec::new();
        }
        // Learners do not count: nobody asks them for a vote, so a lone voter that lost its end would not learn of it.
        let voters = members
            .voters
            .iter()
            .chain(&members.voters_outgoing)
            .copied();
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
            let committed = last.min(self.checks.group(group).committed());
            // One that was never committed may be on nobody else's disk tomorrow.
            let elsewhere = index <= committed
                && voters.clone().any(|member| {
                    member != id
                        && !self
                            .checks
                            .atlas
                            .is_spoiled(member, group, &(index..=committed))
                        && self
                            .checks
                            .group(group)
                            .holds_as(member, id, index..=committed)
                });
            if !elsewhere {
                continue;
            }
            let Ok(run) = reader.read(index, index, 1) else {
                continue;
            };
            let place = place_of(self.node(id), group, &run.bytes);
            found.extend(place.map(|place| (index, place)));
        }
        found
    }

    /// One of the two slots of a ballot rots; the other says the same.
    fn rot_a_ballot(&mut self, id: NodeId, group: u64) {
        let path = dir_of(group).join("ballot");
        let position = self.rng.u64(0..8192);
        let node = self.node(id);
        node.fs.flip_bit(&path, position, 0);
        self.summary.flips += 1;
        self.note(id, "ballot rots", [group, position, 0, 0]);
    }

    /// The newest of several snapshots rots, once a run: the one before it and the log say the same.
    fn rot_a_snapshot(&mut self, id: NodeId, group: u64) {
        let dir = dir_of(group);
        let node = self.node(id);
        let indexes = snapshot::indexes(&node.fs, &dir, "replica").unwrap_or_default();
        let (Some(newest), true) = (indexes.iter().max(), indexes.len() > 1) else {
            return;
        };
        if !self.checks.atlas.snapshots.insert((id, group)) {
            return;
        }
        let ends = format!("{newest}.snapshot");
        let node = self.node(id);
        let names = node.fs.list(&dir).unwrap_or_default();
        let Some(name) = names.iter().find(|name| name.ends_with(&ends)) else {
            return;
        };
        let path = dir.join(name);
        let len = node.fs.open_read(&path).map_or(0, |file| file.len());
        let position = self.rng.u64(0..len.max(1));
        self.node(id).fs.flip_bit(&path, position, 0);
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
