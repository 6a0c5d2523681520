use meshlog_broker::Broker;
use meshlog_proto::v1;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::{append, failure, product, read, subscribe, values};
use tonic::transport::{Channel, Endpoint};

async fn channel(broker: &Broker) -> Channel {
    let endpoint = Endpoint::from_static("http://in.process");
    endpoint.connect_with_connector(broker.local_connector()).await.unwrap()
}

#[tokio::test]
async fn a_client_in_the_same_process_needs_no_socket() {
    let broker = Broker::in_memory().unwrap();
    let channel = channel(&broker).await;
    let mut catalog = CatalogServiceClient::new(channel.clone());
    catalog.create_product(product("ops.a").request()).await.unwrap();
    let mut records = RecordServiceClient::new(channel);
    let request = (0..3).fold(append("ops.a"), |a, _| a.value(vec![b'x'; 1_000_000]));
    records.append(request).await.unwrap();
    let mut next = 0;
    while next < 3 {
        let start = Some(meshlog_tests::positions(&[(0, next)]));
        let request = v1::ReadRequest { start, ..read("ops.a") };
        let found = records.read(request).await.unwrap().into_inner();
        assert!(values(&found.batches).iter().all(|value| value.len() == 1_000_000));
        next = found.partitions[0].next_offset;
    }
    let refused = records.read(read("ops.none")).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_NOT_FOUND");
}

#[tokio::test]
async fn closing_the_broker_ends_local_subscriptions_and_refuses_what_follows() {
    let broker = Broker::in_memory().unwrap();
    let channel = channel(&broker).await;
    let mut catalog = CatalogServiceClient::new(channel.clone());
    catalog.create_product(product("ops.a").request()).await.unwrap();
    let mut records = RecordServiceClient::new(channel);
    let mut stream = records.subscribe(subscribe("ops.a")).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    let (closed, ended) = tokio::join!(broker.close(), async {
        loop {
            if let Err(status) = stream.message().await {
                break status;
            }
        }
    });
    closed.unwrap();
    assert_eq!(failure(&ended).reason, "SHUTTING_DOWN");
    let caller = meshlog_broker::Caller::default();
    let refused = broker.append(&caller, Default::default()).await.unwrap_err();
    assert_eq!(refused.reason(), meshlog_broker::Reason::ShuttingDown);
}
