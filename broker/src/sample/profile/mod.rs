//! What the values of a product look like.
//!
//! A value that cannot be read as the format of the schema version it was written with counts as
//! unreadable and changes nothing else. Absent counts as null. Memory is bounded whatever the values:
//! fields, the length of paths and texts, registers for different values, counters for frequent ones.

mod distinct;
mod field;
mod frequent;
mod number;
mod tree;

use std::collections::HashMap;
use std::sync::Arc;

use meshlog_proto::v1;
use meshlog_storage::Timestamp;
use tokio::sync::OwnedSemaphorePermit;

use super::decode::Decoder;
use super::walk::Found;
use crate::catalogue::ProductHandle;
use crate::time::proto_time;

pub(crate) use field::{Parts, Scalar};
pub(crate) use number::Number;
pub(super) use tree::Tree;

/// A profile being made.
pub(super) struct Profiler {
    product: Arc<ProductHandle>,
    personal: Vec<String>,
    /// By schema version; `None`: its values cannot be read.
    decoders: HashMap<u32, Option<Decoder>>,
    tree: Tree,
    records: u64,
    tombstones: u64,
    unreadable: u64,
    times: Option<(Timestamp, Timestamp)>,
    _permit: OwnedSemaphorePermit,
}

impl Profiler {
    /// Of a product; `personal` are the paths whose values are not shown.
    pub(super) fn new(
        product: &Arc<ProductHandle>,
        personal: &[String],
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let mut tree = Tree::default();
        // A schema that a later version of the broker no longer accepts declares nothing.
        let fields = product.value_schema(0).and_then(|schema| schema.fields().ok());
        fields.iter().flatten().for_each(|field| tree.declare(&field.path));
        Self {
            product: Arc::clone(product),
            personal: personal.to_vec(),
            decoders: HashMap::new(),
            tree,
            records: 0,
            tombstones: 0,
            unreadable: 0,
            times: None,
            _permit: permit,
        }
    }

    /// One more record, of this schema version.
    pub(super) fn add(&mut self, version: u32, found: &Found) {
        self.records += 1;
        let time = found.append_time;
        let (oldest, newest) = self.times.get_or_insert((time, time));
        *oldest = time.min(*oldest);
        *newest = time.max(*newest);
        let Some(value) = &found.value else {
            self.tombstones += 1;
            return;
        };
        let decoder = self.decoders.entry(version).or_insert_with(|| {
            self.product.value_schema(version).and_then(|schema| Decoder::new(&schema))
        });
        let value = decoder.as_ref().and_then(|decoder| decoder.read(self.product.unframed(value)));
        match value {
            Some(value) => {
                self.tree.begin();
                value.tell(&mut self.tree);
            }
            None => self.unreadable += 1,
        }
    }

    /// The profile.
    pub(super) fn finish(self) -> v1::Profile {
        v1::Profile {
            records: self.records,
            tombstones: self.tombstones,
            unreadable: self.unreadable,
            fields: self.tree.fields(&self.personal),
            oldest_time: self.times.map(|(oldest, _)| proto_time(oldest)),
            newest_time: self.times.map(|(_, newest)| proto_time(newest)),
        }
    }
}
