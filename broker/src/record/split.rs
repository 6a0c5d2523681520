//! Cuts one append request into the batches to store, in the one walk that also checks it.
//!
//! The parts are entries of the request as the producer encoded them: one slice of the request
//! where its records stay together, a copy of the entries where keys scatter them.

use bytes::{Bytes, BytesMut};

use super::batch::{RecordView, records};
use super::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_LISTED_RECORDS};
use super::partitioner::partition_of;
use crate::error::{Error, Reason, Result};
use crate::schema::{RecordValidator, Rejection};

/// Where the records of a request go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Routing {
    /// All to this partition.
    To(u32),
    /// By key; records without one to `sticky`.
    ByKey { partitions: u32, sticky: u32 },
}

/// One batch to store: at most [`MAX_BATCH_BYTES`] and [`MAX_BATCH_RECORDS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) partition: u32,
    pub(crate) payload: Bytes,
    pub(crate) count: u32,
}

/// A request, cut. Parts of one partition follow one another in the order of its records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) parts: Vec<Part>,
    /// The partition of each record, unless all went to one.
    pub(crate) record_partitions: Vec<u32>,
}

/// Walks, checks and cuts a request. Either all of it is good or nothing is returned.
pub(crate) fn split(
    batch: &Bytes,
    routing: Routing,
    validator: Option<&dyn RecordValidator>,
) -> Result<Split> {
    let mut rejected = Rejected::default();
    let mut check = |index: u32, record: &RecordView<'_>| match validator {
        Some(validator) => match validator.check(record.key, record.value) {
            Ok(()) => true,
            Err(rejection) => rejected.add(index, rejection),
        },
        None => true,
    };
    let split = match routing {
        Routing::To(partition) => in_one_piece(batch, partition, &mut check)?,
        Routing::ByKey { partitions, sticky } => by_key(batch, partitions, sticky, &mut check)?,
    };
    rejected.into_result()?;
    Ok(split)
}

type Check<'a> = dyn FnMut(u32, &RecordView<'_>) -> bool + 'a;

fn in_one_piece(batch: &Bytes, partition: u32, check: &mut Check<'_>) -> Result<Split> {
    let mut split = Split::default();
    let (mut start, mut end, mut count) = (0, 0, 0);
    for (index, record) in (0..).zip(records(batch)) {
        let record = record?;
        if !check(index, &record) {
            break;
        }
        if count == MAX_BATCH_RECORDS || record.entry.end - start > MAX_BATCH_BYTES {
            split.parts.push(Part { partition, payload: batch.slice(start..end), count });
            (start, count) = (end, 0);
        }
        end = record.entry.end;
        count += 1;
    }
    split.parts.push(Part { partition, payload: batch.slice(start..end), count });
    Ok(split)
}

/// The part of a partition that still takes records.
struct Open {
    payload: BytesMut,
    count: u32,
}

fn by_key(batch: &Bytes, partitions: u32, sticky: u32, check: &mut Check<'_>) -> Result<Split> {
    let mut split = Split::default();
    let mut open: Vec<Option<Open>> = Vec::new();
    open.resize_with(partitions as usize, || None);
    // An even share and some more, so that most parts never grow.
    let share = batch.len() / partitions as usize * 5 / 4 + 256;
    for (index, record) in (0..).zip(records(batch)) {
        let record = record?;
        if !check(index, &record) {
            break;
        }
        let partition = record.key.map_or(sticky, |key| partition_of(key, partitions));
        let entry = &batch[record.entry];
        let slot = &mut open[partition as usize];
        if slot.as_ref().is_some_and(|part| {
            part.count == MAX_BATCH_RECORDS || part.payload.len() + entry.len() > MAX_BATCH_BYTES
        }) {
            split.parts.extend(slot.take().map(|part| part.close(partition)));
        }
        let part =
            slot.get_or_insert_with(|| Open { payload: BytesMut::with_capacity(share), count: 0 });
        part.payload.extend_from_slice(entry);
        part.count += 1;
        split.record_partitions.push(partition);
    }
    for (partition, part) in (0..).zip(open) {
        split.parts.extend(part.map(|part| part.close(partition)));
    }
    // Full parts were closed before the rest; a stable sort keeps their order.
    split.parts.sort_by_key(|part| part.partition);
    if split.parts.iter().all(|part| part.partition == split.parts[0].partition) {
        split.record_partitions.clear();
    }
    Ok(split)
}

