//! A node's data directory: who it belongs to, and that nobody else has it open. Owns the lock and the identity file.
//!
//! The first thing a node opens, before any log. Must not know what lies in a group's folder.
//!
//! ```text
//! DIR/LOCK       locked while a process uses the directory
//! DIR/identity   cluster, node and replica id, written once
//! DIR/standing   how often the node has started, with a nonce for each start
//! DIR/peers      what was last seen of the other nodes
//! DIR/groups/N/  the folder of group N
//! DIR/groups/N.left  the last term of a replica of group N that was here and went elsewhere
//! DIR/pool/      files waiting for use
//! ```
//!
//! The replica id is drawn when the directory is made. A node that comes back with an empty disk thereby comes back as
//! another replica, and cannot be taken for the one that voted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fault::{Fault, is_no_space};
use crate::fs::{Fs, Lock, SECTOR_BYTES, ensure_dir, ensure_own_dir, parent_of};
use crate::sealed_page::{PageError, SealedPage};
use crate::standing::{Bar, Memory};

const MAGIC: [u8; 8] = *b"PLIMNODE";
const VERSION: u16 = 1;
const LOCK: &str = "LOCK";
const IDENTITY: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.tmp";
const GROUPS: &str = "groups";
const POOL: &str = "pool";
/// Extension of the directory's name for the moment in which it is named again.
const RENAMED: &str = "renamed";
/// Mark of a group's folder that is being deleted.
const DELETED: &str = ".deleted";
/// Mark of the page that stays of a group whose replica went elsewhere.
const LEFT: &str = ".left";
const LEFT_MAGIC: [u8; 8] = *b"PLIMLEFT";

/// An open data directory; its lock is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    replica: [u8; 16],
    _lock: Lock,
}

