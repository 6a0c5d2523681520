//! Cuts one append request into the batches to store, in the one walk that also checks it.
//!
//! The parts are entries of the request as the producer encoded them: one slice of the request
//! where its records stay together, a copy of the entries where keys scatter them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::batch::{RecordView, records};
use super::limits::{
    MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_LISTED_RECORDS, MAX_QUARANTINED_RECORDS,
};
use super::partitioner::partition_of;
use crate::error::{Error, Result};
use crate::schema::{Handling, RecordValidator, Rejection};

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
    /// Records that do not conform: all of those that are in no part, or the first that are.
    pub(crate) bad: Vec<Bad>,
    /// How many do not conform.
    pub(crate) bad_records: u32,
}

/// A record that does not conform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Its index in the request.
    pub(crate) index: u32,
    /// Where it would have gone.
    pub(crate) partition: u32,
    /// Where it lies in the request.
    pub(crate) entry: Range<usize>,
    pub(crate) rejection: Rejection,
}

/// What is to be done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Take,
    LeaveOut,
    /// All are refused, and enough is known of why.
    Stop,
}

/// Walks, checks and cuts a request. Either all of it is good or nothing is returned.
pub(crate) fn split(
    batch: &Bytes,
    routing: Routing,
    validator: Option<&dyn RecordValidator>,
    handling: Handling,
) -> Result<Split> {
    let mut rejected = Rejected::default();
    let (mut bad, mut bad_records) = (Vec::new(), 0_u32);
    let mut check = |index: u32, partition: u32, record: &RecordView<'_>| {
        let Some(validator) = validator else { return Verdict::Take };
        let Err(rejection) = validator.check(record.key, record.value) else {
            return Verdict::Take;
        };
        bad_records += 1;
        let entry = record.entry.clone();
        match handling {
            Handling::Refuse => {}
            Handling::Warn => {
                let broken = validator.is_unacceptable(&rejection, record.key, record.value);
                let Some(broken) = broken else {
                    if bad.len() < MAX_LISTED_RECORDS {
                        bad.push(Bad { index, partition, entry, rejection });
                    }
                    return Verdict::Take;
                };
                return rejected.add(index, broken);
            }
            Handling::Quarantine if bad.len() < MAX_QUARANTINED_RECORDS => {
                bad.push(Bad { index, partition, entry, rejection });
                return Verdict::LeaveOut;
            }
            // So many say that it is not the records which are wrong.
            Handling::Quarantine => {
                for bad in bad.drain(..) {
                    rejected.add(bad.index, bad.rejection);
                }
            }
        }
        rejected.add(index, rejection)
    };
    let mut split = match routing {
        Routing::To(partition) => in_one_piece(batch, partition, &mut check)?,
        Routing::ByKey { partitions, sticky } => by_key(batch, partitions, sticky, &mut check)?,
    };
    rejected.into_result()?;
    (split.bad, split.bad_records) = (bad, bad_records);
    Ok(split)
}

type Check<'a> = dyn FnMut(u32, u32, &RecordView<'_>) -> Verdict + 'a;

fn in_one_piece(batch: &Bytes, partition: u32, check: &mut Check<'_>) -> Result<Split> {
    let mut split = Split::default();
    let (mut start, mut end, mut count) = (0, 0, 0);
    // Once a record is left out, those behind it do not lie together with those before it.
    let mut rest: Option<Open> = None;
    for (index, record) in (0..).zip(records(batch)) {
        let record = record?;
        match check(index, partition, &record) {
            Verdict::Take => {}
            Verdict::LeaveOut => {
                if rest.is_none() {
                    split.parts.push(Part { partition, payload: batch.slice(start..end), count });
                    rest = Some(Open::of(batch.len() - record.entry.end));
                }
                continue;
            }
            Verdict::Stop => break,
        }
        if let Some(open) = &mut rest {
            split.parts.extend(open.add(&batch[record.entry], partition));
            continue;
        }
        if count == MAX_BATCH_RECORDS || record.entry.end - start > MAX_BATCH_BYTES {
            split.parts.push(Part { partition, payload: batch.slice(start..end), count });
            (start, count) = (end, 0);
        }
        end = record.entry.end;
        count += 1;
    }
    if rest.is_none() {
        split.parts.push(Part { partition, payload: batch.slice(start..end), count });
    }
    split.parts.extend(rest.map(|open| open.close(partition)));
    split.parts.retain(|part| part.count > 0);
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
        let partition = record.key.map_or(sticky, |key| partition_of(key, partitions));
        match check(index, partition, &record) {
            Verdict::Take => {
                let slot = &mut open[partition as usize];
                let part = slot.get_or_insert_with(|| Open::of(share));
                split.parts.extend(part.add(&batch[record.entry], partition));
            }
            Verdict::LeaveOut => {}
            Verdict::Stop => break,
        }
        split.record_partitions.push(partition);
    }
    for (partition, part) in (0..).zip(open) {
        split.parts.extend(part.map(|part| part.close(partition)));
    }
    // Full parts were closed before the rest; a stable sort keeps their order.
    split.parts.sort_by_key(|part| part.partition);
    if split.record_partitions.iter().all(|partition| *partition == split.record_partitions[0]) {
        split.record_partitions.clear();
    }
    Ok(split)
}