impl Open {
    fn close(self, partition: u32) -> Part {
        Part { partition, payload: self.payload.freeze(), count: self.count }
    }
}

/// Records that a validator refused: the first in full, the others by index.
#[derive(Default)]
struct Rejected {
    indexes: Vec<u32>,
    first: Option<Rejection>,
    violations: Vec<(String, String)>,
}

/// Refusals described one by one; the rest are only counted among the indexes, because error
/// details travel in a header that some clients limit to 8 KiB.
const MAX_DESCRIBED: usize = 10;

impl Rejected {
    /// Notes a rejection; says whether to go on looking for more.
    fn add(&mut self, index: u32, rejection: Rejection) -> bool {
        self.indexes.push(index);
        if self.violations.len() < MAX_DESCRIBED {
            self.violations.push((
                format!("batch.records[{index}]"),
                format!("{}: {}", rejection.path, sentence(&rejection)),
            ));
        }
        self.first.get_or_insert(rejection);
        self.indexes.len() < MAX_LISTED_RECORDS
    }

    fn into_result(self) -> Result<()> {
        let (Some(first), Some(index)) = (self.first, self.indexes.first()) else {
            return Ok(());
        };
        let reason = if first.key_mismatch { Reason::KeyMismatch } else { Reason::SchemaRejected };
        let more = match self.indexes.len() - 1 {
            0 => String::new(),
            more if self.indexes.len() == MAX_LISTED_RECORDS => {
                format!("; at least {more} more records are refused")
            }
            1 => "; 1 more record is refused".to_owned(),
            more => format!("; {more} more records are refused"),
        };
        let message = format!(
            "record {index} at {}: {}{more}; nothing of the batch was appended",
            clip(&first.path),
            sentence(&first),
        );
        let listed: Vec<String> = self.indexes.iter().map(u32::to_string).collect();
        let error = Error::new(reason, message)
            .with("records", listed.join(","))
            .with("path", clip(&first.path))
            .with("expected", clip(&first.expected))
            .with("found", clip(&first.found));
        Err(self
            .violations
            .into_iter()
            .fold(error, |error, (field, description)| error.with_violation(field, description)))
    }
}

fn sentence(rejection: &Rejection) -> String {
    format!("expected {}, found {}", clip(&rejection.expected), clip(&rejection.found))
}

