//! Addresses, applications, errors of single calls, and a broker without a socket.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use meshlog_client::{Client, ClientConfig, Code, Key, ReadOptions, Record};
use tokio::io::DuplexStream;

use crate::broker::{self, Broker, Shared};

#[tokio::test]
async fn an_address_needs_no_scheme() {
    let broker = Broker::start().await;
    Client::connect(broker.address.to_string()).await.unwrap();
    Client::connect(format!("http://{}", broker.address)).await.unwrap();
}

#[tokio::test]
async fn what_is_no_address_and_what_does_not_answer_are_told_apart() {
    for address in ["", "ftp://127.0.0.1:1", "not an address", "http://"] {
        let error = Client::connect(address).await.unwrap_err();
        assert_eq!(error.reason(), "INVALID_ARGUMENT", "{address}: {error}");
        assert!(error.message().contains("127.0.0.1:7420"), "says how to write it: {error}");
    }
    let address = Broker::start().await.address;
    let error = loop {
        // The stopped broker's listener goes away with its task.
        if let Err(error) = Client::connect(address.to_string()).await {
            break error;
        }
    };
    assert_eq!((error.reason(), error.code()), ("UNREACHABLE", Code::Unavailable));
    assert!(error.message().contains("meshlog serve"), "{error}");
}

#[tokio::test]
async fn every_call_names_the_application() {
    let broker = Broker::start().await;
    let config = ClientConfig { application: "flight-loader".into(), ..ClientConfig::default() };
    let client = Client::connect_with(broker.address.to_string(), config).await.unwrap();
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(Record::new("v")).await.unwrap();
    assert_eq!(broker.shared.state.lock().applications, ["flight-loader"]);
}

#[tokio::test]
async fn every_call_says_who_makes_it() {
    let broker = Broker::start().await;
    for key in [None, Some(Key::from("mlk_01_secret"))] {
        let sent = key.as_ref().map(|key| format!("Bearer {}", key.reveal()));
        let config = ClientConfig { key, ..ClientConfig::default() };
        assert!(!format!("{config:?}").contains("secret"));
        let client = Client::connect_with(broker.address.to_string(), config).await.unwrap();
        let producer = client.producer("ops.flights").build().unwrap();
        producer.send(Record::new("v")).await.unwrap();
        let mut consumer = client.consumer("ops.flights").build();
        consumer.next_record().await.unwrap().unwrap();
        client.catalog().read_once("ops.absent", ReadOptions::default()).await.unwrap_err();
        let noted = std::mem::take(&mut broker.shared.state.lock().authorizations);
        assert!(noted.len() >= 3, "a stream of appends, a subscription, a call: {noted:?}");
        assert!(noted.iter().all(|noted| *noted == sent), "{noted:?}");
    }
}

#[tokio::test]
async fn a_key_is_not_sent_to_what_may_be_another_machine_unencrypted() {
    let broker = Broker::start().await;
    // It leads to this machine, which not every machine would say.
    let address = format!("0.0.0.0:{}", broker.address.port());
    let with = |allow_unencrypted_key| {
        let key = Some(Key::from("mlk_01_secret"));
        ClientConfig { key, allow_unencrypted_key, ..ClientConfig::default() }
    };
    let error = Client::connect_with(&address, with(false)).await.unwrap_err();
    assert_eq!(error.reason(), "UNENCRYPTED", "{error}");
    assert!(error.message().contains("0.0.0.0") && !error.message().contains("secret"), "{error}");
    Client::connect_with(&address, with(true)).await.unwrap();
    Client::connect(&address).await.unwrap();
}

#[tokio::test]
async fn single_calls_carry_the_brokers_reason_or_say_that_there_is_none() {
    let broker = Broker::start().await;
    let catalog = Client::connect(broker.address.to_string()).await.unwrap().catalog();
    let error = catalog.read_once("ops.absent", ReadOptions::default()).await.unwrap_err();
    assert_eq!((error.reason(), error.code()), ("PRODUCT_NOT_FOUND", Code::NotFound));
    let error = catalog.list_offsets("ops.flights", &[], None).await.unwrap_err();
    assert_eq!(error.reason(), "CONNECTION_LOST");
    let error = catalog.get_product("ops.flights").await.unwrap_err();
    assert_eq!(error.reason(), "UNIMPLEMENTED");
}

#[tokio::test]
async fn a_broker_in_this_process_is_reached_without_a_socket() {
    let shared = Arc::new(Shared::default());
    let (sender, incoming) = tokio::sync::mpsc::channel::<std::io::Result<DuplexStream>>(4);
    let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
    let server = tonic::transport::Server::builder().add_service(broker::service(shared.clone()));
    let server = tokio::spawn(server.serve_with_incoming(incoming));

    let connector = tower::service_fn(move |_: http::Uri| {
        let sender = sender.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            sender.send(Ok(theirs)).await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    });
    let client = Client::over(connector).await.unwrap();
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(Record::new("v")).await.unwrap();
    let mut consumer = client.consumer("ops.flights").build();
    let record = consumer.next_record().await.unwrap().unwrap();
    assert_eq!((record.offset, record.record), (0, Record::new("v")));
    server.abort();
}
