//! The ballot file: the term a replica is in and the vote it gave there. Owns P1, one vote per term, across any crash.
//!
//! On the election walk: [`BallotFile::save`] or [`save_all`] returns before any reply that depends on it may leave. Must not know: who
//! votes, or why; how the log lies beside it.
//!
//! # Why two slots, and both of them
//! The file has two slots of one sector each. A save writes the first slot and syncs, then the second and syncs, and only
//! then returns. So at rest both slots say the same, and whenever the power goes, at most one is being written:
//!
//! | the cut came | slot 0 | slot 1 | opened as |
//! |---|---|---|---|
//! | while slot 0 was written | old, new or damaged | old | old or new: nobody relied on the new one yet |
//! | while slot 1 was written | new | old, new or damaged | new |
//! | at rest, later one sector rots | either one damaged | the other | the newest: nothing is lost |
//!
//! One sync fewer would do for crashes alone, but then a damaged newest slot could be a torn write that nobody relied on
//! *or* a vote that was given and has rotted; taking the older slot in that case votes twice. A ballot changes only at
//! elections, and the second sync costs a tenth of a millisecond. Where many replicas elect at once, as when a node is lost, [`save_all`]
//! has the first slots of all of them synced side by side, then the second.
//!
//! Opening brings both slots to the same content again, and writes both: see `recover`. When both are damaged the file is refused: see [`BallotError`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::Fault;
use crate::fs::{Fs, FsFile, SECTOR_BYTES, parent_of, sync_in_turn};
use crate::sealed_page::{PageError, SealedPage};

const MAGIC: [u8; 8] = *b"PLIMVOTE";
const VERSION: u16 = 1;
/// Sequence number of a ballot that was never saved into.
const FIRST: u64 = 1;
const FILE_BYTES: u64 = 2 * SECTOR_BYTES as u64;

/// Term and vote of one replica, durable.
#[derive(Debug)]
pub struct BallotFile {
    file: Arc<dyn FsFile>,
    path: PathBuf,
    current: Slot,
}

/// Why a ballot file cannot be used. None of these changed anything on disk.
#[derive(Debug, thiserror::Error)]
pub enum BallotError {
    /// The folder holds other files, but no ballot: the vote that was in it is lost.
    #[error(
        "{} is missing although its folder is in use: a vote may be forgotten, so this replica must not vote; \
         the others go on without it; give the node's replicas to a new node (`plimsoll cluster replace-node`), and do not empty the folder",
        .0.display()
    )]
    Missing(PathBuf),
    /// Both slots are damaged, or the file has another length: any vote may have been in it.
    #[error(
        "{} is damaged in both slots ({detail}): a vote may be forgotten, so this replica must not vote; \
         the others go on without it; give the node's replicas to a new node (`plimsoll cluster replace-node`), and do not empty the folder",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The bytes are whole, but no ballot.
    #[error("{} is not a ballot file of Plimsoll", .0.display())]
    Foreign(PathBuf),
    /// A later Plimsoll wrote the file.
    #[error("{} has version {version}, this program knows up to {VERSION}: run the newer one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// There is no room to create or repair it.
    #[error("no space to create {}", .0.display())]
    NoSpace(PathBuf),
    /// The disk failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl BallotFile {
    /// Opens the ballot at `path`, or creates it (term 0, no vote) if its folder is still empty. Returns term and vote,
    /// 0 for none. Open it before anything else is put into the folder.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<(BallotFile, (u64, u64)), BallotError> {
        let exists = fs
            .exists(path)
            .map_err(|error| Fault::new("looking for", path, error))?;
        if !exists {
            refuse_used_folder(fs, path)?;
            create(fs, path)?;
        }
        let open = || {
            fs.open(path)
                .map_err(|error| Fault::new("opening", path, error))
        };
        let mut file = open()?;
        let mut current = recover(file.as_ref(), path)?;
        if exists && current.sequence == FIRST && !crate::mutation::is("found names are trusted") {
            // Whoever made it may have been killed before its name was durable, after a sync of the folder that failed:
            // then no further sync makes it so. A file that was saved into has been through here.
            create(fs, path)?;
            file = open()?;
            current = recover(file.as_ref(), path)?;
        }
        let ballot = BallotFile {
            file,
            path: path.to_owned(),
            current,
        };
        Ok((ballot, (current.term, current.vote)))
    }

    /// Makes term and vote (0: none) durable. After an error the file must not be used again.
    ///
    /// # Panics
    /// If the term goes back, or a vote given in this term is changed: the caller is about to break consensus.
    pub fn save(&mut self, term: u64, vote: u64) -> Result<(), Fault> {
        let save = Save {
            file: self,
            term,
            vote,
        };
        save_with(vec![save], &sync_in_turn).remove(0)
    }

    /// What both slots are to say next; `None` if they say so already.
    fn next(&self, term: u64, vote: u64) -> Option<Slot> {
        let (term_now, vote_now) = (self.current.term, self.current.vote);
        assert!(
            term > term_now || (term == term_now && (vote == vote_now || vote_now == 0)),
            "ballot of term {term_now} with vote {vote_now} cannot become term {term} with vote {vote}"
        );
        ((term, vote) != (term_now, vote_now)).then_some(Slot {
            sequence: self.current.sequence + 1,
            term,
            vote,
            ..self.current
        })
    }
}

