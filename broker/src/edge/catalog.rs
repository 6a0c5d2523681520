//! The catalogue service over gRPC.

use meshlog_proto::v1::{self, catalog_service_server::CatalogService};
use tonic::{Request, Response, Status};

use super::convert::caller_of;
use super::status::status_of;
use crate::broker::Broker;

/// The catalogue service of one server.
#[derive(Clone)]
pub(super) struct Catalog {
    broker: Broker,
}

impl Catalog {
    /// Of this broker.
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker }
    }
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn create_domain(
        &self,
        request: Request<v1::CreateDomainRequest>,
    ) -> Result<Response<v1::CreateDomainResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.catalogue().create_domain(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_domain(
        &self,
        request: Request<v1::GetDomainRequest>,
    ) -> Result<Response<v1::GetDomainResponse>, Status> {
        let answer = self.broker.catalogue().get_domain(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_domains(
        &self,
        request: Request<v1::ListDomainsRequest>,
    ) -> Result<Response<v1::ListDomainsResponse>, Status> {
        let answer = self.broker.catalogue().list_domains(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn create_team(
        &self,
        request: Request<v1::CreateTeamRequest>,
    ) -> Result<Response<v1::CreateTeamResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.catalogue().create_team(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_team(
        &self,
        request: Request<v1::GetTeamRequest>,
    ) -> Result<Response<v1::GetTeamResponse>, Status> {
        let answer = self.broker.catalogue().get_team(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_teams(
        &self,
        request: Request<v1::ListTeamsRequest>,
    ) -> Result<Response<v1::ListTeamsResponse>, Status> {
        let answer = self.broker.catalogue().list_teams(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn create_product(
        &self,
        request: Request<v1::CreateProductRequest>,
    ) -> Result<Response<v1::CreateProductResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.catalogue().create_product(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn get_product(
        &self,
        request: Request<v1::GetProductRequest>,
    ) -> Result<Response<v1::GetProductResponse>, Status> {
        let answer = self.broker.catalogue().get_product(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn list_products(
        &self,
        request: Request<v1::ListProductsRequest>,
    ) -> Result<Response<v1::ListProductsResponse>, Status> {
        let answer = self.broker.catalogue().list_products(request.into_inner());
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn update_product(
        &self,
        request: Request<v1::UpdateProductRequest>,
    ) -> Result<Response<v1::UpdateProductResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.catalogue().update_product(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }

    async fn delete_product(
        &self,
        request: Request<v1::DeleteProductRequest>,
    ) -> Result<Response<v1::DeleteProductResponse>, Status> {
        let caller = caller_of(request.metadata());
        let answer = self.broker.catalogue().delete_product(&caller, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| status_of(&error))
    }
}
