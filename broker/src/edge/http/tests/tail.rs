use std::time::Duration;

use futures_util::StreamExt as _;
use meshlog_proto::v1;

use super::Port;
use crate::Config;
use crate::config::HttpConfig;

const GET: &str = "GET /v1/products/sandbox.a/records";
const POST: &str = "POST /v1/products/sandbox.a/records";
const EVENTS: (&str, &str) = ("accept", "text/event-stream");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

/// Server-sent events as they arrive.
struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    async fn open(port: &Port, query: &str, headers: &[(&str, &str)]) -> Self {
        let headers = [&[EVENTS], headers].concat();
        let response = port.begin(&format!("{GET}{query}"), &headers, "").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next block, as lines; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let piece = tokio::time::timeout(Duration::from_secs(20), self.body.next());
            let piece = piece.await.expect("an event or a heartbeat comes in time")?.unwrap();
            self.text.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }

    /// The next event: its id and the value of its record.
    async fn record(&mut self) -> (String, String) {
        loop {
            let block = self.next().await.expect("an event");
            if let Some((id, data)) = block.split_once("\ndata: ") {
                let record: serde_json::Value = serde_json::from_str(data).unwrap();
                let id = id.strip_prefix("id: ").unwrap();
                return (id.to_owned(), record["value"].to_string());
            }
        }
    }
}

#[tokio::test]
async fn a_tail_tells_history_then_what_arrives_and_goes_on_where_it_was_left() {
    let port = Port::with_product("sandbox.a", 1).await;
    port.call(POST, &[NDJSON], "1\n2\n").await.ok();
    let mut events = Events::open(&port, "", &[]).await;
    let first = events.next().await.unwrap();
    assert_eq!(first, "retry: 1000\n: positions\nid: 0:0");
    assert_eq!(events.record().await, ("0:1".to_owned(), "1".to_owned()));
    assert_eq!(events.record().await, ("0:2".to_owned(), "2".to_owned()));
    port.call(POST, &[NDJSON], "3").await.ok();
    assert_eq!(events.record().await, ("0:3".to_owned(), "3".to_owned()));
    drop(events);
    let mut again = Events::open(&port, "?from=latest", &[("last-event-id", "0:1")]).await;
    assert_eq!(again.record().await, ("0:2".to_owned(), "2".to_owned()));
}

#[tokio::test]
async fn a_quiet_tail_shows_that_it_is_there_and_ends_with_the_server() {
    let port = Port::with_product("sandbox.a", 1).await;
    let mut events = Events::open(&port, "?heartbeat=1s", &[]).await;
    events.next().await.unwrap();
    assert_eq!(events.next().await.unwrap(), ": heartbeat\nid: 0:0");
    port.drain.cancel();
    let mut last = String::new();
    while let Some(block) = events.next().await {
        last = block;
    }
    assert!(last.starts_with("event: error\ndata: {"), "{last}");
    assert!(last.contains("SHUTTING_DOWN") && last.contains(r#""resume":"0:0""#), "{last}");
}

#[tokio::test]
async fn a_tail_that_stops_at_the_end_ends() {
    let port = Port::with_product("sandbox.a", 2).await;
    port.call(&format!("{POST}?partition=1"), &[NDJSON], "1").await.ok();
    let mut events = Events::open(&port, "?stop_at_end=true", &[]).await;
    assert_eq!(events.record().await, ("0:0,1:1".to_owned(), "1".to_owned()));
    while let Some(block) = events.next().await {
        assert!(!block.contains("data:"), "{block}");
    }
}

#[tokio::test]
async fn a_tail_that_cannot_begin_is_an_ordinary_problem() {
    let port = Port::with_product("sandbox.a", 1).await;
    let late = port.call(&format!("{GET}?from=9"), &[EVENTS], "").await;
    assert_eq!(late.refused(), (400, "OFFSET_OUT_OF_RANGE".to_owned()));
    port.create("sandbox.wide", 200).await;
    let wide = port.call("GET /v1/products/sandbox.wide/records", &[EVENTS], "").await;
    assert_eq!(wide.refused(), (400, "INVALID_ARGUMENT".to_owned()));
    assert!(wide.json()["detail"].as_str().unwrap().contains("128"));
}

/// Whoever opens a tail and reads nothing holds two pieces and a message, and is cut off.
#[tokio::test]
async fn a_tail_that_nobody_reads_holds_little_and_is_cut_off() {
    let http = HttpConfig { tail_deadline: "300ms".parse().unwrap(), ..HttpConfig::default() };
    let port = Port::open_with(Config { http, ..Config::default() }).await;
    port.create("sandbox.a", 1).await;
    let line = format!("\"{}\"\n", "x".repeat(1_000));
    for _ in 0..8 {
        port.call(POST, &[NDJSON], line.repeat(1_000)).await.ok();
    }
    let mut events = Events::open(&port, "", &[]).await;
    let readers = || {
        let request = v1::GetProductRequest { name: "sandbox.a".to_owned() };
        let product = port
            .broker
            .catalogue()
            .get_product(&crate::Caller::default(), request)
            .unwrap()
            .product
            .unwrap();
        let readers = product.r#use.unwrap_or_default().live_readers;
        readers.iter().map(|reader| reader.open_subscriptions).sum::<u32>()
    };
    assert_eq!(readers(), 1);
    tokio::time::timeout(Duration::from_secs(20), async {
        while readers() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the subscription ends with the deadline");
    let mut bytes = 0;
    while let Some(block) = events.next().await {
        bytes += block.len();
    }
    assert!(bytes < 300_000, "{bytes} of 8,000,000 bytes were held");
}
