//! Raising where partitions begin. The product itself is as before, and so is its etag.

use meshlog_proto::v1;
use meshlog_storage::{Control, Offset};

use super::Catalogue;
use super::audit::{Act, Kind};
use super::facts::Difference;
use super::product::ProductHandle;
use crate::Caller;
use crate::access::Rpc;
use crate::error::Result;
use crate::record::{explain, out_of_range};

impl Catalogue {
    /// Takes the records before these offsets away, in one entry with its record in the audit log.
    /// Says where the partitions begin then.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `PRODUCT_READ_ONLY`, `OFFSET_OUT_OF_RANGE`.
    pub(crate) async fn trim(
        &self,
        caller: &Caller,
        product: &ProductHandle,
        starts: &[(u32, Offset)],
        validate_only: bool,
    ) -> Result<Vec<v1::TrimmedPartition>> {
        let mut change =
            self.change_product(caller, Rpc::TrimProduct, &product.name, &product.id, "").await?;
        let mut trimmed = Vec::with_capacity(starts.len());
        let mut differences = Vec::new();
        for (partition, asked) in starts {
            let stream = product.streams[*partition as usize];
            let bounds = self.inner.storage.bounds(stream);
            let bounds = bounds.map_err(|error| explain(product, *partition, None, &error))?;
            if *asked > bounds.durable_end {
                return Err(out_of_range(product, *partition, *asked, bounds));
            }
            let start = bounds.start.max(*asked);
            if start > bounds.start {
                change.mutation.controls().push(Control::TrimStream(stream, start));
                differences.push(Difference {
                    path: format!("partitions[{partition}].start_offset"),
                    before: Some(bounds.start.0.into()),
                    after: Some(start.0.into()),
                });
            }
            trimmed.push(v1::TrimmedPartition {
                partition: *partition,
                previous_start_offset: bounds.start.0,
                start_offset: start.0,
                durable_end: bounds.durable_end.0,
            });
        }
        if validate_only || differences.is_empty() {
            return Ok(trimmed);
        }
        let act = Act::new("trim_product", Kind::Product, &product.name)
            .id(&product.id)
            .etag_before(&change.before.etag)
            .kept()
            .changes(differences);
        change.mutation.commit(caller, act).await?;
        Ok(trimmed)
    }
}
