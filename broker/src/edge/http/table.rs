//! Every route. A unary RPC takes one line here and nothing elsewhere.

use http::Method;
use meshlog_proto::v1;
use prost::Message as _;

use super::route::{Operation, Route, Rpc};
use super::{append, health, openapi, read, registry};

/// One RPC: where it stands, the fields that the path fills, and the call.
macro_rules! rpc {
    ($method:ident $path:literal [$($field:literal),*] $body:literal,
     $service:ident / $name:ident ($request:ident) -> $response:ident,
     |$broker:ident, $caller:ident, $asked:ident| $answer:expr) => {
        Route {
            method: Method::$method,
            path: $path,
            operation: Operation::Message(Rpc {
                name: concat!(stringify!($service), "/", stringify!($name)),
                request: stringify!($request),
                response: stringify!($response),
                path_fields: &[$($field),*],
                has_body: $body == "body",
                call: |http, caller, request| Box::pin(async move {
                    let ($broker, $caller) = (&http.broker, &caller);
                    // It was encoded a moment ago, from the same description.
                    let $asked = v1::$request::decode(request)
                        .map_err(|error| super::undecodable(&error))?;
                    let answer: crate::Result<v1::$response> = $answer;
                    let _ = ($broker, $caller);
                    Ok(answer?.encode_to_vec())
                }),
            }),
        }
    };
}

/// An operation with a form of its own.
macro_rules! own {
    ($method:ident $path:literal, $name:literal, $answer:path) => {
        Route {
            method: Method::$method,
            path: $path,
            operation: Operation::Own($name, |call| Box::pin($answer(call))),
        }
    };
}

/// An operation as clients of Confluent's Schema Registry know it.
macro_rules! of_registry {
    ($method:ident $path:literal, $name:literal, $answer:path) => {
        Route {
            method: Method::$method,
            path: concat!("/schema-registry", $path),
            operation: Operation::Own($name, |call| Box::pin(registry::answer(call, $answer))),
        }
    };
}

/// Every route of the port but those of gRPC.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        own!(POST "/v1/products/{name}/records", "Append", append::answer),
        own!(GET "/v1/products/{name}/records", "Read", read::answer),
        own!(GET "/livez", "Live", health::live),
        own!(GET "/readyz", "Ready", health::ready),
        own!(GET "/openapi.json", "Describe", openapi::answer),
    ];
    routes.extend(products());
    routes.extend(life());
    routes.extend(places());
    routes.extend(access());
    routes.extend(others());
    routes.extend(schema_registry());
    routes
}

