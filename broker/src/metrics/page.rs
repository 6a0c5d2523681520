//! What stands on `/metrics`, in this order.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::writer::Page;
use crate::broker::Broker;

/// Free space "for ever" is told as this: ten years.
const NEVER: f64 = 10.0 * 365.0 * 86_400.0;

/// Writes the page.
pub(super) fn write(broker: &Broker, page: &mut Page) {
    records(broker, page);
    #[cfg(feature = "edge")]
    broker.metrics().calls.write(page);
    log(broker, page);
    disk(broker, page);
    memory(broker, page);
    edge(broker, page);
    catalogue(broker, page);
    let labels = [("version", env!("CARGO_PKG_VERSION"))];
    page.measured("meshlog_build_info", "The version that runs; always 1.", labels, 1.0);
}

fn records(broker: &Broker, page: &mut Page) {
    let metrics = broker.metrics();
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    page.counter(
        "meshlog_publish_records",
        "Records appended and acknowledged.",
        get(&metrics.published_records),
    );
    page.counter(
        "meshlog_publish_bytes",
        "Bytes of the append requests that were acknowledged.",
        get(&metrics.published_bytes),
    );
    page.counter(
        "meshlog_fetch_records",
        "Records handed to readers.",
        get(&metrics.fetched_records),
    );
    page.counter(
        "meshlog_fetch_bytes",
        "Bytes of batches handed to readers.",
        get(&metrics.fetched_bytes),
    );
    page.durations(
        "meshlog_append_duration_seconds",
        "From a single append to its answer, refused ones too.",
        [],
        metrics.append_times.counts(),
    );
    let name = "meshlog_append_rejections";
    let help = "Appends refused because of what was in them, or because too much was under way.";
    for (reason, counter) in [
        ("SCHEMA_REJECTED", &metrics.schema_rejections),
        ("RULE_FAILED", &metrics.rule_failures),
        ("RULE_OVER_BUDGET", &metrics.rules_over_budget),
        ("KEY_MISMATCH", &metrics.key_mismatches),
        ("TOMBSTONE_NOT_ALLOWED", &metrics.tombstones),
        ("OVERLOADED", &metrics.overloads),
    ] {
        page.counted(name, help, [("reason", reason)], get(counter));
    }
    let name = "meshlog_nonconforming_records";
    let help = "Records that do not conform to their schema and were not refused for it.";
    for (outcome, counter) in
        [("appended", &metrics.warned_records), ("quarantined", &metrics.quarantined_records)]
    {
        page.counted(name, help, [("outcome", outcome)], get(counter));
    }
}

fn log(broker: &Broker, page: &mut Page) {
    let stats = broker.storage().stats();
    page.durations(
        "meshlog_log_sync_duration_seconds",
        "The sync of a group, which its acknowledgements wait for.",
        [],
        stats.sync_times,
    );
    page.counter("meshlog_log_groups", "Groups written and synced.", stats.groups);
    page.counter("meshlog_log_entries", "Entries written.", stats.entries);
    page.counter("meshlog_log_written_bytes", "Bytes written to the journal.", stats.bytes);
    let whole = |value: u64| value as f64;
    page.gauge("meshlog_log_size_bytes", "Bytes of files with records.", whole(stats.log_bytes));
    page.gauge("meshlog_segments", "Finished files with records.", whole(stats.segments));
    page.gauge("meshlog_streams", "Partitions of all products.", whole(stats.streams));
    page.counter("meshlog_merges", "Merges finished.", stats.merges);
    page.counter("meshlog_merge_written_bytes", "Bytes that merges wrote.", stats.merged_bytes);
    page.gauge(
        "meshlog_merge_debt_bytes",
        "Bytes of deleted records that merges have yet to free, as far as files were looked at.",
        whole(stats.merge_debt_bytes),
    );
    page.gauge(
        "meshlog_recovery_duration_seconds",
        "How long the recovery took at the last start.",
        stats.recovery.as_secs_f64(),
    );
    let health = broker.storage().health();
    page.gauge(
        "meshlog_appends_accepted",
        "1 while appends of data are taken; 0: the disk is full or the journal failed.",
        f64::from(u8::from(health.appends_refused.is_none())),
    );
    page.gauge(
        "meshlog_damaged_ranges",
        "Ranges of records known to be damaged.",
        health.damage.len() as f64,
    );
}

