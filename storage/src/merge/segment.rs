//! Writing one output of a merge.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::disk::{DiskFile, OpenMode};
use crate::engine::Engine;
use crate::files::{Place, StoredFile};
use crate::format::{
    Footer, FooterStream, Frame, GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, Salted,
    SegmentHeader, SegmentRecord, round_up,
};
use crate::position::{FileSequence, Lsn, StreamId, Timestamp};
use crate::read::footers;
use crate::sabotage::barrier;

/// Groups are about this large: one write each.
pub(crate) const GROUP_BYTES: usize = 1 << 20;

/// A batch on its way to an output.
pub(crate) struct Held {
    pub(crate) frame: Frame,
    pub(crate) payload: Bytes,
    /// Payload bytes of its stream before it, and how many of its own count.
    pub(crate) bytes: (u64, u64),
}

/// One file being written. Its header comes last.
pub(crate) struct Segment {
    file: Arc<dyn DiskFile>,
    pub(crate) record: SegmentRecord,
    position: u64,
    lsn: Lsn,
    frames: Vec<Frame>,
    payloads: Vec<u8>,
    table_bytes: usize,
    wall_time: Timestamp,
    streams: HashMap<StreamId, FooterStream>,
}

impl Segment {
    /// Creates the file; `record` says what it is, but for its size and its streams.
    pub(crate) fn create(engine: &Engine, record: SegmentRecord) -> io::Result<Self> {
        let path = StoredFile::Segment(record).place().path(&engine.options.directory);
        let file = engine.parts.disk.open(&path, OpenMode::CreateNew)?;
        Ok(Self {
            file,
            record,
            position: SEGMENT_HEADER_BYTES as u64,
            lsn: Lsn(0),
            frames: Vec::new(),
            payloads: Vec::new(),
            table_bytes: 0,
            wall_time: engine.parts.clock.now(),
            streams: HashMap::new(),
        })
    }

    /// Bytes of the file so far, with the group that is put together.
    pub(crate) fn length(&self) -> u64 {
        self.position + (self.payloads.len() + self.table_bytes) as u64
    }

    /// Adds a batch to the group that is put together.
    pub(crate) fn add(&mut self, held: Held) {
        let Held { mut frame, payload, bytes } = held;
        frame.payload_offset = (GROUP_HEADER_BYTES + self.payloads.len()) as u32;
        self.payloads.extend_from_slice(&payload);
        self.table_bytes += frame.encoded_bytes();
        footers::add(&mut self.streams, &frame, self.position, bytes);
        self.frames.push(frame);
    }

    /// True if the group is worth a write.
    pub(crate) fn is_full(&self) -> bool {
        self.payloads.len() + self.table_bytes >= GROUP_BYTES
    }

    /// Writes the group, if there is one; answers its length.
    pub(crate) fn flush(&mut self) -> io::Result<u64> {
        if self.frames.is_empty() {
            return Ok(0);
        }
        let mut table = Vec::with_capacity(self.table_bytes);
        self.frames.iter().for_each(|frame| frame.encode(&mut table));
        let table_offset = GROUP_HEADER_BYTES + self.payloads.len();
        let bytes = self.group(false, &self.payloads, &table, table_offset, self.frames.len());
        self.file.write_at(self.position, &bytes)?;
        self.lsn = self.lsn.next();
        self.position += bytes.len() as u64;
        self.frames.clear();
        self.payloads.clear();
        self.table_bytes = 0;
        Ok(bytes.len() as u64)
    }

    /// Writes the last group, the footer and the header, and syncs.
    pub(crate) fn finish(mut self) -> io::Result<SegmentRecord> {
        self.flush()?;
        let mut streams: Vec<FooterStream> =
            std::mem::take(&mut self.streams).into_values().collect();
        streams.sort_by_key(|entry| entry.stream);
        let ends = streams.first().zip(streams.last());
        let ends = ends.map(|(first, last)| (first.stream, last.stream));
        let mut body = Vec::new();
        Footer { next: None, streams }.encode(&mut body);
        let seal = self.group(true, &[], &body, GROUP_HEADER_BYTES, 0);
        self.file.write_at(self.position, &seal)?;
        let mut record = self.record;
        record.end = self.position;
        record.size = self.position + seal.len() as u64;
        record.streams = ends.unwrap_or_default();
        self.file.write_at(0, &SegmentHeader(record).encode())?;
        barrier("the sync of a merge's output", || self.file.sync())?;
        Ok(record)
    }

    fn group(
        &self,
        is_seal: bool,
        payloads: &[u8],
        table: &[u8],
        table_offset: usize,
        frames: usize,
    ) -> Vec<u8> {
        let lsn = self.lsn.next();
        let number = FileSequence(self.record.merge);
        let salted = Salted::new(&self.record.salt, number, lsn.0);
        let length = round_up(table_offset + table.len());
        let header = GroupHeader {
            is_seal,
            sequence: number,
            lsn,
            length: length as u32,
            entries: frames as u32,
            frames: frames as u32,
            table_offset: table_offset as u32,
            table_bytes: table.len() as u32,
            table_crc: salted.crc(table),
            ends: 0,
            reach: 0,
            wall_time: self.wall_time,
        };
        let mut bytes = Vec::with_capacity(length);
        header.encode(salted, &mut bytes);
        bytes.put_slice(payloads);
        bytes.put_slice(table);
        bytes.resize(length, 0);
        bytes
    }
}

/// Removes an output that nobody will name.
pub(crate) fn remove(engine: &Engine, merge: u64, part: u32) {
    let path = Place::Segment { merge, part }.path(&engine.options.directory);
    match engine.parts.disk.remove(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::debug!(%error, path = %path.display(), "it is removed by the next start");
        }
        _ => {}
    }
}
