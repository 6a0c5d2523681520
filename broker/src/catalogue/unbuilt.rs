//! Calls that are not built yet. Each line goes when its call is built; then this file goes.

use meshlog_proto::v1;
use tokio_util::sync::CancellationToken;

use super::Catalogue;
use crate::error::{Error, Reason, Result};
use crate::{Broker, Caller};

fn unbuilt<T>() -> Result<T> {
    Err(Error::new(Reason::Internal, "this call is not built yet"))
}

macro_rules! unbuilt {
    (
        changes { $($change:ident($change_request:ident) -> $changed:ident;)* }
        reads { $($read:ident($read_request:ident) -> $answer:ident;)* }
    ) => {
        #[allow(missing_docs, clippy::unused_async)]
        impl Catalogue {
            $(pub async fn $change(&self, _caller: &Caller, _request: v1::$change_request) -> Result<v1::$changed> {
                unbuilt()
            })*
            $(pub fn $read(&self, _request: v1::$read_request) -> Result<v1::$answer> {
                unbuilt()
            })*
        }
    };
}

unbuilt! {
    changes {
        update_domain(UpdateDomainRequest) -> UpdateDomainResponse;
        delete_domain(DeleteDomainRequest) -> DeleteDomainResponse;
        update_team(UpdateTeamRequest) -> UpdateTeamResponse;
        delete_team(DeleteTeamRequest) -> DeleteTeamResponse;
        create_tag_key(CreateTagKeyRequest) -> CreateTagKeyResponse;
        update_tag_key(UpdateTagKeyRequest) -> UpdateTagKeyResponse;
        delete_tag_key(DeleteTagKeyRequest) -> DeleteTagKeyResponse;
        activate_product(ActivateProductRequest) -> ActivateProductResponse;
        deprecate_product(DeprecateProductRequest) -> DeprecateProductResponse;
        retire_product(RetireProductRequest) -> RetireProductResponse;
        move_product(MoveProductRequest) -> MoveProductResponse;
        transfer_product(TransferProductRequest) -> TransferProductResponse;
        accept_product_transfer(AcceptProductTransferRequest) -> AcceptProductTransferResponse;
        cancel_product_transfer(CancelProductTransferRequest) -> CancelProductTransferResponse;
        succeed_product(SucceedProductRequest) -> SucceedProductResponse;
    }
    reads {
        get_tag_key(GetTagKeyRequest) -> GetTagKeyResponse;
        list_tag_keys(ListTagKeysRequest) -> ListTagKeysResponse;
        search_products(SearchProductsRequest) -> SearchProductsResponse;
    }
}

#[allow(missing_docs, clippy::unused_async)]
impl Broker {
    pub fn watch_products(&self, _request: v1::WatchProductsRequest) -> Result<ProductWatch> {
        unbuilt()
    }
}

/// A watch of the catalogue.
#[derive(Debug)]
pub struct ProductWatch;

#[allow(missing_docs, clippy::unused_async)]
impl ProductWatch {
    pub fn until(self, _stop: CancellationToken) -> Self {
        self
    }

    pub async fn next(&mut self) -> Option<Result<v1::WatchProductsResponse>> {
        None
    }
}
