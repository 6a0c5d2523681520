//! The catalogue service over gRPC.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;

use futures_util::{FutureExt as _, Stream, stream};
use meshlog_proto::v1::{self, catalog_service_server::CatalogService};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::by_catalogue::by_catalogue;
use super::call::panicked;
use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The catalogue service of one server.
#[derive(Clone)]
pub(super) struct Catalog {
    broker: Broker,
    drain: CancellationToken,
}

impl Catalog {
    /// Of this broker; streams end when `drain` is cancelled.
    pub(super) fn new(broker: Broker, drain: CancellationToken) -> Self {
        Self { broker, drain }
    }
}

by_catalogue! {
    impl CatalogService for Catalog
    changes {
        create_domain(CreateDomainRequest) -> CreateDomainResponse;
        update_domain(UpdateDomainRequest) -> UpdateDomainResponse;
        delete_domain(DeleteDomainRequest) -> DeleteDomainResponse;
        create_team(CreateTeamRequest) -> CreateTeamResponse;
        update_team(UpdateTeamRequest) -> UpdateTeamResponse;
        delete_team(DeleteTeamRequest) -> DeleteTeamResponse;
        create_tag_key(CreateTagKeyRequest) -> CreateTagKeyResponse;
        update_tag_key(UpdateTagKeyRequest) -> UpdateTagKeyResponse;
        delete_tag_key(DeleteTagKeyRequest) -> DeleteTagKeyResponse;
        create_product(CreateProductRequest) -> CreateProductResponse;
        update_product(UpdateProductRequest) -> UpdateProductResponse;
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
        get_domain(GetDomainRequest) -> GetDomainResponse;
        list_domains(ListDomainsRequest) -> ListDomainsResponse;
        get_team(GetTeamRequest) -> GetTeamResponse;
        list_teams(ListTeamsRequest) -> ListTeamsResponse;
        get_tag_key(GetTagKeyRequest) -> GetTagKeyResponse;
        list_tag_keys(ListTagKeysRequest) -> ListTagKeysResponse;
        get_product(GetProductRequest) -> GetProductResponse;
        list_products(ListProductsRequest) -> ListProductsResponse;
        list_rules(ListRulesRequest) -> ListRulesResponse;
    }
    others {
        async fn delete_product(
            &self,
            request: Request<v1::DeleteProductRequest>,
        ) -> Result<Response<v1::DeleteProductResponse>, Status> {
            let caller = caller_of(&request);
            let answer = self.broker.delete_product(&caller, request.into_inner()).await;
            answer.map(Response::new).map_err(|error| status_of(&error))
        }

        async fn search_products(
            &self,
            request: Request<v1::SearchProductsRequest>,
        ) -> Result<Response<v1::SearchProductsResponse>, Status> {
            let caller = caller_of(&request);
            let found =
                self.broker.catalogue().search_products(&caller, request.into_inner()).await;
            found.map(Response::new).map_err(|error| status_of(&error))
        }

        async fn sample_product(
            &self,
            request: Request<v1::SampleProductRequest>,
        ) -> Result<Response<v1::SampleProductResponse>, Status> {
            let caller = caller_of(&request);
            let sample = self.broker.sample_product(&caller, request.into_inner()).await;
            sample.map(Response::new).map_err(|error| status_of(&error))
        }

        async fn test_rules(
            &self,
            request: Request<v1::TestRulesRequest>,
        ) -> Result<Response<v1::TestRulesResponse>, Status> {
            let caller = caller_of(&request);
            let tested = self.broker.test_rules(&caller, request.into_inner()).await;
            tested.map(Response::new).map_err(|error| status_of(&error))
        }

        type WatchProductsStream =
            Pin<Box<dyn Stream<Item = Result<v1::WatchProductsResponse, Status>> + Send>>;

        async fn watch_products(
            &self,
            request: Request<v1::WatchProductsRequest>,
        ) -> Result<Response<Self::WatchProductsStream>, Status> {
            let caller = caller_of(&request);
            let watch = self.broker.watch_products(&caller, request.into_inner());
            let watch = watch.map_err(|error| status_of(&error))?.until(self.drain.clone());
            Ok(Response::new(Box::pin(watch_responses(watch))))
        }
    }
}

fn watch_responses(
    watch: crate::catalogue::ProductWatch,
) -> impl Stream<Item = Result<v1::WatchProductsResponse, Status>> + Send {
    stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let item = match AssertUnwindSafe(watch.next()).catch_unwind().await {
            Ok(None) => return None,
            Ok(Some(message)) => message.map_err(|error| status_of(&error)),
            Err(_) => Err(status_of(&panicked("CatalogService/WatchProducts"))),
        };
        let going_on = item.is_ok().then_some(watch);
        Some((item, going_on))
    })
}
