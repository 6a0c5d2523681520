//! Changing cursors: commit and delete.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1;
use meshlog_storage::{Control, Entry};
use prost::Message as _;
use tokio::sync::oneshot;

use super::stored::{StoredCursor, key};
use super::{check_name, shown};
use crate::access::{Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Applied, Error, Reason, Result};
use crate::record::{bounds_of, out_of_range, unknown_partition};
use crate::time::proto_time;

impl Broker {
    /// Makes positions of one cursor in one product durable; partitions that are not named keep
    /// theirs. Commits of one cursor take effect in the order of these calls.
    ///
    /// # Errors
    /// `NAME_INVALID`, `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `INVALID_ARGUMENT` (no positions, a
    /// partition twice), `PARTITION_NOT_FOUND`, `OFFSET_OUT_OF_RANGE`, `ETAG_MISMATCH`,
    /// `LIMIT_REACHED`, `OVERLOADED`, and those of the engine: [`Error::applied`] tells whether the
    /// commit may nevertheless be durable.
    pub async fn commit_offsets(
        &self,
        caller: &Caller,
        request: v1::CommitOffsetsRequest,
    ) -> Result<v1::CommitOffsetsResponse> {
        self.refuse_if_closing()?;
        check_name(&request.cursor)?;
        let (name, id) = (&request.product, &request.product_id);
        self.catalogue().resolve_for(caller, Rpc::CommitOffsets, name, id)?;
        let table = self.catalogue().cursors();
        let room = table.room(request.positions.len())?;
        let (product, present) =
            self.catalogue().keep(&request.product, &request.product_id).await?;
        self.check_positions(&product, &request.positions)?;

        let turn = table.turn(&request.cursor, &product.id).await;
        // From here on nobody else decides about this cursor.
        let before = table.find(&request.cursor, &product.id);
        check_etag(&request, before.as_deref())?;
        let place = match before {
            Some(_) => None,
            None => Some(table.place()?),
        };
        let after = Arc::new(StoredCursor {
            revision: table.next_revision(),
            positions: merged(before.as_deref(), &request.positions),
            update_time: Some(proto_time(self.storage().now())),
            updated_by: caller.principal(),
        });
        let control = Control::SetState {
            key: key(&request.cursor, &product.id),
            value: Some(Bytes::from(after.encode_to_vec())),
        };
        let (answer, answered) = oneshot::channel();
        let (table, name) = (Arc::clone(table), Arc::<str>::from(request.cursor));
        let (id, committed) = (Arc::clone(&product.id), Arc::clone(&after));
        let seen = Arc::clone(&name);
        let entry = Entry { controls: vec![control], ..Entry::default() };
        self.storage().append(entry, move |result| {
            if result.is_ok() {
                table.put(&seen, &id, committed);
            }
            drop((place, turn, present, room));
            drop(answer.send(result.map(drop)));
        });
        self.outcome(answered).await?;
        Ok(v1::CommitOffsetsResponse {
            cursor: Some(self.cursor_message(&name, &product, Some(&after))?),
        })
    }

    /// Forgets a cursor, in one product or in all.
    ///
    /// # Errors
    /// `CURSOR_NOT_FOUND`, `PRODUCT_NOT_FOUND`, and those of the engine.
    pub async fn delete_cursor(
        &self,
        caller: &Caller,
        request: v1::DeleteCursorRequest,
    ) -> Result<v1::DeleteCursorResponse> {
        self.refuse_if_closing()?;
        let table = self.catalogue().cursors();
        let rpc = Rpc::DeleteCursor;
        let asked = match request.product.as_str() {
            // Of those that the caller may not read it is not told that they have the cursor.
            "" => {
                let mut products = table.products_of(&request.cursor);
                products.retain(|id| {
                    self.catalogue().find(id).is_some_and(|product| {
                        self.catalogue().allows(caller, rpc, Resource::Product(&product))
                    })
                });
                products
            }
            product => {
                vec![Arc::clone(&self.catalogue().resolve_for(caller, rpc, product, "")?.id)]
            }
        };
        let turns = table.turns(&request.cursor, &asked).await;
        let is_there = |id: &Arc<str>| table.find(&request.cursor, id).is_some();
        let found: Vec<Arc<str>> = asked.into_iter().filter(is_there).collect();
        if found.is_empty() {
            return Err(not_found(&request.cursor, &request.product));
        }
        let removal =
            |id: &Arc<str>| Control::SetState { key: key(&request.cursor, id), value: None };
        let entry = Entry { controls: found.iter().map(removal).collect(), ..Entry::default() };
        let (answer, answered) = oneshot::channel();
        let table = Arc::clone(table);
        self.storage().append(entry, move |result| {
            if result.is_ok() {
                found.iter().for_each(|id| table.remove(&request.cursor, id));
            }
            drop(turns);
            drop(answer.send(result.map(drop)));
        });
        self.outcome(answered).await?;
        Ok(v1::DeleteCursorResponse {})
    }

