//! What is looked at beyond the end of the contents, and what need not be.

use std::io::IoSlice;
use std::sync::Mutex;

use super::*;
use crate::fs::MapRead;
use crate::log::LogIdentity;

/// A file of zeros that are no data but in one stretch; remembers what was read.
#[derive(Debug)]
struct Sparse {
    len: u64,
    data: Range<u64>,
    /// What lies at the start of the data.
    mark: [u8; END_MARK_LEN],
    read: Mutex<Vec<Range<u64>>>,
}

impl FsFile for Sparse {
    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        buffer.fill(0);
        let end = position + buffer.len() as u64;
        self.read.lock().unwrap().push(position..end);
        let mark = self.data.start..self.data.start + END_MARK_LEN as u64;
        if position <= mark.start && mark.end <= end {
            let at = usize::try_from(mark.start - position).unwrap();
            buffer[at..at + END_MARK_LEN].copy_from_slice(&self.mark);
        }
        Ok(())
    }

    fn data_from(&self, position: u64) -> io::Result<Range<u64>> {
        match position < self.data.end {
            true => Ok(self.data.start.max(position)..self.data.end),
            false => Ok(self.len..self.len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

fn header(file_len: u64) -> SegmentHeader {
    SegmentHeader {
        identity: LogIdentity {
            cluster: [7; 16],
            group: 3,
        },
        generation: 1,
        base_index: 1,
        base_offset: 0,
        prev_term: 0,
        prev_header_crc: 0,
        file_len,
        anew: false,
        after_loss: false,
    }
}

/// Thousands of groups are opened at a start, each with a segment that is all but empty.
#[test]
fn room_that_was_never_written_is_not_read_and_what_lies_in_it_is_found() {
    let len = 64 << 20;
    let header = header(len);
    let mark = EndMark {
        last_index: 9,
        last_header_crc: 1,
        durable_index: 8,
    };
    let file = Arc::new(Sparse {
        len,
        data: 32 << 20..(32 << 20) + 4096,
        mark: mark.encode(&header.identity, 5),
        read: Mutex::default(),
    });
    let mut scan = Scan::new(file.clone(), header, 5);
    let (contents, _) = scan.chain(u64::MAX, 4096, |_, _, _| {}).unwrap();
    let beyond = scan.beyond(&contents).unwrap();
    assert_eq!(beyond.durable_index, 8);
    assert_eq!(beyond.written_until, Some((32 << 20) + END_MARK_LEN as u64));
    assert!(!beyond.blank);
    assert_eq!(scan.end_marks(HEADER_PAGE).unwrap().len(), 1);
    let read = file.read.lock().unwrap();
    let bytes: u64 = read.iter().map(|range| range.end - range.start).sum();
    assert!(bytes <= 16 << 10, "{read:?}");
}
