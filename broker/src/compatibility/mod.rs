//! Whether a schema could be the next version of a product: compared with versions, and tried on every
//! record that can still be read.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use meshlog_proto::v1;
use meshlog_storage::ReadSlice;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::access::{Permission, Permissions, Recheck, Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::{ProductHandle, Proposal, Question, mode_asked, succeed_command};
use crate::error::{Error, Reason, Result};
use crate::record::stored_records;
use crate::retained::Pass;
use crate::schema::{Rejection, Trial};

/// Failures that are listed.
const MAX_FAILURES: usize = 10;
/// How often progress is told.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// A check under way; drop it to end it.
pub struct CompatibilityCheck {
    broker: Broker,
    product: Arc<ProductHandle>,
    value: Proposal,
    result: v1::CompatibilityResult,
    /// Partitions to be tried.
    passes: VecDeque<(u32, Pass)>,
    /// By the schema ids of stored frames.
    trials: HashMap<u32, (u32, Trial)>,
    total: u64,
    access: Recheck,
    /// Trying takes a processor.
    _permit: Option<OwnedSemaphorePermit>,
    is_done: bool,
}

impl std::fmt::Debug for CompatibilityCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompatibilityCheck").field("product", &self.product).finish_non_exhaustive()
    }
}

impl Broker {
    /// Whether a schema could be the next version. Versions are compared before this returns;
    /// records are tried as the messages are asked for, for a caller that may read them.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `FIELD_MISSING`, `SCHEMA_MALFORMED`, `SCHEMA_VERSION_UNKNOWN`,
    /// `SCHEMA_TOO_COMPLEX`, `INVALID_ARGUMENT`, `OVERLOADED` while too many are under way.
    pub async fn check_compatibility(
        &self,
        caller: &Caller,
        request: v1::CheckCompatibilityRequest,
    ) -> Result<CompatibilityCheck> {
        self.refuse_if_closing()?;
        let rpc = Rpc::CheckCompatibility;
        let product = self.catalogue().resolve_for(caller, rpc, &request.product, "")?;
        let mut access = Recheck::new(self.catalogue(), caller, rpc, Some(&product.id));
        if request.retained_records {
            // A failure shows what was found in a record.
            let reading = Permissions::of(&[Permission::Consume]);
            self.catalogue().allow_with(caller, rpc, Resource::Product(&product), reading)?;
            access = access.with(reading);
        }
        let question = Question {
            mode: mode_asked(request.mode)?,
            versions: request.versions,
            all: request.all_versions,
        };
        let permit = match request.retained_records {
            true => Some(self.check_permit()?),
            false => None,
        };
        let value = self.catalogue().proposal(request.value_schema, request.key_schema).await?;
        let judgement = self.catalogue().judge(&product, &value, &question).await?;
        let compatible = judgement.is_kept();
        let mut result = v1::CompatibilityResult {
            compatible,
            mode: judgement.mode.setting().into(),
            comparisons: judgement.comparisons,
            dry_run: request.retained_records.then(v1::DryRun::default),
            succeed_command: String::new(),
            remarks: judgement.remarks,
        };
        if product.state() == v1::ProductState::Draft {
            let remark =
                format!("`{}` is a draft: it takes any schema until it is activated", product.name);
            result.remarks.push(remark);
        }
        let mut passes = VecDeque::new();
        if request.retained_records {
            for (partition, stream) in product.streams.iter().enumerate() {
                let partition = partition as u32;
                let pass = Pass::new(self.storage(), &product, partition, *stream)?;
                passes.push_back((partition, pass));
            }
        }
        let total = passes.iter().map(|(_, pass)| pass.left()).sum();
        Ok(CompatibilityCheck {
            broker: self.clone(),
            product,
            value,
            result,
            passes,
            trials: HashMap::new(),
            total,
            access,
            _permit: permit,
            is_done: false,
        })
    }
}

