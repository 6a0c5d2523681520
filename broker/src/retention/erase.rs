//! Erasing from the disk what is deleted, and saying when that is done.

use meshlog_proto::v1;
use meshlog_storage::StreamId;
use tokio::sync::oneshot;

use crate::access::{Resource, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::catalogue::ProductHandle;
use crate::error::{Applied, Error, Result};
use crate::record::no_answer;

impl Broker {
    /// Erases what was deleted, trimmed away or given up before this call; of one product only what
    /// it gave up. Whoever goes away does not stop it.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`; `DATA_LOSS` if a damaged file must stay; those of the disk;
    /// `SHUTTING_DOWN`, after which it must be asked for again.
    pub async fn erase_deleted_records(
        &self,
        caller: &Caller,
        request: v1::EraseDeletedRecordsRequest,
    ) -> Result<v1::EraseDeletedRecordsResponse> {
        self.refuse_if_closing()?;
        self.catalogue().allow(caller, Rpc::EraseDeletedRecords, Resource::Broker)?;
        let streams = match request.product.as_str() {
            // Ids are given in order, so what is deleted has one of these too.
            "" => (0..self.storage().allocate_stream().0).map(StreamId).collect(),
            name => self.catalogue().resolve(name, "")?.streams.clone(),
        };
        self.tell_audit(caller, "erase_deleted_records", &request.product).await?;
        let erased = Some(self.erase(streams).await?);
        Ok(v1::EraseDeletedRecordsResponse { erased })
    }

    /// After a change that is durable already: an error says so.
    pub(super) async fn erase_of(&self, product: &ProductHandle) -> Result<v1::Erased> {
        self.erase(product.streams.clone()).await.map_err(|error| {
            let what = format!(
                "the records of `{}` are gone for every reader, but their bytes are not all \
                 erased: {error}; ask again with `meshlog server erase`",
                product.name
            );
            Error::new(error.reason(), what).with_applied(Applied::Unknown)
        })
    }

    async fn erase(&self, streams: Vec<StreamId>) -> Result<v1::Erased> {
        let (sender, receiver) = oneshot::channel();
        self.storage().erase(streams, move |result| {
            // The caller may have gone away.
            let _gone = sender.send(result);
        });
        let result = tokio::select! {
            result = receiver => result.unwrap_or_else(|_| Err(no_answer())),
            () = self.closing().cancelled() => return Err(Error::shutting_down()),
        };
        let erased = result?;
        Ok(v1::Erased {
            rewritten_bytes: erased.rewritten_bytes,
            zeroed_bytes: erased.zeroed_bytes,
            unsplit_batches: erased.unsplit_batches,
            set_aside: erased.set_aside,
        })
    }

    /// Deletes a product; if asked to, answers when its bytes are gone too.
    ///
    /// # Errors
    /// Those of [`crate::catalogue::Catalogue::delete_product`] and of erasing.
    pub async fn delete_product(
        &self,
        caller: &Caller,
        request: v1::DeleteProductRequest,
    ) -> Result<v1::DeleteProductResponse> {
        let erases = request.erase && !request.validate_only;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::DeleteProduct,
            &request.name,
            &request.product_id,
        )?;
        // The one that is deleted is the one whose bytes go.
        let request = v1::DeleteProductRequest { product_id: product.id.to_string(), ..request };
        let mut response = self.catalogue().delete_product(caller, request).await?;
        if erases {
            response.erased = Some(self.erase_of(&product).await?);
        }
        Ok(response)
    }
}
