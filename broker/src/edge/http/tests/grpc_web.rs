use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{BufMut as _, Bytes, BytesMut};
use meshlog_proto::v1;
use prost::Message;

use super::{Answer, Port};

const APPEND: &str = "POST /meshlog.v1.RecordService/Append";

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.encoded_len() as u32);
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

/// Messages and trailers of an answer.
#[expect(clippy::big_endian_bytes, reason = "gRPC writes lengths so")]
fn frames(mut body: &[u8]) -> (Vec<&[u8]>, String) {
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    while let [kind, rest @ ..] = body {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        match kind {
            0x80 => trailers = String::from_utf8(rest[4..4 + length].to_vec()).unwrap(),
            _ => messages.push(&rest[4..4 + length]),
        }
        body = &rest[4 + length..];
    }
    (messages, trailers)
}

fn append(product: &str) -> v1::AppendRequest {
    let record = v1::Record { value: Some("1".into()), ..Default::default() };
    let batch = Some(v1::RecordBatch { records: vec![record] });
    v1::AppendRequest { product: product.to_owned(), batch, ..Default::default() }
}

async fn call(port: &Port, kind: &str, call: &str, body: impl Into<axum::body::Body>) -> Answer {
    port.call(call, &[("content-type", kind), ("accept", kind), ("x-grpc-web", "1")], body).await
}

#[tokio::test]
async fn a_browser_appends_and_subscribes_in_both_encodings() {
    let port = Port::with_product("sandbox.a", 1).await;
    let answer =
        call(&port, "application/grpc-web+proto", APPEND, framed(&append("sandbox.a"))).await;
    let (messages, trailers) = frames(&answer.body);
    let appended = v1::AppendResponse::decode(messages[0]).unwrap();
    assert_eq!(appended.ranges[0].count, 1);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");

    let text = BASE64_STANDARD.encode(framed(&append("sandbox.a")));
    let answer = call(&port, "application/grpc-web-text", APPEND, text).await;
    assert!(answer.header("content-type").starts_with("application/grpc-web-text"), "{answer:?}");
    let padded = answer.body.iter().position(|byte| *byte == b'=');
    assert!(padded.is_none_or(|at| at < answer.body.len()), "{answer:?}");

    let subscribe = v1::SubscribeRequest {
        product: "sandbox.a".to_owned(),
        stop_at_end: true,
        ..Default::default()
    };
    let path = "POST /meshlog.v1.RecordService/Subscribe";
    let answer = call(&port, "application/grpc-web+proto", path, framed(&subscribe)).await;
    let (messages, trailers) = frames(&answer.body);
    let records: u32 = messages
        .iter()
        .flat_map(|message| v1::SubscribeResponse::decode(*message).unwrap().batches)
        .map(|batch| batch.count)
        .sum();
    assert_eq!(records, 2);
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn an_error_reaches_a_browser_with_its_reason() {
    let port = Port::open().await;
    let kind = "application/grpc-web+proto";
    let answer = call(&port, kind, APPEND, framed(&append("ops.none"))).await;
    assert_eq!(answer.header("content-type"), kind);
    assert_eq!(answer.header("grpc-status"), "5");
    assert_eq!(answer.header("meshlog-reason"), "PRODUCT_NOT_FOUND");
    // Refused by tonic, with our reason.
    let answer = call(&port, kind, APPEND, &b"\0\0\0\0\x02\xff\xff"[..]).await;
    assert_eq!(answer.header("content-type"), kind);
    assert_eq!(answer.header("meshlog-reason"), "INVALID_ARGUMENT", "{answer:?}");
}
