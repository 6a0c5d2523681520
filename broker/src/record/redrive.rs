//! Quarantined records, read and appended after all.
//!
//! ```text
//! gate ─► marked? ─► read it ─► repair ─► check ─► one entry: the record in its product, and the mark
//! └────────────────────────── held until the outcome is known ──────────────────────────────────────┘
//! ```

use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{Batch, Durability, Entry};
use prost::Message as _;
use tokio::sync::oneshot;

use super::append::{named_version, vanished};
use super::partitioner::partition_of;
use super::quarantine::PREFIX;
use super::split::{Routing, split};
use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Reason, Result};
use crate::lineage::Direction;
use crate::schema::Handling;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1_000;

impl Broker {
    /// Records that a product did not take, oldest first.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT` for a page that is too large, `DATA_LOSS`.
    pub async fn list_quarantined(
        &self,
        caller: &Caller,
        request: v1::ListQuarantinedRequest,
    ) -> Result<v1::ListQuarantinedResponse> {
        self.refuse_if_closing()?;
        let product =
            self.catalogue().resolve_for(caller, Rpc::ListQuarantined, &request.product, "")?;
        let most = match request.page_size {
            0 => DEFAULT_PAGE,
            size if size <= MAX_PAGE => size,
            size => {
                let what = format!("page_size: at most {MAX_PAGE}, not {size}");
                return Err(Error::new(Reason::InvalidArgument, what).with("field", "page_size"));
            }
        };
        let Some(quarantine) = product.quarantine() else {
            return Ok(v1::ListQuarantinedResponse::default());
        };
        let page = self.quarantined(quarantine, request.from_offset, most as usize).await?;
        let mut response = v1::ListQuarantinedResponse {
            records: page.records,
            next_offset: page.next,
            end_offset: page.end,
        };
        let redriven = self.catalogue().redriven();
        for record in &mut response.records {
            record.redriven = redriven.is_marked(&product.id, record.offset);
        }
        Ok(response)
    }

    /// Appends a quarantined record after all, once.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `OFFSET_OUT_OF_RANGE` if there is no such record, those of appending
    /// if it does not conform or cannot be appended now.
    pub async fn redrive_quarantined(
        &self,
        caller: &Caller,
        request: v1::RedriveQuarantinedRequest,
    ) -> Result<v1::RedriveQuarantinedResponse> {
        self.refuse_if_closing()?;
        let rpc = Rpc::RedriveQuarantined;
        self.catalogue().resolve_for(caller, rpc, &request.product, "")?;
        let redriven = Arc::clone(self.catalogue().redriven());
        let gate = Arc::clone(&redriven.gate).lock_owned().await;
        let product = self.catalogue().resolve_for(caller, rpc, &request.product, "")?;
        product.check_appendable()?;
        let nothing = || {
            Error::new(
                Reason::OffsetOutOfRange,
                format!(
                    "there is no record {} in the quarantine of `{}`; `meshlog quarantine list {2}` \
                     shows those there are",
                    request.offset, product.name, product.name
                ),
            )
            .with("product", &product.name)
            .with("offset", request.offset)
        };
        let quarantine = product.quarantine().ok_or_else(nothing)?;
        if redriven.is_marked(&product.id, request.offset) {
            return Ok(v1::RedriveQuarantinedResponse {
                already_redriven: true,
                ..v1::RedriveQuarantinedResponse::default()
            });
        }
        let start = self.start_of(quarantine)?;
        let page = self.quarantined(quarantine, request.offset, 1).await?;
        let found = page.records.into_iter().find(|found| found.offset == request.offset);
        let found = found.ok_or_else(nothing)?;
        let mut record = found.record.unwrap_or_default();
        if let Some(value) = request.value {
            record.value = Some(value);
        }
        if let Some(key) = request.key {
            record.key = Some(key);
        }
        let partitions = product.streams.len() as u32;
        let partition = match &record.key {
            Some(key) => partition_of(key, partitions),
            None => found.partition.min(partitions - 1),
        };
        let batch = Bytes::from(v1::RecordBatch { records: vec![record] }.encode_to_vec());
        let application = self.catalogue().application_id(&caller.application).await?;
        let permit = self.room(product.number, batch.len()).await?;
        let version = match (request.schema_version, product.is_framed()) {
            (0, true) => 0,
            (0, false) => found.schema_version,
            (asked, _) => asked,
        };
        let schema = product.schema_of_values(version, named_version(&batch, &product))?;
        let cut = split(&batch, Routing::To(partition), schema.validator(), Handling::Refuse);
        let cut = cut.map_err(|error| error.with("product", &product.name))?;
        let marks = redriven.mark(&product.id, request.offset, start);
        let batches = cut.parts.into_iter().map(|part| Batch {
            stream: product.streams[part.partition as usize],
            payload: vec![part.payload],
            count: part.count,
            schema: schema.storage_id,
            application,
            expected_offset: None,
        });
        let entry = Entry {
            controls: marks.clone(),
            batches: batches.collect(),
            producer: None,
            durability: Durability::Synced,
            permit,
        };
        let (sender, outcome) = oneshot::channel();
        self.storage().append(entry, move |result| {
            if result.is_ok() {
                redriven.apply(&marks);
            }
            drop(gate);
            // The caller may have gone away; the record stays.
            let _gone = sender.send(result);
        });
        let appended = outcome.await.unwrap_or_else(|_| Err(vanished()));
        let appended = appended.map_err(|error| {
            Error::from(error.clone()).with_applied(error.applied()).with("product", &product.name)
        })?;
        let counter = product.traffic.counter(Direction::Append, caller, schema.version);
        let bytes = batch.len() as u64;
        self.count_appended(&product, &counter, 1, bytes);
        self.metrics().published(1, bytes);
        Ok(v1::RedriveQuarantinedResponse {
            already_redriven: false,
            partition,
            offset: appended.ranges.first().map_or(0, |range| range.first_offset.0),
            schema_version: schema.version,
        })
    }

