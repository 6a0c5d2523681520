//! Records as they come from the log, batch by batch.

use std::time::SystemTime;

use bytes::Bytes;
use meshlog_proto::server_v1;

use crate::{
    Error, Record, Result, batch,
    error::{Code, reason},
    time,
};

/// A run of records of one partition, in offset order, appended together.
///
/// Records are decoded when they are iterated; [`ConsumedBatch::bytes`] gives the stored encoding
/// untouched.
#[derive(Clone, Debug)]
pub struct ConsumedBatch {
    partition: u32,
    base_offset: u64,
    count: u32,
    offset_deltas: Vec<u32>,
    append_time: SystemTime,
    schema_version: u32,
    bytes: Bytes,
    /// Records with offsets in `from..until` are wanted; the batch may hold others around them.
    from: u64,
    until: u64,
}

/// One record and where it is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The partition.
    pub partition: u32,
    /// Its offset in that partition.
    pub offset: u64,
    /// The broker's time of the append.
    pub append_time: SystemTime,
    /// The product's schema version it was checked against.
    pub schema_version: u32,
    /// The record.
    pub record: Record,
}

impl From<server_v1::StoredBatch> for ConsumedBatch {
    fn from(stored: server_v1::StoredBatch) -> Self {
        let mut batch = Self {
            partition: stored.partition,
            base_offset: stored.base_offset,
            count: stored.count,
            offset_deltas: stored.offset_deltas,
            append_time: time::from_wire(stored.append_time),
            schema_version: stored.schema_version,
            bytes: stored.batch,
            from: 0,
            until: u64::MAX,
        };
        batch.from = batch.offset_at(stored.skip);
        batch
    }
}

impl ConsumedBatch {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The broker's time of the append.
    #[must_use]
    pub fn append_time(&self) -> SystemTime {
        self.append_time
    }

    /// The product's schema version the records were checked against.
    #[must_use]
    pub fn schema_version(&self) -> u32 {
        self.schema_version
    }

    /// Number of records that [`ConsumedBatch::records`] gives.
    #[must_use]
    pub fn len(&self) -> usize {
        (0..self.count).filter(|n| self.wants(self.offset_at(*n))).count()
    }

    /// Whether there is no record that was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_offset().is_none()
    }

    /// Offset of the first record asked for.
    #[must_use]
    pub fn first_offset(&self) -> Option<u64> {
        (0..self.count).map(|n| self.offset_at(n)).find(|offset| self.wants(*offset))
    }

    /// Offset of the last record asked for.
    #[must_use]
    pub fn last_offset(&self) -> Option<u64> {
        (0..self.count).rev().map(|n| self.offset_at(n)).find(|offset| self.wants(*offset))
    }

    /// The records asked for, in offset order. Their fields are slices of the batch.
    #[must_use]
    pub fn records(&self) -> Records {
        Records { rest: self.bytes.clone(), batch: self.clone(), index: 0 }
    }

    /// The protobuf encoding of `meshlog.v1.RecordBatch` as the producer sent it. It may begin and
    /// end with records that were not asked for; see [`ConsumedBatch::stored_offsets`].
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Offsets of all records in [`ConsumedBatch::bytes`].
    pub fn stored_offsets(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.count).map(|n| self.offset_at(n))
    }

    /// Drops records outside `from..until` in addition to those already dropped.
    pub(crate) fn narrow(&mut self, from: u64, until: u64) {
        self.from = self.from.max(from);
        self.until = self.until.min(until);
    }

    /// One past the last record of the stored batch, asked for or not.
    pub(crate) fn end(&self) -> u64 {
        match self.count.checked_sub(1) {
            Some(last) => self.offset_at(last).saturating_add(1),
            None => self.base_offset,
        }
    }

    fn wants(&self, offset: u64) -> bool {
        (self.from..self.until).contains(&offset)
    }

    fn offset_at(&self, index: u32) -> u64 {
        let delta = self.offset_deltas.get(index as usize).copied().unwrap_or(index);
        self.base_offset.saturating_add(u64::from(delta))
    }
}