impl Open {
    fn of(bytes: usize) -> Self {
        Self { payload: BytesMut::with_capacity(bytes.min(MAX_BATCH_BYTES)), count: 0 }
    }

    /// One entry more; gives what was there before, if that is full.
    fn add(&mut self, entry: &[u8], partition: u32) -> Option<Part> {
        let is_full =
            self.count == MAX_BATCH_RECORDS || self.payload.len() + entry.len() > MAX_BATCH_BYTES;
        let bytes = self.payload.capacity();
        let full = is_full.then(|| std::mem::replace(self, Self::of(bytes)).close(partition));
        self.payload.extend_from_slice(entry);
        self.count += 1;
        full
    }

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
    fn add(&mut self, index: u32, rejection: Rejection) -> Verdict {
        if self.indexes.len() >= MAX_LISTED_RECORDS {
            return Verdict::Stop;
        }
        self.indexes.push(index);
        if self.violations.len() < MAX_DESCRIBED {
            self.violations.push((
                format!("batch.records[{index}]"),
                format!("{}: {}", rejection.path, sentence(&rejection)),
            ));
        }
        self.first.get_or_insert(rejection);
        match self.indexes.len() < MAX_LISTED_RECORDS {
            true => Verdict::Take,
            false => Verdict::Stop,
        }
    }

