//! Which schemas the records that can still be read were written under.
//!
//! Stored frames say it, and the log is read for it once, from the oldest record on: old versions stand
//! at the beginning, so the search for one ends soon if there is a record of it. Nobody asks unless
//! the answer decides something (`catalogue/promise.rs`), and nothing is kept between two questions.

use std::collections::BTreeSet;
use std::time::Duration;

use meshlog_storage::{ErrorKind, Offset, ReadRequest, ReadSlice, Storage, StreamId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::catalogue::ProductHandle;
use crate::error::Result;
use crate::record::{explain, no_answer};

/// Bytes read at a time.
const SLICE_BYTES: usize = 1 << 20;

/// A change waits no longer than this for the log; beyond, every version counts as being there.
const MOST_TIME: Duration = Duration::from_secs(20);

/// What is left.
#[derive(Debug)]
pub(crate) struct Left {
    found: BTreeSet<u32>,
    /// Whether the whole log was looked through, or all that was asked for was found.
    pub(crate) is_certain: bool,
}

impl Left {
    /// Whether records of a schema are left, or may be.
    pub(crate) fn of(&self, storage_id: u32) -> bool {
        !self.is_certain || self.found.contains(&storage_id)
    }
}

/// Which of these schemas, by the ids of stored frames, have records left.
///
/// # Errors
/// Those of reading the log.
pub(crate) async fn schemas_left(
    storage: &Storage,
    product: &ProductHandle,
    wanted: BTreeSet<u32>,
) -> Result<Left> {
    let until = Instant::now() + MOST_TIME;
    let mut found = BTreeSet::new();
    for (partition, stream) in product.streams.iter().enumerate() {
        let mut pass = Pass::new(storage, product, partition as u32, *stream)?;
        while let Some(slice) = pass.next(storage, product).await? {
            found.extend(slice.batches.iter().map(|b| b.schema).filter(|id| wanted.contains(id)));
            if found.len() == wanted.len() {
                return Ok(Left { found, is_certain: true });
            }
            if Instant::now() > until {
                return Ok(Left { found, is_certain: false });
            }
        }
    }
    Ok(Left { found, is_certain: true })
}

/// One pass over a partition, from the oldest record to the newest there was at its beginning.
#[derive(Debug)]
pub(crate) struct Pass {
    partition: u32,
    stream: StreamId,
    next: Offset,
    end: Offset,
}

impl Pass {
    /// At the oldest record.
    pub(crate) fn new(
        storage: &Storage,
        product: &ProductHandle,
        partition: u32,
        stream: StreamId,
    ) -> Result<Self> {
        let bounds = storage.bounds(stream);
        let bounds = bounds.map_err(|error| explain(product, partition, None, &error))?;
        Ok(Self { partition, stream, next: bounds.start, end: bounds.durable_end })
    }

    /// Offsets still to come.
    pub(crate) fn left(&self) -> u64 {
        self.end.0.saturating_sub(self.next.0)
    }

    /// The next batches; `None` at the end.
    pub(crate) async fn next(
        &mut self,
        storage: &Storage,
        product: &ProductHandle,
    ) -> Result<Option<ReadSlice>> {
        while self.next < self.end {
            let from = self.next;
            let request =
                ReadRequest { stream: self.stream, from, max_bytes: SLICE_BYTES, hint: None };
            let (sender, receiver) = oneshot::channel();
            let now = storage.read(request, move |result| {
                // The caller may have gone away.
                let _gone = sender.send(result);
            });
            let result = match now {
                Some(result) => result,
                None => receiver.await.unwrap_or_else(|_| Err(no_answer())),
            };
            // Reads from memory answer at once; others want to run too.
            tokio::task::yield_now().await;
            match result {
                Ok(slice) => {
                    let Some(last) = slice.batches.last() else { return Ok(None) };
                    self.next = last.end();
                    return Ok(Some(slice));
                }
                Err(error) => match error.kind() {
                    // Retention has taken the beginning.
                    ErrorKind::OffsetOutOfRange { start, .. } if *start > from => {
                        self.next = *start;
                    }
                    _ => return Err(explain(product, self.partition, Some(from), &error)),
                },
            }
        }
        Ok(None)
    }
}