fn products() -> Vec<Route> {
    vec![
        rpc!(GET "/v1/products" [] "query", CatalogService/ListProducts(ListProductsRequest) -> ListProductsResponse,
            |broker, caller, asked| broker.catalogue().list_products(caller, asked)),
        rpc!(POST "/v1/products" [] "body", CatalogService/CreateProduct(CreateProductRequest) -> CreateProductResponse,
            |broker, caller, asked| broker.catalogue().create_product(caller, asked).await),
        rpc!(GET "/v1/products/{name}" ["name"] "query", CatalogService/GetProduct(GetProductRequest) -> GetProductResponse,
            |broker, caller, asked| broker.catalogue().get_product(caller, asked)),
        rpc!(PATCH "/v1/products/{name}" ["product.name"] "body", CatalogService/UpdateProduct(UpdateProductRequest) -> UpdateProductResponse,
            |broker, caller, asked| broker.catalogue().update_product(caller, asked).await),
        rpc!(DELETE "/v1/products/{name}" ["name"] "query", CatalogService/DeleteProduct(DeleteProductRequest) -> DeleteProductResponse,
            |broker, caller, asked| broker.delete_product(caller, asked).await),
        rpc!(GET "/v1/search" [] "query", CatalogService/SearchProducts(SearchProductsRequest) -> SearchProductsResponse,
            |broker, caller, asked| broker.catalogue().search_products(caller, asked).await),
        rpc!(GET "/v1/products/{name}/sample" ["product"] "query", CatalogService/SampleProduct(SampleProductRequest) -> SampleProductResponse,
            |broker, caller, asked| broker.sample_product(caller, asked).await),
        rpc!(GET "/v1/products/{name}/rules" ["product"] "query", CatalogService/ListRules(ListRulesRequest) -> ListRulesResponse,
            |broker, caller, asked| broker.catalogue().list_rules(caller, asked)),
        rpc!(POST "/v1/products/{name}/rules/test" ["product"] "body", CatalogService/TestRules(TestRulesRequest) -> TestRulesResponse,
            |broker, caller, asked| broker.test_rules(caller, asked).await),
        rpc!(GET "/v1/products/{name}/offsets" ["product"] "query", RecordService/ListOffsets(ListOffsetsRequest) -> ListOffsetsResponse,
            |broker, caller, asked| broker.list_offsets(caller, asked).await),
        rpc!(GET "/v1/products/{name}/quarantine" ["product"] "query", RecordService/ListQuarantined(ListQuarantinedRequest) -> ListQuarantinedResponse,
            |broker, caller, asked| broker.list_quarantined(caller, asked).await),
        rpc!(POST "/v1/products/{name}/quarantine/{offset}" ["product", "offset"] "body", RecordService/RedriveQuarantined(RedriveQuarantinedRequest) -> RedriveQuarantinedResponse,
            |broker, caller, asked| broker.redrive_quarantined(caller, asked).await),
        rpc!(GET "/v1/products/{name}/schemas" ["product"] "query", SchemaService/ListSchemaVersions(ListSchemaVersionsRequest) -> ListSchemaVersionsResponse,
            |broker, caller, asked| broker.catalogue().list_schema_versions(caller, asked)),
        rpc!(POST "/v1/products/{name}/schemas" ["product"] "body", SchemaService/AddSchemaVersion(AddSchemaVersionRequest) -> AddSchemaVersionResponse,
            |broker, caller, asked| broker.catalogue().add_schema_version(caller, asked).await),
        rpc!(GET "/v1/products/{name}/schemas/{version}" ["product", "version"] "query", SchemaService/GetSchemaVersion(GetSchemaVersionRequest) -> GetSchemaVersionResponse,
            |broker, caller, asked| broker.catalogue().get_schema_version(caller, asked)),
    ]
}

fn life() -> Vec<Route> {
    vec![
        rpc!(POST "/v1/products/{name}/activate" ["name"] "body", CatalogService/ActivateProduct(ActivateProductRequest) -> ActivateProductResponse,
            |broker, caller, asked| broker.catalogue().activate_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/deprecate" ["name"] "body", CatalogService/DeprecateProduct(DeprecateProductRequest) -> DeprecateProductResponse,
            |broker, caller, asked| broker.catalogue().deprecate_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/retire" ["name"] "body", CatalogService/RetireProduct(RetireProductRequest) -> RetireProductResponse,
            |broker, caller, asked| broker.catalogue().retire_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/move" ["name"] "body", CatalogService/MoveProduct(MoveProductRequest) -> MoveProductResponse,
            |broker, caller, asked| broker.catalogue().move_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/transfer" ["name"] "body", CatalogService/TransferProduct(TransferProductRequest) -> TransferProductResponse,
            |broker, caller, asked| broker.catalogue().transfer_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/transfer/accept" ["name"] "body", CatalogService/AcceptProductTransfer(AcceptProductTransferRequest) -> AcceptProductTransferResponse,
            |broker, caller, asked| broker.catalogue().accept_product_transfer(caller, asked).await),
        rpc!(POST "/v1/products/{name}/transfer/cancel" ["name"] "body", CatalogService/CancelProductTransfer(CancelProductTransferRequest) -> CancelProductTransferResponse,
            |broker, caller, asked| broker.catalogue().cancel_product_transfer(caller, asked).await),
        rpc!(POST "/v1/products/{name}/succeed" ["name"] "body", CatalogService/SucceedProduct(SucceedProductRequest) -> SucceedProductResponse,
            |broker, caller, asked| broker.catalogue().succeed_product(caller, asked).await),
        rpc!(POST "/v1/products/{name}/trim" ["product"] "body", AdminService/TrimProduct(TrimProductRequest) -> TrimProductResponse,
            |broker, caller, asked| broker.trim_product(caller, asked).await),
        rpc!(GET "/v1/products/{name}/retention" ["product"] "query", AdminService/ExplainRetention(ExplainRetentionRequest) -> ExplainRetentionResponse,
            |broker, caller, asked| broker.explain_retention(caller, asked).await),
    ]
}

