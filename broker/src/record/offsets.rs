//! Where the partitions of a product stand.

use meshlog_proto::v1;

use super::cursor::{explain, offset_at_time, partitions_of};
use crate::access::Rpc;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::Result;
use crate::time::storage_time;

impl Broker {
    /// The readable range of each partition asked for and, if a time is given, the offset at it.
    pub async fn list_offsets(
        &self,
        caller: &Caller,
        request: v1::ListOffsetsRequest,
    ) -> Result<v1::ListOffsetsResponse> {
        self.refuse_if_closing()?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::ListOffsets,
            &request.product,
            &request.product_id,
        )?;
        let mut partitions = Vec::new();
        for partition in partitions_of(&product, &request.partitions)? {
            let offset_at_time = match &request.append_time {
                Some(time) => {
                    let time = storage_time(time);
                    Some(offset_at_time(self, &product, partition, time).await?.0)
                }
                None => None,
            };
            let bounds = self.storage().bounds(product.streams[partition as usize]);
            let bounds = bounds.map_err(|error| explain(&product, partition, None, &error))?;
            partitions.push(v1::PartitionOffsets {
                partition,
                start_offset: bounds.start.0,
                durable_end: bounds.durable_end.0,
                offset_at_time,
            });
        }
        Ok(v1::ListOffsetsResponse { product_id: product.id.to_string(), partitions })
    }
}
