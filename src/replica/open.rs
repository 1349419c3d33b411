//! Opening a group: owns the order in which its files are opened, and what a started replica is made of.
//!
//! Everything here blocks; it runs on a thread for that. It must not know what the loop does afterwards.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segment_store::fs::Fs;
use segment_store::{
    AppendError, BallotFile, DataDir, Fault, Log, LogBase, LogIdentity, LogOptions, Preparer,
    Repair, RepairError, snapshot, unsynced,
};

use super::StateMachine;
use super::disk::{Acks, Durability, SNAPSHOT_NAME};
use super::error::OpenError;
use super::group::GroupSpec;
use super::jobs::GroupFiles;
use super::repair::Repairing;
use super::repairs::Repairs;
use super::restart::{Found, Restart, unfinished_install};
use super::run::LoopConfig;
use super::snapshot::Snapshot;
use super::watermark::Watermark;
use crate::raft::{Ballot, NodeId};

/// Opens groups of one node.
pub(crate) struct Opener {
    node: NodeId,
    cluster: [u8; 16],
    fs: Arc<dyn Fs>,
    data_dir: Arc<DataDir>,
    log_options: LogOptions,
    preparer: Option<Preparer>,
    acks: Acks,
    /// Groups that are open, being opened, or being repaired.
    claimed: Mutex<HashSet<u64>>,
    repairs: Repairs,
}

/// A group that is about to run.
pub(crate) struct OpenedGroup {
    pub(crate) group: u64,
    pub(crate) files: GroupFiles,
    pub(crate) restart: Restart,
    pub(crate) machine: Option<Box<dyn StateMachine>>,
    pub(crate) watermark: Watermark,
    /// Whether this node should lead while the group is young.
    pub(crate) preferred: bool,
}

impl Opener {
    /// Opens groups for the loop made of `config`.
    pub(crate) fn new(config: &LoopConfig) -> Opener {
        Opener {
            node: config.node,
            cluster: config.cluster,
            fs: Arc::clone(&config.fs),
            data_dir: Arc::clone(&config.data_dir),
            log_options: config.log.clone(),
            preparer: config.preparer.clone(),
            acks: config.acks,
            claimed: Mutex::default(),
            repairs: Repairs::default(),
        }
    }

    /// Claims a group for one opener; false if it has been claimed.
    pub(crate) fn claim(&self, group: u64) -> bool {
        self.claims().insert(group)
    }

    /// Gives up the claim: the group's files are closed.
    pub(crate) fn release(&self, group: u64) {
        self.claims().remove(&group);
    }

    /// The groups being repaired.
    pub(crate) fn repairs(&self) -> &Repairs {
        &self.repairs
    }

    fn claims(&self) -> MutexGuard<'_, HashSet<u64>> {
        // The set is whole after every line that changes it.
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens or creates the group's files and reads what its replica starts with.
    pub(crate) fn open(&self, spec: GroupSpec) -> Result<OpenedGroup, OpenError> {
        let group = spec.group;
        if spec.moved && !self.has_folder(group)? && self.data_dir.left_group(group)?.is_none() {
            // As if it had left before: it must not begin as one of the founders, now or when it is opened again.
            self.data_dir.leave_group(group, 0)?;
        }
        let dir = self.data_dir.ensure_group(group)?;
        let identity = LogIdentity {
            cluster: self.cluster,
            group,
        };
        let left = self.data_dir.left_group(group)?;
        let voters = match left {
            None => spec.voters,
            Some(_) => self.base_of_returned(&spec),
        };
        let distrusted = self.repairs.take_distrust(group);
        let opened = match distrusted {
            false => self.files(&dir, identity, &voters),
            true => Err(OpenError::Damaged {
                group,
                what: "a reader met damage".to_owned(),
            }),
        };
        let (mut files, mut restart) = match opened {
            Err(error @ OpenError::Damaged { .. }) => {
                self.mend(&dir, identity, error)?;
                self.files(&dir, identity, &voters)?
            }
            other => other?,
        };
        // Until the log here has what it had then, it has no say.
        restart.restored.forgotten_term = left;
        if let Some(term) = left
            && restart.restored.ballot.term <= term
        {
            // Its votes up to that term are gone with its folder, and so is what it acked.
            files.ballot.save(term + 1, 0)?;
            restart.restored.ballot = Ballot {
                term: term + 1,
                vote: None,
            };
        }
        let mut machine = spec.state_machine;
        if let (Some(machine), Some(state)) = (&mut machine, restart.machine_state()) {
            machine
                .restore(state)
                .map_err(|what| OpenError::Inconsistent { group, what })?;
        }
        Ok(OpenedGroup {
            group,
            files,
            restart,
            machine,
            watermark: Watermark::new(self.node),
            preferred: spec.preferred == Some(self.node),
        })
    }

