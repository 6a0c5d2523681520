//! A broker behind a real gRPC port.

use std::net::SocketAddr;

use meshlog_broker::{Broker, Config, edge};
use meshlog_proto::v1;
use meshlog_proto::v1::admin_service_client::AdminServiceClient;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_proto::v1::schema_service_client::SchemaServiceClient;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};

use crate::product::ProductBuilder;

/// A broker in memory, served on a free loopback port until it is dropped.
#[derive(Debug)]
pub struct TestBroker {
    broker: Broker,
    address: SocketAddr,
    channel: Channel,
    shutdown: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<meshlog_broker::Result<()>>>,
}

impl TestBroker {
    /// With the default settings.
    pub async fn start() -> Self {
        Self::start_with(Config::default()).await
    }

    /// With these settings.
    pub async fn start_with(config: Config) -> Self {
        Self::serve(Broker::open(config).expect("the broker opens")).await
    }

    /// Serves a broker that was opened in some other way.
    pub async fn serve(broker: Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (shutdown, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(edge::serve(broker.clone(), listener, async move {
            // A dropped sender stops the server as well.
            let _dropped = stopped.await;
        }));
        let channel = endpoint(address).connect_lazy();
        Self { broker, address, channel, shutdown: Some(shutdown), server: Some(server) }
    }

    /// The embedded API of the same broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connection that the clients below share.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of its own.
    #[must_use]
    pub fn connect(&self) -> Channel {
        endpoint(self.address).connect_lazy()
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

    /// About the server.
    #[must_use]
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel())
    }

    /// Creates a product; fails the test if that fails.
    pub async fn create(&self, product: ProductBuilder) -> v1::Product {
        let created = self.catalog().create_product(product.request()).await;
        created.expect("the product is created").into_inner().product.expect("an answer has it")
    }

    /// Begins the shutdown; the task ends when the server has drained.
    pub fn begin_shutdown(&mut self) -> JoinHandle<meshlog_broker::Result<()>> {
        drop(self.shutdown.take());
        self.server.take().expect("the server is running")
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("a socket address makes a URI")
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
}
