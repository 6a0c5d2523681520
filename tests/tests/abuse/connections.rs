//! Connections that cost and bring nothing.

use std::time::{Duration, Instant};

use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::{append, subscribe};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::BUDGET;
use super::server::{Server, open_files};

/// Waits until the server closes; what it said before.
async fn closed(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer));
    // A reset is an end as well.
    let _ = read.await.expect("the server closes it");
    answer
}

pub(crate) async fn header_bombs(server: &Server) -> String {
    let bomb = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(4 << 20));
    let mut many = String::from("GET / HTTP/1.1\r\nhost: x\r\n");
    for number in 0..10_000 {
        many += &format!("h{number}: 1\r\n");
    }
    for _ in 0..20 {
        for bomb in [&bomb, &many] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            // It may be closed before everything is sent.
            let _ = stream.write_all(bomb.as_bytes()).await;
            let answer = closed(stream).await;
            assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
        }
    }
    // Metadata of gRPC.
    let mut request = tonic::Request::new(append("ops.a").value("x").request());
    let value = "y".repeat(200 << 10).parse().unwrap();
    request.metadata_mut().insert("x", value);
    let refused = RecordServiceClient::new(server.connect()).append(request).await;
    assert!(refused.is_err());
    "431, or closed".into()
}

pub(crate) async fn slowloris(server: &Server) -> String {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..500 {
        let address = server.address;
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx: ").await.unwrap();
            while stream.write_all(b"y").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    format!("all closed within {:.1} s", took.as_secs_f32())
}

pub(crate) async fn half_open(server: &Server) -> String {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..500 {
        let address = server.address;
        // A kernel whose queue overflows tells a client that it is connected when it is not.
        if number % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Nothing, half a preface, or a whole one and then nothing.
            let said: &[u8] = match number % 3 {
                0 => b"",
                1 => b"PRI * HTT",
                _ => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            };
            stream.write_all(said).await.unwrap();
            closed(stream).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    format!("all closed within {:.1} s", begun.elapsed().as_secs_f32())
}

pub(crate) async fn very_many(server: &Server) -> String {
    let count = 10_000;
    // Each makes a request, so that it stays, and then holds its place.
    let call = super::frames::request("/none");
    let (mut held, mut refused) = (Vec::new(), 0);
    for batch in 0..count / 200 {
        let mut opening = Vec::new();
        for _ in 0..200 {
            let (address, call) = (server.address, call.clone());
            opening.push(tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(&call).await?;
                let mut byte = [0];
                stream.read_exact(&mut byte).await?;
                Ok::<_, std::io::Error>(stream)
            }));
        }
        for stream in opening {
            match stream.await.unwrap() {
                Ok(stream) => held.push(stream),
                Err(_) => refused += 1,
            }
        }
        assert!(held.len() + refused == (batch + 1) * 200, "each is answered or closed");
        assert!(held.len() < open_files(), "this process can open no more");
    }
    let is_open = |stream: &&TcpStream| {
        let mut bytes = [0; 1 << 10];
        loop {
            match stream.try_read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    };
    let open = held.iter().filter(is_open).count();
    // A quarter of the budget, at 48 KiB each.
    let room = (BUDGET << 20) as usize / 4 / (48 << 10);
    assert!(open > 0 && open <= room, "{open} open, and there is memory for {room}");
    format!("{open} open at once, {refused} closed at once")
}

/// A broker that is asked to end while clients are silent, stalled and half open.
pub(crate) async fn drain() -> String {
    let server = Server::start().await;
    let mut records = RecordServiceClient::new(server.connect());
    for _ in 0..12 {
        records.append(append("ops.a").value(vec![0; 1_000_000])).await.unwrap();
    }
    let stalled = records.subscribe(subscribe("ops.a")).await.unwrap();
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"PRI * HTT").await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test may wait for a process; clients go on")]
    let took = tokio::task::block_in_place(|| server.terminate());
    assert!(took < Duration::from_secs(12), "{took:?}");
    drop((stalled, silent, half, idle));
    format!("drained in {:.1} s with silent, stalled and half-open clients", took.as_secs_f32())
}