    /// The membership that a replica begins with that was here before, left, and has come back: not its own, whoever founded the group,
    /// so that it keeps quiet until the log says that it belongs. Else those who founded it could come back empty and elect each other.
    fn base_of_returned(&self, spec: &GroupSpec) -> Vec<NodeId> {
        let mut base = match spec.others.is_empty() {
            true => spec.voters.clone(),
            false => spec.others.clone(),
        };
        if base != [self.node] {
            base.retain(|node| *node != self.node);
        }
        base
    }

    /// Repairs what can be repaired from the log itself. If something is missing, the repair from others begins, and `error` is returned.
    fn mend(&self, dir: &Path, identity: LogIdentity, error: OpenError) -> Result<(), OpenError> {
        let group = identity.group;
        tracing::error!(group, %error, "a log is damaged; looking at every byte of it");
        let repair = open_damaged(&self.fs, dir, identity, &self.log_options)?;
        let Some(repair) = repair else {
            tracing::warn!(group, "the log is whole again, by its own files");
            return Ok(());
        };
        for missing in repair.missing() {
            tracing::error!(
                group,
                first = missing.first,
                last = missing.last,
                "entries are damaged or missing; asking the other replicas for them"
            );
        }
        self.repairs.begin(Repairing::new(group, repair));
        Err(error)
    }

    fn files(
        &self,
        dir: &Path,
        identity: LogIdentity,
        voters: &[NodeId],
    ) -> Result<(GroupFiles, Restart), OpenError> {
        open_files(
            &self.fs,
            dir,
            identity,
            &self.log_options,
            self.preparer.clone(),
            voters,
            self.acks,
        )
    }

    fn has_folder(&self, group: u64) -> Result<bool, Fault> {
        let dir = self.data_dir.group_dir(group);
        let exists = self.fs.exists(&dir);
        exists.map_err(|error| Fault::new("looking for", &dir, error))
    }

    /// Removes the folder of a group that is not open here and lives on elsewhere; its term is kept, as it may come back.
    pub(crate) fn leave(&self, group: u64) -> Result<(), Fault> {
        let path = self.data_dir.group_dir(group).join("ballot");
        let exists = self.fs.exists(&path);
        let term = match exists.map_err(|error| Fault::new("reading", &path, error))? {
            false => 0,
            true => match BallotFile::open(self.fs.as_ref(), &path) {
                Ok((_, (term, _))) => term,
                Err(error) => {
                    let error = std::io::Error::other(error.to_string());
                    return Err(Fault::new("reading", &path, error));
                }
            },
        };
        self.data_dir.leave_group(group, term)
    }

    /// Removes all of a group that is no more, and is not open.
    pub(crate) fn remove(&self, group: u64) -> Result<(), Fault> {
        self.data_dir.remove_group(group)
    }
}

/// Looks at every byte of the log in `dir` and repairs what its own files suffice for: `None` if that was all. Else the repair that lacks
/// something.
///
/// # Errors
/// [`OpenError`] if the files cannot be repaired at all: foreign, of a newer release, on a failing disk.
pub fn open_damaged(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    identity: LogIdentity,
    options: &LogOptions,
) -> Result<Option<Repair>, OpenError> {
    let group = identity.group;
    let snapshot = load_snapshot(fs.as_ref(), dir, group)?;
    let base = match snapshot {
        Some(snapshot) => base_of(group, &snapshot.bytes)?,
        None => LogBase::default(),
    };
    let examined = Repair::examine(Arc::clone(fs), dir, identity, options.clone(), &base);
    let mut repair = examined.map_err(|source| OpenError::Log { group, source })?;
    if repair.is_sound() {
        return Ok(None);
    }
    match repair.finish() {
        Ok(()) => Ok(None),
        Err(RepairError::Fault(fault)) => Err(fault.into()),
        // Also when there is no room: whoever drives the repair waits for it.
        Err(_) => Ok(Some(repair)),
    }
}

