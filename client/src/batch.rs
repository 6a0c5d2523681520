//! Record batches in their wire encoding: built record by record, read back record by record.
//!
//! ```text
//!  RecordBatch = { 0x0A  length (varint)  Record }*
//! ```
//!
//! Records are encoded straight into the batch, so a record costs no allocation, and the batch is
//! sent as it is.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meshlog_proto::v1;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field},
};

use crate::{
    Error, Record, RecordRef, Result,
    error::{Code, reason},
    record::delimited_len,
};

/// Field 1 of `RecordBatch`, length-delimited.
const RECORD: u8 = 1 << 3 | 2;

/// Largest encoding of one record that the broker takes, in bytes.
pub(crate) const MAX_RECORD_BYTES: usize = 1 << 20;

/// Largest batch of one request, in bytes: 4 MiB less what stands around it.
pub(crate) const MAX_BATCH_BYTES: usize = (4 << 20) - 1024;

/// Records of one append request, encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncodedBatch {
    bytes: Bytes,
    count: u32,
}

impl EncodedBatch {
    /// Records in the batch.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The protobuf encoding of `meshlog.v1.RecordBatch`.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Encodes records one after the other into one batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: BytesMut,
    count: u32,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(capacity), count: 0 }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// `TOO_LARGE` if the record is larger than 1 MiB or the batch would outgrow one request
    /// (4 MiB); the batch is unchanged then.
    pub fn push<'a>(&mut self, record: impl Into<RecordRef<'a>>) -> Result<()> {
        let record = record.into();
        let len = record_len(&record)?;
        if self.len() + delimited_len(len) > MAX_BATCH_BYTES {
            return Err(Error::new(
                Code::InvalidArgument,
                reason::TOO_LARGE,
                format!("the batch would be larger than {MAX_BATCH_BYTES} bytes; send it in parts"),
            ));
        }
        self.put(&record, len);
        Ok(())
    }

    /// Adds a record whose length was computed and checked.
    pub(crate) fn put(&mut self, record: &RecordRef<'_>, len: usize) {
        self.bytes.reserve(delimited_len(len));
        self.bytes.put_u8(RECORD);
        encode_varint(len as u64, &mut self.bytes);
        record.encode(&mut self.bytes);
        self.count += 1;
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished batch.
    #[must_use]
    pub fn finish(self) -> EncodedBatch {
        EncodedBatch { bytes: self.bytes.freeze(), count: self.count }
    }
}

/// Length of the record's encoding, if the broker would take it.
pub(crate) fn record_len(record: &RecordRef<'_>) -> Result<usize> {
    match record.encoded_len() {
        len if len <= MAX_RECORD_BYTES => Ok(len),
        len => Err(Error::new(
            Code::InvalidArgument,
            reason::TOO_LARGE,
            format!(
                "a record of {len} bytes is larger than the limit of {MAX_RECORD_BYTES} bytes; \
                 store the payload elsewhere and append a reference to it"
            ),
        )),
    }
}

/// Takes the next record from the front of an encoded batch; `None` at its end. The record's fields
/// are slices of the batch.
pub(crate) fn next_record(batch: &mut Bytes) -> Option<Result<Record>> {
    read_record(batch).transpose().map(|read| {
        read.map_err(|error| {
            batch.clear();
            Error::new(
                Code::DataLoss,
                reason::PROTOCOL,
                format!("a batch from the broker cannot be read as records: {error}"),
            )
        })
    })
}

fn read_record(batch: &mut Bytes) -> Result<Option<Record>, String> {
    let text = |error: prost::DecodeError| error.to_string();
    while batch.has_remaining() {
        let (field, wire_type) = decode_key(batch).map_err(text)?;
        if field != 1 || wire_type != WireType::LengthDelimited {
            skip_field(wire_type, field, batch, DecodeContext::default()).map_err(text)?;
            continue;
        }
        let len = decode_varint(batch).map_err(text)?;
        let len = usize::try_from(len).ok().filter(|len| *len <= batch.len());
        let record = batch.split_to(len.ok_or("a record is cut short")?);
        return v1::Record::decode(record).map(|record| Some(record.into())).map_err(text);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_reads_back_record_by_record_without_copies() {
        let records =
            [Record::new("a").key("k"), Record::tombstone("k"), Record::new(vec![7; 300])];
        let mut builder = BatchBuilder::default();
        for record in &records {
            builder.push(record).unwrap();
        }
        let batch = builder.finish();
        assert_eq!(batch.count(), 3);
        let decoded = v1::RecordBatch::decode(batch.bytes().clone()).unwrap();
        assert_eq!(decoded.records.len(), 3);

        let mut rest = batch.bytes().clone();
        for record in records {
            let read = next_record(&mut rest).unwrap().unwrap();
            if let Some(value) = &read.value {
                assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
            }
            assert_eq!(read, record);
        }
        assert!(next_record(&mut rest).is_none());
    }

    #[test]
    fn unknown_fields_between_records_are_stepped_over() {
        let mut batch = Bytes::from_static(&[0x7a, 1, b'x', 0x0a, 3, 0x12, 1, b'v', 0x10, 9]);
        assert_eq!(next_record(&mut batch).unwrap().unwrap(), Record::new("v"));
        assert!(next_record(&mut batch).is_none());
    }

    #[test]
    fn a_batch_cut_short_is_an_error_and_then_the_end() {
        let mut builder = BatchBuilder::default();
        builder.push("value").unwrap();
        let whole = builder.finish().bytes().clone();
        for cut in 1..whole.len() {
            let mut batch = whole.slice(..cut);
            let error = next_record(&mut batch).unwrap().unwrap_err();
            assert_eq!(error.reason(), reason::PROTOCOL, "cut at {cut}");
            assert!(next_record(&mut batch).is_none());
        }
    }

    #[test]
    fn a_record_or_batch_too_large_for_a_request_is_refused_and_changes_nothing() {
        let mut builder = BatchBuilder::default();
        let error = builder.push(&vec![0; MAX_RECORD_BYTES][..]).unwrap_err();
        assert_eq!((error.reason(), builder.count()), (reason::TOO_LARGE, 0));
        for _ in 0..3 {
            builder.push(&vec![0; MAX_RECORD_BYTES - 5][..]).unwrap();
        }
        let len = builder.len();
        let error = builder.push(&vec![0; MAX_RECORD_BYTES - 5][..]).unwrap_err();
        assert_eq!((error.reason(), builder.count(), builder.len()), (reason::TOO_LARGE, 3, len));
    }
}
