//! HTTP/2 against its grain.

use std::time::Duration;

use bytes::BufMut as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::Server;

/// The preface, and settings that change nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_uint(payload.len() as u64, 3);
    frame.put_u8(kind);
    frame.put_u8(flags);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame
}

/// A connection with one call that has no body.
pub(crate) fn request(path: &str) -> Vec<u8> {
    [HELLO, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &headers(path))].concat()
}

/// The headers of an append stream.
fn call() -> Vec<u8> {
    headers("/meshlog.v1.RecordService/AppendStream")
}

/// The headers of a call, without compression.
fn headers(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Sends the same bytes until the server closes; how many bytes it took.
async fn flood(server: &Server, first: Vec<u8>, then: &[u8], most: usize) -> usize {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = read.read_to_end(&mut bytes).await;
        bytes
    });
    write.write_all(HELLO).await.unwrap();
    write.write_all(&first).await.unwrap();
    let mut sent = 0;
    while sent < most && !reading.is_finished() && write.write_all(then).await.is_ok() {
        sent += then.len();
    }
    assert!(sent < most, "it was never closed");
    let said = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
    assert!(!said.is_empty(), "the server has said its settings at least");
    sent
}

pub(crate) async fn continuation_flood(server: &Server) -> String {
    let first = frame(HEADERS, 0, 1, &call());
    let header = [&[0, 1, b'x', 127, 0xff, 0x7d][..], &[b'y'; 16_000]].concat();
    let one = frame(CONTINUATION, 0, 1, &header);
    let one = flood(server, first.clone(), &one, 256 << 20).await;
    // Also one byte at a time.
    let small = frame(CONTINUATION, 0, 1, b"");
    let small = flood(server, first, &small.repeat(100), 64 << 20).await;
    format!("closed after {} KiB; after {} KiB of empty ones", one >> 10, small >> 10)
}

pub(crate) async fn empty_data_flood(server: &Server) -> String {
    let first = frame(HEADERS, END_HEADERS, 1, &call());
    let sent = flood(server, first, &frame(DATA, 0, 1, b"").repeat(100), 64 << 20).await;
    format!("closed after {} KiB", sent >> 10)
}

pub(crate) async fn rapid_reset(server: &Server) -> String {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut count = 0;
    let request = || {
        http::Request::post(format!("http://{}/meshlog.v1.RecordService/Append", server.address))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap()
    };
    while count < 1_000_000 && !connection.is_finished() {
        client = match client.ready().await {
            Ok(client) => client,
            Err(_) => break,
        };
        let Ok((_, mut body)) = client.send_request(request(), false) else { break };
        body.send_reset(h2::Reason::CANCEL);
        count += 1;
        if count % 50 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), connection).await;
    let error = ended.expect("the server closes it").unwrap().unwrap_err();
    assert!(error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) || error.is_io(), "{error}");
    format!("ENHANCE_YOUR_CALM after {count} resets")
}
