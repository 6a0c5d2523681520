//! Footers of finished files in memory, loaded when they are needed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::checkpoint;
use crate::engine::Engine;
use crate::error::Result;
use crate::files::{Place, ReadableFile};
use crate::format::{
    FILE_HEADER_BYTES, Footer, FooterStream, Frame, FrameKind, GROUP_HEADER_BYTES, GroupHeader,
    RUN_SPAN, Run, Salted,
};
use crate::position::{FileKey, FileSequence, Offset, StreamId};
use crate::read::group::read_group;
use crate::sabotage::skips;

/// Footers by file, within a budget.
pub(crate) struct Footers {
    capacity: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    footers: HashMap<FileKey, Arc<Footer>>,
    order: VecDeque<FileKey>,
    bytes: usize,
    /// A stream that keeps the file alive, and one past its last offset there.
    witnesses: HashMap<FileKey, (StreamId, Offset)>,
}

impl Footers {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default() }
    }

    /// Keeps the footer of a file just finished.
    pub(crate) fn insert(&self, key: FileKey, footer: Footer) {
        self.keep(key, Arc::new(footer));
    }

    /// The footer of a finished file: from memory, its seal, its sidecar, or its frame tables.
    pub(crate) fn load(&self, engine: &Engine, file: &ReadableFile) -> Result<Arc<Footer>> {
        if let Some(footer) = self.inner.lock().footers.get(&file.key) {
            return Ok(Arc::clone(footer));
        }
        let footer = Arc::new(find_footer(engine, file)?);
        self.keep(file.key, Arc::clone(&footer));
        Ok(footer)
    }

    pub(crate) fn forget(&self, key: FileKey) {
        let mut inner = self.inner.lock();
        inner.witnesses.remove(&key);
        inner.order.retain(|file| *file != key);
        if let Some(footer) = inner.footers.remove(&key) {
            inner.bytes -= footer.memory();
        }
    }

    /// True if it can be told without reading the file whether anything in it is alive.
    pub(crate) fn is_known(&self, key: FileKey) -> bool {
        let inner = self.inner.lock();
        inner.witnesses.contains_key(&key) || inner.footers.contains_key(&key)
    }

    pub(crate) fn witness(&self, key: FileKey) -> Option<(StreamId, Offset)> {
        self.inner.lock().witnesses.get(&key).copied()
    }

    pub(crate) fn set_witness(&self, key: FileKey, stream: StreamId, end: Offset) {
        self.inner.lock().witnesses.insert(key, (stream, end));
    }

    fn keep(&self, key: FileKey, footer: Arc<Footer>) {
        let mut inner = self.inner.lock();
        inner.bytes += footer.memory();
        match inner.footers.insert(key, footer) {
            Some(before) => inner.bytes -= before.memory(),
            None => inner.order.push_back(key),
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

fn find_footer(engine: &Engine, file: &ReadableFile) -> Result<Footer> {
    if let Some(seal) = file.seal {
        let bytes = engine.chunks.read(engine, file, seal, GROUP_HEADER_BYTES)?;
        if let Ok(header) = GroupHeader::decode(&file.salt, file.number(), &bytes)
            && header.is_seal
        {
            let table = seal + u64::from(header.table_offset);
            let body = engine.chunks.read(engine, file, table, header.table_bytes as usize)?;
            let salted = Salted::new(&file.salt, file.number(), header.lsn.0);
            if salted.crc(&body) == header.table_crc
                && let Ok(footer) = Footer::decode(&body)
            {
                return Ok(footer);
            }
        }
    } else if let Place::Slot(_) = file.place {
        let parts = &engine.parts;
        let directory = &engine.options.directory;
        let disk = parts.disk.as_ref();
        if let Some(footer) = checkpoint::read_sidecar(disk, directory, file.key.rank, &file.salt) {
            return Ok(footer);
        }
    }
    tracing::warn!(file = %file.key, "a footer is damaged and is made again");
    rebuild(engine, file)
}

/// Reads all frame tables of a file.
fn rebuild(engine: &Engine, file: &ReadableFile) -> Result<Footer> {
    let mut streams: HashMap<StreamId, FooterStream> = HashMap::new();
    let mut position = FILE_HEADER_BYTES as u64;
    while position < file.groups_end {
        let Ok((header, frames)) = read_group(engine, file, position) else {
            // A damaged group: what follows it is found block by block.
            position += crate::disk::BLOCK as u64;
            continue;
        };
        for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Batch) {
            let before = streams.get(&frame.stream).map_or(0, |entry| entry.bytes);
            let bytes = (before, u64::from(frame.payload_bytes));
            add(&mut streams, frame, position, bytes);
        }
        position += u64::from(header.length);
    }
    let mut streams: Vec<FooterStream> = streams.into_values().collect();
    streams.sort_by_key(|entry| entry.stream);
    for entry in &mut streams {
        // The file only says how many bytes it holds; where counting goes on says the next one.
        let before = bytes_after(engine, file.key, entry.stream)?.saturating_sub(entry.bytes);
        entry.bytes += before;
        entry.runs.iter_mut().for_each(|run| run.bytes += before);
    }
    Ok(Footer { next: None, streams })
}

/// Payload bytes of a stream before its first batch after a file.
fn bytes_after(engine: &Engine, key: FileKey, id: StreamId) -> Result<u64> {
    let Ok(stream) = engine.state.stream(id) else { return Ok(0) };
    let (active, all) = {
        let view = stream.view();
        (view.active.first().map(|run| run.bytes), view.bytes)
    };
    let later = engine.files.holding(id, FileSequence(u64::MAX));
    for file in later.iter().filter(|file| file.key > key) {
        if let Some(entry) = engine.footers.load(engine, file)?.find(id) {
            return Ok(entry.runs[0].bytes);
        }
    }
    Ok(active.unwrap_or(all))
}

/// Adds one more batch of a file, in the group at a position, to a footer. `bytes` are the payload
/// bytes of the stream before it, and those of its own that count.
///
/// Within a file bytes are counted without gaps. What a merge left out between two batches makes
/// what stands before it newer, never what follows older: that would go too early.
pub(crate) fn add(
    streams: &mut HashMap<StreamId, FooterStream>,
    frame: &Frame,
    position: u64,
    bytes: (u64, u64),
) {
    let entry = streams.entry(frame.stream).or_insert_with(|| FooterStream {
        stream: frame.stream,
        end: frame.end(),
        bytes: bytes.0,
        runs: Vec::new(),
    });
    let left_out = bytes.0.saturating_sub(entry.bytes);
    if left_out > 0 && !skips("the bytes that a merge leaves out") {
        entry.bytes += left_out;
        entry.runs.iter_mut().for_each(|run| run.bytes += left_out);
    }
    if entry.runs.last().is_none_or(|run| position >= run.position + RUN_SPAN) {
        entry.runs.push(Run {
            base_offset: frame.base_offset,
            append_time: frame.append_time,
            position,
            bytes: entry.bytes,
        });
    }
    entry.end = frame.end();
    entry.bytes += bytes.1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Timestamp;

    /// A merge copied two batches of a stream and left out the one between them. The bytes of that
    /// one were missing before the second, which retention by bytes gave up too early.
    #[test]
    fn what_follows_a_hole_is_as_old_as_it_is() {
        let frame = |base: u64| {
            let control = Frame::control(FrameKind::Batch, StreamId(7), Timestamp(base));
            Frame { base_offset: Offset(base), count: 1, ..control }
        };
        let mut streams = HashMap::new();
        add(&mut streams, &frame(11), 4096, (5000, 100));
        add(&mut streams, &frame(12), 4096 + RUN_SPAN, (5100, 100));
        add(&mut streams, &frame(14), 4096 + RUN_SPAN, (8200, 100));
        add(&mut streams, &frame(15), 4096 + 2 * RUN_SPAN, (8300, 100));
        let entry = &streams[&StreamId(7)];
        let runs: Vec<_> = entry.runs.iter().map(|run| (run.base_offset.0, run.bytes)).collect();
        assert_eq!(runs, [(11, 8000), (12, 8100), (15, 8300)]);
        assert_eq!((entry.end, entry.bytes), (Offset(16), 8400));
        assert_eq!(entry.bytes_inside(), 400, "what is left out is in no file");
    }
}