/// A ballot to be saved, as by [`BallotFile::save`].
#[derive(Debug)]
pub struct Save<'a> {
    /// Where.
    pub file: &'a mut BallotFile,
    /// The term.
    pub term: u64,
    /// The vote; 0 for none.
    pub vote: u64,
}

/// Saves ballots of several replicas, each as [`BallotFile::save`] does, their syncs side by side. Gives what became of each, in order.
pub fn save_all(fs: &dyn Fs, saves: Vec<Save<'_>>) -> Vec<Result<(), Fault>> {
    save_with(saves, &|files| fs.sync_all(files))
}

/// Syncs all of these files, and says what became of each.
type Sync<'a> = &'a dyn Fn(&[&dyn FsFile]) -> Vec<io::Result<()>>;

fn save_with(mut saves: Vec<Save<'_>>, sync: Sync<'_>) -> Vec<Result<(), Fault>> {
    let next = saves
        .iter()
        .map(|save| save.file.next(save.term, save.vote));
    let mut next: Vec<Option<Slot>> = next.collect();
    let mut results: Vec<Result<(), Fault>> = next.iter().map(|_| Ok(())).collect();
    if crate::mutation::is("term and vote saved in two writes") {
        let terms_alone = saves.iter().zip(&next).map(|(save, next)| {
            next.map(|next| Slot {
                vote: save.file.current.vote,
                ..next
            })
        });
        let terms_alone: Vec<Option<Slot>> = terms_alone.collect();
        write_both_slots(&saves, &terms_alone, sync, &mut results);
        for slot in next.iter_mut().flatten() {
            slot.sequence += 1;
        }
    }
    write_both_slots(&saves, &next, sync, &mut results);
    for ((save, next), result) in saves.iter_mut().zip(next).zip(&results) {
        if let (Some(next), Ok(())) = (next, result) {
            save.file.current = next;
        }
    }
    results
}