    fn into_result(self) -> Result<()> {
        let (Some(first), Some(index)) = (self.first, self.indexes.first()) else {
            return Ok(());
        };
        let reason = first.broken.reason();
        let more = match self.indexes.len() - 1 {
            0 => String::new(),
            more if self.indexes.len() == MAX_LISTED_RECORDS => {
                format!("; at least {more} more records are refused")
            }
            1 => "; 1 more record is refused".to_owned(),
            more => format!("; {more} more records are refused"),
        };
        let place = match first.path.as_str() {
            "" => String::new(),
            path => format!(" at {}", clip(path)),
        };
        let message = format!(
            "record {index}{place}: {}{more}; nothing of the batch was appended",
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
pub(super) fn clip(text: &str) -> String {
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

    use crate::error::Reason;
    use crate::schema::Broken;

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
                broken: Broken::Schema,
            })
        }
    }

    #[test]
    fn a_request_to_one_partition_is_stored_as_the_very_bytes_that_came() {
        let batch = batch_of([(None, vec![1; 10]), (Some(vec![1]), vec![2; 20])]);
        let split = split(&batch, Routing::To(3), None, Handling::Refuse).unwrap();
        assert_eq!(split.parts, [Part { partition: 3, payload: batch.clone(), count: 2 }]);
        assert_eq!(split.parts[0].payload.as_ptr(), batch.as_ptr(), "no copy");
        assert!(split.record_partitions.is_empty());
    }

    #[test]
    fn a_long_request_is_cut_at_record_boundaries() {
        let batch = batch_of((0..5).map(|n| (None, vec![n; 900 << 10])));
        let split = split(&batch, Routing::To(0), None, Handling::Refuse).unwrap();
        assert_eq!(split.parts.iter().map(|part| part.count).collect::<Vec<_>>(), [2, 2, 1]);
        let joined: Vec<u8> = split.parts.iter().flat_map(|part| part.payload.to_vec()).collect();
        assert_eq!(joined, batch);
        assert!(split.parts.iter().all(|part| part.payload.len() <= MAX_BATCH_BYTES));
    }

    #[test]
    fn a_stored_batch_has_at_most_ten_thousand_records() {
        let batch = batch_of((0..20_001).map(|_| (None, Vec::new())));
        let split = split(&batch, Routing::To(0), None, Handling::Refuse).unwrap();
        assert_eq!(
            split.parts.iter().map(|part| part.count).collect::<Vec<_>>(),
            [10_000, 10_000, 1]
        );
    }

    #[test]
    fn the_first_bad_record_is_described_and_all_are_listed() {
        let batch = batch_of([2, 3, 4, 5].map(|byte| (None, vec![byte])));
        let error = split(&batch, Routing::To(0), Some(&OnlyEven), Handling::Refuse).unwrap_err();
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
        let error = split(&batch, Routing::To(0), Some(&OnlyEven), Handling::Refuse).unwrap_err();
        assert_eq!(error.metadata()["records"].split(',').count(), 100);
        assert!(error.to_string().contains("at least 99 more"), "{error}");
    }

    #[test]
    fn records_that_are_warned_of_are_stored_as_the_very_bytes_that_came() {
        let batch = batch_of([2, 3, 4, 5].map(|byte| (None, vec![byte])));
        let split = split(&batch, Routing::To(0), Some(&OnlyEven), Handling::Warn).unwrap();
        assert_eq!(split.parts, [Part { partition: 0, payload: batch.clone(), count: 4 }]);
        assert_eq!(split.parts[0].payload.as_ptr(), batch.as_ptr(), "no copy");
        assert_eq!(split.bad_records, 2);
        assert_eq!(split.bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn records_that_are_left_out_leave_the_others_in_their_order() {
        let values = |parts: &[Part]| -> Vec<u8> {
            let records = parts.iter().flat_map(|part| {
                let records = v1::RecordBatch::decode(part.payload.clone()).unwrap().records;
                assert_eq!(records.len(), part.count as usize);
                records
            });
            records.map(|record| record.value.unwrap()[0]).collect()
        };
        let bytes = [2, 4, 3, 6, 5, 8];
        let batch = batch_of(bytes.map(|byte| (Some(vec![byte]), vec![byte])));
        for routing in [Routing::To(0), Routing::ByKey { partitions: 1, sticky: 0 }] {
            let split = split(&batch, routing, Some(&OnlyEven), Handling::Quarantine).unwrap();
            assert_eq!(values(&split.parts), [2, 4, 6, 8]);
            let bad: Vec<_> = split.bad.iter().map(|bad| (bad.index, bad.partition)).collect();
            assert_eq!(bad, [(2, 0), (4, 0)]);
            assert_eq!(batch[split.bad[0].entry.clone()].last(), Some(&3));
        }
        let first = split(&batch, Routing::To(0), Some(&OnlyEven), Handling::Quarantine).unwrap();
        assert_eq!(first.parts[0].payload.as_ptr(), batch.as_ptr(), "no copy before a bad one");
        let batch = batch_of([3, 5].map(|byte| (None, vec![byte])));
        let none = split(&batch, Routing::To(0), Some(&OnlyEven), Handling::Quarantine).unwrap();
        assert_eq!((none.parts.len(), none.bad.len()), (0, 2));
    }

    #[test]
    fn a_request_with_too_many_bad_records_is_refused_and_not_quarantined() {
        let records = |count: usize| batch_of((0..count).map(|_| (None, vec![1])));
        let most = records(MAX_QUARANTINED_RECORDS);
        split(&most, Routing::To(0), Some(&OnlyEven), Handling::Quarantine).unwrap();
        let more = records(MAX_QUARANTINED_RECORDS + 1);
        let error =
            split(&more, Routing::To(0), Some(&OnlyEven), Handling::Quarantine).unwrap_err();
        assert_eq!(error.reason(), Reason::SchemaRejected);
        assert!(error.metadata()["records"].starts_with("0,1,2,"), "{error}");
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
            let split = split(&batch, Routing::ByKey { partitions, sticky: 0 }, None, Handling::Refuse).unwrap();
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