fn disk(broker: &Broker, page: &mut Page) {
    let (Some(space), _) = broker.disk_space() else { return };
    page.gauge("meshlog_disk_size_bytes", "Size of the disk.", space.total_bytes as f64);
    page.gauge("meshlog_disk_free_bytes", "Bytes free on the disk.", space.free_bytes as f64);
    let left = space.free_bytes.checked_div(space.fill_rate).map(Duration::from_secs);
    page.gauge(
        "meshlog_disk_full_in_seconds",
        "When the disk is full at the rate of the last hour; ten years stand for never.",
        left.map_or(NEVER, |left| left.as_secs_f64().min(NEVER)),
    );
}

fn memory(broker: &Broker, page: &mut Page) {
    let stats = broker.storage().stats();
    let config = broker.config();
    let name = "meshlog_memory_limit_bytes";
    let help = "Bytes that a part of the broker may take, as it is set.";
    for (part, size) in [
        ("appends", config.storage.in_flight),
        ("waiting_appends", config.appends.waiting),
        ("ring", config.storage.ring),
        ("chunk_cache", config.storage.chunk_cache),
        ("index", config.storage.index),
    ] {
        page.measured(name, help, [("part", part)], size.0 as f64);
    }
    #[cfg(feature = "edge")]
    {
        let levels = broker.edge_memory().levels();
        for level in levels {
            let name = "meshlog_edge_memory_used_bytes";
            let help = "Bytes in use of each part of the budget for what is on its way.";
            page.measured(name, help, [("part", level.part)], level.used as f64);
        }
        for level in levels {
            let name = "meshlog_edge_memory_limit_bytes";
            let help = "Bytes that each part of the budget for what is on its way has.";
            page.measured(name, help, [("part", level.part)], level.limit as f64);
        }
    }
    page.gauge(
        "meshlog_admitted_bytes",
        "Bytes of appends between admission and acknowledgement.",
        stats.admitted_bytes as f64,
    );
    page.gauge(
        "meshlog_admission_queue_bytes",
        "Bytes of appends that wait for admission.",
        broker.waiting().bytes() as f64,
    );
    page.gauge(
        "meshlog_admission_queue_requests",
        "Appends that wait for admission.",
        stats.admission_waiters as f64,
    );
    if let Some(bytes) = resident() {
        page.gauge("process_resident_memory_bytes", "Memory of the process.", bytes as f64);
    }
}

/// Memory of the process, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn edge(broker: &Broker, page: &mut Page) {
    let metrics = broker.metrics();
    let open = |gauge: &std::sync::atomic::AtomicU64| gauge.load(Relaxed) as f64;
    page.gauge("meshlog_connections", "Connections open.", open(&metrics.connections));
    page.gauge("meshlog_rpc_streams", "Streaming calls open.", open(&metrics.streams));
    page.gauge("meshlog_subscriptions_active", "Subscriptions open.", open(&metrics.subscriptions));
    page.counter(
        "meshlog_connections_refused",
        "Connections closed at once because there were too many.",
        metrics.refused_connections.load(Relaxed),
    );
    page.counter(
        "meshlog_denials",
        "Calls refused to somebody who may not make them, or did not prove who it is.",
        broker.catalogue().denials().total(),
    );
    let Some(expires) = broker.certificate_expires() else { return };
    let since_1970 = expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    page.gauge(
        "meshlog_tls_certificate_expiry_timestamp_seconds",
        "When the certificate ends, in seconds since 1970.",
        since_1970.as_secs_f64(),
    );
    let now = SystemTime::now();
    let left = expires.duration_since(now).map(|left| left.as_secs_f64());
    page.gauge(
        "meshlog_tls_certificate_expires_in_seconds",
        "Seconds until the certificate ends; below zero: since it has ended.",
        left.unwrap_or_else(|ended| -ended.duration().as_secs_f64()),
    );
}

fn catalogue(broker: &Broker, page: &mut Page) {
    let catalogue = broker.catalogue();
    page.gauge("meshlog_products", "Products.", catalogue.product_count() as f64);
    page.gauge("meshlog_cursors", "Named cursors.", catalogue.cursors().count() as f64);
    page.gauge(
        "meshlog_cursor_lag_records_max",
        "Records between the cursor that is farthest behind and the end of its product.",
        broker.farthest_cursor() as f64,
    );
    let bounds = catalogue.streams_of_products();
    let kept = bounds.into_iter().filter_map(|stream| broker.storage().bounds(stream).ok());
    page.gauge(
        "meshlog_retained_records",
        "Offsets kept in all products, from where each begins to where it ends.",
        kept.map(|kept| kept.durable_end.0.saturating_sub(kept.start.0)).sum::<u64>() as f64,
    );
    page.gauge(
        "meshlog_audit_sequence",
        "Number of the newest record of the audit log.",
        catalogue.audit_chain().sequence as f64,
    );
}