/// The first slot of every file, durable; then the second. A file that fails is left alone from there on.
fn write_both_slots(
    saves: &[Save<'_>],
    next: &[Option<Slot>],
    sync: Sync<'_>,
    results: &mut [Result<(), Fault>],
) {
    for number in 0..2 {
        let mut written = Vec::with_capacity(saves.len());
        for (at, save) in saves.iter().enumerate() {
            if let (Some(slot), Ok(())) = (next[at], &results[at]) {
                results[at] =
                    write_unsynced(save.file.file.as_ref(), &save.file.path, number, slot);
                if results[at].is_ok() {
                    written.push(at);
                }
            }
        }
        if crate::mutation::is("a ballot that is not synced") {
            continue;
        }
        let files = written.iter().map(|at| saves[*at].file.file.as_ref());
        let files: Vec<&dyn FsFile> = files.collect();
        for (at, synced) in written.into_iter().zip(sync(&files)) {
            let path = &saves[at].file.path;
            results[at] = synced.map_err(|error| Fault::new("syncing", path, error));
        }
    }
}

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    /// Rises by one with each save, from 1.
    sequence: u64,
    term: u64,
    vote: u64,
    /// CRC-32 of the path the file was created at: the same in both slots, or one of them came from another file by a
    /// misdirected write. (The file may be moved; then nothing tells which one.)
    birthplace: u64,
}

impl Slot {
    fn encode(self) -> SealedPage {
        let mut page = SealedPage::new(MAGIC, VERSION);
        page.put_u64(16, self.sequence);
        page.put_u64(24, self.term);
        page.put_u64(32, self.vote);
        page.put_u64(40, self.birthplace);
        page
    }

    /// Whether two slots that differ cannot be two saves of one file.
    fn contradicts(&self, other: &Slot) -> bool {
        self.birthplace != other.birthplace
            || self.sequence == other.sequence
            || (self.sequence < other.sequence)
                != ((self.term, self.vote) < (other.term, other.vote))
    }

    fn decode(bytes: &[u8; SECTOR_BYTES]) -> Result<Slot, PageError> {
        let page = SealedPage::open(bytes, MAGIC, VERSION)?;
        Ok(Slot {
            sequence: page.u64_at(16),
            term: page.u64_at(24),
            vote: page.u64_at(32),
            birthplace: page.u64_at(40),
        })
    }
}

/// A folder without a ballot must be empty, but for a ballot that was not finished.
fn refuse_used_folder(fs: &dyn Fs, path: &Path) -> Result<(), BallotError> {
    let dir = parent_of(path);
    let temporary = path.with_extension("tmp");
    let names = fs
        .list(dir)
        .map_err(|error| Fault::new("listing", dir, error))?;
    match names.iter().all(|name| dir.join(name) == temporary) {
        true => Ok(()),
        false => Err(BallotError::Missing(path.to_owned())),
    }
}

/// Creates the file under another name first, so that it is there whole or not at all; it takes the place of one that
/// was never saved into.
fn create(fs: &dyn Fs, path: &Path) -> Result<(), BallotError> {
    let dir = parent_of(path);
    let temporary = path.with_extension("tmp");
    let remove_old = || match fs.exists(&temporary)? {
        true => fs.remove(&temporary),
        false => Ok(()),
    };
    remove_old().map_err(|error| Fault::new("removing", &temporary, error))?;
    let file = match fs.create(&temporary, FILE_BYTES) {
        Err(error) if crate::fault::is_no_space(&error) => {
            return Err(BallotError::NoSpace(path.to_owned()));
        }
        other => other.map_err(|error| Fault::new("creating", &temporary, error))?,
    };
    let empty = Slot {
        sequence: FIRST,
        term: 0,
        vote: 0,
        birthplace: birthplace(path),
    };
    for number in 0..2 {
        write_slot(file.as_ref(), &temporary, number, empty)?;
    }
    fs.rename(&temporary, path)
        .and_then(|()| fs.sync_dir(dir))
        .map_err(|error| {
            // The name may never become durable: the next process must not find it and vote on it.
            let _ = fs.remove(path);
            Fault::new("naming", path, error)
        })?;
    Ok(())
}