/// Why a data directory was refused. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop that one, or configure another data_dir", .0.display())]
    InUse(PathBuf),
    /// It belongs to another cluster.
    #[error("{} belongs to cluster {found}, not to {wanted}: configure another data_dir", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster it belongs to.
        found: String,
        /// The cluster that was asked for.
        wanted: String,
    },
    /// It belongs to another node of the same cluster.
    #[error("{} belongs to node {found}, not to node {wanted}: configure another data_dir", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node it belongs to.
        found: u64,
        /// The node that was asked for.
        wanted: u64,
    },
    /// It holds files, but no identity.
    #[error("{} is not empty and not a data directory of Plimsoll: configure an empty one", .0.display())]
    Foreign(PathBuf),
    /// The identity file is damaged.
    #[error(
        "{} is damaged ({detail}): restore it from a backup; do not empty the data directory, the node's votes and acknowledged records are in it",
        path.display()
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// What the node remembers of its starts, or of the others, is damaged.
    #[error("{} is damaged ({detail}): {advice}", path.display())]
    DamagedMemory {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
        /// What to do.
        advice: &'static str,
    },
    /// The directory must not be used again.
    #[error("{} {}", path.display(), barred(*bar))]
    Barred {
        /// The directory.
        path: PathBuf,
        /// Why.
        bar: Bar,
    },
    /// A later Plimsoll made the directory.
    #[error("{} has version {version}, this program knows up to {VERSION}: run the newer one", path.display())]
    Version {
        /// The identity file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// No room to create it.
    #[error("no space to create a data directory at {}", .0.display())]
    NoSpace(PathBuf),
    /// A system call failed: no permission, a missing disk.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl DataDir {
    /// Opens the data directory of `node` in `cluster` at `path`, making it if it is missing or empty.
    pub fn open(
        fs: Arc<dyn Fs>,
        path: &Path,
        cluster: [u8; 16],
        node: u64,
    ) -> Result<DataDir, DataDirError> {
        let no_space = |error| match is_no_space(&error) {
            true => DataDirError::NoSpace(path.to_owned()),
            false => Fault::new("creating", path, error).into(),
        };
        finish_renaming(fs.as_ref(), path).map_err(|error| Fault::new("naming", path, error))?;
        ensure_dir(fs.as_ref(), path).map_err(no_space)?;
        refuse_foreign(fs.as_ref(), path)?;
        let lock_path = path.join(LOCK);
        let lock = fs.lock(&lock_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => DataDirError::InUse(path.to_owned()),
            _ => Fault::new("locking", &lock_path, error).into(),
        })?;
        let found = read_identity(fs.as_ref(), path)?;
        let identity = found.unwrap_or_else(|| Identity {
            cluster,
            node,
            replica: fastrand::u128(..).to_le_bytes(),
        });
        check_owner(path, &identity, cluster, node)?;
        let groups = path.join(GROUPS);
        let in_use = fs.exists(&groups);
        if !in_use.map_err(|error| Fault::new("looking for", &groups, error))? {
            // Also what was found: its name may never become durable, see `ensure_own_dir`.
            give_name_again(fs.as_ref(), path)
                .map_err(|error| Fault::new("naming", path, error))?;
            write_identity(fs.as_ref(), path, &identity).map_err(no_space)?;
        }
        ensure_own_dir(fs.as_ref(), &groups).map_err(no_space)?;
        ensure_own_dir(fs.as_ref(), &path.join(POOL)).map_err(no_space)?;
        let data_dir = DataDir {
            fs,
            path: path.to_owned(),
            replica: identity.replica,
            _lock: lock,
        };
        data_dir.finish_deletions()?;
        Ok(data_dir)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Identity of what this disk holds, drawn when the directory was made.
    pub fn replica(&self) -> [u8; 16] {
        self.replica
    }

    /// What the node remembers of its starts and of the others. Valid as long as the directory is open.
    pub fn memory(&self) -> Memory {
        Memory::new(Arc::clone(&self.fs), self.path.clone())
    }

    /// Folder of a group, which need not exist.
    pub fn group_dir(&self, group: u64) -> PathBuf {
        self.groups_dir().join(group.to_string())
    }

    /// Folder for files that wait to become segments.
    pub fn pool_dir(&self) -> PathBuf {
        self.path.join(POOL)
    }

    /// Groups that have a folder, ascending.
    pub fn groups(&self) -> Result<Vec<u64>, Fault> {
        let names = self.list_groups()?;
        let mut groups: Vec<u64> = names
            .iter()
            .filter_map(|name| {
                let group: u64 = name.parse().ok()?;
                (group.to_string() == *name).then_some(group)
            })
            .collect();
        groups.sort_unstable();
        Ok(groups)
    }

    /// Groups of which a replica was here and went elsewhere, ascending.
    pub fn left_groups(&self) -> Result<Vec<u64>, Fault> {
        let names = self.list_groups()?;
        let group = |name: &String| name.strip_suffix(LEFT)?.parse().ok();
        let mut groups: Vec<u64> = names.iter().filter_map(group).collect();
        groups.sort_unstable();
        Ok(groups)
    }

    /// Makes the folder of a group, durable, if it is not there yet.
    pub fn ensure_group(&self, group: u64) -> Result<PathBuf, Fault> {
        let dir = self.group_dir(group);
        let made = ensure_own_dir(self.fs.as_ref(), &dir);
        made.map_err(|error| Fault::new("creating", &dir, error))?;
        Ok(dir)
    }

    /// Removes a group's folder, if there is one, of which the replica went elsewhere, and keeps its `term`: should it come back, it must
    /// not forget that it may have voted up to there. Durable when it returns.
    pub fn leave_group(&self, group: u64, term: u64) -> Result<(), Fault> {
        let path = self.left_path(group);
        let term = term.max(self.left_group(group)?.unwrap_or(0));
        let mut page = SealedPage::new(LEFT_MAGIC, VERSION);
        page.put_u64(16, group);
        page.put_u64(24, term);
        let leave = || {
            let temporary = self.groups_dir().join(format!("{group}{LEFT}.tmp"));
            if self.fs.exists(&temporary)? {
                self.fs.remove(&temporary)?;
            }
            let file = self.fs.create(&temporary, SECTOR_BYTES as u64)?;
            file.write_all_at(&page.seal(), 0)?;
            file.sync_data()?;
            self.fs.rename(&temporary, &path)?;
            self.fs.sync_dir(&self.groups_dir())
        };
        leave().map_err(|error| Fault::new("writing", &path, error))?;
        self.remove_folder(group)
    }

    /// The highest term in which a replica of the group that was here, and left, may have voted; `None` if none ever left.
    pub fn left_group(&self, group: u64) -> Result<Option<u64>, Fault> {
        let path = self.left_path(group);
        let fault = |error| Fault::new("reading", &path, error);
        if !self.fs.exists(&path).map_err(fault)? {
            return Ok(None);
        }
        let file = self.fs.open_read(&path).map_err(fault)?;
        let damaged = || {
            fault(std::io::Error::other(
                "damaged: the replica must not come back here",
            ))
        };
        let mut bytes = [0; SECTOR_BYTES];
        if file.len() != SECTOR_BYTES as u64 {
            return Err(damaged());
        }
        file.read_exact_at(&mut bytes, 0).map_err(fault)?;
        match SealedPage::open(&bytes, LEFT_MAGIC, VERSION) {
            Ok(page) if page.u64_at(16) == group => Ok(Some(page.u64_at(24))),
            _ => Err(damaged()),
        }
    }

    fn left_path(&self, group: u64) -> PathBuf {
        self.groups_dir().join(format!("{group}{LEFT}"))
    }

    /// Removes all that there is of a group that is no more.
    pub fn remove_group(&self, group: u64) -> Result<(), Fault> {
        self.remove_folder(group)?;
        let path = self.left_path(group);
        let remove = || match self.fs.exists(&path)? {
            true => self.fs.remove(&path),
            false => Ok(()),
        };
        remove().map_err(|error| Fault::new("removing", &path, error))
    }

    /// Removes a group's folder if there is one. It is renamed aside first, so that a crash never leaves half a group.
    fn remove_folder(&self, group: u64) -> Result<(), Fault> {
        let dir = self.group_dir(group);
        let aside = self.groups_dir().join(format!("{group}{DELETED}"));
        let remove = || {
            if !self.fs.exists(&dir)? {
                return Ok(());
            }
            if self.fs.exists(&aside)? {
                self.fs.remove_dir_all(&aside)?;
            }
            self.fs.rename(&dir, &aside)?;
            self.fs.sync_dir(&self.groups_dir())?;
            self.fs.remove_dir_all(&aside)?;
            self.fs.sync_dir(&self.groups_dir())
        };
        remove().map_err(|error| Fault::new("removing", &dir, error))
    }

    fn groups_dir(&self) -> PathBuf {
        self.path.join(GROUPS)
    }

    fn list_groups(&self) -> Result<Vec<String>, Fault> {
        let dir = self.groups_dir();
        self.fs
            .list(&dir)
            .map_err(|error| Fault::new("listing", &dir, error))
    }

    /// Goes on with deletions that a crash interrupted.
    fn finish_deletions(&self) -> Result<(), Fault> {
        for name in self.list_groups()? {
            if name.ends_with(DELETED) {
                let aside = self.groups_dir().join(name);
                self.fs
                    .remove_dir_all(&aside)
                    .map_err(|error| Fault::new("removing", &aside, error))?;
            }
        }
        // Also for the folders of groups, whose maker may have been killed before their names were durable.
        let dir = self.groups_dir();
        self.fs
            .sync_dir(&dir)
            .map_err(|error| Fault::new("syncing", &dir, error))
    }
}

