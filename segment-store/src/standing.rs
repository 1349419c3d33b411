//! What a node remembers of its own starts, and of the other nodes': owns the files `standing` and `peers` of a data directory.
//!
//! A replica that lost what it acked must never again be taken for the one that acked it. So each start counts up and draws a nonce,
//! fsynced before anything is said to anyone, and each node keeps what it last saw of every other. A directory that was emptied has another
//! replica id; one that was put back from a copy has a lower count, or another nonce under the same count. Must not know how nodes
//! meet, nor what becomes of one that is found out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data_dir::DataDirError;
use crate::fault::{Fault, is_no_space};
use crate::fs::{Fs, SECTOR_BYTES};
use crate::sealed_page::{PageError, SealedPage};

const STANDING: &str = "standing";
const STANDING_MAGIC: [u8; 8] = *b"PLIMBOOT";
const PEERS: &str = "peers";
const PEERS_MAGIC: [u8; 8] = *b"PLIMPEER";
const VERSION: u16 = 1;
/// End of the name that a file has while it is being written.
const TEMPORARY: &str = ".tmp";

/// Most nodes a cluster can be founded with.
pub const FOUNDERS_MAX: usize = 32;
/// Starts whose nonces are kept: a node that another has not seen for as many starts is known by its count alone.
pub const NONCES_MAX: usize = 32;
/// Most peers that are remembered.
pub const PEERS_MAX: usize = 100;

const BOOT_AT: usize = 16;
const BAR_AT: usize = 24;
const FOUNDERS_AT: usize = 32;
const NONCES_AT: usize = FOUNDERS_AT + 8 + 8 * FOUNDERS_MAX;
const PINS_AT: usize = 16;
const PIN_BYTES: usize = 40;

/// This start of a node, and what it knows of the ones before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which start of this data directory it is, from 1.
    pub number: u64,
    /// Drawn at each start: this one's first, then those of the starts before, as many as are kept.
    pub nonces: Vec<u64>,
    /// The nodes that the cluster was founded with, as they were given at the very first start.
    pub founders: Vec<u64>,
}

/// Why a data directory must not be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Another node had seen more of this node than the directory holds.
    Refused,
    /// The node was removed from its cluster.
    Removed,
}

/// What was last seen of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Identity of its data directory.
    pub replica: [u8; 16],
    /// Which start of it.
    pub boot: u64,
    /// The nonce of that start.
    pub nonce: u64,
}

/// The two files of one data directory. Holds no lock: the directory's owner lends it out.
#[derive(Clone, Debug)]
pub struct Memory {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
}

impl Memory {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> Memory {
        Memory { fs, dir }
    }

    /// Begins another start of the node. Durable when it returns.
    ///
    /// # Errors
    /// [`DataDirError`]; a directory that was barred stays so.
    pub fn begin_boot(&self, founders: &[u64]) -> Result<Boot, DataDirError> {
        let path = self.dir.join(STANDING);
        let found = self.read(&path, STANDING_MAGIC, decode_standing)?;
        let mut boot = match found {
            Some((_, Some(bar))) => {
                return Err(DataDirError::Barred {
                    path: self.dir.clone(),
                    bar,
                });
            }
            Some((boot, None)) => boot,
            None => Boot {
                number: 0,
                nonces: Vec::new(),
                founders: founders[..founders.len().min(FOUNDERS_MAX)].to_vec(),
            },
        };
        boot.number += 1;
        boot.nonces.insert(0, fastrand::u64(..));
        boot.nonces.truncate(NONCES_MAX);
        self.replace_or_say(&path, &encode_standing(&boot, None))?;
        Ok(boot)
    }

    /// Writes down that the directory must not be used again. Durable when it returns.
    ///
    /// # Errors
    /// [`DataDirError::NoSpace`], or a fault of the disk.
    pub fn bar(&self, boot: &Boot, bar: Bar) -> Result<(), DataDirError> {
        self.replace_or_say(&self.dir.join(STANDING), &encode_standing(boot, Some(bar)))
    }

    /// What was last seen of the other nodes.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing was changed.
    pub fn pins(&self) -> Result<BTreeMap<u64, Pin>, DataDirError> {
        let path = self.dir.join(PEERS);
        let found = self.read(&path, PEERS_MAGIC, decode_pins)?;
        Ok(found.unwrap_or_default())
    }

    /// Remembers `pins`, at most [`PEERS_MAX`], in place of what was remembered. Durable when it returns.
    ///
    /// # Errors
    /// [`DataDirError::NoSpace`], or a fault of the disk.
    pub fn save_pins(&self, pins: &BTreeMap<u64, Pin>) -> Result<(), DataDirError> {
        assert!(pins.len() <= PEERS_MAX, "the caller keeps to the limit");
        self.replace_or_say(&self.dir.join(PEERS), &encode_pins(pins))
    }

    fn replace_or_say(&self, path: &Path, page: &[u8; SECTOR_BYTES]) -> Result<(), DataDirError> {
        let replaced = match self.replace(path, page) {
            Err(error) if is_no_space(&error) => self.overwrite(path, page, error),
            replaced => replaced,
        };
        match replaced {
            Ok(()) => Ok(()),
            Err(error) if is_no_space(&error) => Err(DataDirError::NoSpace(path.to_owned())),
            Err(error) => Err(Fault::new("writing", path, error).into()),
        }
    }

