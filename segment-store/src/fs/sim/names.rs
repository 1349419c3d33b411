//! The simulated directories: which names are seen, and which would survive.
//!
//! Owns the rule that creating, renaming and removing a name is durable only after a sync of its directory. Must not know
//! what files hold.
//!
//! Every change of a name is one *placement*: this node is now there, or nowhere. A rename is therefore atomic, as
//! journaling file systems make it: after a crash the node has its old name or its new one, never both and never none. It
//! becomes durable with the directory it moves into.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex};

use super::content::Content;

pub(super) type FileCell = Arc<Mutex<Content>>;

type DirNumber = usize;
type NodeNumber = u64;

const ROOT: DirNumber = 0;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    File(FileCell),
    Dir(DirNumber),
}

#[derive(Clone, Debug)]
struct Node {
    number: NodeNumber,
    kind: Kind,
}

#[derive(Debug, Default)]
struct Directory {
    visible: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// A change of names that no sync has made durable yet.
#[derive(Debug)]
struct Placement {
    node: Node,
    /// The directory whose sync makes it durable.
    dir: DirNumber,
    /// Name in `dir`; `None` if the node was removed from it.
    name: Option<String>,
}

/// All directories of a disk.
#[derive(Debug)]
pub(super) struct Names {
    dirs: Vec<Directory>,
    pending: Vec<Placement>,
    /// Where each node lies durably.
    homes: BTreeMap<NodeNumber, (DirNumber, String)>,
    nodes_made: NodeNumber,
}

impl Names {
    /// Just the root, `/`, which is always there.
    pub(super) fn new() -> Names {
        Names {
            dirs: vec![Directory::default()],
            pending: Vec::new(),
            homes: BTreeMap::new(),
            nodes_made: 0,
        }
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Kind> {
        let mut kind = Kind::Dir(ROOT);
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let Kind::Dir(dir) = kind else {
                        return Err(io::ErrorKind::NotADirectory.into());
                    };
                    let entry = self.dirs[dir].visible.get(&*name.to_string_lossy());
                    kind = entry.ok_or(io::ErrorKind::NotFound)?.kind.clone();
                }
                Component::ParentDir | Component::Prefix(_) => {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
            }
        }
        Ok(kind)
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<FileCell> {
        match self.find(path)? {
            Kind::File(cell) => Ok(cell),
            Kind::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn find_dir(&self, path: &Path) -> io::Result<DirNumber> {
        match self.find(path)? {
            Kind::Dir(dir) => Ok(dir),
            Kind::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory that holds `path` and the name there; the name need not exist.
    fn split(&self, path: &Path) -> io::Result<(DirNumber, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find_dir(crate::fs::parent_of(path))?;
        Ok((dir, name.to_string_lossy().into_owned()))
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let dir = self.find_dir(path)?;
        Ok(self.dirs[dir].visible.keys().cloned().collect())
    }

    /// Every file that can be seen.
    pub(super) fn files(&self) -> Vec<FileCell> {
        let mut files = Vec::new();
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for node in self.dirs[dir].visible.values() {
                match &node.kind {
                    Kind::File(cell) => files.push(Arc::clone(cell)),
                    Kind::Dir(inner) => dirs.push(*inner),
                }
            }
        }
        files
    }

    pub(super) fn add_file(&mut self, path: &Path, content: Content) -> io::Result<FileCell> {
        let cell = Arc::new(Mutex::new(content));
        self.add(path, Kind::File(Arc::clone(&cell)))?;
        Ok(cell)
    }

    pub(super) fn add_dir(&mut self, path: &Path) -> io::Result<()> {
        self.add(path, Kind::Dir(self.dirs.len()))?;
        self.dirs.push(Directory::default());
        Ok(())
    }

    fn add(&mut self, path: &Path, kind: Kind) -> io::Result<()> {
        let (dir, name) = self.split(path)?;
        if self.dirs[dir].visible.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes_made += 1;
        let node = Node {
            number: self.nodes_made,
            kind,
        };
        self.dirs[dir].visible.insert(name.clone(), node.clone());
        self.pending.push(Placement {
            node,
            dir,
            name: Some(name),
        });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_dir, from_name) = self.split(from)?;
        let (dir, name) = self.split(to)?;
        if !self.dirs[from_dir].visible.contains_key(&from_name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if let Some(Kind::Dir(inner)) = self.dirs[dir].visible.get(&name).map(|node| &node.kind)
            && !self.dirs[*inner].visible.is_empty()
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let node = self.dirs[from_dir]
            .visible
            .remove(&from_name)
            .expect("looked up above");
        self.dirs[dir].visible.insert(name.clone(), node.clone());
        self.pending.push(Placement {
            node,
            dir,
            name: Some(name),
        });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(path)?;
        let (dir, name) = self.split(path)?;
        self.unlink(dir, &name);
        Ok(())
    }

    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let inner = self.find_dir(path)?;
        let (dir, name) = self.split(path)?;
        self.unlink_all(inner);
        self.unlink(dir, &name);
        Ok(())
    }

    fn unlink_all(&mut self, dir: DirNumber) {
        let names: Vec<String> = self.dirs[dir].visible.keys().cloned().collect();
        for name in names {
            if let Kind::Dir(inner) = self.dirs[dir].visible[&name].kind {
                self.unlink_all(inner);
            }
            self.unlink(dir, &name);
        }
    }

    fn unlink(&mut self, dir: DirNumber, name: &str) {
        let node = self.dirs[dir].visible.remove(name);
        self.pending.push(Placement {
            node: node.expect("the caller has found it"),
            dir,
            name: None,
        });
    }

    /// Makes the changes of names in `path` durable.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find_dir(path)?;
        let pending = std::mem::take(&mut self.pending);
        for placement in pending {
            if placement.dir == dir {
                self.apply(placement);
            } else {
                self.pending.push(placement);
            }
        }
        Ok(())
    }

    /// A sync that reports an error: these changes are seen until the power goes, and never become durable.
    pub(super) fn fail_sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find_dir(path)?;
        self.pending.retain(|placement| placement.dir != dir);
        Ok(())
    }