/// Reads both slots, takes the newest, and makes both the same again.
fn recover(file: &dyn FsFile, path: &Path) -> Result<Slot, BallotError> {
    if file.len() != FILE_BYTES {
        return Err(BallotError::Damaged {
            path: path.to_owned(),
            detail: format!("{} bytes long instead of {FILE_BYTES}", file.len()),
        });
    }
    let slots = [read_slot(file, 0), read_slot(file, 1)];
    // A slot of a later version is whole, so it may hold a later vote: the readable slot beside it must not hide it.
    for slot in &slots {
        if let Err(SlotError::Page(PageError::Version(version))) = slot {
            return Err(BallotError::Version {
                path: path.to_owned(),
                version: *version,
            });
        }
    }
    let is_foreign = |slot| matches!(slot, &Err(SlotError::Page(PageError::Foreign)));
    if slots.iter().all(Result::is_err) && slots.iter().any(is_foreign) {
        return Err(BallotError::Foreign(path.to_owned()));
    }
    let here = birthplace(path);
    let newest = match &slots {
        [Ok(first), Ok(second)] if first == second => *first,
        // A write that was meant for another file landed here: the other slot holds what both did.
        [Ok(ours), Ok(other)] | [Ok(other), Ok(ours)]
            if ours.birthplace == here && other.birthplace != here =>
        {
            *ours
        }
        [Ok(first), Ok(second)] if first.contradicts(second) => {
            return Err(BallotError::Damaged {
                path: path.to_owned(),
                detail: "the slots contradict each other: one is from another file".to_owned(),
            });
        }
        [Ok(first), Ok(second)] if first.sequence > second.sequence => *first,
        [Ok(_), Ok(second)] => *second,
        [Ok(slot), Err(_)] | [Err(_), Ok(slot)] => *slot,
        [Err(first), Err(second)] => {
            return Err(BallotError::Damaged {
                path: path.to_owned(),
                detail: format!("slot 0: {first}, slot 1: {second}"),
            });
        }
    };
    // What was read proves nothing of the disk: a killed process may have left it in memory alone, and after a sync that
    // failed it is not even written by the next one that succeeds. So both slots are written again, also where they agree.
    // The newest first: it must reach the disk before the other one, its only substitute, is overwritten.
    let holds_newest = |number: &usize| matches!(slots[*number], Ok(slot) if slot == newest);
    let (newest_slots, others): (Vec<usize>, Vec<usize>) = (0..2).partition(holds_newest);
    for number in newest_slots {
        write_slot(file, path, number, newest)?;
    }
    for number in others {
        tracing::warn!(
            path = %path.display(),
            number,
            term = newest.term,
            "a ballot slot was behind or damaged, as a crash or a bad sector leaves it; restored from the other"
        );
        write_slot(file, path, number, newest)?;
    }
    Ok(newest)
}

#[derive(Debug, thiserror::Error)]
enum SlotError {
    #[error(transparent)]
    Page(#[from] PageError),
    #[error("unreadable: {0}")]
    Io(#[from] io::Error),
}

fn read_slot(file: &dyn FsFile, number: usize) -> Result<Slot, SlotError> {
    let mut bytes = [0; SECTOR_BYTES];
    file.read_exact_at(&mut bytes, position(number))?;
    Ok(Slot::decode(&bytes)?)
}

fn write_unsynced(file: &dyn FsFile, path: &Path, number: usize, slot: Slot) -> Result<(), Fault> {
    let page = slot.encode().seal();
    file.write_all_at(&page, position(number))
        .map_err(|error| Fault::new("writing", path, error))
}

fn write_slot(file: &dyn FsFile, path: &Path, number: usize, slot: Slot) -> Result<(), Fault> {
    write_unsynced(file, path, number, slot)?;
    if crate::mutation::is("a ballot that is not synced") {
        return Ok(());
    }
    file.sync_data()
        .map_err(|error| Fault::new("syncing", path, error))
}

fn birthplace(path: &Path) -> u64 {
    crc32fast::hash(path.as_os_str().as_encoded_bytes()).into()
}

fn position(number: usize) -> u64 {
    (number * SECTOR_BYTES) as u64
}

#[cfg(test)]
mod tests;
