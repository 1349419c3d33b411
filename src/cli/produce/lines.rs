//! The input as lines, read on a thread of its own so that a slow pipe stalls nothing.
//!
//! Owns reading, cutting at line ends and the cap on a line. Must not know what becomes of a line. Bytes are copied once, from
//! the input into a block; lines are slices of it.

use std::io::{self, Read};

use tokio::sync::mpsc;

/// Bytes asked of the input at a time.
const READ_BYTES: usize = 64 * 1024;
/// Longest line. No cluster takes a larger record.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Blocks that wait to be sent.
const BLOCKS_WAITING_MAX: usize = 8;

/// Some whole lines.
#[derive(Debug)]
pub(super) struct Block {
    /// Ends after a line end, or where the input ends.
    bytes: Vec<u8>,
}

impl Block {
    /// Its lines, without their line ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        whole.split(|byte| *byte == b'\n')
    }
}

/// The blocks of an input, in order.
pub(super) struct Lines {
    blocks: mpsc::Receiver<io::Result<Block>>,
}

impl Lines {
    /// Starts to read. The thread ends with the input, or once nobody wants more.
    pub(super) fn spawn(input: impl Read + Send + 'static) -> io::Result<Self> {
        let (sender, blocks) = mpsc::channel(BLOCKS_WAITING_MAX);
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || {
                let mut cutter = Cutter::new(input, READ_BYTES, LINE_BYTES_MAX);
                while let Some(block) = cutter.next().transpose() {
                    let over = block.is_err();
                    if sender.blocking_send(block).is_err() || over {
                        break;
                    }
                }
            })?;
        Ok(Self { blocks })
    }

    /// The next lines; `None` at the end of the input.
    pub(super) async fn next(&mut self) -> io::Result<Option<Block>> {
        self.blocks.recv().await.transpose()
    }
}

/// Cuts an input after line ends.
struct Cutter<R> {
    input: R,
    read_bytes: usize,
    line_bytes_max: usize,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
}

impl<R: Read> Cutter<R> {
    fn new(input: R, read_bytes: usize, line_bytes_max: usize) -> Self {
        Self {
            input,
            read_bytes,
            line_bytes_max,
            rest: Vec::new(),
        }
    }

    /// Everything up to the last line end that one read brings, or more reads where a line is long.
    fn next(&mut self) -> io::Result<Option<Block>> {
        loop {
            let before = self.rest.len();
            if before > self.line_bytes_max {
                let max = self.line_bytes_max;
                return Err(io::Error::other(format!(
                    "a line is longer than {max} bytes"
                )));
            }
            self.rest.resize(before + self.read_bytes, 0);
            let read = self.input.read(&mut self.rest[before..]);
            self.rest.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => {
                    let last = std::mem::take(&mut self.rest);
                    return Ok((!last.is_empty()).then_some(Block { bytes: last }));
                }
                Ok(_) => {
                    let Some(end) = self.rest[before..].iter().rposition(|byte| *byte == b'\n')
                    else {
                        continue;
                    };
                    let rest = self.rest.split_off(before + end + 1);
                    let bytes = std::mem::replace(&mut self.rest, rest);
                    return Ok(Some(Block { bytes }));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All lines of `input`, read `read_bytes` at a time.
    fn lines(input: &[u8], read_bytes: usize) -> Vec<Vec<u8>> {
        let mut cutter = Cutter::new(input, read_bytes, 1000);
        let mut lines = Vec::new();
        while let Some(block) = cutter.next().unwrap() {
            lines.extend(block.lines().map(<[u8]>::to_vec));
        }
        lines
    }

    #[test]
    fn lines_are_the_same_whatever_the_size_of_a_read() {
        let input = b"one\n\n\xff\xfe\r\n\nlast";
        let expected: [&[u8]; 5] = [b"one", b"", b"\xff\xfe\r", b"", b"last"];
        for read_bytes in 1..=input.len() + 1 {
            assert_eq!(
                lines(input, read_bytes),
                expected,
                "{read_bytes} bytes a read"
            );
        }
    }

    #[test]
    fn empty_input_has_no_lines_and_one_line_end_is_one_empty_line() {
        assert_eq!(lines(b"", 8), Vec::<Vec<u8>>::new());
        assert_eq!(lines(b"\n", 8), [b""]);
        assert_eq!(lines(b"\n\n", 1), [b"", b""]);
    }

    #[test]
    fn line_end_at_the_end_begins_no_further_line() {
        assert_eq!(lines(b"a\nb\n", 3), [b"a", b"b"]);
    }

    #[test]
    fn endless_line_is_refused_before_it_fills_the_memory() {
        let mut cutter = Cutter::new(io::repeat(b'x'), 64, 1000);
        let error = cutter.next().unwrap_err();
        assert!(error.to_string().contains("1000 bytes"), "{error}");
        assert!(cutter.rest.capacity() < 4096);
    }

    #[test]
    fn lines_before_a_read_error_are_kept() {
        struct Breaks(u32);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 1 {
                    return Err(io::Error::other("gone"));
                }
                buffer[..4].copy_from_slice(b"a\nb\n");
                Ok(4)
            }
        }
        let mut cutter = Cutter::new(Breaks(0), 64, 1000);
        let block = cutter.next().unwrap().unwrap();
        assert_eq!(block.lines().count(), 2);
        assert_eq!(cutter.next().unwrap_err().to_string(), "gone");
    }
}
