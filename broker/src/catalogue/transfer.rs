//! Handing a product over to another team, which must accept.

use meshlog_proto::v1::{self, PendingTransfer};

use super::{Catalogue, check_length, invalid, team};
use crate::Caller;
use crate::access::{Resource, Rpc};
use crate::error::{Error, Reason, Result};

impl Catalogue {
    /// Offers a product to another team; a later offer takes the place of an earlier one.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `TEAM_NOT_FOUND`, `NAME_RESERVED`,
    /// `INVALID_ARGUMENT` for the team that owns it already.
    pub async fn transfer_product(
        &self,
        caller: &Caller,
        request: v1::TransferProductRequest,
    ) -> Result<v1::TransferProductResponse> {
        check_length("reason", &request.reason, team::MAX_DESCRIPTION_BYTES)?;
        let mut change = self
            .change_product(caller, Rpc::TransferProduct, &request.name, "", &request.etag)
            .await?;
        let now = change.mutation.now();
        let product = &mut change.product;
        if product.owner == request.new_owner {
            let what = format!("`{}` owns `{}` already", product.owner, product.name);
            return Err(invalid("new_owner", what));
        }
        team::check_owner(&self.inner.view.read(), &request.new_owner)?;
        product.pending_transfer = Some(PendingTransfer {
            new_owner: request.new_owner,
            reason: request.reason,
            requested_by: caller.principal(),
            request_time: Some(now),
        });
        let product = change.finish(caller, "transfer_product", request.validate_only).await?;
        Ok(v1::TransferProductResponse { product: Some(product) })
    }

    /// The team that a product was offered to takes it.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `TRANSFER_NOT_PENDING` if none waits, or waits for
    /// another team.
    pub async fn accept_product_transfer(
        &self,
        caller: &Caller,
        request: v1::AcceptProductTransferRequest,
    ) -> Result<v1::AcceptProductTransferResponse> {
        let mut change =
            self.change_product(caller, Rpc::GetProduct, &request.name, "", &request.etag).await?;
        self.allow(caller, Rpc::AcceptProductTransfer, Resource::Team(&request.new_owner))?;
        let product = &mut change.product;
        let pending = pending(product)?;
        if pending.new_owner != request.new_owner {
            return Err(Error::new(
                Reason::TransferNotPending,
                format!(
                    "`{}` was offered to the team `{}`, which alone can accept it",
                    product.name, pending.new_owner
                ),
            )
            .with("product", &product.name)
            .with("new_owner", &pending.new_owner));
        }
        product.owner = request.new_owner;
        product.pending_transfer = None;
        let product =
            change.finish(caller, "accept_product_transfer", request.validate_only).await?;
        Ok(v1::AcceptProductTransferResponse { product: Some(product) })
    }

    /// Either side calls a transfer off.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `TRANSFER_NOT_PENDING`.
    pub async fn cancel_product_transfer(
        &self,
        caller: &Caller,
        request: v1::CancelProductTransferRequest,
    ) -> Result<v1::CancelProductTransferResponse> {
        let mut change =
            self.change_product(caller, Rpc::GetProduct, &request.name, "", &request.etag).await?;
        let pending = pending(&change.product);
        let is_offered = pending.as_ref().is_ok_and(|transfer| {
            let team = Resource::Team(&transfer.new_owner);
            self.allows(caller, Rpc::AcceptProductTransfer, team)
        });
        if !is_offered {
            self.allow(caller, Rpc::CancelProductTransfer, Resource::Product(&change.handle))?;
        }
        pending?;
        change.product.pending_transfer = None;
        let product =
            change.finish(caller, "cancel_product_transfer", request.validate_only).await?;
        Ok(v1::CancelProductTransferResponse { product: Some(product) })
    }
}

fn pending(product: &v1::Product) -> Result<&PendingTransfer> {
    product.pending_transfer.as_ref().ok_or_else(|| {
        Error::new(
            Reason::TransferNotPending,
            format!(
                "no transfer of `{0}` waits; offer it first: `meshlog product transfer {0} TEAM`",
                product.name
            ),
        )
        .with("product", &product.name)
    })
}
