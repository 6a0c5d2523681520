//! Where a consumer starts.

use std::{collections::BTreeMap, time::SystemTime};

use meshlog_proto::v1::{self, start::At};

use crate::time;

/// Where to start reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// The first readable record.
    #[default]
    Earliest,
    /// After the last durable record.
    Latest,
    /// This offset, of a product with one partition or of the one partition chosen.
    Offset(u64),
    /// These offsets by partition; partitions not named start at their first readable record.
    Positions(BTreeMap<u32, u64>),
    /// The first record whose append time is not before this.
    Time(SystemTime),
}

impl StartAt {
    /// As the wire says it, given the partitions chosen (empty: all).
    pub(crate) fn to_wire(&self, partitions: &[u32]) -> v1::Start {
        let at = match self {
            StartAt::Earliest => At::Edge(v1::StartEdge::Earliest.into()),
            StartAt::Latest => At::Edge(v1::StartEdge::Latest.into()),
            StartAt::Offset(offset) => {
                let partition = partitions.first().copied().unwrap_or(0);
                At::Positions(positions(&BTreeMap::from([(partition, *offset)])))
            }
            StartAt::Positions(at) => At::Positions(positions(at)),
            StartAt::Time(at) => At::AppendTime(time::to_wire(*at)),
        };
        v1::Start { at: Some(at) }
    }
}

fn positions(positions: &BTreeMap<u32, u64>) -> v1::Positions {
    let position = |(&partition, &offset): (&u32, &u64)| v1::Position { partition, offset };
    v1::Positions { positions: positions.iter().map(position).collect() }
}