/// What the identity file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    cluster: [u8; 16],
    node: u64,
    replica: [u8; 16],
}

impl Identity {
    fn encode(&self) -> [u8; SECTOR_BYTES] {
        let mut page = SealedPage::new(MAGIC, VERSION);
        page.put(16, &self.cluster);
        page.put_u64(32, self.node);
        page.put(40, &self.replica);
        page.seal()
    }

    fn decode(bytes: &[u8; SECTOR_BYTES]) -> Result<Identity, PageError> {
        let page = SealedPage::open(bytes, MAGIC, VERSION)?;
        Ok(Identity {
            cluster: page.bytes_at(16),
            node: page.u64_at(32),
            replica: page.bytes_at(40),
        })
    }
}

/// A crash may have come in the middle of [`give_name_again`].
fn finish_renaming(fs: &dyn Fs, path: &Path) -> std::io::Result<()> {
    let aside = path.with_extension(RENAMED);
    match !fs.exists(path)? && fs.exists(&aside)? {
        true => fs.rename(&aside, path),
        false => Ok(()),
    }
}

/// Makes the name of the directory durable for certain: it may be the operator's, with an owner and a mode, so it is not
/// made anew as those in it are.
fn give_name_again(fs: &dyn Fs, path: &Path) -> std::io::Result<()> {
    let aside = path.with_extension(RENAMED);
    if crate::mutation::is("found names are trusted") || fs.rename(path, &aside).is_err() {
        // A mount, or in a directory that is none of ours: then the name is not of our making either.
        return Ok(());
    }
    fs.rename(&aside, path)?;
    fs.sync_dir(parent_of(path))
}

