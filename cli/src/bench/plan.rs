//! What a run does: the flags of a person, with the defaults of its kind, checked.

use std::time::Duration;

use clap::{Args, ValueEnum};
use meshlog_broker::config::{ByteSize, Span};
use meshlog_client::Durability;
use serde::Serialize;

use crate::exit::{Failure, Result};

/// Largest encoded batch of one append.
const BATCH_MAX: u64 = (4 << 20) - 1024;
/// What a record takes beside its value.
const RECORD_OVERHEAD: u64 = 12;
/// Bytes in front of a value that say when it was due.
pub(super) const STAMP: usize = 8;

/// The kinds of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    Append,
    Read,
    Latency,
    Fanout,
    Products,
    Mixed,
}

/// When an append counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum AckWhen {
    /// After the sync to disk
    #[default]
    Synced,
    /// After the write; a failure of the machine may lose it
    Written,
}

/// What is appended, and how fast.
#[derive(Clone, Debug, Args)]
pub(super) struct Load {
    /// Records to append in all [default: as many as --duration allows; `read`: 256 MiB of them]
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Bytes of a value, which do not compress: 100, 1KiB, 64KiB
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    size: ByteSize,
    /// Records of one append [default: 100; `products` and `mixed`: 10; `latency` and `fanout`: 1]
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// Appends under way at once, all products together [default: 16; where the batch is small: 64]
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Products to append to in turn [default: 1; `products`: 1000; `mixed`: 4]
    #[arg(long, value_name = "N")]
    products: Option<usize>,
    /// Partitions of each product
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// When an append counts as done
    #[arg(long, value_name = "WHEN", default_value = "synced")]
    ack: AckWhen,
    /// Records a second, due at fixed times: open loop [default: as many as it takes; `latency` and
    /// `fanout`: 1000; `mixed`: 10000]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How long to append, or to read [default: 10s, unless --records says when to end]
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
}

/// A run that can be made.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Plan {
    #[serde(skip)]
    pub(super) mode: Mode,
    pub(super) records: Option<u64>,
    /// Bytes of a value.
    pub(super) size: usize,
    pub(super) batch: u32,
    pub(super) in_flight: usize,
    pub(super) products: usize,
    pub(super) partitions: u32,
    #[serde(serialize_with = "ack_word")]
    pub(super) ack: Durability,
    pub(super) rate: Option<f64>,
    #[serde(serialize_with = "seconds", rename = "duration_seconds")]
    pub(super) duration: Option<Duration>,
    /// Readers of each product, where there are any.
    pub(super) readers: usize,
}

fn ack_word<S: serde::Serializer>(ack: &Durability, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(if *ack == Durability::Written { "written" } else { "synced" })
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(to)
}

impl Load {
    /// The plan for a kind of run, with so many readers.
    pub(super) fn plan(&self, mode: Mode, readers: usize) -> Result<Plan> {
        let small = matches!(mode, Mode::Latency | Mode::Fanout);
        let (batch, in_flight, products, rate) = match mode {
            Mode::Append | Mode::Read => (100, 16, 1, None),
            Mode::Latency | Mode::Fanout => (1, 64, 1, Some(1000.0)),
            Mode::Products => (10, 64, 1000, None),
            Mode::Mixed => (10, 64, 4, Some(10_000.0)),
        };
        let duration = match (mode, self.duration, self.records) {
            (_, Some(Span(duration)), _) => Some(duration),
            (Mode::Read, None, _) | (_, None, Some(_)) => None,
            (_, None, None) => Some(Duration::from_secs(10)),
        };
        let size = self.size.as_usize();
        let records = self.records.or_else(|| match mode {
            Mode::Read => Some(((256 << 20) / size.max(1) as u64).clamp(1, 2_000_000)),
            _ => None,
        });
        let plan = Plan {
            mode,
            records,
            size,
            batch: self.batch.unwrap_or(batch),
            in_flight: self.in_flight.unwrap_or(in_flight),
            products: self.products.unwrap_or(products),
            partitions: self.partitions,
            ack: match self.ack {
                AckWhen::Synced => Durability::Synced,
                AckWhen::Written => Durability::Written,
            },
            rate: self.rate.or(rate),
            duration,
            readers,
        };
        plan.check(small || mode == Mode::Mixed)?;
        Ok(plan)
    }
}