impl CompatibilityCheck {
    /// The next message: progress, about once a second, then the result, then `None`.
    ///
    /// # Errors
    /// Those of reading the log; `PERMISSION_DENIED` and those with the code UNAUTHENTICATED once the
    /// caller may not read it any more. Nothing follows.
    pub async fn next(&mut self) -> Option<Result<v1::CheckCompatibilityResponse>> {
        if self.is_done {
            return None;
        }
        let told = Instant::now();
        while let Some((partition, pass)) = self.passes.front_mut() {
            if let Err(error) = self.access.check() {
                self.is_done = true;
                return Some(Err(error));
            }
            let partition = *partition;
            let slice = tokio::select! {
                slice = pass.next(self.broker.storage(), &self.product) => slice,
                () = self.broker.closing().cancelled() => Err(Error::shutting_down()),
            };
            match slice {
                Ok(Some(slice)) => {
                    if let Err(error) = self.try_slice(partition, slice).await {
                        self.is_done = true;
                        return Some(Err(error));
                    }
                }
                Ok(None) => {
                    self.passes.pop_front();
                }
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
            if told.elapsed() > TELL_AFTER && !self.passes.is_empty() {
                let left: u64 = self.passes.iter().map(|(_, pass)| pass.left()).sum();
                let progress = v1::CheckProgress {
                    records: self.total.saturating_sub(left),
                    total: self.total,
                };
                return Some(Ok(v1::CheckCompatibilityResponse {
                    progress: Some(progress),
                    result: None,
                }));
            }
        }
        self.is_done = true;
        let mut result = std::mem::take(&mut self.result);
        result.compatible &= result.dry_run.as_ref().is_none_or(|run| run.failed == 0);
        if !result.compatible {
            result.succeed_command = succeed_command(&self.product.name);
        }
        Some(Ok(v1::CheckCompatibilityResponse { progress: None, result: Some(result) }))
    }

    /// Tries the records of some batches, on a thread of its own.
    async fn try_slice(&mut self, partition: u32, slice: ReadSlice) -> Result<()> {
        for batch in &slice.batches {
            if !self.trials.contains_key(&batch.schema) {
                let version = self.broker.catalogue().schema_of(batch.schema).unwrap_or_default();
                let written = self.product.value_schema(version);
                let trial = written.map(|written| Trial::new(&self.value.value, &written));
                let trial = trial.unwrap_or(Trial::Anything);
                self.trials.insert(batch.schema, (version, trial));
            }
        }
        let trials = std::mem::take(&mut self.trials);
        let product = Arc::clone(&self.product);
        let work = move || {
            let mut run = v1::DryRun::default();
            for batch in &slice.batches {
                let Some((version, trial)) = trials.get(&batch.schema) else { continue };
                for (index, record) in (0..batch.count).zip(stored_records(&batch.payload)) {
                    let Ok(record) = record else { continue };
                    let Some(value) = record.value else {
                        run.tombstones += 1;
                        continue;
                    };
                    run.records += 1;
                    let Err(Rejection { path, expected, found, .. }) =
                        trial.read(product.unframed(value))
                    else {
                        continue;
                    };
                    run.failed += 1;
                    if run.failures.len() < MAX_FAILURES {
                        let delta = batch.offset_deltas.get(index as usize).copied();
                        let offset = batch.base_offset.plus(delta.unwrap_or(index)).0;
                        let schema_version = *version;
                        run.failures.push(v1::DryRunFailure {
                            partition,
                            offset,
                            schema_version,
                            path,
                            expected,
                            found,
                        });
                    }
                }
            }
            (trials, run)
        };
        let worked = tokio::task::spawn_blocking(work).await;
        let (trials, run) = worked.map_err(|error| {
            Error::new(
                Reason::Internal,
                format!("the records could not be tried: {error}; please report this"),
            )
        })?;
        self.trials = trials;
        if let Some(all) = &mut self.result.dry_run {
            all.records += run.records;
            all.failed += run.failed;
            all.tombstones += run.tombstones;
            let room = MAX_FAILURES - all.failures.len();
            all.failures.extend(run.failures.into_iter().take(room));
        }
        Ok(())
    }
}
