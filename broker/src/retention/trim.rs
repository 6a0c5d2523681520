//! Taking the oldest records of a product away.

use meshlog_proto::v1::{self, trim_product_request::Which};
use meshlog_storage::Offset;

use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::record::{offset_at_time, partitions_of};
use crate::time::storage_time;

impl Broker {
    /// Raises where the partitions of a product begin, all in one entry with its record in the audit
    /// log. A position below the present start changes nothing.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_RECREATED`, `PRODUCT_READ_ONLY`, `PARTITION_NOT_FOUND`,
    /// `OFFSET_OUT_OF_RANGE` above the durable end, `INVALID_ARGUMENT` for a request that names no
    /// records.
    pub async fn trim_product(
        &self,
        caller: &Caller,
        request: v1::TrimProductRequest,
    ) -> Result<v1::TrimProductResponse> {
        self.refuse_if_closing()?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::TrimProduct,
            &request.product,
            &request.product_id,
        )?;
        let mut starts: Vec<(u32, Offset)> = match &request.which {
            None => {
                let what = "say which records go: those before some offsets or before a time";
                return Err(invalid("which", what));
            }
            Some(Which::BeforeOffsets(_)) if !request.partitions.is_empty() => {
                let what = "they are named by `before_offsets` already";
                return Err(invalid("partitions", what));
            }
            Some(Which::BeforeOffsets(positions)) => {
                let asked: Vec<u32> = positions.positions.iter().map(|at| at.partition).collect();
                if asked.is_empty() {
                    return Err(invalid("before_offsets", "name at least one partition"));
                }
                if partitions_of(&product, &asked)?.len() < asked.len() {
                    return Err(invalid("before_offsets", "a partition is named twice"));
                }
                positions.positions.iter().map(|at| (at.partition, Offset(at.offset))).collect()
            }
            Some(Which::BeforeTime(time)) => {
                let mut starts = Vec::new();
                for partition in partitions_of(&product, &request.partitions)? {
                    let time = storage_time(time);
                    starts
                        .push((partition, offset_at_time(self, &product, partition, time).await?));
                }
                starts
            }
        };
        starts.sort_unstable();
        // Whoever did not pin an id meant the product whose offsets were looked up.
        let trimmed = self.catalogue().trim(caller, &product, &starts, request.validate_only);
        let partitions = trimmed.await?;
        let erased = match request.erase && !request.validate_only {
            true => Some(self.erase_of(&product).await?),
            false => None,
        };
        Ok(v1::TrimProductResponse { product_id: product.id.to_string(), partitions, erased })
    }
}

fn invalid(field: &'static str, what: &str) -> Error {
    Error::new(Reason::InvalidArgument, format!("{field}: {what}"))
        .with("field", field)
        .with_violation(field, what)
}
