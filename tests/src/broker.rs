//! A broker behind a real gRPC port, and the stubs of its services.

use std::ops::Deref;

use meshlog_broker::Config;
use meshlog_proto::v1::admin_service_client::AdminServiceClient;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::lineage_service_client::LineageServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_proto::v1::schema_service_client::SchemaServiceClient;
use tonic::transport::{Channel, Endpoint};

/// A [`meshlog_testing::TestBroker`] with a port, spoken to with generated stubs.
#[derive(Debug)]
pub struct TestBroker {
    broker: meshlog_testing::TestBroker,
    channel: Channel,
}

impl TestBroker {
    /// In memory, with the default settings.
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// With these settings.
    pub async fn start_with(config: Config) -> Self {
        Self::over(meshlog_testing::TestBroker::builder().config(config).port().start().await)
    }

    /// On a disk that tells what was synced.
    pub async fn start_on_simulated_disk() -> Self {
        let builder = meshlog_testing::TestBroker::builder().on_simulated_disk();
        Self::over(builder.port().start().await)
    }

    fn over(broker: meshlog_testing::TestBroker) -> Self {
        let channel = endpoint(&broker).connect_lazy();
        Self { broker, channel }
    }

    /// The connection that the clients below share.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of its own.
    #[must_use]
    pub fn connect(&self) -> Channel {
        endpoint(&self.broker).connect_lazy()
    }

    /// Append, read, subscribe.
    #[must_use]
    pub fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel()).max_encoding_message_size(64 << 20)
    }

    /// Domains, teams, products.
    #[must_use]
    pub fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel())
    }

    /// Schema versions.
    #[must_use]
    pub fn schemas(&self) -> SchemaServiceClient<Channel> {
        SchemaServiceClient::new(self.channel())
    }

    /// Who writes and who reads what.
    #[must_use]
    pub fn lineage(&self) -> LineageServiceClient<Channel> {
        LineageServiceClient::new(self.channel())
    }

    /// About the server.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel())
    }
}

impl Deref for TestBroker {
    type Target = meshlog_testing::TestBroker;

    fn deref(&self) -> &Self::Target {
        &self.broker
    }
}

fn endpoint(broker: &meshlog_testing::TestBroker) -> Endpoint {
    Endpoint::from_shared(format!("http://{}", broker.address()))
        .expect("a socket address makes a URI")
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
}
