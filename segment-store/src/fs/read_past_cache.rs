//! Reads that leave the page cache out (O_DIRECT). Owns the second opening of a file for them.
//!
//! On the fetch walk, for what lies on the disk alone. A page that is brought into the page cache costs memory and, where that memory is new to
//! the machine, more time than all else that is done with its bytes; a consumer that reads old records reads them once. Must not know what the
//! files hold, nor where the bytes go.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Which file it is, whatever its name: as long as somebody holds it open or mapped, no other file has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(file: &File) -> io::Result<FileId> {
        let metadata = file.metadata()?;
        Ok(FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

/// Fills `buffer` from `position` on; start, length and position are multiples of a sector. False, with anything in the buffer, where that cannot
/// be done: another file has that name by now, the file ends before, or its file system reads only through the page cache.
///
/// # Errors
/// The disk's.
pub(crate) fn read(
    path: &Path,
    id: FileId,
    buffer: &mut [u8],
    mut position: u64,
) -> io::Result<bool> {
    let flags = (OFlags::DIRECT | OFlags::CLOEXEC).bits();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path);
    let Ok(file) = opened else {
        return Ok(false);
    };
    if FileId::of(&file)? != id {
        return Ok(false);
    }
    let mut left = buffer;
    while !left.is_empty() {
        match file.read_at(left, position) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                left = &mut left[count..];
                position += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
