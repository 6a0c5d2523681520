//! What stands on `/metrics/products`: figures of single products and cursors, up to a cap, by name.

use std::sync::Arc;

use meshlog_proto::v1;

use super::writer::Page;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;

/// Writes the page.
pub(super) fn write(
    broker: &Broker,
    caller: &Caller,
    page: &mut Page,
    handles: &[Arc<ProductHandle>],
    left_out: usize,
) {
    let most = broker.config().metrics.max_products as usize;
    let use_of: Vec<_> = handles.iter().map(|handle| handle.traffic.message()).collect();
    let kept: Vec<(u64, u64)> = handles
        .iter()
        .map(|handle| {
            let bounds = handle.streams.iter().filter_map(|at| broker.storage().bounds(*at).ok());
            bounds.fold((0, 0), |(kept, end), bounds| {
                let end_now = bounds.durable_end.0;
                (kept + end_now.saturating_sub(bounds.start.0), end + end_now)
            })
        })
        .collect();
    let named = || handles.iter().map(|handle| [("product", &*handle.name)]);
    for (label, used) in named().zip(&use_of) {
        let help = "Records appended to the product.";
        page.counted("meshlog_product_publish_records", help, label, used.records_appended);
    }
    for (label, used) in named().zip(&use_of) {
        let help = "Records of the product handed to readers.";
        page.counted("meshlog_product_fetch_records", help, label, used.records_read);
    }
    for (label, used) in named().zip(&use_of) {
        let help = "Applications that follow the product or read it within a day.";
        page.measured("meshlog_product_readers", help, label, used.live_readers.len() as f64);
    }
    for (label, (kept, _)) in named().zip(&kept) {
        let help = "Offsets from where the product begins to where it ends, all partitions.";
        page.measured("meshlog_product_offsets", help, label, *kept as f64);
    }
    for (label, (_, end)) in named().zip(&kept) {
        let help = "Next offset of the product, all partitions together.";
        page.measured("meshlog_product_end_offset", help, label, *end as f64);
    }
    let request =
        v1::ListCursorsRequest { page_size: most.min(1_000) as u32, ..Default::default() };
    let cursors =
        broker.list_cursors(caller, request).map(|found| found.cursors).unwrap_or_default();
    for cursor in &cursors {
        let labels = [("cursor", &*cursor.name), ("product", &*cursor.product)];
        let help = "Records between where a cursor stands and the end of the product.";
        page.measured("meshlog_cursor_lag_records", help, labels, cursor.lag as f64);
    }
    for cursor in &cursors {
        let labels = [("cursor", &*cursor.name), ("product", &*cursor.product)];
        let lost = cursor.positions.iter().map(|at| at.lost).sum::<u64>();
        let help = "Records that went before the cursor reached them.";
        page.measured("meshlog_cursor_lost_records", help, labels, lost as f64);
    }
    page.gauge("meshlog_products_left_out", "Products beyond the cap.", left_out as f64);
}