fn places() -> Vec<Route> {
    vec![
        rpc!(GET "/v1/domains" [] "query", CatalogService/ListDomains(ListDomainsRequest) -> ListDomainsResponse,
            |broker, caller, asked| broker.catalogue().list_domains(caller, asked)),
        rpc!(POST "/v1/domains" [] "body", CatalogService/CreateDomain(CreateDomainRequest) -> CreateDomainResponse,
            |broker, caller, asked| broker.catalogue().create_domain(caller, asked).await),
        rpc!(GET "/v1/domains/{name}" ["name"] "query", CatalogService/GetDomain(GetDomainRequest) -> GetDomainResponse,
            |broker, caller, asked| broker.catalogue().get_domain(caller, asked)),
        rpc!(PATCH "/v1/domains/{name}" ["domain.name"] "body", CatalogService/UpdateDomain(UpdateDomainRequest) -> UpdateDomainResponse,
            |broker, caller, asked| broker.catalogue().update_domain(caller, asked).await),
        rpc!(DELETE "/v1/domains/{name}" ["name"] "query", CatalogService/DeleteDomain(DeleteDomainRequest) -> DeleteDomainResponse,
            |broker, caller, asked| broker.catalogue().delete_domain(caller, asked).await),
        rpc!(GET "/v1/teams" [] "query", CatalogService/ListTeams(ListTeamsRequest) -> ListTeamsResponse,
            |broker, caller, asked| broker.catalogue().list_teams(caller, asked)),
        rpc!(POST "/v1/teams" [] "body", CatalogService/CreateTeam(CreateTeamRequest) -> CreateTeamResponse,
            |broker, caller, asked| broker.catalogue().create_team(caller, asked).await),
        rpc!(GET "/v1/teams/{name}" ["name"] "query", CatalogService/GetTeam(GetTeamRequest) -> GetTeamResponse,
            |broker, caller, asked| broker.catalogue().get_team(caller, asked)),
        rpc!(PATCH "/v1/teams/{name}" ["team.name"] "body", CatalogService/UpdateTeam(UpdateTeamRequest) -> UpdateTeamResponse,
            |broker, caller, asked| broker.catalogue().update_team(caller, asked).await),
        rpc!(DELETE "/v1/teams/{name}" ["name"] "query", CatalogService/DeleteTeam(DeleteTeamRequest) -> DeleteTeamResponse,
            |broker, caller, asked| broker.catalogue().delete_team(caller, asked).await),
        rpc!(GET "/v1/tag-keys" [] "query", CatalogService/ListTagKeys(ListTagKeysRequest) -> ListTagKeysResponse,
            |broker, caller, asked| broker.catalogue().list_tag_keys(caller, asked)),
        rpc!(POST "/v1/tag-keys" [] "body", CatalogService/CreateTagKey(CreateTagKeyRequest) -> CreateTagKeyResponse,
            |broker, caller, asked| broker.catalogue().create_tag_key(caller, asked).await),
        rpc!(GET "/v1/tag-keys/{name}" ["name"] "query", CatalogService/GetTagKey(GetTagKeyRequest) -> GetTagKeyResponse,
            |broker, caller, asked| broker.catalogue().get_tag_key(caller, asked)),
        rpc!(PATCH "/v1/tag-keys/{name}" ["tag_key.name"] "body", CatalogService/UpdateTagKey(UpdateTagKeyRequest) -> UpdateTagKeyResponse,
            |broker, caller, asked| broker.catalogue().update_tag_key(caller, asked).await),
        rpc!(DELETE "/v1/tag-keys/{name}" ["name"] "query", CatalogService/DeleteTagKey(DeleteTagKeyRequest) -> DeleteTagKeyResponse,
            |broker, caller, asked| broker.catalogue().delete_tag_key(caller, asked).await),
    ]
}