/// Iterates the records of a batch. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Records {
    batch: ConsumedBatch,
    rest: Bytes,
    index: u32,
}

impl Iterator for Records {
    type Item = Result<ConsumedRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.index == self.batch.count {
                return None;
            }
            let record = match batch::next_record(&mut self.rest) {
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    self.index = self.batch.count;
                    return Some(Err(error));
                }
                None => {
                    let message = format!(
                        "the batch at offset {} of partition {} has {} of its {} records",
                        self.batch.base_offset, self.batch.partition, self.index, self.batch.count
                    );
                    self.index = self.batch.count;
                    return Some(Err(Error::new(Code::DataLoss, reason::PROTOCOL, message)));
                }
            };
            let offset = self.batch.offset_at(self.index);
            self.index += 1;
            if self.batch.wants(offset) {
                return Some(Ok(ConsumedRecord {
                    partition: self.batch.partition,
                    offset,
                    append_time: self.batch.append_time,
                    schema_version: self.batch.schema_version,
                    record,
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BatchBuilder;

    fn stored(base_offset: u64, values: &[&str], skip: u32, deltas: &[u32]) -> ConsumedBatch {
        let mut builder = BatchBuilder::default();
        for value in values {
            builder.push(*value).unwrap();
        }
        let batch = builder.finish();
        server_v1::StoredBatch {
            partition: 4,
            base_offset,
            count: batch.count(),
            skip,
            offset_deltas: deltas.to_vec(),
            batch: batch.bytes().clone(),
            ..server_v1::StoredBatch::default()
        }
        .into()
    }

    fn read(batch: &ConsumedBatch) -> Vec<(u64, String)> {
        let text = |record: ConsumedRecord| {
            (record.offset, String::from_utf8(record.record.value.unwrap().to_vec()).unwrap())
        };
        batch.records().map(|record| text(record.unwrap())).collect()
    }

    fn pairs(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
    }

    #[test]
    fn offsets_are_dense_unless_deltas_say_otherwise() {
        assert_eq!(read(&stored(7, &["a", "b"], 0, &[])), pairs(&[(7, "a"), (8, "b")]));
        let compacted = stored(7, &["a", "b", "c"], 0, &[0, 5, 9]);
        assert_eq!(read(&compacted), pairs(&[(7, "a"), (12, "b"), (16, "c")]));
        assert_eq!(compacted.end(), 17);
    }

    #[test]
    fn skipped_records_are_decoded_and_dropped_but_keep_their_offsets() {
        let batch = stored(100, &["a", "b", "c"], 2, &[]);
        assert_eq!(read(&batch), pairs(&[(102, "c")]));
        assert_eq!(
            (batch.len(), batch.first_offset(), batch.last_offset()),
            (1, Some(102), Some(102))
        );
        let compacted = stored(100, &["a", "b", "c"], 1, &[0, 4, 8]);
        assert_eq!(read(&compacted), pairs(&[(104, "b"), (108, "c")]));
    }

    #[test]
    fn a_narrowed_batch_gives_only_the_range_and_can_become_empty() {
        let mut batch = stored(10, &["a", "b", "c", "d"], 1, &[]);
        batch.narrow(0, 13);
        assert_eq!(read(&batch), pairs(&[(11, "b"), (12, "c")]));
        batch.narrow(13, u64::MAX);
        assert!(batch.is_empty() && read(&batch).is_empty());
    }

    #[test]
    fn a_batch_with_fewer_records_than_it_says_is_an_error_and_then_the_end() {
        let mut batch = stored(0, &["a", "b"], 0, &[]);
        batch.count = 3;
        let mut records = batch.records();
        assert!(records.next().unwrap().is_ok());
        assert!(records.next().unwrap().is_ok());
        assert_eq!(records.next().unwrap().unwrap_err().reason(), reason::PROTOCOL);
        assert!(records.next().is_none());
    }
}
