//! The envelope, one record as one line of JSON, for the records of the client. The format is
//! [`meshlog_broker::record::envelope`].

use jiff::Timestamp;
use meshlog_broker::record::envelope;
use meshlog_client::{Record, proto};

pub(crate) use envelope::json_error;

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    /// The partition.
    pub(crate) partition: u32,
    /// The offset in it.
    pub(crate) offset: u64,
    /// When the broker appended it.
    pub(crate) append_time: Timestamp,
}

/// Appends one record to `out` as one line, with the line feed.
pub(crate) fn write(out: &mut Vec<u8>, position: Position, record: &Record) {
    let Position { partition, offset, append_time } = position;
    let append_time = prost_types::Timestamp {
        seconds: append_time.as_second(),
        nanos: append_time.subsec_nanosecond(),
    };
    let headers = record.headers.iter();
    let record = proto::Record {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers
            .map(|header| proto::Header { name: header.name.clone(), value: header.value.clone() })
            .collect(),
        event_time_unix_nano: record.event_time_unix_nano,
    };
    envelope::write(out, envelope::Position { partition, offset, append_time }, &record);
    out.push(b'\n');
}

/// Reads what [`write()`] wrote; an error is a sentence without the line number.
pub(crate) fn read(line: &[u8]) -> Result<Record, String> {
    envelope::read(line).map(Record::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_client_comes_back_from_its_line() {
        let record = Record::new(r#"{"delay":2}"#).key("N14228").header("origin", "tower");
        let position = Position { partition: 1, offset: 7, append_time: Timestamp::UNIX_EPOCH };
        let mut line = Vec::new();
        write(&mut line, position, &record);
        assert!(line.ends_with(b"]}\n"), "{line:?}");
        assert_eq!(read(line.trim_ascii_end()), Ok(record));
    }
}