    /// What storage says about a change of cursors.
    async fn outcome(
        &self,
        answered: oneshot::Receiver<meshlog_storage::Result<()>>,
    ) -> Result<()> {
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                if matches!(error.kind(), meshlog_storage::ErrorKind::JournalFailed) {
                    self.journal_failed().cancel();
                }
                Err(Error::from(error))
            }
            Err(_) => Err(Error::shutting_down().with_applied(Applied::Unknown)),
        }
    }

    /// A position below the start offset is allowed: what lies between is lost, and is told so.
    fn check_positions(&self, product: &ProductHandle, positions: &[v1::Position]) -> Result<()> {
        let invalid = |what: String| {
            Error::new(Reason::InvalidArgument, format!("positions: {what}"))
                .with("field", "positions")
                .with_violation("positions", what)
        };
        if positions.is_empty() {
            return Err(invalid("give the next offset of at least one partition".to_owned()));
        }
        let mut seen = vec![false; product.streams.len()];
        for position in positions {
            match seen.get_mut(position.partition as usize) {
                None => return Err(unknown_partition(product, position.partition)),
                Some(true) => {
                    return Err(invalid(format!("partition {} occurs twice", position.partition)));
                }
                Some(unseen) => *unseen = true,
            }
            let bounds = bounds_of(self, product, position.partition)?;
            if position.offset > bounds.durable_end.0 {
                let offset = meshlog_storage::Offset(position.offset);
                return Err(out_of_range(product, position.partition, offset, bounds));
            }
        }
        Ok(())
    }
}

/// `0` as an etag means that there must not be a commit yet.
fn check_etag(request: &v1::CommitOffsetsRequest, before: Option<&StoredCursor>) -> Result<()> {
    let current = before.map_or_else(|| "0".to_owned(), StoredCursor::etag);
    if request.etag.is_empty() || request.etag == current {
        return Ok(());
    }
    let who = match before {
        Some(cursor) => format!("was committed by {} since", cursor.updated_by),
        None => "does not exist (any more)".to_owned(),
    };
    Err(Error::new(
        Reason::EtagMismatch,
        format!(
            "the cursor `{}` in {} {who}; read where it stands, and see whether another program \
             uses it too",
            request.cursor, request.product
        ),
    )
    .with("etag", current))
}

/// The positions after a commit, by partition.
fn merged(before: Option<&StoredCursor>, positions: &[v1::Position]) -> Vec<v1::Position> {
    let kept = before.into_iter().flat_map(|cursor| &cursor.positions);
    let by_partition: BTreeMap<u32, u64> =
        kept.chain(positions).map(|at| (at.partition, at.offset)).collect();
    let position = |(partition, offset)| v1::Position { partition, offset };
    by_partition.into_iter().map(position).collect()
}

fn not_found(cursor: &str, product: &str) -> Error {
    let cursor = shown(cursor);
    let place = match product {
        "" => String::new(),
        product => format!(" in {product}"),
    };
    let error = Error::new(
        Reason::CursorNotFound,
        format!(
            "there is no cursor `{cursor}`{place}; `meshlog cursor list` shows those there are"
        ),
    )
    .with("cursor", cursor);
    match product {
        "" => error,
        product => error.with("product", product),
    }
}
