//! The named cursor of a consumer: where it starts, and commits that notice another program.
//!
//! ```text
//! found (etag e0) ─► commit, expecting e0 ─► e1 ─► commit, expecting e1 ─► …
//!                        └ no answer: looked up before the next commit; ours, or somebody else's
//! ```

use std::collections::BTreeMap;

use meshlog_proto::v1;

use super::StartAt;
use crate::{
    Applied, Error, Result,
    error::{Code, reason},
    time,
    transport::Connection,
};

type Positions = BTreeMap<u32, u64>;

/// A named cursor as one consumer uses it.
#[derive(Clone)]
pub(super) struct Cursor {
    name: String,
    calls: Connection,
    /// `None` until it was looked up.
    known: Option<Known>,
    /// Sent, and whether it was applied is not known.
    in_doubt: Option<Positions>,
}

#[derive(Clone)]
struct Known {
    etag: String,
    positions: Positions,
}

impl Known {
    fn of(cursor: &v1::Cursor) -> Self {
        let positions = cursor.positions.iter().map(|at| (at.partition, at.offset)).collect();
        Self { etag: cursor.etag.clone(), positions }
    }

    fn has(&self, positions: &Positions) -> bool {
        positions.iter().all(|(partition, offset)| self.positions.get(partition) == Some(offset))
    }
}

/// A product, as a consumer names it.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) name: &'a str,
    /// Empty: any of the name.
    pub(super) id: &'a str,
}

impl Cursor {
    pub(super) fn new(name: String, calls: Connection) -> Self {
        Self { name, calls, known: None, in_doubt: None }
    }

    pub(super) fn is_found(&self) -> bool {
        self.known.is_some()
    }

    /// Looks the cursor up and says where to start: at its positions, and in partitions where it has
    /// none as `start` says. Also the id of the product in which it stands.
    pub(super) async fn find(
        &mut self,
        product: Product<'_>,
        partitions: &[u32],
        start: &StartAt,
    ) -> Result<(StartAt, String)> {
        let cursor = self.look_up(product).await?;
        let known = Known::of(&cursor);
        let is_chosen = |partition: &u32| partitions.is_empty() || partitions.contains(partition);
        let mut positions = known.positions.clone();
        positions.retain(|partition, _| is_chosen(partition));
        if !positions.is_empty() {
            for (partition, offset) in self.others(&cursor, partitions, start).await? {
                positions.entry(partition).or_insert(offset);
            }
        }
        self.known = Some(known);
        let start = match positions.is_empty() {
            true => start.clone(),
            false => StartAt::Positions(positions),
        };
        Ok((start, cursor.product_id))
    }

    /// Where `start` lies in each partition, as far as that is not its beginning anyway.
    async fn others(
        &self,
        cursor: &v1::Cursor,
        partitions: &[u32],
        start: &StartAt,
    ) -> Result<Positions> {
        let append_time = match start {
            StartAt::Time(at) => Some(time::to_wire(*at)),
            StartAt::Latest => None,
            StartAt::Positions(positions) => return Ok(positions.clone()),
            StartAt::Earliest | StartAt::Offset(_) => return Ok(Positions::new()),
        };
        let request = v1::ListOffsetsRequest {
            product: cursor.product.clone(),
            product_id: cursor.product_id.clone(),
            partitions: partitions.to_vec(),
            append_time,
        };
        let offsets = self.calls.list_offsets(request).await?.partitions;
        let at =
            |at: &v1::PartitionOffsets| (at.partition, at.offset_at_time.unwrap_or(at.durable_end));
        Ok(offsets.iter().map(at).collect())
    }

    /// Makes positions durable, once. Cancel safe: what was sent and not answered is looked up before
    /// the next commit.
    pub(super) async fn commit(
        &mut self,
        product: Product<'_>,
        positions: &Positions,
    ) -> Result<()> {
        if self.known.is_none() || self.in_doubt.is_some() {
            self.resolve(product).await?;
        }
        let Some(known) = &self.known else { return Ok(()) };
        if known.has(positions) {
            return Ok(());
        }
        let position = |(&partition, &offset): (&u32, &u64)| v1::Position { partition, offset };
        let request = v1::CommitOffsetsRequest {
            cursor: self.name.clone(),
            product: product.name.to_owned(),
            product_id: product.id.to_owned(),
            positions: positions.iter().map(position).collect(),
            etag: known.etag.clone(),
        };
        self.in_doubt = Some(positions.clone());
        match self.calls.commit_offsets(request).await {
            Ok(answer) => {
                self.in_doubt = None;
                self.known = Some(Known::of(&answer.cursor.ok_or_else(|| self.absent())?));
                Ok(())
            }
            Err(error) => {
                if error.applied() == Applied::No {
                    self.in_doubt = None;
                }
                match error.reason() {
                    reason::ETAG_MISMATCH => {
                        let who = self.look_up(product).await.ok();
                        Err(self.taken(product, who.as_ref(), &error))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Finds out what became of a commit without an answer.
    async fn resolve(&mut self, product: Product<'_>) -> Result<()> {
        let cursor = self.look_up(product).await?;
        let found = Known::of(&cursor);
        match (&self.known, &self.in_doubt) {
            // It was not applied, and never will be: what it expected is still so, but a late one
            // would find this commit before it.
            (Some(known), _) if known.etag == found.etag => {}
            (Some(_), Some(sent)) if found.has(sent) => {}
            (None, _) => {}
            _ => {
                let mismatch = Error::new(Code::Aborted, reason::ETAG_MISMATCH, "");
                return Err(self.taken(product, Some(&cursor), &mismatch));
            }
        }
        self.known = Some(found);
        self.in_doubt = None;
        Ok(())
    }

    async fn look_up(&self, product: Product<'_>) -> Result<v1::Cursor> {
        let request = v1::GetOffsetsRequest {
            cursor: self.name.clone(),
            product: product.name.to_owned(),
            product_id: product.id.to_owned(),
        };
        self.calls.get_offsets(request).await?.cursor.ok_or_else(|| self.absent())
    }

    fn taken(&self, product: Product<'_>, now: Option<&v1::Cursor>, error: &Error) -> Error {
        let who = match now {
            Some(cursor) if cursor.etag == "0" => "it was deleted".to_owned(),
            Some(cursor) => format!("the last commit is by {}", cursor.updated_by),
            None => "it has changed".to_owned(),
        };
        let message = format!(
            "the cursor `{}` in {} is used by another program too: {who}; stop one of them, or give \
             each a cursor of its own",
            self.name, product.name
        );
        Error::new(Code::Aborted, reason::ETAG_MISMATCH, message)
            .with_metadata(error.metadata().clone())
    }

    fn absent(&self) -> Error {
        let message = format!("the broker answered without the cursor `{}`", self.name);
        Error::new(Code::Internal, reason::PROTOCOL, message)
    }
}
