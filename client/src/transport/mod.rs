//! The edge to gRPC: connections, calls and statuses. Nothing outside this module names a type of
//! the gRPC or HTTP libraries, so they can be replaced here.

mod credential;
mod status;
mod tls;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, Write};
use meshlog_proto::{
    server_v1::{self, record_service_client::RecordServiceClient},
    v1::{
        self, admin_service_client::AdminServiceClient,
        catalog_service_client::CatalogServiceClient,
        governance_service_client::GovernanceServiceClient,
        lineage_service_client::LineageServiceClient, schema_service_client::SchemaServiceClient,
        subscription_service_client::SubscriptionServiceClient,
    },
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::{Service, ServiceExt};

pub(crate) use status::from_message as error_in_message;

use crate::{
    ClientConfig, Error, Result,
    error::{Code, reason},
};

/// Largest HTTP/2 DATA frame; the default of 16 KiB halves the throughput.
const FRAME_BYTES: u32 = 256 << 10;
/// An unused connection is asked for a sign of life after this time …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// … and is dead without an answer after this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that wait for their turn on one connection.
const CALLS_IN_FLIGHT: usize = 4096;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

mod sealed {
    use super::{BoxError, Future, Pin, Read, Write};

    /// A byte stream under HTTP/2.
    pub trait Io: Read + Write + Send + Unpin {}
    impl<T: Read + Write + Send + Unpin> Io for T {}

    pub(super) type Dialing = Pin<Box<dyn Future<Output = Result<Box<dyn Io>, BoxError>> + Send>>;

    pub trait Dial: Send + 'static {
        fn dial(&self) -> Dialing;
    }
}

use sealed::{Dial, Io};

/// Opens byte streams to a broker that is not behind a TCP address, for instance one in this
/// process: any cloneable `tower::Service<http::Uri>` whose responses implement `hyper`'s `Read`
/// and `Write`, such as `hyper_util::rt::TokioIo<tokio::io::DuplexStream>`. It is called once per
/// connection; the URI carries nothing of interest.
pub trait Connector: sealed::Dial {}

impl<T: sealed::Dial> Connector for T {}

impl<S> sealed::Dial for S
where
    S: Service<Uri> + Clone + Send + 'static,
    S::Response: Read + Write + Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    fn dial(&self) -> sealed::Dialing {
        let connector = self.clone();
        Box::pin(async move {
            let io = connector.oneshot(Uri::from_static(IN_PROCESS)).await.map_err(Into::into)?;
            Ok(Box::new(io) as Box<dyn Io>)
        })
    }
}

/// The authority of calls to a broker in this process.
const IN_PROCESS: &str = "http://meshlog.local";

/// Where a broker is and how to connect to it; opens any number of connections.
#[derive(Clone)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    /// `None`: TCP.
    connector: Option<Arc<Mutex<dyn Dial>>>,
    application: MetadataValue<Ascii>,
    authorization: Option<MetadataValue<Ascii>>,
    connect_timeout: Duration,
    call_timeout: Duration,
}

impl Transport {
    pub(crate) fn tcp(address: &str, config: &ClientConfig) -> Result<Self> {
        let uri = match (address.contains("://"), &config.tls) {
            (true, _) => address.to_owned(),
            (false, Some(_)) => format!("https://{address}"),
            (false, None) => format!("http://{address}"),
        };
        let invalid = |why: &str| {
            let message = format!(
                "`{address}` is not the address of a broker ({why}); \
                 write it as 127.0.0.1:7420, http://127.0.0.1:7420 or https://broker.example:7420"
            );
            Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message)
        };
        let parsed: Uri =
            uri.parse().map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
        match (parsed.scheme_str(), parsed.host()) {
            (Some("http" | "https"), Some(_)) => {}
            (Some("http" | "https"), None) => return Err(invalid("the host is missing")),
            _ => return Err(invalid("only http:// and https:// are supported")),
        }
        let encrypts = parsed.scheme_str() == Some("https");
        if config.key.is_some() && !encrypts && !config.allow_unencrypted_key {
            credential::stays_here(&parsed)?;
        }
        let mut transport = Self::new(parsed, None, config)?;
        if encrypts {
            transport.endpoint = tls::encrypting(transport.endpoint, config.tls.as_ref())?;
        }
        Ok(transport)
    }

    pub(crate) fn over(connector: impl Connector, config: &ClientConfig) -> Result<Self> {
        Self::new(Uri::from_static(IN_PROCESS), Some(Arc::new(Mutex::new(connector))), config)
    }

    fn new(
        uri: Uri,
        connector: Option<Arc<Mutex<dyn Dial>>>,
        config: &ClientConfig,
    ) -> Result<Self> {
        let application = config.application.parse().map_err(|_| {
            let message = format!("the application name `{}` is not ASCII", config.application);
            Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message)
        })?;
        let authorization = config.key.as_ref().map(credential::authorization).transpose()?;
        let endpoint = Endpoint::from(uri)
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .max_frame_size(FRAME_BYTES)
            .initial_stream_window_size(config.stream_window)
            .initial_connection_window_size(config.connection_window)
            .http2_adaptive_window(false)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .buffer_size(CALLS_IN_FLIGHT);
        Ok(Self {
            endpoint,
            connector,
            application,
            authorization,
            connect_timeout: config.connect_timeout,
            call_timeout: config.call_timeout,
        })
    }

    /// Opens a new connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let connecting = async {
            match &self.connector {
                None => self.endpoint.connect().await,
                Some(connector) => {
                    let connector = connector.clone();
                    let dial = tower::service_fn(move |_: Uri| connector.lock().dial());
                    self.endpoint.connect_with_connector(dial).await
                }
            }
        };
        let failed = |why: String| {
            if let Some(untrusted) = tls::untrusted(self.endpoint.uri(), &why) {
                return untrusted;
            }
            let message = format!(
                "no broker answers at {}: {why}; start one with `meshlog serve`",
                self.endpoint.uri()
            );
            Error::new(Code::Unavailable, reason::UNREACHABLE, message).with_retry(true, None)
        };
        let channel = tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| failed(format!("no connection within {:?}", self.connect_timeout)))?
            .map_err(|error| failed(innermost(&error)))?;
        Ok(Connection {
            channel,
            application: self.application.clone(),
            authorization: self.authorization.clone(),
            call_timeout: self.call_timeout,
        })
    }
}