/// Opens ballot, log and snapshot in `dir`, which exists, and reads what a replica starts with.
///
/// # Errors
/// [`OpenError`]; nothing was changed unless it is a [`Fault`].
pub fn open_files(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    identity: LogIdentity,
    options: &LogOptions,
    preparer: Option<Preparer>,
    voters: &[NodeId],
    acks: Acks,
) -> Result<(GroupFiles, Restart), OpenError> {
    let group = identity.group;
    // The ballot first: a folder that has a log but no ballot has lost a vote, and is refused.
    let ballot = BallotFile::open(fs.as_ref(), &dir.join("ballot"));
    let (ballot_file, (term, vote)) =
        ballot.map_err(|source| OpenError::Ballot { group, source })?;
    // A replica has a log before it has a term.
    if term > 0 && !Log::is_there(fs.as_ref(), dir)? {
        let what = "no file of the log is left".to_owned();
        return Err(OpenError::Damaged { group, what });
    }
    let open_log = |preparer| {
        let log = Log::open(Arc::clone(fs), dir, identity, options.clone(), preparer);
        log.map_err(|source| match source.is_damage() {
            true => OpenError::Damaged {
                group,
                what: source.to_string(),
            },
            false => OpenError::Log { group, source },
        })
    };
    let (mut log, mut recovered) = open_log(preparer.clone())?;
    let snapshot = load_snapshot(fs.as_ref(), dir, group)?;
    let unfinished = snapshot
        .as_ref()
        .and_then(|snapshot| unfinished_install(&snapshot.bytes, &recovered));
    if let Some(base) = unfinished {
        log.reset(base)
            .map_err(|error| begin_error(group, dir, error))?;
        drop(log);
        (log, recovered) = open_log(preparer)?;
    }
    recovered.suspect_tail |= settle_unsynced(fs.as_ref(), dir, group, &mut log, acks)?;
    let found = Found {
        group,
        voters,
        ballot: Ballot {
            term,
            vote: (vote != 0).then_some(vote),
        },
        recovered: &recovered,
        snapshot: snapshot.as_ref().map(|snapshot| &*snapshot.bytes),
        payload_bytes_max: options.payload_bytes_max,
    };
    let restart = found.restart(&log.reader())?;
    // A touched page brings its neighbours along, 64 KiB a group, which few groups need again soon.
    log.reader().unmap_pages();
    let files = GroupFiles {
        log,
        ballot: ballot_file,
        dir: dir.to_owned(),
    };
    Ok((files, restart))
}

/// Whether the log has been written without waiting for syncs before the machine was started anew: then it may have lost what it acknowledged.
/// Marks it if it will be written so.
fn settle_unsynced(
    fs: &dyn Fs,
    dir: &Path,
    group: u64,
    log: &mut Log,
    acks: Acks,
) -> Result<bool, OpenError> {
    let suspect = unsynced::is_of_another_start(fs, dir, acks.machine_start)?;
    if suspect {
        tracing::warn!(
            group,
            "the machine was started anew since this node acknowledged without syncing: the end of the log may be lost"
        );
        match log.distrust_tail() {
            Ok(()) => {}
            // The mark stays, and says so again.
            Err(AppendError::NoSpace) => return Ok(true),
            Err(AppendError::Fault(fault)) => return Err(fault.into()),
        }
    }
    match acks.durability {
        Durability::Fsync => unsynced::unmark(fs, dir)?,
        Durability::PageCache => {
            let marked = unsynced::mark(fs, dir, acks.machine_start);
            marked.map_err(|error| begin_error(group, dir, error))?;
        }
    }
    Ok(suspect)
}

/// The newest whole snapshot. Without any, the log tells everything, or lacks its beginning and is to be repaired.
fn load_snapshot(
    fs: &dyn Fs,
    dir: &Path,
    group: u64,
) -> Result<Option<snapshot::Snapshot>, OpenError> {
    let error = |source| OpenError::Snapshot { group, source };
    snapshot::set_damaged_aside(fs, dir, SNAPSHOT_NAME).map_err(error)?;
    snapshot::load_latest(fs, dir, SNAPSHOT_NAME).map_err(error)
}

/// The entry that a snapshot ends with: the log went at least that far, and may begin behind it. If a peer gave the snapshot, the
/// log may not have reached that yet: then the entry it begins behind.
fn base_of(group: u64, snapshot: &[u8]) -> Result<LogBase, OpenError> {
    let snapshot = Snapshot::decode(snapshot).map_err(|error| OpenError::Inconsistent {
        group,
        what: error.to_string(),
    })?;
    if let Some(base) = &snapshot.base {
        return Ok(base.to_base());
    }
    Ok(LogBase {
        index: snapshot.index,
        term: snapshot.term,
        header_crc: snapshot.header_crc,
        next_offset: snapshot.next_offset,
    })
}

/// Why the log could not begin anew.
fn begin_error(group: u64, dir: &Path, error: AppendError) -> OpenError {
    match error {
        AppendError::NoSpace => OpenError::Log {
            group,
            source: segment_store::OpenError::NoSpace {
                path: dir.to_owned(),
            },
        },
        AppendError::Fault(fault) => OpenError::Fault(fault),
    }
}
