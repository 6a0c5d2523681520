//! Bodies that are not what they seem.

use std::io::Write as _;
use std::time::Duration;

use bytes::{BufMut as _, Bytes};
use meshlog_tests::failure;
use tokio::net::TcpStream;

use super::server::Server;

/// A call over a raw connection, its body begun with these bytes: the answer of the server.
async fn call(server: &Server, encoding: Option<&str>, body: Vec<u8>, ends: bool) -> tonic::Status {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let path = format!("http://{}/meshlog.v1.RecordService/Append", server.address);
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let mut client = client.ready().await.unwrap();
    let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // It may be refused before it is sent.
    let _ = sending.send_data(Bytes::from(body), ends);
    let answer = tokio::time::timeout(Duration::from_secs(30), response).await;
    let answer = answer.expect("it is answered").unwrap();
    let status = match tonic::Status::from_header_map(answer.headers()) {
        Some(status) => status,
        None => {
            let mut body = answer.into_body();
            while let Some(data) = body.data().await {
                data.unwrap();
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            tonic::Status::from_header_map(&trailers).unwrap()
        }
    };
    connection.abort();
    status
}

pub(crate) async fn compression_bomb(server: &Server) -> String {
    let level = flate2::Compression::best();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), level);
    let zeros = vec![0; 1 << 20];
    for _ in 0..1 << 10 {
        packed.write_all(&zeros).unwrap();
    }
    let packed = packed.finish().unwrap();
    let mut body = vec![1];
    body.put_u32(packed.len() as u32);
    body.extend(&packed);
    let mut answers = Vec::new();
    for _ in 0..4 {
        let calls = (0..8).map(|_| call(server, Some("gzip"), body.clone(), true));
        answers.extend(futures_util::future::join_all(calls).await);
    }
    let reasons: Vec<_> = answers.iter().map(|status| failure(status).reason).collect();
    let bombs = reasons.iter().filter(|reason| *reason == "TOO_LARGE").count();
    assert!(
        reasons.iter().all(|reason| reason == "TOO_LARGE" || reason == "OVERLOADED"),
        "{reasons:?}"
    );
    assert!(bombs > 0);
    format!("{bombs} TOO_LARGE, {} OVERLOADED", reasons.len() - bombs)
}

pub(crate) async fn announced_and_not_sent(server: &Server) -> String {
    let mut body = vec![0];
    body.put_u32(4 << 20);
    body.extend([0; 10]);
    // All of them hold on while the others come; a kernel takes only so many at the same moment.
    let calls = (0..500).map(|number| {
        let body = body.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(number)).await;
            call(server, None, body, false).await
        }
    });
    let answers = futures_util::future::join_all(calls).await;
    let reasons: Vec<_> = answers.iter().map(|status| failure(status).reason).collect();
    let late = reasons.iter().filter(|reason| *reason == "REQUEST_TIMEOUT").count();
    let refused = reasons.iter().filter(|reason| *reason == "OVERLOADED").count();
    assert_eq!(late + refused, 500, "{reasons:?}");
    assert!(late > 0 && late <= 16 * 3, "{late} had room for 4 MiB each");
    format!("{late} REQUEST_TIMEOUT, {refused} OVERLOADED")
}

/// Calls that wait for records, with bodies that they have no use for.
pub(crate) async fn unread(server: &Server) -> String {
    const CONNECTIONS: usize = 20;
    const CALLS: usize = 8;
    let body = Bytes::from(vec![0; 2 << 20]);
    let path = "/v1/products/ops.a/records?from=latest&max_wait=30s";
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..CALLS {
            let request = http::Request::get(format!("http://{}{path}", server.address));
            client = client.ready().await.unwrap();
            let (answer, mut sending) =
                client.send_request(request.body(()).unwrap(), false).unwrap();
            sending.send_data(body.clone(), false).unwrap();
            held.push((answer, sending));
        }
        // It lives as long as the calls.
        drop(connection);
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let sent = CONNECTIONS * CALLS * 2;
    drop(held);
    format!("{sent} MiB were sent, which nobody read")
}