    fn read<T>(
        &self,
        path: &Path,
        magic: [u8; 8],
        decode: impl Fn(&SealedPage) -> Option<T>,
    ) -> Result<Option<T>, DataDirError> {
        let fault = |error| Fault::new("reading", path, error);
        if !self.fs.exists(path).map_err(fault)? {
            return Ok(None);
        }
        let file = self.fs.open_read(path).map_err(fault)?;
        let damaged = |detail: String| DataDirError::DamagedMemory {
            path: path.to_owned(),
            detail,
            advice: match magic {
                PEERS_MAGIC => {
                    "remove it, if no other node's directory was emptied or put back from a copy meanwhile"
                }
                _ => "give this node's place to a new one with `plimsoll cluster replace-node`",
            },
        };
        if file.len() != SECTOR_BYTES as u64 {
            return Err(damaged(format!("{} bytes long", file.len())));
        }
        let mut bytes = [0; SECTOR_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(fault)?;
        match SealedPage::open(&bytes, magic, VERSION) {
            Ok(page) => match decode(&page) {
                Some(found) => Ok(Some(found)),
                None => Err(damaged("it contradicts itself".to_owned())),
            },
            Err(PageError::Version(version)) => Err(DataDirError::Version {
                path: path.to_owned(),
                version,
            }),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Where there is no room for a second page: in place, so that a node can start on a full disk. Only a power cut at this very moment
    /// can damage the page, and then the node has to be replaced.
    fn overwrite(
        &self,
        path: &Path,
        page: &[u8; SECTOR_BYTES],
        no_space: std::io::Error,
    ) -> std::io::Result<()> {
        if !self.fs.exists(path)? {
            return Err(no_space);
        }
        let file = self.fs.open(path)?;
        if file.len() != SECTOR_BYTES as u64 {
            return Err(no_space);
        }
        file.write_all_at(page, 0)?;
        file.sync_data()
    }

    /// Under a temporary name first: after a crash the old page is there, or the new one.
    fn replace(&self, path: &Path, page: &[u8; SECTOR_BYTES]) -> std::io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        if self.fs.exists(&temporary)? {
            self.fs.remove(&temporary)?;
        }
        let file = self.fs.create(&temporary, SECTOR_BYTES as u64)?;
        file.write_all_at(page, 0)?;
        file.sync_data()?;
        self.fs.rename(&temporary, path)?;
        self.fs.sync_dir(&self.dir)
    }
}

fn put_list(page: &mut SealedPage, at: usize, list: &[u64]) {
    page.put_u64(at, list.len() as u64);
    for (place, value) in list.iter().enumerate() {
        page.put_u64(at + 8 + 8 * place, *value);
    }
}

fn list_at(page: &SealedPage, at: usize, len_max: usize) -> Option<Vec<u64>> {
    let len = usize::try_from(page.u64_at(at)).ok()?;
    let place = |place| page.u64_at(at + 8 + 8 * place);
    (len <= len_max).then(|| (0..len).map(place).collect())
}

fn encode_standing(boot: &Boot, bar: Option<Bar>) -> [u8; SECTOR_BYTES] {
    let mut page = SealedPage::new(STANDING_MAGIC, VERSION);
    page.put_u64(BOOT_AT, boot.number);
    let bar = match bar {
        None => 0,
        Some(Bar::Refused) => 1,
        Some(Bar::Removed) => 2,
    };
    page.put_u64(BAR_AT, bar);
    put_list(&mut page, FOUNDERS_AT, &boot.founders);
    put_list(&mut page, NONCES_AT, &boot.nonces);
    page.seal()
}

fn decode_standing(page: &SealedPage) -> Option<(Boot, Option<Bar>)> {
    let bar = match page.u64_at(BAR_AT) {
        0 => None,
        1 => Some(Bar::Refused),
        2 => Some(Bar::Removed),
        _ => return None,
    };
    let boot = Boot {
        number: page.u64_at(BOOT_AT),
        nonces: list_at(page, NONCES_AT, NONCES_MAX)?,
        founders: list_at(page, FOUNDERS_AT, FOUNDERS_MAX)?,
    };
    (boot.number > 0 && boot.number < u64::MAX && !boot.nonces.is_empty()).then_some((boot, bar))
}

fn encode_pins(pins: &BTreeMap<u64, Pin>) -> [u8; SECTOR_BYTES] {
    let mut page = SealedPage::new(PEERS_MAGIC, VERSION);
    page.put_u64(PINS_AT, pins.len() as u64);
    for (place, (node, pin)) in pins.iter().enumerate() {
        let at = PINS_AT + 8 + PIN_BYTES * place;
        page.put_u64(at, *node);
        page.put(at + 8, &pin.replica);
        page.put_u64(at + 24, pin.boot);
        page.put_u64(at + 32, pin.nonce);
    }
    page.seal()
}

fn decode_pins(page: &SealedPage) -> Option<BTreeMap<u64, Pin>> {
    let len = usize::try_from(page.u64_at(PINS_AT)).ok()?;
    if len > PEERS_MAX {
        return None;
    }
    let pins = (0..len).map(|place| {
        let at = PINS_AT + 8 + PIN_BYTES * place;
        let pin = Pin {
            replica: page.bytes_at(at + 8),
            boot: page.u64_at(at + 24),
            nonce: page.u64_at(at + 32),
        };
        (page.u64_at(at), pin)
    });
    let pins: BTreeMap<u64, Pin> = pins.collect();
    (pins.len() == len).then_some(pins)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
