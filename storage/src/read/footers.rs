//! Footers of finished files in memory, loaded when they are needed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::checkpoint;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::format::{Footer, FooterStream, Frame, FrameKind, GroupHeader, RUN_SPAN, Run, Salted};
use crate::position::{FileSequence, Offset, StreamId};
use crate::read::group::read_group;

/// Footers by file, within a budget.
pub(crate) struct Footers {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    footers: HashMap<FileSequence, Arc<Footer>>,
    order: VecDeque<FileSequence>,
    bytes: usize,
    /// A stream that keeps the file alive, and one past its last offset there.
    witnesses: HashMap<FileSequence, (StreamId, Offset)>,
}

impl Footers {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// Keeps the footer of a file just finished.
    pub(crate) fn insert(&self, sequence: FileSequence, footer: Footer) {
        self.keep(sequence, Arc::new(footer));
    }

    /// The footer of a finished file: from memory, its seal, its sidecar, or its frame tables.
    pub(crate) fn load(&self, engine: &Engine, sequence: FileSequence) -> Result<Arc<Footer>> {
        if let Some(footer) = self.inner.lock().footers.get(&sequence) {
            return Ok(Arc::clone(footer));
        }
        let footer = Arc::new(find_footer(engine, sequence)?);
        self.keep(sequence, Arc::clone(&footer));
        Ok(footer)
    }

    pub(crate) fn forget(&self, sequence: FileSequence) {
        let mut inner = self.inner.lock();
        inner.witnesses.remove(&sequence);
        inner.order.retain(|file| *file != sequence);
        if let Some(footer) = inner.footers.remove(&sequence) {
            inner.bytes -= footer.memory();
        }
    }

    pub(crate) fn witness(&self, sequence: FileSequence) -> Option<(StreamId, Offset)> {
        self.inner.lock().witnesses.get(&sequence).copied()
    }

    pub(crate) fn set_witness(&self, sequence: FileSequence, stream: StreamId, end: Offset) {
        self.inner.lock().witnesses.insert(sequence, (stream, end));
    }

    fn keep(&self, sequence: FileSequence, footer: Arc<Footer>) {
        let mut inner = self.inner.lock();
        inner.bytes += footer.memory();
        match inner.footers.insert(sequence, footer) {
            Some(before) => inner.bytes -= before.memory(),
            None => inner.order.push_back(sequence),
        }
        while inner.bytes > self.capacity
            && inner.order.len() > 1
            && let Some(oldest) = inner.order.pop_front()
        {
            if let Some(footer) = inner.footers.remove(&oldest) {
                inner.bytes -= footer.memory();
            }
        }
    }
}

fn find_footer(engine: &Engine, sequence: FileSequence) -> Result<Footer> {
    let missing = || Error::missing_file(sequence);
    let record = engine.files.record(sequence).ok_or_else(missing)?;
    let file = engine.files.readable(sequence).ok_or_else(missing)?;
    if let Some(seal) = record.seal {
        let bytes = engine.chunks.read(engine, &file, seal, crate::format::GROUP_HEADER_BYTES)?;
        if let Ok(header) = GroupHeader::decode(&record.salt, sequence, &bytes)
            && header.is_seal
        {
            let table = seal + u64::from(header.table_offset);
            let body = engine.chunks.read(engine, &file, table, header.table_bytes as usize)?;
            let salted = Salted::new(&record.salt, sequence, header.lsn.0);
            if salted.crc(&body) == header.table_crc
                && let Ok(footer) = Footer::decode(&body)
            {
                return Ok(footer);
            }
        }
    } else {
        let parts = &engine.parts;
        let directory = &engine.options.directory;
        let sidecar =
            checkpoint::read_sidecar(parts.disk.as_ref(), directory, sequence, &record.salt);
        if let Some(footer) = sidecar {
            return Ok(footer);
        }
    }
    tracing::warn!(%sequence, "the footer of a journal file is damaged and is made again");
    rebuild(engine, &file, record.end, record.previous.map(|previous| previous.sequence))
}

/// Reads all frame tables of a file. Each stream's previous file is taken to be the file before:
/// following it finds the stream, or goes on to the one before that.
fn rebuild(
    engine: &Engine,
    file: &crate::files::ReadableFile,
    end: u64,
    previous: Option<FileSequence>,
) -> Result<Footer> {
    let mut streams: HashMap<StreamId, FooterStream> = HashMap::new();
    let mut position = crate::format::FILE_HEADER_BYTES as u64;
    while position < end {
        let Ok((header, frames)) = read_group(engine, file, position) else {
            // A damaged group: what follows it is found block by block.
            position += crate::disk::BLOCK as u64;
            continue;
        };
        for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Batch) {
            add(&mut streams, frame, position, previous);
        }
        position += u64::from(header.length);
    }
    let mut streams: Vec<FooterStream> = streams.into_values().collect();
    streams.sort_by_key(|entry| entry.stream);
    Ok(Footer { next: None, streams })
}

/// Adds a batch, read in the order of the file, to a footer that is made again.
pub(crate) fn add(
    streams: &mut HashMap<StreamId, FooterStream>,
    frame: &Frame,
    position: u64,
    previous: Option<FileSequence>,
) {
    let entry = streams.entry(frame.stream).or_insert_with(|| FooterStream {
        stream: frame.stream,
        previous,
        end: frame.end(),
        runs: Vec::new(),
    });
    if entry.runs.last().is_none_or(|run| position >= run.position + RUN_SPAN) {
        entry.runs.push(Run {
            base_offset: frame.base_offset,
            append_time: frame.append_time,
            position,
        });
    }
    entry.end = frame.end();
}
