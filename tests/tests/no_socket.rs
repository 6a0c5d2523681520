//! A broker and its client in one process open no socket. Alone in its binary, because it looks at
//! the descriptors of the whole process.

#![cfg(target_os = "linux")]

use meshlog_broker::Broker;
use meshlog_client::{Client, Record};
use meshlog_tests::product;

/// The sockets this process has open.
fn sockets() -> Vec<String> {
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
    let target = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(entry.ok()?.path()).ok()?.to_str().map(str::to_owned)
    };
    open.filter_map(target).filter(|target| target.starts_with("socket:")).collect()
}

#[tokio::test]
async fn a_client_over_the_brokers_connector_opens_no_socket() {
    // The runtime itself may have a pair of them.
    let before = sockets();
    let broker = Broker::in_memory().unwrap();
    let client = Client::over(broker.local_connector()).await.unwrap();
    client.catalog().create_product(product("ops.flights").request()).await.unwrap();
    let producer = client.producer("ops.flights").build().unwrap();
    producer.send(Record::new("v")).await.unwrap();
    let mut consumer = client.consumer("ops.flights").build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record, Record::new("v"));
    // Everything is still open here: the call, producer and consumer connections.
    assert_eq!(sockets(), before);

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(sockets().len(), before.len() + 1, "a socket would have been seen");
    drop((listener, producer, consumer));
}
