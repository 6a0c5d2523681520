//! Reading one group's header and frame table from a file.

use bytes::Bytes;

use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::files::ReadableFile;
use crate::format::{Frame, GROUP_HEADER_BYTES, GroupHeader, Malformed, Salted, Table};
use crate::position::Offset;
use crate::sabotage::skips;

/// The header and the frames of the group at a position.
pub(crate) fn read_group(
    engine: &Engine,
    file: &ReadableFile,
    position: u64,
) -> Result<(GroupHeader, Vec<Frame>)> {
    let damaged = |why: Malformed| {
        Error::new(
            ErrorKind::Corrupt { next_readable: Offset(0) },
            format!("{} is damaged at {position}: {why}", file.key),
        )
    };
    let bytes = engine.chunks.read(engine, file, position, GROUP_HEADER_BYTES)?;
    let header = GroupHeader::decode(&file.salt, file.number(), &bytes).map_err(damaged)?;
    if header.is_seal || header.frames == 0 {
        return Ok((header, Vec::new()));
    }
    let table_position = position + u64::from(header.table_offset);
    let table = engine.chunks.read(engine, file, table_position, header.table_bytes as usize)?;
    let salted = Salted::new(&file.salt, file.number(), header.lsn.0);
    if salted.crc(&table) != header.table_crc && !skips("the checksum of a table in reading") {
        return Err(damaged(Malformed("frame table checksum differs")));
    }
    let table = Table::decode(&header, &table).map_err(damaged)?;
    Ok((header, table.frames))
}

/// The payload of a frame, its checksum verified.
pub(crate) fn read_payload(
    engine: &Engine,
    file: &ReadableFile,
    position: u64,
    frame: &Frame,
) -> Result<Bytes> {
    let at = position + u64::from(frame.payload_offset);
    let payload = engine.chunks.read(engine, file, at, frame.payload_bytes as usize)?;
    if crc32fast::hash(&payload) != frame.payload_crc
        && !skips("the checksum of a payload in reading")
    {
        return Err(Error::new(
            ErrorKind::Corrupt { next_readable: frame.end() },
            format!(
                "offsets {} to {} of stream {} are damaged in {} at {at}; reading can go on at {}",
                frame.base_offset,
                Offset(frame.end().0 - 1),
                frame.stream,
                file.key,
                frame.end()
            ),
        ));
    }
    Ok(payload)
}
