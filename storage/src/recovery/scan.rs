//! Reading the groups of one file in order, from a disk that may hold anything.

use std::io;
use std::sync::Arc;

use crate::disk::{BLOCK, DiskFile};
use crate::format::{Frame, GROUP_HEADER_BYTES, GroupHeader, Malformed, Salted, StreamEnd, Table};
use crate::position::{FileSequence, Lsn};
use crate::sabotage::skips;

const WINDOW: usize = 256 << 10;

/// A group whose header and table check. Its payloads were not looked at.
#[derive(Clone, Debug)]
pub(crate) struct ScannedGroup {
    pub(crate) position: u64,
    pub(crate) header: GroupHeader,
    pub(crate) frames: Vec<Frame>,
    /// Where the streams of the last group with batches before it stood.
    pub(crate) ends: Vec<StreamEnd>,
    /// Of a seal.
    pub(crate) table: Vec<u8>,
}

/// One life of one file.
pub(crate) struct Scanner {
    file: Arc<dyn DiskFile>,
    salt: [u8; 16],
    sequence: FileSequence,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
    bytes_read: u64,
}

impl Scanner {
    pub(crate) fn new(file: Arc<dyn DiskFile>, salt: [u8; 16], sequence: FileSequence) -> Self {
        Self::with_window(file, salt, sequence, WINDOW)
    }

    /// Reads so much at once.
    pub(crate) fn with_window(
        file: Arc<dyn DiskFile>,
        salt: [u8; 16],
        sequence: FileSequence,
        window_bytes: usize,
    ) -> Self {
        let window = Vec::new();
        Self { file, salt, sequence, window, window_start: 0, window_bytes, bytes_read: 0 }
    }

    /// Bytes read from the file so far.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// The group at a position, if it checks and ends by `limit`.
    pub(crate) fn group(
        &mut self,
        position: u64,
        limit: u64,
    ) -> io::Result<Result<ScannedGroup, Malformed>> {
        let (salt, sequence) = (self.salt, self.sequence);
        let bytes =
            self.read(position, GROUP_HEADER_BYTES.min(to_usize(limit.saturating_sub(position))))?;
        let header = match GroupHeader::decode(&salt, sequence, bytes) {
            Ok(header) => header,
            Err(why) => return Ok(Err(why)),
        };
        if position + u64::from(header.length) > limit {
            return Ok(Err(Malformed("it goes on after the end of its file")));
        }
        let salted = Salted::new(&salt, sequence, header.lsn.0);
        let table_position = position + u64::from(header.table_offset);
        let table = self.read(table_position, header.table_bytes as usize)?;
        if table.len() != header.table_bytes as usize
            || (salted.crc(table) != header.table_crc
                && !skips("the checksum of a table in recovery"))
        {
            return Ok(Err(Malformed("its frame table checksum differs")));
        }
        if header.is_seal {
            let table = table.to_vec();
            let (frames, ends) = (Vec::new(), Vec::new());
            return Ok(Ok(ScannedGroup { position, header, frames, ends, table }));
        }
        let table = Table::decode(&header, table);
        Ok(table.map(|Table { frames, ends }| ScannedGroup {
            position,
            header,
            frames,
            ends,
            table: Vec::new(),
        }))
    }

    /// The first whole group after `position` that is newer than `lsn`.
    pub(crate) fn find_newer(
        &mut self,
        position: u64,
        limit: u64,
        lsn: Lsn,
    ) -> io::Result<Option<ScannedGroup>> {
        let mut at = position + BLOCK as u64;
        while at < limit {
            if let Ok(group) = self.group(at, limit)?
                && group.header.lsn > lsn
            {
                return Ok(Some(group));
            }
            at += BLOCK as u64;
        }
        Ok(None)
    }

    /// The whole bytes of a group.
    pub(crate) fn bytes(&mut self, group: &ScannedGroup) -> io::Result<Vec<u8>> {
        let length = group.header.length as usize;
        let mut bytes = vec![0; length];
        let read = self.file.read_at(group.position, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The payload of one frame.
    pub(crate) fn payload(&mut self, group: &ScannedGroup, frame: &Frame) -> io::Result<&[u8]> {
        let position = group.position + u64::from(frame.payload_offset);
        self.read(position, frame.payload_bytes as usize)
    }

    /// Bytes as they are; fewer only at the end of the file.
    pub(crate) fn read(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u64;
        let is_inside = position >= self.window_start && position + length as u64 <= window_end;
        if !is_inside {
            self.window.resize(length.max(self.window_bytes), 0);
            let read = self.file.read_at(position, &mut self.window)?;
            self.window.truncate(read);
            self.window_start = position;
            self.bytes_read += read as u64;
        }
        let start = to_usize(position - self.window_start);
        let end = (start + length).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
