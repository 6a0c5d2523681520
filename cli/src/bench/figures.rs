//! What a run found, as a document and as a table.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    appending::Appended,
    costs::Costs,
    machine::Machine,
    plan::{Mode, Plan},
    reading::Read,
    watching::Delivered,
};
use crate::{output::Row, words};

/// Times, to three digits, up to an hour.
pub(super) struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // The bounds are right, so this cannot fail; without bounds it could grow instead.
        Self(
            Histogram::new_with_bounds(1, 3_600_000_000_000, 3).unwrap_or_else(|_| {
                unreachable!("the bounds of the histogram of latencies are valid")
            }),
        )
    }
}

impl Latency {
    /// One more.
    pub(super) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(nanos);
    }

    /// All of another one.
    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so everything fits.
        let _ = self.0.add(&other.0);
    }

    /// How many.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    fn view(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: self.0.max() as f64 / 1e3,
        }
    }
}

/// Microseconds.
#[derive(Serialize)]
struct Percentiles {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    p9999: f64,
    max: f64,
}

impl Percentiles {
    fn line(&self) -> String {
        let time = |micros: f64| words::duration(Duration::from_secs_f64(micros / 1e6));
        let at = [self.p50, self.p90, self.p99, self.p999, self.p9999, self.max].map(time);
        at.join(" / ")
    }
}

/// Something that moved records.
#[derive(Serialize)]
struct Flow {
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: f64,
    bytes_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Percentiles>,
}

impl Flow {
    fn new(records: u64, bytes: u64, elapsed: Duration, latency: Option<&Latency>) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Self {
            records,
            bytes,
            seconds,
            records_per_second: records as f64 / seconds,
            bytes_per_second: bytes as f64 / seconds,
            latency_us: latency.filter(|latency| latency.count() > 0).map(Latency::view),
        }
    }

    fn rate(&self) -> String {
        format!(
            "{} records/s, {}",
            words::count(self.records_per_second as u64),
            bytes_per_second(self.bytes_per_second)
        )
    }
}

fn bytes_per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 1e9 => format!("{:.2} GB/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.1} MB/s", rate / 1e6),
        rate => format!("{:.1} kB/s", rate / 1e3),
    }
}

/// Appends of a run.
#[derive(Serialize)]
struct Appends {
    #[serde(flatten)]
    flow: Flow,
    appends: u64,
    appends_per_second: f64,
    /// `producers`, or `calls` where there are too many products for a connection each.
    through: &'static str,
    unsent_records: u64,
    retries: u64,
}

impl From<&Appended> for Appends {
    fn from(appended: &Appended) -> Self {
        let seconds = appended.elapsed.as_secs_f64().max(1e-9);
        Self {
            flow: Flow::new(
                appended.records,
                appended.bytes,
                appended.elapsed,
                Some(&appended.latency),
            ),
            appends: appended.appends,
            appends_per_second: appended.appends as f64 / seconds,
            through: if appended.streams { "producers" } else { "calls" },
            unsent_records: appended.unsent,
            retries: appended.retries,
        }
    }
}

#[derive(Serialize)]
struct Delivery {
    #[serde(flatten)]
    flow: Flow,
    readers: u64,
}

#[derive(Serialize)]
struct Reads {
    #[serde(flatten)]
    flow: Flow,
    passes: u64,
}

#[derive(Serialize)]
struct Creation {
    products: u64,
    seconds: f64,
    products_per_second: f64,
}

/// Everything a run found.
#[derive(Serialize)]
pub(super) struct Figures {
    mode: Mode,
    server: String,
    /// Whether the broker was started for the run, and is gone.
    pub(super) own_broker: bool,
    version: String,
    /// `disk` or `memory`.
    pub(super) storage: &'static str,
    settings: Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    append: Option<Appends>,
    /// To one product, beside `append` to all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    one_product: Option<Appends>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<Reads>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation: Option<Creation>,
    pub(super) costs: Option<Costs>,
    /// D, F, G and g of this machine, if asked for.
    pub(super) limits: Option<Machine>,
}

