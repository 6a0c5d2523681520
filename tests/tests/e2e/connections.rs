//! One port, HTTP/1.1 and HTTP/2.

use std::time::Duration;

use meshlog_broker::Config;
use meshlog_proto::v1;
use meshlog_tests::TestBroker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends bytes and reads until the server closes.
async fn talk(broker: &TestBroker, bytes: &str) -> String {
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer));
    read.await.expect("the server closes the connection").unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http1_and_grpc_are_served_on_one_port() {
    let broker = TestBroker::start().await;
    broker.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    let call = "POST /meshlog.v1.AdminService/GetServerInfo HTTP/1.1\r\nhost: localhost\r\n\
                content-type: application/grpc-web\r\ncontent-length: 5\r\nconnection: close\r\n\r\n\
                \0\0\0\0\0";
    let answer = talk(&broker, call).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer:?}");
    assert!(answer.contains("content-type: application/grpc-web"), "{answer:?}");
    // Two requests on one connection, the second asks for its end.
    let two = "GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n\
               GET /none HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = talk(&broker, two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer:?}");
}

#[tokio::test]
async fn http1_headers_beyond_the_limit_are_refused() {
    let broker = TestBroker::start().await;
    let bomb = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(20 << 10));
    let answer = talk(&broker, &bomb).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    broker.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn http1_headers_that_never_end_are_cut_off() {
    let mut config = Config::default();
    config.edge.first_request_timeout = "300ms".parse().unwrap();
    let broker = TestBroker::start_with(config).await;
    let answer = talk(&broker, "GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    // The same before it is clear what the client speaks.
    assert_eq!(talk(&broker, "PRI * HT").await, "");
}

#[tokio::test]
async fn an_idle_http1_connection_does_not_hold_up_the_drain() {
    let broker = super::drain::Served::start(Config::default()).await;
    let address = broker.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(b"PRI * ").await.unwrap();
    let server = broker.begin_shutdown();
    let drained = tokio::time::timeout(Duration::from_secs(5), server);
    drained.await.expect("nothing holds it up").unwrap().unwrap();
}
