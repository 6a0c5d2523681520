//! The input of `produce`, read line by line on a thread of its own.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::mpsc;

use crate::input::{Input, InputLine};

/// Lines read ahead of the broker.
const LINES_AHEAD: usize = 4_096;

/// The input as it is read.
pub(super) struct Lines {
    /// One by one, in their order.
    pub(super) lines: mpsc::Receiver<io::Result<InputLine>>,
    /// Size of the input, if known.
    pub(super) bytes: Option<u64>,
    /// How much of it was read.
    pub(super) bytes_read: Arc<AtomicU64>,
    /// Lines left out because nothing stood in them.
    pub(super) blank: Arc<AtomicU64>,
}

/// Reads on a thread of its own, which ends with the input or when nobody wants its lines any more;
/// one that waits for a terminal ends with the process.
pub(super) fn read(mut input: Input) -> mpsc::Receiver<io::Result<InputLine>> {
    let (sender, lines) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        while let Some(line) = input.next_line().transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                return;
            }
        }
    });
    lines
}

/// A reader that says how much it has read.
pub(super) struct Counted<R> {
    pub(super) reader: R,
    pub(super) count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