/// At most 160 bytes of a text that may come from a record.
fn clip(text: &str) -> String {
    const LONGEST: usize = 160;
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let mut end = LONGEST;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use meshlog_proto::v1;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn batch_of(records: impl IntoIterator<Item = (Option<Vec<u8>>, Vec<u8>)>) -> Bytes {
        let records = records
            .into_iter()
            .map(|(key, value)| v1::Record {
                key: key.map(Bytes::from),
                value: Some(Bytes::from(value)),
                ..v1::Record::default()
            })
            .collect();
        Bytes::from(v1::RecordBatch { records }.encode_to_vec())
    }

    struct OnlyEven;

    impl RecordValidator for OnlyEven {
        fn check(&self, _key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Rejection> {
            let value = value.unwrap_or_default();
            if value.first().is_none_or(|byte| byte % 2 == 0) {
                return Ok(());
            }
            Err(Rejection {
                path: "$".to_owned(),
                expected: "an even number".to_owned(),
                found: format!("{}", value[0]),
                key_mismatch: false,
            })
        }
    }

    #[test]
    fn a_request_to_one_partition_is_stored_as_the_very_bytes_that_came() {
        let batch = batch_of([(None, vec![1; 10]), (Some(vec![1]), vec![2; 20])]);
        let split = split(&batch, Routing::To(3), None).unwrap();
        assert_eq!(split.parts, [Part { partition: 3, payload: batch.clone(), count: 2 }]);
        assert_eq!(split.parts[0].payload.as_ptr(), batch.as_ptr(), "no copy");
        assert!(split.record_partitions.is_empty());
    }

    #[test]
    fn a_long_request_is_cut_at_record_boundaries() {
        let batch = batch_of((0..5).map(|n| (None, vec![n; 900 << 10])));
        let split = split(&batch, Routing::To(0), None).unwrap();
        assert_eq!(split.parts.iter().map(|part| part.count).collect::<Vec<_>>(), [2, 2, 1]);
        let joined: Vec<u8> = split.parts.iter().flat_map(|part| part.payload.to_vec()).collect();
        assert_eq!(joined, batch);
        assert!(split.parts.iter().all(|part| part.payload.len() <= MAX_BATCH_BYTES));
    }

    #[test]
    fn a_stored_batch_has_at_most_ten_thousand_records() {
        let batch = batch_of((0..20_001).map(|_| (None, Vec::new())));
        let split = split(&batch, Routing::To(0), None).unwrap();
        assert_eq!(
            split.parts.iter().map(|part| part.count).collect::<Vec<_>>(),
            [10_000, 10_000, 1]
        );
    }

    #[test]
    fn the_first_bad_record_is_described_and_all_are_listed() {
        let batch = batch_of([2, 3, 4, 5].map(|byte| (None, vec![byte])));
        let error = split(&batch, Routing::To(0), Some(&OnlyEven)).unwrap_err();
        assert_eq!(error.reason(), Reason::SchemaRejected);
        assert_eq!(
            error.to_string(),
            "record 1 at $: expected an even number, found 3; 1 more record is refused; nothing \
             of the batch was appended"
        );
        assert_eq!(error.metadata()["records"], "1,3");
        assert_eq!(error.violations()[1].field, "batch.records[3]");
    }

    #[test]
    fn at_most_a_hundred_bad_records_are_listed() {
        let batch = batch_of((0..1_000).map(|_| (None, vec![1])));
        let error = split(&batch, Routing::To(0), Some(&OnlyEven)).unwrap_err();
        assert_eq!(error.metadata()["records"].split(',').count(), 100);
        assert!(error.to_string().contains("at least 99 more"), "{error}");
    }

    proptest! {
        #[test]
        fn a_split_by_key_loses_nothing_and_keeps_the_order_within_a_partition(
            keys in prop::collection::vec(prop::option::of(0_u8..20), 1..200),
            partitions in 1_u32..7,
        ) {
            let records: Vec<_> = keys
                .iter()
                .enumerate()
                .map(|(index, key)| (key.map(|key| vec![key]), index.to_string().into_bytes()))
                .collect();
            let batch = batch_of(records.clone());
            let split = split(&batch, Routing::ByKey { partitions, sticky: 0 }, None).unwrap();
            let expected: Vec<u32> = records
                .iter()
                .map(|(key, _)| key.as_ref().map_or(0, |key| partition_of(key, partitions)))
                .collect();
            for partition in 0..partitions {
                let wanted: Vec<Vec<u8>> = records
                    .iter()
                    .zip(&expected)
                    .filter(|(_, at)| **at == partition)
                    .map(|((_, value), _)| value.clone())
                    .collect();
                let parts = split.parts.iter().filter(|part| part.partition == partition);
                let found: Vec<Vec<u8>> = parts
                    .flat_map(|part| v1::RecordBatch::decode(part.payload.clone()).unwrap().records)
                    .map(|record| record.value.unwrap().to_vec())
                    .collect();
                prop_assert_eq!(found, wanted);
            }
            let several = expected.iter().any(|partition| *partition != expected[0]);
            prop_assert_eq!(split.record_partitions, if several { expected } else { Vec::new() });
        }
    }
}
