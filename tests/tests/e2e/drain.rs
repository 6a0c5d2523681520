use std::time::{Duration, Instant};

use meshlog_broker::{Broker, Config, edge};
use meshlog_proto::v1;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::{append, failure, product, read, subscribe};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

/// A server whose end is what a test is about: nothing stands between it and the clients.
pub(super) struct Served {
    broker: Broker,
    address: std::net::SocketAddr,
    channel: Channel,
    stop: oneshot::Sender<()>,
    server: JoinHandle<meshlog_broker::Result<()>>,
}

impl Served {
    /// With a product `ops.a`.
    pub(super) async fn start(config: Config) -> Self {
        let broker = Broker::open(config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(edge::serve(broker.clone(), listener, async move {
            let _dropped = stopped.await;
        }));
        let served = Self { broker, address, channel: connect(address), stop, server };
        served.catalog().create_product(product("ops.a").request()).await.unwrap();
        served
    }

    pub(super) fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.channel.clone())
    }

    pub(super) fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    fn records(&self) -> RecordServiceClient<Channel> {
        RecordServiceClient::new(self.channel.clone())
    }

    /// Begins the shutdown; the task ends when the server has drained.
    pub(super) fn begin_shutdown(self) -> JoinHandle<meshlog_broker::Result<()>> {
        drop(self.stop);
        self.server
    }
}

fn connect(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let endpoint = endpoint.initial_stream_window_size(4 << 20);
    endpoint.initial_connection_window_size(16 << 20).connect_lazy()
}

#[tokio::test]
async fn a_subscription_is_told_where_to_resume() {
    let broker = Served::start(Config::default()).await;
    broker.records().append(append("ops.a").value("x").value("y")).await.unwrap();
    let mut stream = broker.records().subscribe(subscribe("ops.a")).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    stream.message().await.unwrap().unwrap();
    let server = broker.begin_shutdown();
    let last = stream.message().await.unwrap().unwrap();
    assert!(last.batches.is_empty());
    assert_eq!(last.partitions[0].next_offset, 2);
    let ended = failure(&stream.message().await.unwrap_err());
    assert_eq!(ended.reason, "SHUTTING_DOWN");
    assert_eq!(ended.metadata["resume"], "0:2");
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_under_way_end_quickly_and_no_new_connection_is_taken() {
    let broker = Served::start(Config::default()).await;
    let mut poller = broker.records();
    let wait = Some(Duration::from_secs(60).try_into().unwrap());
    let poll = tokio::spawn(async move {
        poller.read(v1::ReadRequest { max_wait: wait, ..read("ops.a") }).await
    });
    let (sender, requests) = mpsc::channel(4);
    let mut writer = broker.records();
    sender.send(append("ops.a").value("x").numbered(1)).await.unwrap();
    let mut acks = writer.append_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
    acks.message().await.unwrap().unwrap();
    let address = broker.address;
    let begun = Instant::now();
    broker.begin_shutdown().await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "drained in {:?}", begun.elapsed());
    // The poll may have been answered by the append.
    if let Err(status) = poll.await.unwrap() {
        assert_eq!(failure(&status).reason, "SHUTTING_DOWN");
    }
    let ended = acks.message().await.unwrap_err();
    assert_eq!(failure(&ended).reason, "SHUTTING_DOWN");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    drop(sender);
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    let mut config = Config::default();
    config.edge.drain_deadline = "500ms".parse().unwrap();
    let broker = Served::start(config).await;
    for _ in 0..12 {
        broker.records().append(append("ops.a").value(vec![0; 1_000_000])).await.unwrap();
    }
    let mut stalled = RecordServiceClient::new(connect(broker.address));
    let stalled = stalled.subscribe(subscribe("ops.a")).await.unwrap();
    let begun = Instant::now();
    broker.begin_shutdown().await.unwrap().unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "drained in {took:?}");
    drop(stalled);
}

#[tokio::test]
async fn the_broker_survives_its_server() {
    let broker = Served::start(Config::default()).await;
    let embedded = broker.broker.clone();
    broker.begin_shutdown().await.unwrap().unwrap();
    let request = v1::ReadRequest { product: "ops.a".to_owned(), ..v1::ReadRequest::default() };
    embedded.read(&meshlog_broker::Caller::default(), request).await.unwrap();
    embedded.close().await.unwrap();
}
