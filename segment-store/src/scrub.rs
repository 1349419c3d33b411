//! Reading a log for no other purpose than to find what rotted, a piece at a time. Owns the place where it goes on.
//!
//! On the scrub walk, beside the log's writer and readers. A sealed segment's header page is read too; footers are not: one
//! that is damaged is written again when the log is opened. What is in the page cache hides what is on the disk until the kernel drops it.
//! Must not know: how fast it may go, what becomes of the damage.

use crate::error::ReadError;
use crate::load_memory::LoadMemory;
use crate::reader::LogReader;

/// One pass over a log. Entries appended meanwhile are left to the next pass.
#[derive(Debug)]
pub struct Scrub {
    reader: LogReader,
    next: u64,
    last: u64,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read and found right.
    pub bytes: u64,
    /// Nothing is left of this pass.
    pub done: bool,
}

impl Scrub {
    /// A pass over everything that is in the log now.
    pub fn new(reader: LogReader) -> Scrub {
        Scrub {
            next: reader.first_index(),
            last: reader.last_index(),
            reader,
        }
    }

    /// Reads about `bytes_max` bytes more (at least a frame) and checks all of them. Blocks. What is not in the page cache is read past it,
    /// into `memory`, if there is any, so that the search neither fills the page cache nor makes the system read further ahead than it looks.
    ///
    /// # Errors
    /// The damage, for which [`ReadError::is_damage`] holds; the pass ends there.
    pub fn step(
        &mut self,
        bytes_max: usize,
        memory: Option<&LoadMemory>,
    ) -> Result<Scrubbed, ReadError> {
        // What was trimmed meanwhile needs no look.
        self.next = self.next.max(self.reader.first_index());
        if self.next > self.last {
            return Ok(Scrubbed {
                bytes: 0,
                done: true,
            });
        }
        let checked = match self
            .reader
            .check_from(self.next, self.last, bytes_max, memory)
        {
            Err(ReadError::Trimmed { .. }) => {
                return Ok(Scrubbed {
                    bytes: 0,
                    done: false,
                });
            }
            checked => checked?,
        };
        let Some((last, bytes)) = checked else {
            // Cut off by a truncation.
            self.last = self.next - 1;
            return self.step(bytes_max, memory);
        };
        self.next = last + 1;
        Ok(Scrubbed {
            bytes,
            done: self.next > self.last,
        })
    }
}
