//! Why the oldest records of a product are still there, and what holds the bytes of those that are
//! gone.

use std::time::Duration;

use meshlog_proto::v1::{self, RetentionLimitKind, StorageWait};
use meshlog_storage::{Explanation, Holder, Limit, LimitState, Timestamp, Waiting};
use tokio::sync::oneshot;

use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::Result;
use crate::record::{bounds_of, explain, no_answer, partitions_of};
use crate::time::proto_time;

/// The engine looks every ten seconds; what is due for longer waits for something else.
const SOON: Duration = Duration::from_secs(10);

impl Broker {
    /// Why the oldest records of a product are still there.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `PARTITION_NOT_FOUND`, `DATA_LOSS`.
    pub async fn explain_retention(
        &self,
        caller: &Caller,
        request: v1::ExplainRetentionRequest,
    ) -> Result<v1::ExplainRetentionResponse> {
        self.refuse_if_closing()?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::ExplainRetention,
            &request.product,
            &request.product_id,
        )?;
        let mut partitions = Vec::new();
        for partition in partitions_of(&product, &request.partitions)? {
            let explanation = self.explanation(&product, partition).await?;
            let durable_end = bounds_of(self, &product, partition)?.durable_end.0;
            partitions.push(message(partition, durable_end, self.storage().now(), explanation));
        }
        Ok(v1::ExplainRetentionResponse {
            product_id: product.id.to_string(),
            effective_settings: self.catalogue().effective_settings(&product)?,
            partitions,
        })
    }

    async fn explanation(&self, product: &ProductHandle, partition: u32) -> Result<Explanation> {
        let (sender, receiver) = oneshot::channel();
        self.storage().explain(product.streams[partition as usize], move |result| {
            // The caller may have gone away.
            let _gone = sender.send(result);
        });
        let result = receiver.await.unwrap_or_else(|_| Err(no_answer()));
        result.map_err(|error| explain(product, partition, None, &error))
    }
}

fn message(
    partition: u32,
    durable_end: u64,
    now: Timestamp,
    explanation: Explanation,
) -> v1::PartitionRetention {
    v1::PartitionRetention {
        partition,
        start_offset: explanation.start.0,
        durable_end,
        oldest_time: explanation.oldest.map(proto_time),
        reason: reason(&explanation, now),
        limits: explanation.limits.iter().map(limit).collect(),
        clock_note: explanation.clock.unwrap_or_default(),
        compacted_offset: explanation.policy.compact.map_or(0, |_| explanation.compacted_to.0),
        holders: explanation.holders.into_iter().map(holder).collect(),
    }
}

/// The sentence for a person.
fn reason(explanation: &Explanation, now: Timestamp) -> String {
    if explanation.oldest.is_none() {
        return "there is no record".to_owned();
    }
    if explanation.limits.is_empty() {
        return match explanation.policy.compact {
            None => "nothing limits how long records stay".to_owned(),
            Some(_) => "nothing but a newer record of the same key lets a record go".to_owned(),
        };
    }
    let is_passed = |limit: &&LimitState| limit.wants_from > explanation.start;
    if let Some(passed) = explanation.limits.iter().find(is_passed) {
        let what = word(passed.limit);
        return match (&explanation.clock, passed.limit) {
            (Some(_), Limit::Age) => format!("{what} no longer wants it, but age waits"),
            _ => format!("{what} no longer wants it: it goes within about {} s", SOON.as_secs()),
        };
    }
    let due = explanation.limits.iter().find_map(|limit| limit.due);
    match due {
        // The age of a batch is that of all its records, and its time has come.
        Some(due) if due <= now => "its age is reached: it goes at the next look".to_owned(),
        Some(due) => format!("every limit still wants it; by age it goes at {}", proto_time(due)),
        None => "every limit still wants it".to_owned(),
    }
}

fn word(limit: Limit) -> &'static str {
    match limit {
        Limit::Age => "retention_age",
        Limit::Bytes => "retention_bytes",
        Limit::Count => "retention_count",
    }
}

fn limit(state: &LimitState) -> v1::RetentionLimit {
    let kind = match state.limit {
        Limit::Age => RetentionLimitKind::Age,
        Limit::Bytes => RetentionLimitKind::Bytes,
        Limit::Count => RetentionLimitKind::Count,
    };
    v1::RetentionLimit {
        kind: kind.into(),
        first_wanted_offset: state.wants_from.0,
        due_time: state.due.map(proto_time),
    }
}

fn holder(holder: Holder) -> v1::StorageHolder {
    let wait = match holder.waiting {
        Waiting::Writing(_) => StorageWait::Writing,
        Waiting::Merge => StorageWait::Merge,
        Waiting::Checkpoint => StorageWait::Checkpoint,
        Waiting::Readers => StorageWait::Readers,
    };
    v1::StorageHolder {
        file: holder.file,
        bytes: holder.bytes,
        other_partitions: u32::try_from(holder.other_streams).unwrap_or(u32::MAX),
        wait: wait.into(),
    }
}