impl Plan {
    /// Refuses what cannot be run, or would mean nothing. With `stamped`, values carry a time.
    fn check(&self, stamped: bool) -> Result<()> {
        let refuse = |sentence: String| Err(Failure::usage(sentence));
        let least = if stamped { STAMP } else { 1 };
        if self.size < least {
            let why = if stamped { ": the time it was due stands in it" } else { "" };
            return refuse(format!(
                "--size {} is too small: a value has at least {least} bytes{why}",
                self.size
            ));
        }
        if self.size > (1 << 20) - 64 {
            return refuse(format!(
                "--size {} is too large: a record has at most 1 MiB with what stands around its value; try --size 1000000",
                self.size
            ));
        }
        if self.records == Some(0) {
            return refuse(
                "--records 0 measures nothing; leave it out to append for --duration".into(),
            );
        }
        if self.batch == 0 {
            return refuse("--batch 0 appends nothing; an append has at least one record".into());
        }
        let bytes = u64::from(self.batch) * (self.size as u64 + RECORD_OVERHEAD);
        if bytes > BATCH_MAX {
            let most = BATCH_MAX / (self.size as u64 + RECORD_OVERHEAD);
            return refuse(format!(
                "--batch {} with --size {} makes appends of {bytes} bytes; the broker takes {BATCH_MAX}: at most --batch {most}",
                self.batch, self.size
            ));
        }
        if !(1..=65_536).contains(&self.in_flight) {
            return refuse(format!("--in-flight {} is not between 1 and 65536", self.in_flight));
        }
        if !(1..=1_000_000).contains(&self.products) {
            return refuse(format!("--products {} is not between 1 and 1000000", self.products));
        }
        if self.mode == Mode::Products && self.products < 2 {
            return refuse(
                "--products 1 leaves nothing to compare with one product; use `bench append`"
                    .into(),
            );
        }
        if !(1..=10_000).contains(&self.partitions) {
            return refuse(format!("--partitions {} is not between 1 and 10000", self.partitions));
        }
        if !(1..=10_000).contains(&self.readers) {
            return refuse(format!("{} readers are not between 1 and 10000", self.readers));
        }
        if let Some(rate) = self.rate
            && !(rate.is_finite() && (0.01..=1e9).contains(&rate))
        {
            return refuse(format!(
                "--rate {rate} is no number of records a second between 0.01 and 1000000000"
            ));
        }
        match self.duration {
            Some(duration) if duration.is_zero() => {
                refuse("--duration 0s measures nothing; write for instance 10s".into())
            }
            Some(duration) if duration > Duration::from_secs(7 * 86_400) => {
                refuse("--duration is longer than a week; write for instance 10m".into())
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self {
            mode: Mode::Append,
            records: None,
            size: 100,
            batch: 1,
            in_flight: 1,
            products: 1,
            partitions: 1,
            ack: Durability::Synced,
            rate: None,
            duration: None,
            readers: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused_with_a_sentence_that_names_the_flag() {
        type Change = fn(&mut Plan);
        let cases: [(&str, Change); 9] = [
            ("--size", |plan| plan.size = 0),
            ("--size", |plan| plan.size = 2 << 20),
            ("--records", |plan| plan.records = Some(0)),
            ("--batch", |plan| plan.batch = 0),
            ("at most --batch", |plan| (plan.batch, plan.size) = (100_000, 1000)),
            ("--in-flight", |plan| plan.in_flight = 0),
            ("--products", |plan| plan.products = 0),
            ("--rate", |plan| plan.rate = Some(f64::NAN)),
            ("--duration", |plan| plan.duration = Some(Duration::ZERO)),
        ];
        for (word, change) in cases {
            let mut plan = Plan::for_tests();
            plan.check(false).unwrap();
            change(&mut plan);
            let said = plan.check(false).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
        let tiny = Plan { size: 4, ..Plan::for_tests() };
        assert!(tiny.check(false).is_ok() && tiny.check(true).is_err());
    }
}