/// The transport's own errors say "transport error"; what happened stands in the innermost cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Erasing goes at the pace of a merge, over everything on the disk at worst.
const LASTING: Duration = Duration::from_secs(24 * 3600);

/// One connection. Clones share it; unary calls reconnect by themselves, streams end with it.
#[derive(Clone)]
pub(crate) struct Connection {
    channel: Channel,
    application: MetadataValue<Ascii>,
    authorization: Option<MetadataValue<Ascii>>,
    call_timeout: Duration,
}

/// Defines one method per unary call.
macro_rules! unary {
    ($($client:ident . $method:ident ($request:ty) -> $response:ty;)*) => {
        impl Connection {
            $(pub(crate) async fn $method(&self, request: $request) -> Result<$response> {
                let request = self.request(request, Duration::ZERO);
                let answer = $client::new(self.channel.clone()).$method(request).await;
                answer.map(tonic::Response::into_inner).map_err(|status| status::from_call(&status))
            })*
        }
    };
}

/// Defines one method per unary call that takes as long as it takes: it may erase bytes, or reads
/// everything.
macro_rules! lasting {
    ($($client:ident . $method:ident ($request:ty) -> $response:ty, if $lasts:expr;)*) => {
        impl Connection {
            $(pub(crate) async fn $method(&self, request: $request) -> Result<$response> {
                let lasts: fn(&$request) -> bool = $lasts;
                let waits = if lasts(&request) { LASTING } else { Duration::ZERO };
                let request = self.request(request, waits);
                let answer = $client::new(self.channel.clone()).$method(request).await;
                answer.map(tonic::Response::into_inner).map_err(|status| status::from_call(&status))
            })*
        }
    };
}

lasting! {
    GovernanceServiceClient.verify_audit(v1::VerifyAuditRequest) -> v1::VerifyAuditResponse,
        if |_| true;
    AdminServiceClient.trim_product(v1::TrimProductRequest) -> v1::TrimProductResponse,
        if |request| request.erase;
    AdminServiceClient.erase_deleted_records(v1::EraseDeletedRecordsRequest)
        -> v1::EraseDeletedRecordsResponse, if |_| true;
    CatalogServiceClient.delete_product(v1::DeleteProductRequest) -> v1::DeleteProductResponse,
        if |request| request.erase;
}