fn access() -> Vec<Route> {
    vec![
        rpc!(GET "/v1/whoami" [] "query", GovernanceService/WhoAmI(WhoAmIRequest) -> WhoAmIResponse,
            |broker, caller, asked| broker.catalogue().who_am_i(caller, asked)),
        rpc!(GET "/v1/keys" [] "query", GovernanceService/ListKeys(ListKeysRequest) -> ListKeysResponse,
            |broker, caller, asked| broker.catalogue().list_keys(caller, asked)),
        rpc!(POST "/v1/keys" [] "body", GovernanceService/CreateKey(CreateKeyRequest) -> CreateKeyResponse,
            |broker, caller, asked| broker.catalogue().create_key(caller, asked).await),
        rpc!(POST "/v1/keys/{id}/revoke" ["id"] "body", GovernanceService/RevokeKey(RevokeKeyRequest) -> RevokeKeyResponse,
            |broker, caller, asked| broker.catalogue().revoke_key(caller, asked).await),
        rpc!(POST "/v1/products/{name}/access-requests" ["product"] "body", GovernanceService/RequestAccess(RequestAccessRequest) -> RequestAccessResponse,
            |broker, caller, asked| broker.catalogue().request_access(caller, asked).await),
        rpc!(GET "/v1/access-requests" [] "query", GovernanceService/ListAccessRequests(ListAccessRequestsRequest) -> ListAccessRequestsResponse,
            |broker, caller, asked| broker.catalogue().list_access_requests(caller, asked)),
        rpc!(POST "/v1/access-requests/{id}/approve" ["id"] "body", GovernanceService/ApproveAccess(ApproveAccessRequest) -> ApproveAccessResponse,
            |broker, caller, asked| broker.catalogue().approve_access(caller, asked).await),
        rpc!(POST "/v1/access-requests/{id}/deny" ["id"] "body", GovernanceService/DenyAccess(DenyAccessRequest) -> DenyAccessResponse,
            |broker, caller, asked| broker.catalogue().deny_access(caller, asked).await),
        rpc!(GET "/v1/grants" [] "query", GovernanceService/ListGrants(ListGrantsRequest) -> ListGrantsResponse,
            |broker, caller, asked| broker.catalogue().list_grants(caller, asked)),
        rpc!(POST "/v1/grants" [] "body", GovernanceService/CreateGrant(CreateGrantRequest) -> CreateGrantResponse,
            |broker, caller, asked| broker.catalogue().create_grant(caller, asked).await),
        rpc!(POST "/v1/grants/{id}/revoke" ["id"] "body", GovernanceService/RevokeGrant(RevokeGrantRequest) -> RevokeGrantResponse,
            |broker, caller, asked| broker.catalogue().revoke_grant(caller, asked).await),
        rpc!(GET "/v1/access" [] "query", GovernanceService/CheckAccess(CheckAccessRequest) -> CheckAccessResponse,
            |broker, caller, asked| broker.catalogue().check_access(caller, asked)),
        rpc!(GET "/v1/audit" [] "query", GovernanceService/ListAudit(ListAuditRequest) -> ListAuditResponse,
            |broker, caller, asked| broker.list_audit(caller, asked).await),
        rpc!(GET "/v1/audit/verification" [] "query", GovernanceService/VerifyAudit(VerifyAuditRequest) -> VerifyAuditResponse,
            |broker, caller, asked| broker.verify_audit(caller, asked).await),
    ]
}