    fn start_of(&self, quarantine: &ProductHandle) -> Result<u64> {
        Ok(self.storage().bounds(quarantine.streams[0])?.start.0)
    }

    /// At most so many records from an offset on, of one read.
    async fn quarantined(
        &self,
        quarantine: &ProductHandle,
        from: u64,
        most: usize,
    ) -> Result<Page> {
        let bounds = self.storage().bounds(quarantine.streams[0])?;
        let (start, end) = (bounds.start.0, bounds.durable_end.0);
        let from = from.max(start);
        if from >= end {
            return Ok(Page { records: Vec::new(), next: end, end });
        }
        let positions = vec![v1::Position { partition: 0, offset: from }];
        let positions = v1::Positions { positions };
        let read = v1::ReadRequest {
            product: quarantine.name.to_string(),
            product_id: quarantine.id.to_string(),
            start: Some(v1::Start { at: Some(v1::start::At::Positions(positions)) }),
            ..v1::ReadRequest::default()
        };
        // The broker reads for itself: whoever asks may read what is attached to the product.
        let read = self.read(&Caller::default(), read).await?;
        let mut next = read.partitions.first().map_or(end, |partition| partition.next_offset);
        let mut records = Vec::new();
        for stored in read.batches {
            let decoded = v1::RecordBatch::decode(stored.batch.clone()).map_err(|error| {
                let what = format!("a quarantined record cannot be read: {error}");
                Error::new(Reason::DataLoss, what).with("product", &quarantine.name)
            })?;
            for (index, record) in (0..).zip(decoded.records).skip(stored.skip as usize) {
                let delta = stored.offset_deltas.get(index as usize).copied().unwrap_or(index);
                let offset = stored.base_offset + u64::from(delta);
                if records.len() == most {
                    next = next.min(offset);
                    break;
                }
                records.push(told(offset, &stored.append_time, stored.schema_version, record));
            }
        }
        Ok(Page { records, next, end })
    }
}

struct Page {
    records: Vec<v1::QuarantinedRecord>,
    next: u64,
    end: u64,
}

/// Takes the headers of the broker away and says what they say.
fn told(
    offset: u64,
    append_time: &Option<prost_types::Timestamp>,
    schema_version: u32,
    mut record: v1::Record,
) -> v1::QuarantinedRecord {
    let mut told = v1::QuarantinedRecord {
        offset,
        append_time: *append_time,
        schema_version,
        ..v1::QuarantinedRecord::default()
    };
    let why = told.why.get_or_insert_default();
    // They are the last ones; the first of them names the product.
    while let Some(header) = record.headers.pop() {
        let Some(name) = header.name.strip_prefix(PREFIX) else {
            record.headers.push(header);
            break;
        };
        let text = String::from_utf8_lossy(&header.value).into_owned();
        match name {
            "product" => break,
            "partition" => told.partition = text.parse().unwrap_or_default(),
            "reason" => why.reason = text,
            "path" => why.path = text,
            "expected" => why.expected = text,
            "found" => why.found = text,
            "record" => why.record = text.parse().unwrap_or_default(),
            "application" => told.application = text,
            "principal" => told.principal = text,
            "producer" => told.producer = text,
            _ => {}
        }
    }
    told.record = Some(record);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> v1::Header {
        v1::Header { name: name.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
    }

    #[test]
    fn headers_that_a_producer_made_up_are_its_own() {
        let own = [
            header("meshlog-quarantine-product", "ops.other"),
            header("meshlog-quarantine-reason", "NONE"),
        ];
        let added = [
            header("meshlog-quarantine-product", "ops.a"),
            header("meshlog-quarantine-reason", "SCHEMA_REJECTED"),
            header("meshlog-quarantine-partition", "3"),
        ];
        let headers = own.iter().chain(&added).cloned().collect();
        let record = v1::Record { headers, ..v1::Record::default() };
        let told = told(7, &None, 2, record);
        assert_eq!((told.partition, told.why.unwrap().reason.as_str()), (3, "SCHEMA_REJECTED"));
        assert_eq!(told.record.unwrap().headers, own);
    }
}