unary! {
    AdminServiceClient.get_server_info(v1::GetServerInfoRequest) -> v1::GetServerInfoResponse;
    AdminServiceClient.explain_retention(v1::ExplainRetentionRequest) -> v1::ExplainRetentionResponse;
    GovernanceServiceClient.who_am_i(v1::WhoAmIRequest) -> v1::WhoAmIResponse;
    GovernanceServiceClient.create_key(v1::CreateKeyRequest) -> v1::CreateKeyResponse;
    GovernanceServiceClient.list_keys(v1::ListKeysRequest) -> v1::ListKeysResponse;
    GovernanceServiceClient.revoke_key(v1::RevokeKeyRequest) -> v1::RevokeKeyResponse;
    GovernanceServiceClient.request_access(v1::RequestAccessRequest) -> v1::RequestAccessResponse;
    GovernanceServiceClient.list_access_requests(v1::ListAccessRequestsRequest) -> v1::ListAccessRequestsResponse;
    GovernanceServiceClient.approve_access(v1::ApproveAccessRequest) -> v1::ApproveAccessResponse;
    GovernanceServiceClient.deny_access(v1::DenyAccessRequest) -> v1::DenyAccessResponse;
    GovernanceServiceClient.create_grant(v1::CreateGrantRequest) -> v1::CreateGrantResponse;
    GovernanceServiceClient.list_grants(v1::ListGrantsRequest) -> v1::ListGrantsResponse;
    GovernanceServiceClient.revoke_grant(v1::RevokeGrantRequest) -> v1::RevokeGrantResponse;
    GovernanceServiceClient.check_access(v1::CheckAccessRequest) -> v1::CheckAccessResponse;
    GovernanceServiceClient.list_audit(v1::ListAuditRequest) -> v1::ListAuditResponse;
    CatalogServiceClient.create_domain(v1::CreateDomainRequest) -> v1::CreateDomainResponse;
    CatalogServiceClient.get_domain(v1::GetDomainRequest) -> v1::GetDomainResponse;
    CatalogServiceClient.list_domains(v1::ListDomainsRequest) -> v1::ListDomainsResponse;
    CatalogServiceClient.create_team(v1::CreateTeamRequest) -> v1::CreateTeamResponse;
    CatalogServiceClient.get_team(v1::GetTeamRequest) -> v1::GetTeamResponse;
    CatalogServiceClient.list_teams(v1::ListTeamsRequest) -> v1::ListTeamsResponse;
    CatalogServiceClient.create_product(v1::CreateProductRequest) -> v1::CreateProductResponse;
    CatalogServiceClient.get_product(v1::GetProductRequest) -> v1::GetProductResponse;
    CatalogServiceClient.list_products(v1::ListProductsRequest) -> v1::ListProductsResponse;
    CatalogServiceClient.update_product(v1::UpdateProductRequest) -> v1::UpdateProductResponse;
    CatalogServiceClient.update_domain(v1::UpdateDomainRequest) -> v1::UpdateDomainResponse;
    CatalogServiceClient.delete_domain(v1::DeleteDomainRequest) -> v1::DeleteDomainResponse;
    CatalogServiceClient.update_team(v1::UpdateTeamRequest) -> v1::UpdateTeamResponse;
    CatalogServiceClient.delete_team(v1::DeleteTeamRequest) -> v1::DeleteTeamResponse;
    CatalogServiceClient.create_tag_key(v1::CreateTagKeyRequest) -> v1::CreateTagKeyResponse;
    CatalogServiceClient.get_tag_key(v1::GetTagKeyRequest) -> v1::GetTagKeyResponse;
    CatalogServiceClient.list_tag_keys(v1::ListTagKeysRequest) -> v1::ListTagKeysResponse;
    CatalogServiceClient.update_tag_key(v1::UpdateTagKeyRequest) -> v1::UpdateTagKeyResponse;
    CatalogServiceClient.delete_tag_key(v1::DeleteTagKeyRequest) -> v1::DeleteTagKeyResponse;
    CatalogServiceClient.search_products(v1::SearchProductsRequest) -> v1::SearchProductsResponse;
    CatalogServiceClient.activate_product(v1::ActivateProductRequest) -> v1::ActivateProductResponse;
    CatalogServiceClient.deprecate_product(v1::DeprecateProductRequest) -> v1::DeprecateProductResponse;
    CatalogServiceClient.retire_product(v1::RetireProductRequest) -> v1::RetireProductResponse;
    CatalogServiceClient.move_product(v1::MoveProductRequest) -> v1::MoveProductResponse;
    CatalogServiceClient.transfer_product(v1::TransferProductRequest) -> v1::TransferProductResponse;
    CatalogServiceClient.accept_product_transfer(v1::AcceptProductTransferRequest) -> v1::AcceptProductTransferResponse;
    CatalogServiceClient.cancel_product_transfer(v1::CancelProductTransferRequest) -> v1::CancelProductTransferResponse;
    CatalogServiceClient.succeed_product(v1::SucceedProductRequest) -> v1::SucceedProductResponse;
    CatalogServiceClient.sample_product(v1::SampleProductRequest) -> v1::SampleProductResponse;
    CatalogServiceClient.list_rules(v1::ListRulesRequest) -> v1::ListRulesResponse;
    CatalogServiceClient.test_rules(v1::TestRulesRequest) -> v1::TestRulesResponse;
    LineageServiceClient.get_lineage(v1::GetLineageRequest) -> v1::GetLineageResponse;
    LineageServiceClient.get_impact(v1::GetImpactRequest) -> v1::GetImpactResponse;
    SubscriptionServiceClient.commit_offsets(v1::CommitOffsetsRequest) -> v1::CommitOffsetsResponse;
    SubscriptionServiceClient.get_offsets(v1::GetOffsetsRequest) -> v1::GetOffsetsResponse;
    SubscriptionServiceClient.list_cursors(v1::ListCursorsRequest) -> v1::ListCursorsResponse;
    SubscriptionServiceClient.delete_cursor(v1::DeleteCursorRequest) -> v1::DeleteCursorResponse;
    SchemaServiceClient.add_schema_version(v1::AddSchemaVersionRequest) -> v1::AddSchemaVersionResponse;
    SchemaServiceClient.get_schema_version(v1::GetSchemaVersionRequest) -> v1::GetSchemaVersionResponse;
    SchemaServiceClient.list_schema_versions(v1::ListSchemaVersionsRequest) -> v1::ListSchemaVersionsResponse;
    RecordServiceClient.list_quarantined(v1::ListQuarantinedRequest) -> v1::ListQuarantinedResponse;
    RecordServiceClient.redrive_quarantined(v1::RedriveQuarantinedRequest) -> v1::RedriveQuarantinedResponse;
    RecordServiceClient.list_offsets(v1::ListOffsetsRequest) -> v1::ListOffsetsResponse;
    RecordServiceClient.append(server_v1::AppendRequest) -> v1::AppendResponse;
}

