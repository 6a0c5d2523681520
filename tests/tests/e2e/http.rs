use std::time::Duration;

use meshlog_broker::Config;
use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, product, read, values};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const RECORDS: &str = "/v1/products/sandbox.a/records";

/// Sends one request; its answer is still to be read.
async fn send(broker: &TestBroker, call: &str, headers: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(broker.address()).await.unwrap();
    let host = match headers.contains("host:") {
        true => String::new(),
        false => format!("host: {}\r\n", broker.address()),
    };
    let length = body.len();
    let head = format!("{call} HTTP/1.1\r\n{host}{headers}content-length: {length}\r\n\r\n{body}");
    stream.write_all(head.as_bytes()).await.unwrap();
    BufReader::new(stream)
}

/// One call to its end: its status and its body.
async fn call(broker: &TestBroker, call: &str, headers: &str, body: &str) -> (u16, String) {
    let headers = format!("connection: close\r\n{headers}");
    let mut answer = send(broker, call, &headers, body).await;
    let mut text = String::new();
    answer.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

async fn serving(broker: &TestBroker) -> ServingStatus {
    let mut health = HealthClient::new(broker.channel());
    let request = HealthCheckRequest { service: "meshlog.v1.RecordService".to_owned() };
    health.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn one_port_takes_over_http_what_it_gives_over_grpc() {
    let broker = TestBroker::start().await;
    broker.create(product("sandbox.a")).await;
    let json = "content-type: application/json\r\n";
    let body = r#"{"records":[{"key":"N1","value":{"delay": 2}}]}"#;
    let (status, answer) = call(&broker, &format!("POST {RECORDS}"), json, body).await;
    assert_eq!(status, 200, "{answer}");
    broker.records().append(append("sandbox.a").value("over gRPC")).await.unwrap();
    let over_grpc = broker.records().read(read("sandbox.a")).await.unwrap().into_inner();
    assert_eq!(values(&over_grpc.batches), [r#"{"delay": 2}"#, "over gRPC"]);
    let (_, over_http) = call(&broker, &format!("GET {RECORDS}"), "", "").await;
    let over_http: Value = serde_json::from_str(&over_http).unwrap();
    assert_eq!(over_http["records"][1]["value"], "over gRPC");
}

#[tokio::test]
async fn a_name_that_was_pointed_at_the_port_is_refused_over_a_real_connection() {
    let broker = TestBroker::start().await;
    let rebound = format!("host: evil.example:{}\r\n", broker.address().port());
    let (status, answer) = call(&broker, "GET /v1/products", &rebound, "").await;
    assert_eq!(status, 403);
    assert!(answer.contains("HOST_REFUSED"), "{answer}");
    let named = format!("host: localhost:{}\r\n", broker.address().port());
    assert_eq!(call(&broker, "GET /v1/products", &named, "").await.0, 200);
}

#[tokio::test]
async fn readiness_and_health_say_the_same_when_the_disk_is_full() {
    let broker = TestBroker::start_on_simulated_disk().await;
    broker.create(product("sandbox.a")).await;
    assert_eq!(call(&broker, "GET /readyz", "", "").await.0, 200);
    broker.disk().fill();
    let large = "x".repeat(60_000);
    for _ in 0..40 {
        if broker.records().append(append("sandbox.a").value(large.clone())).await.is_err() {
            break;
        }
    }
    let (status, answer) = call(&broker, "GET /readyz", "", "").await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("disk"), "{answer}");
    let until = |wanted| {
        let broker = &broker;
        async move {
            while serving(broker).await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, until(ServingStatus::NotServing)).await.unwrap();
    assert_eq!(call(&broker, "GET /livez", "", "").await.0, 200);
    broker.disk().free();
    broker.broker().wake();
    tokio::time::timeout(patience, until(ServingStatus::Serving)).await.unwrap();
    assert_eq!(call(&broker, "GET /readyz", "", "").await.0, 200);
}

/// A client that opens a tail and never reads: the kernel's buffers fill, the broker waits, and then
/// ends the connection. Others do not notice.
#[tokio::test]
async fn a_tail_that_never_reads_loses_its_connection_and_nobody_else_does() {
    let mut config = Config::default();
    config.http.tail_deadline = "1s".parse().unwrap();
    let broker = TestBroker::start_with(config).await;
    broker.create(product("sandbox.a")).await;
    let large = "x".repeat(900_000);
    for _ in 0..24 {
        broker.records().append(append("sandbox.a").value(large.clone())).await.unwrap();
    }
    let events = "accept: text/event-stream\r\n";
    let mut stalled = send(&broker, &format!("GET {RECORDS}"), events, "").await;
    let mut other = send(&broker, &format!("GET {RECORDS}?from=latest"), events, "").await;
    let (status, answer) =
        call(&broker, &format!("POST {RECORDS}"), "content-type: text/plain\r\n", "for the other")
            .await;
    assert_eq!(status, 200, "{answer}");
    let mut line = String::new();
    while !line.contains("for the other") {
        line.clear();
        let read = tokio::time::timeout(Duration::from_secs(20), other.read_line(&mut line));
        assert!(read.await.expect("the other tail goes on").unwrap() > 0);
    }
    let cut_off = async {
        while open_tails(&broker).await > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), cut_off).await.expect("it is cut off");
    // What the kernel holds can be read; then the connection ends without the rest.
    let mut bytes = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stalled.read_to_end(&mut bytes));
    _ = ended.await.expect("the connection of the stalled tail ends");
    assert!(bytes.len() < 18_000_000, "{} of 21,600,000 bytes were sent", bytes.len());
}

async fn open_tails(broker: &TestBroker) -> u32 {
    let request = v1::GetProductRequest { name: "sandbox.a".to_owned() };
    let product = broker.catalog().get_product(request).await.unwrap().into_inner().product;
    let readers = product.unwrap().r#use.unwrap_or_default().live_readers;
    readers.iter().map(|reader| reader.open_subscriptions).sum()
}