    /// The power goes: any subset of the pending changes survives, in their order.
    pub(super) fn crash(&mut self, rng: &mut fastrand::Rng) {
        let keep_percent = [0, 100, 50, rng.u32(0..=100)][rng.usize(0..4)];
        for placement in std::mem::take(&mut self.pending) {
            if rng.u32(0..100) < keep_percent {
                self.apply(placement);
            }
        }
        let mut reachable = vec![ROOT];
        let mut next = 0;
        while let Some(&dir) = reachable.get(next) {
            next += 1;
            self.dirs[dir].visible = self.dirs[dir].durable.clone();
            for node in self.dirs[dir].visible.values() {
                if let Kind::Dir(inner) = node.kind {
                    reachable.push(inner);
                }
            }
        }
        for (dir, directory) in self.dirs.iter_mut().enumerate() {
            if !reachable.contains(&dir) {
                *directory = Directory::default();
            }
        }
        let dirs = &self.dirs;
        self.homes
            .retain(|_, (dir, name)| dirs[*dir].durable.contains_key(name));
    }

    /// Makes one placement durable. Earlier ones of the same node are overtaken by it: a node has one name.
    fn apply(&mut self, placement: Placement) {
        let Placement { node, dir, name } = placement;
        self.pending
            .retain(|earlier| earlier.node.number != node.number);
        if let Some((home, old_name)) = self.homes.remove(&node.number) {
            self.dirs[home].durable.remove(&old_name);
        }
        if let Some(name) = name {
            self.homes.insert(node.number, (dir, name.clone()));
            if let Some(replaced) = self.dirs[dir].durable.insert(name, node) {
                self.homes.remove(&replaced.number);
            }
        }
    }
}
