//! Bytes of journal files in memory: aligned chunks shared by all readers of all streams.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ReadableFile;
use crate::position::FileKey;
use crate::read::slabs::Slabs;

/// Large enough that small groups come many at a time, small enough that the header and the table
/// of a large group do not bring a megabyte each.
const CHUNK: u64 = 256 << 10;
/// Ranges at least this long are read for their reader alone: sharing would save little and
/// joining chunks would cost a copy.
const LARGE: usize = 128 << 10;

/// Chunks by the key of a file, never by slot: another life of a slot is another file.
pub(crate) struct ChunkCache {
    capacity: usize,
    inner: Mutex<Inner>,
    slabs: Arc<Slabs>,
}

#[derive(Default)]
struct Inner {
    chunks: HashMap<(FileKey, u64), Bytes>,
    order: VecDeque<(FileKey, u64)>,
    bytes: usize,
}

impl ChunkCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: Mutex::default(), slabs: Arc::default() }
    }

    /// Reads a range below the durable end of a file.
    pub(crate) fn read(
        &self,
        engine: &Engine,
        file: &ReadableFile,
        position: u64,
        length: usize,
    ) -> Result<Bytes> {
        let end = position + length as u64;
        if end > file.end {
            return Err(Error::new(
                ErrorKind::Corrupt { next_readable: crate::position::Offset(0) },
                format!("{} says that it goes on after its end", file.key),
            ));
        }
        // A file may have been cut short; what is left of it is served.
        let cut_short = || {
            Error::new(
                ErrorKind::Corrupt { next_readable: crate::position::Offset(0) },
                format!("{} is cut short before {end}", file.key),
            )
        };
        if length >= LARGE {
            let bytes = self.load(engine, file, position, length)?;
            return if bytes.len() == length { Ok(bytes) } else { Err(cut_short()) };
        }
        let mut joined = BytesMut::new();
        let mut at = position;
        while at < end {
            let index = at / CHUNK;
            let chunk_end = ((index + 1) * CHUNK).min(file.end);
            let until = end.min(chunk_end);
            let chunk = self.chunk(engine, file, index, until)?;
            let from = usize::try_from(at - index * CHUNK).unwrap_or(usize::MAX);
            let to = usize::try_from(until - index * CHUNK).unwrap_or(usize::MAX);
            if chunk.len() < to {
                return Err(cut_short());
            }
            if at == position && until == end {
                return Ok(chunk.slice(from..to));
            }
            joined.extend_from_slice(&chunk[from..to]);
            at = until;
        }
        Ok(joined.freeze())
    }

    /// Forgets a file that is given back.
    pub(crate) fn forget(&self, key: FileKey) {
        let mut inner = self.inner.lock();
        let Inner { chunks, order, bytes } = &mut *inner;
        chunks.retain(|(file, _), chunk| {
            let keep = *file != key;
            if !keep {
                *bytes -= chunk.len();
            }
            keep
        });
        order.retain(|(file, _)| *file != key);
    }

    fn chunk(&self, engine: &Engine, file: &ReadableFile, index: u64, until: u64) -> Result<Bytes> {
        let key = (file.key, index);
        let wanted = usize::try_from(until - index * CHUNK).unwrap_or(usize::MAX);
        if let Some(chunk) = self.inner.lock().chunks.get(&key)
            && chunk.len() >= wanted
        {
            return Ok(chunk.clone());
        }
        // Only what is durable now: the rest of the chunk may still be written.
        let length = CHUNK.min(file.end - index * CHUNK);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let chunk = self.load(engine, file, index * CHUNK, length)?;
        let mut inner = self.inner.lock();
        inner.bytes += chunk.len();
        match inner.chunks.insert(key, chunk.clone()) {
            Some(before) => inner.bytes -= before.len(),
            None => inner.order.push_back(key),
        }
        while inner.bytes > self.capacity
            && inner.order.len() > 1
            && let Some(oldest) = inner.order.pop_front()
        {
            if let Some(chunk) = inner.chunks.remove(&oldest) {
                inner.bytes -= chunk.len();
            }
        }
        Ok(chunk)
    }

    /// Gives the memory of slabs that nobody uses back to the system.
    pub(crate) fn shrink(&self) {
        self.slabs.shrink();
    }

    /// Fewer bytes only where the file ends before it should.
    fn load(
        &self,
        engine: &Engine,
        file: &ReadableFile,
        position: u64,
        length: usize,
    ) -> Result<Bytes> {
        let failed = |error| {
            let path = file.place.path(&engine.options.directory);
            Error::new(ErrorKind::Io, format!("cannot read {} at {position}", path.display()))
                .caused_by(error)
        };
        let mut slab = self.slabs.take(length).map_err(failed)?;
        let read = engine.files.handle(file.place)?.read_at(position, slab.bytes());
        let read = read.map_err(failed)?;
        Ok(slab.share().slice(..read))
    }
}