/// Refuses a directory with files of somebody else's before even the lock file is put there.
fn refuse_foreign(fs: &dyn Fs, path: &Path) -> Result<(), DataDirError> {
    let names = fs
        .list(path)
        .map_err(|error| Fault::new("listing", path, error))?;
    let ours = |name: &String| [LOCK, IDENTITY, IDENTITY_TEMPORARY].contains(&name.as_str());
    if !names.iter().any(|name| name == IDENTITY) && !names.iter().all(ours) {
        return Err(DataDirError::Foreign(path.to_owned()));
    }
    Ok(())
}

fn read_identity(fs: &dyn Fs, dir: &Path) -> Result<Option<Identity>, DataDirError> {
    let path = dir.join(IDENTITY);
    let fault = |error| Fault::new("reading", &path, error);
    if !fs.exists(&path).map_err(fault)? {
        return Ok(None);
    }
    let file = fs.open_read(&path).map_err(fault)?;
    let damaged = |detail: String| DataDirError::Damaged {
        path: path.clone(),
        detail,
    };
    if file.len() != SECTOR_BYTES as u64 {
        return Err(damaged(format!("{} bytes long", file.len())));
    }
    let mut bytes = [0; SECTOR_BYTES];
    file.read_exact_at(&mut bytes, 0).map_err(fault)?;
    match Identity::decode(&bytes) {
        Ok(identity) => Ok(Some(identity)),
        Err(PageError::Version(version)) => Err(DataDirError::Version { path, version }),
        Err(PageError::Foreign) => Err(DataDirError::Foreign(dir.to_owned())),
        Err(error @ PageError::Damaged) => Err(damaged(error.to_string())),
    }
}

/// Under a temporary name first: after a crash the identity is there whole or not at all.
fn write_identity(fs: &dyn Fs, dir: &Path, identity: &Identity) -> std::io::Result<()> {
    let temporary = dir.join(IDENTITY_TEMPORARY);
    if fs.exists(&temporary)? {
        fs.remove(&temporary)?;
    }
    let file = fs.create(&temporary, SECTOR_BYTES as u64)?;
    file.write_all_at(&identity.encode(), 0)?;
    file.sync_data()?;
    fs.rename(&temporary, &dir.join(IDENTITY))?;
    fs.sync_dir(dir)
}

fn check_owner(
    path: &Path,
    found: &Identity,
    cluster: [u8; 16],
    node: u64,
) -> Result<(), DataDirError> {
    if found.cluster != cluster {
        return Err(DataDirError::OtherCluster {
            path: path.to_owned(),
            found: uuid_text(found.cluster),
            wanted: uuid_text(cluster),
        });
    }
    if found.node != node {
        return Err(DataDirError::OtherNode {
            path: path.to_owned(),
            found: found.node,
            wanted: node,
        });
    }
    Ok(())
}

fn barred(bar: Bar) -> &'static str {
    match bar {
        Bar::Refused => {
            "was refused by the cluster, as it lacks what this node had before: it must not be used again. Give the node's place to a \
             new one with `plimsoll cluster replace-node`"
        }
        Bar::Removed => {
            "belongs to a node that was removed from its cluster: it is of no more use, and can be deleted. A new node gets a number \
             that was never used, by `plimsoll init --add-node`"
        }
    }
}

/// The usual notation, so that a message can be compared with the configuration.
fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if [4, 6, 8, 10].contains(&place) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests;