impl Figures {
    /// Nothing found yet.
    pub(super) fn new(server: String, version: String, in_memory: bool, plan: &Plan) -> Self {
        Self {
            mode: plan.mode,
            server,
            own_broker: false,
            version,
            storage: if in_memory { "memory" } else { "disk" },
            settings: plan.clone(),
            append: None,
            one_product: None,
            delivery: None,
            read: None,
            creation: None,
            costs: None,
            limits: None,
        }
    }

    pub(super) fn created(&mut self, products: usize, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let products_per_second = products as f64 / seconds;
        self.creation = Some(Creation { products: products as u64, seconds, products_per_second });
    }

    pub(super) fn appended(&mut self, appended: &Appended) {
        self.append = Some(appended.into());
    }

    pub(super) fn appended_to_one(&mut self, appended: &Appended) {
        self.one_product = Some(appended.into());
    }

    pub(super) fn delivered(&mut self, delivered: &Delivered) {
        let latency = Some(&delivered.latency);
        let Delivered { records, bytes, elapsed, readers, .. } = *delivered;
        self.delivery =
            Some(Delivery { flow: Flow::new(records, bytes, elapsed, latency), readers });
    }

    pub(super) fn was_read(&mut self, read: &Read) {
        let Read { records, bytes, elapsed, passes } = *read;
        self.read = Some(Reads { flow: Flow::new(records, bytes, elapsed, None), passes });
    }

    /// The lines of the table.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut line = |what: &str, value: String, beside: String| {
            lines.push(Line { what: what.to_owned(), value, beside });
        };
        const AT: &str = "p50 / p90 / p99 / p99.9 / p99.99 / max";
        let limits = self.limits.as_ref();
        if let Some(creation) = &self.creation {
            let rate = format!("{:.0} products/s", creation.products_per_second);
            line("create", rate, format!("{} products", words::count(creation.products)));
        }
        if let Some(append) = &self.append {
            let beside = limits.map(|limits| limits.beside_appends(append.flow.bytes_per_second));
            line("append", append.flow.rate(), beside.unwrap_or_default());
            let calls = format!("{} appends/s", words::count(append.appends_per_second as u64));
            let beside = limits.map(|limits| limits.beside_calls(append.appends_per_second));
            line("", calls, beside.unwrap_or_default());
            if let Some(latency) = &append.flow.latency_us {
                line("  until acknowledged", latency.line(), AT.into());
            }
            if append.unsent_records > 0 {
                let records = words::counted(append.unsent_records, "record");
                line("  too late", records, "due and not sent: the rate was not reached".into());
            }
            if append.retries > 0 {
                line("  sent again", words::count(append.retries), "the broker was busy".into());
            }
        }
        if let (Some(one), Some(append)) = (&self.one_product, &self.append) {
            let ratio = append.flow.bytes_per_second / one.flow.bytes_per_second.max(1.0);
            line("  to one product", one.flow.rate(), format!("all products: {ratio:.2} of it"));
        }
        if let Some(delivery) = &self.delivery {
            let readers = words::counted(delivery.readers, "reader");
            line("deliver", delivery.flow.rate(), readers);
            if let Some(latency) = &delivery.flow.latency_us {
                line("  until received", latency.line(), AT.into());
            }
        }
        if let Some(read) = &self.read {
            let beside = limits.map(|limits| limits.beside_reads(read.flow.bytes_per_second));
            line("read", read.flow.rate(), beside.unwrap_or_default());
        }
        for (what, value, beside) in self.costs.iter().flat_map(Costs::lines) {
            line(what, value, beside);
        }
        for (what, value, beside) in limits.map(Machine::lines).unwrap_or_default() {
            line(what, value, beside);
        }
        lines
    }
}

/// A line of the table.
#[derive(Serialize)]
pub(super) struct Line {
    what: String,
    value: String,
    beside: String,
}

impl Row for Line {
    const PLURAL: &'static str = "figures";
    const HEADER: &'static [&'static str] = &["FIGURE", "VALUE", "BESIDE"];

    fn cells(&self) -> Vec<String> {
        vec![self.what.clone(), self.value.clone(), self.beside.clone()]
    }
}