impl Connection {
    /// What the health service says of the whole server.
    pub(crate) async fn is_serving(&self) -> Result<bool> {
        let request = self.request(HealthCheckRequest::default(), Duration::ZERO);
        let answer = HealthClient::new(self.channel.clone()).check(request).await;
        let response = answer.map_err(|status| status::from_call(&status))?.into_inner();
        Ok(response.status() == ServingStatus::Serving)
    }

    fn request<T>(&self, message: T, waits: Duration) -> Request<T> {
        let mut request = self.stream_request(message);
        request.set_timeout(self.call_timeout + waits);
        request
    }

    fn stream_request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("meshlog-application", self.application.clone());
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// Reads once; `waits` is how long the broker was asked to wait for records.
    pub(crate) async fn read(
        &self,
        request: v1::ReadRequest,
        waits: Duration,
    ) -> Result<server_v1::ReadResponse> {
        let request = self.request(request, waits);
        let answer = RecordServiceClient::new(self.channel.clone()).read(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status::from_call(&status))
    }

    /// Opens a stream of appends that ends when the sender of `requests` is dropped.
    pub(crate) async fn append_stream(
        &self,
        requests: mpsc::Receiver<server_v1::AppendStreamRequest>,
    ) -> Result<Messages<v1::AppendStreamResponse>> {
        let request = self.stream_request(ReceiverStream::new(requests));
        let answer = RecordServiceClient::new(self.channel.clone()).append_stream(request).await;
        Messages::opened(answer)
    }

    /// Watches the catalogue.
    pub(crate) async fn watch_products(
        &self,
        request: v1::WatchProductsRequest,
    ) -> Result<Messages<v1::WatchProductsResponse>> {
        let request = self.stream_request(request);
        let answer = CatalogServiceClient::new(self.channel.clone()).watch_products(request).await;
        Messages::opened(answer)
    }

    /// Asks whether a schema could be the next version.
    pub(crate) async fn check_compatibility(
        &self,
        request: v1::CheckCompatibilityRequest,
    ) -> Result<Messages<v1::CheckCompatibilityResponse>> {
        let request = self.stream_request(request);
        let answer =
            SchemaServiceClient::new(self.channel.clone()).check_compatibility(request).await;
        Messages::opened(answer)
    }

    /// Begins a backup.
    pub(crate) async fn backup(
        &self,
        request: v1::BackupRequest,
    ) -> Result<Messages<v1::BackupResponse>> {
        let request = self.stream_request(request);
        let answer = AdminServiceClient::new(self.channel.clone()).backup(request).await;
        Messages::opened(answer)
    }

    /// Follows a product.
    pub(crate) async fn subscribe(
        &self,
        request: v1::SubscribeRequest,
    ) -> Result<Messages<server_v1::SubscribeResponse>> {
        let request = self.stream_request(request);
        let answer = RecordServiceClient::new(self.channel.clone()).subscribe(request).await;
        Messages::opened(answer)
    }
}

/// Messages from the broker, in order. Ends after the first error. Dropping it cancels the call.
pub(crate) struct Messages<T>(Streaming<T>);

impl<T> Messages<T> {
    fn opened(answer: Result<tonic::Response<Streaming<T>>, tonic::Status>) -> Result<Self> {
        answer
            .map(|response| Self(response.into_inner()))
            .map_err(|status| status::from_call(&status))
    }
}

impl<T> futures_util::Stream for Messages<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0)
            .poll_next(cx)
            .map(|next| next.map(|message| message.map_err(|status| status::from_call(&status))))
    }
}
