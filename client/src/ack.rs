//! What the broker says about appended records.

use std::{collections::HashMap, sync::OnceLock, time::SystemTime};

use meshlog_proto::v1;

use crate::{Durability, time};

/// Where one record is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The partition.
    pub partition: u32,
    /// Its offset in that partition.
    pub offset: u64,
    /// The broker's time of the append.
    pub append_time: SystemTime,
    /// What the acknowledgement means.
    pub durability: Durability,
    /// True if an earlier attempt had appended it already.
    pub duplicate: bool,
}

/// Where the records of one batch are in the log.
#[derive(Clone, Debug)]
pub struct BatchAck {
    /// One per partition that received records.
    pub ranges: Vec<AckedRange>,
    /// The product's id.
    pub product_id: String,
    /// The schema version the records were checked against.
    pub schema_version: u32,
    /// What the acknowledgement means.
    pub durability: Durability,
    /// True if an earlier attempt had appended the batch already.
    pub duplicate: bool,
    /// Records that do not conform to the schema version, and were appended all the same or
    /// quarantined: the first 100.
    pub nonconformities: Vec<v1::Nonconformity>,
    /// How many there are.
    pub nonconforming_records: u32,
    /// Records that are not in the product but in the one attached to it; [`BatchAck::record`] knows
    /// no place of them.
    pub quarantined: Option<v1::Quarantined>,
    /// Of each record, in the order of the batch; empty if the batch was not split.
    record_partitions: Vec<u32>,
    /// Of each record of a split batch, computed when first asked for: range and offset.
    places: OnceLock<Vec<Option<(usize, u64)>>>,
}

/// A run of records in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AckedRange {
    /// The partition.
    pub partition: u32,
    /// Offset of the first record.
    pub first_offset: u64,
    /// Number of records, at consecutive offsets.
    pub count: u32,
    /// The broker's time of the append.
    pub append_time: SystemTime,
}

impl AckedRange {
    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> u64 {
        (self.first_offset + u64::from(self.count)).saturating_sub(1)
    }
}

impl BatchAck {
    /// Records acknowledged.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|range| u64::from(range.count)).sum()
    }

    /// Why record `index` is not in the product but in quarantine; `None`: it is not.
    #[must_use]
    pub fn quarantined(&self, index: usize) -> Option<&v1::Quarantined> {
        let told = self.quarantined.as_ref()?;
        let index = u32::try_from(index).ok()?;
        told.records.binary_search(&index).is_ok().then_some(told)
    }

    /// Records before this one that are in quarantine.
    fn left_out(&self, index: usize) -> usize {
        let told = self.quarantined.as_ref();
        told.map_or(0, |told| told.records.partition_point(|bad| (*bad as usize) < index))
    }

    /// Where record `index` of the batch is; `None` if the batch has no such record, or if it is in
    /// quarantine.
    #[must_use]
    pub fn record(&self, index: usize) -> Option<Ack> {
        if self.quarantined(index).is_some() {
            return None;
        }
        let (range, offset) = if self.record_partitions.is_empty() {
            let range = self.ranges.first()?;
            let index = index - self.left_out(index);
            let index = u32::try_from(index).ok().filter(|index| *index < range.count)?;
            (range, range.first_offset + u64::from(index))
        } else {
            let places = self.places.get_or_init(|| self.compute_places());
            let (range, offset) = (*places.get(index)?)?;
            (&self.ranges[range], offset)
        };
        Some(Ack {
            partition: range.partition,
            offset,
            append_time: range.append_time,
            durability: self.durability,
            duplicate: self.duplicate,
        })
    }

    /// Records keep their order within a partition, so each takes the next offset of its range.
    fn compute_places(&self) -> Vec<Option<(usize, u64)>> {
        let mut next: HashMap<u32, (usize, u64)> = self
            .ranges
            .iter()
            .enumerate()
            .map(|(index, range)| (range.partition, (index, range.first_offset)))
            .collect();
        let place = |(index, partition): (usize, &u32)| {
            if self.quarantined(index).is_some() {
                return None;
            }
            let (range, offset) = next.get_mut(partition)?;
            *offset += 1;
            Some((*range, *offset - 1))
        };
        self.record_partitions.iter().enumerate().map(place).collect()
    }
}

impl From<v1::AppendResponse> for BatchAck {
    fn from(response: v1::AppendResponse) -> Self {
        let durability = response.durability();
        let range = |range: v1::AppendedRange| AckedRange {
            partition: range.partition,
            first_offset: range.first_offset,
            count: range.count,
            append_time: time::from_wire(range.append_time),
        };
        Self {
            ranges: response.ranges.into_iter().map(range).collect(),
            product_id: response.product_id,
            schema_version: response.schema_version,
            durability,
            duplicate: response.duplicate,
            record_partitions: response.record_partitions,
            nonconformities: response.nonconformities,
            nonconforming_records: response.nonconforming_records,
            quarantined: response.quarantined,
            places: OnceLock::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(ranges: &[(u32, u64, u32)], record_partitions: &[u32]) -> BatchAck {
        let range = |&(partition, first_offset, count)| v1::AppendedRange {
            partition,
            first_offset,
            count,
            append_time: None,
        };
        v1::AppendResponse {
            ranges: ranges.iter().map(range).collect(),
            record_partitions: record_partitions.to_vec(),
            durability: v1::Durability::Synced.into(),
            ..v1::AppendResponse::default()
        }
        .into()
    }

    fn places(ack: &BatchAck) -> Vec<(u32, u64)> {
        (0..).map_while(|n| ack.record(n)).map(|ack| (ack.partition, ack.offset)).collect()
    }

    #[test]
    fn records_of_a_whole_batch_have_consecutive_offsets() {
        let ack = response(&[(3, 100, 3)], &[]);
        assert_eq!(places(&ack), [(3, 100), (3, 101), (3, 102)]);
        assert_eq!(ack.ranges[0].last_offset(), 102);
        assert_eq!(ack.count(), 3);
    }

    #[test]
    fn records_of_a_split_batch_take_the_next_offset_of_their_partition() {
        let ack = response(&[(0, 10, 2), (1, 50, 3)], &[1, 0, 1, 1, 0]);
        assert_eq!(places(&ack), [(1, 50), (0, 10), (1, 51), (1, 52), (0, 11)]);
    }

    #[test]
    fn records_in_quarantine_have_no_place_and_take_none() {
        let quarantined = |records: &[u32]| {
            Some(v1::Quarantined { records: records.to_vec(), ..v1::Quarantined::default() })
        };
        let mut whole = response(&[(0, 10, 2)], &[]);
        whole.quarantined = quarantined(&[0, 2]);
        let place = |ack: &BatchAck, n| ack.record(n).map(|ack| (ack.partition, ack.offset));
        assert_eq!(
            (0..5).map(|n| place(&whole, n)).collect::<Vec<_>>(),
            [None, Some((0, 10)), None, Some((0, 11)), None]
        );
        let mut split = response(&[(0, 10, 1), (1, 50, 2)], &[1, 0, 0, 1]);
        split.quarantined = quarantined(&[1]);
        assert_eq!(
            (0..4).map(|n| place(&split, n)).collect::<Vec<_>>(),
            [Some((1, 50)), None, Some((0, 10)), Some((1, 51))]
        );
    }

    #[test]
    fn an_answer_that_contradicts_itself_gives_no_place_instead_of_a_wrong_one() {
        assert_eq!(places(&response(&[], &[])), []);
        assert_eq!(response(&[(0, 1, 1)], &[7]).record(0), None);
    }
}