fn others() -> Vec<Route> {
    vec![
        rpc!(GET "/v1/lineage" [] "query", LineageService/GetLineage(GetLineageRequest) -> GetLineageResponse,
            |broker, caller, asked| broker.catalogue().get_lineage(caller, asked)),
        rpc!(GET "/v1/products/{name}/impact" ["product"] "query", LineageService/GetImpact(GetImpactRequest) -> GetImpactResponse,
            |broker, caller, asked| broker.catalogue().get_impact(caller, asked)),
        rpc!(GET "/v1/cursors" [] "query", SubscriptionService/ListCursors(ListCursorsRequest) -> ListCursorsResponse,
            |broker, caller, asked| broker.list_cursors(caller, asked)),
        rpc!(DELETE "/v1/cursors/{cursor}" ["cursor"] "query", SubscriptionService/DeleteCursor(DeleteCursorRequest) -> DeleteCursorResponse,
            |broker, caller, asked| broker.delete_cursor(caller, asked).await),
        rpc!(GET "/v1/cursors/{cursor}/{product}" ["cursor", "product"] "query", SubscriptionService/GetOffsets(GetOffsetsRequest) -> GetOffsetsResponse,
            |broker, caller, asked| broker.get_offsets(caller, asked)),
        rpc!(POST "/v1/cursors/{cursor}/{product}" ["cursor", "product"] "body", SubscriptionService/CommitOffsets(CommitOffsetsRequest) -> CommitOffsetsResponse,
            |broker, caller, asked| broker.commit_offsets(caller, asked).await),
        rpc!(POST "/v1/erase" [] "body", AdminService/EraseDeletedRecords(EraseDeletedRecordsRequest) -> EraseDeletedRecordsResponse,
            |broker, caller, asked| broker.erase_deleted_records(caller, asked).await),
        rpc!(GET "/v1/server" [] "query", AdminService/GetServerInfo(GetServerInfoRequest) -> GetServerInfoResponse,
            |broker, caller, asked| { let v1::GetServerInfoRequest {} = asked; Ok(broker.server_info()) }),
    ]
}

fn schema_registry() -> Vec<Route> {
    vec![
        of_registry!(GET "", "RegistryRoot", registry::root),
        of_registry!(GET "/", "RegistryRootWithSlash", registry::root),
        of_registry!(GET "/subjects", "RegistrySubjects", registry::subjects),
        of_registry!(POST "/subjects/{subject}", "RegistryLookUp", registry::look_up),
        of_registry!(GET "/subjects/{subject}/versions", "RegistryVersions", registry::versions),
        of_registry!(POST "/subjects/{subject}/versions", "RegistryRegister", registry::register),
        of_registry!(GET "/subjects/{subject}/versions/{version}", "RegistryVersion", registry::version),
        of_registry!(GET "/subjects/{subject}/versions/{version}/schema", "RegistryVersionSchema", registry::version_schema),
        of_registry!(GET "/schemas/types", "RegistryTypes", registry::types),
        of_registry!(GET "/schemas/ids/{id}", "RegistrySchema", registry::id),
        of_registry!(GET "/schemas/ids/{id}/schema", "RegistrySchemaText", registry::id_schema),
        of_registry!(GET "/schemas/ids/{id}/subjects", "RegistrySchemaSubjects", registry::id_subjects),
        of_registry!(GET "/schemas/ids/{id}/versions", "RegistrySchemaVersions", registry::id_versions),
        of_registry!(POST "/compatibility/subjects/{subject}/versions", "RegistryCheckAll", registry::check_all),
        of_registry!(POST "/compatibility/subjects/{subject}/versions/{version}", "RegistryCheck", registry::check),
        of_registry!(GET "/config", "RegistryConfig", registry::config),
        of_registry!(GET "/config/{subject}", "RegistrySubjectConfig", registry::subject_config),
        of_registry!(PUT "/config/{subject}", "RegistrySetConfig", registry::set_config),
        of_registry!(GET "/mode", "RegistryMode", registry::mode),
        of_registry!(GET "/mode/{subject}", "RegistrySubjectMode", registry::subject_mode),
    ]
}
