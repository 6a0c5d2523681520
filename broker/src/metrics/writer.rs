//! Writes figures in the text format of Prometheus.

use std::fmt;

use meshlog_storage::{DURATION_BOUNDS, DurationCounts};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// A page as it is written.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<Family>,
}

/// A metric with all its samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Labels, Sample)>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Sample {
    Counter(u64),
    Gauge(f64),
    Durations(DurationCounts),
}

impl Page {
    /// A counter; its name ends with `_total` on the page.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, MetricType::Counter, Vec::new(), Sample::Counter(value));
    }

    /// A counter with labels.
    pub(super) fn counted<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [(&'static str, &str); N],
        value: u64,
    ) {
        self.add(name, help, MetricType::Counter, owned(labels), Sample::Counter(value));
    }

    /// A value that rises and falls.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, MetricType::Gauge, Vec::new(), Sample::Gauge(value));
    }

    /// As [`Page::gauge`], with labels.
    pub(super) fn measured<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [(&'static str, &str); N],
        value: f64,
    ) {
        self.add(name, help, MetricType::Gauge, owned(labels), Sample::Gauge(value));
    }

    /// A histogram of durations in seconds.
    pub(super) fn durations<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [(&'static str, &str); N],
        counts: DurationCounts,
    ) {
        self.add(name, help, MetricType::Histogram, owned(labels), Sample::Durations(counts));
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        labels: Labels,
        sample: Sample,
    ) {
        // Samples of one name come one after the other.
        match self.families.last_mut() {
            Some(last) if last.name == name => last.samples.push((labels, sample)),
            _ => self.families.push(Family { name, help, kind, samples: vec![(labels, sample)] }),
        }
    }
}

fn owned<const N: usize>(labels: [(&'static str, &str); N]) -> Labels {
    labels.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, sample) in &family.samples {
                match labels.as_slice() {
                    [] => sample.encode(&mut metric)?,
                    labels => sample.encode(&mut metric.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => metric.encode_counter::<NoLabelSet, _, f64>(value, None),
            Self::Gauge(value) => metric.encode_gauge(value),
            Self::Durations(counts) => {
                let bounds = DURATION_BOUNDS.iter().map(std::time::Duration::as_secs_f64);
                let buckets: Vec<(f64, u64)> =
                    bounds.chain([f64::MAX]).zip(counts.counts).collect();
                let (sum, count) = (counts.sum.as_secs_f64(), counts.count());
                metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }
}

/// The page as text.
pub(super) fn text(write: impl FnOnce(&mut Page)) -> String {
    let mut page = Page::default();
    write(&mut page);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(page));
    let mut text = String::new();
    // A String takes everything.
    let _infallible = prometheus_client::encoding::prometheus_text::encode(&mut text, &registry);
    text
}
