//! T, G and g: loopback TCP, and gRPC with nothing behind it.
//!
//! The service answers three methods with raw bytes, so what is measured is tonic, hyper and h2, not prost.

use std::{
    convert::Infallible,
    future::Future,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    task::{Context, Poll},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut, Bytes};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    task::JoinSet,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::Service;

use crate::{KIB, MIB, load::process_cpu};

/// Which tokio runtime runs one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Flavour {
    /// One thread for everything.
    CurrentThread,
    /// Two worker threads.
    TwoWorkers,
}

impl Flavour {
    /// The flavour in a table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CurrentThread => "current_thread",
            Self::TwoWorkers => "multi_thread(2)",
        }
    }

    fn runtime(self) -> io::Result<Runtime> {
        match self {
            Self::CurrentThread => Builder::new_current_thread().enable_all().build(),
            Self::TwoWorkers => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        }
    }
}

/// HTTP/2 settings, the same on both ends, and who runs them.
#[derive(Clone, Copy, Debug)]
pub struct WireSettings {
    /// Largest DATA frame, in bytes.
    pub frame: usize,
    /// Flow-control window of one stream, in bytes.
    pub stream_window: usize,
    /// Flow-control window of one connection, in bytes.
    pub connection_window: usize,
    /// Connections from the client.
    pub connections: usize,
    /// Runtime of the server.
    pub server: Flavour,
    /// Runtime of the client.
    pub client: Flavour,
}

impl Default for WireSettings {
    fn default() -> Self {
        Self {
            frame: 256 * KIB,
            stream_window: 4 * MIB,
            connection_window: 16 * MIB,
            connections: 1,
            server: Flavour::TwoWorkers,
            client: Flavour::TwoWorkers,
        }
    }
}

/// Bytes moved in some time.
#[derive(Clone, Copy, Debug)]
pub struct WireSample {
    /// Bytes of messages that arrived.
    pub bytes: u64,
    /// Time from the first to the last.
    pub elapsed: Duration,
    /// CPU time of both sides together.
    pub cpu: Duration,
}

impl WireSample {
    /// GB/s (10⁹ bytes).
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.elapsed.as_secs_f64()
    }

    /// CPU seconds of both sides for each GB.
    #[must_use]
    pub fn cpu_seconds_per_gigabyte(&self) -> f64 {
        self.cpu.as_secs_f64() / (self.bytes as f64 / 1e9)
    }
}

/// Calls made in some time.
#[derive(Clone, Debug)]
pub struct CallSample {
    /// Round trips in nanoseconds.
    pub latency: Histogram<u64>,
    /// Time from the first call to the last answer.
    pub elapsed: Duration,
    /// CPU time of both sides together.
    pub cpu: Duration,
}

impl CallSample {
    /// Calls answered per second.
    #[must_use]
    pub fn calls_per_second(&self) -> f64 {
        self.latency.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The round trip that this share of the calls did not exceed, in microseconds.
    #[must_use]
    pub fn micros_at(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e3
    }

    /// Microseconds of CPU on both sides for each call.
    #[must_use]
    pub fn cpu_micros_per_call(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.latency.len() as f64
    }
}

/// T: one loopback TCP connection, writes and reads of `chunk` bytes, a thread on each side.
///
/// # Errors
/// When a socket fails.
pub fn tcp(chunk: usize, limit: Duration) -> io::Result<WireSample> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let cpu = process_cpu();
    let began = Instant::now();
    let bytes = thread::scope(|scope| {
        let received = scope.spawn(move || {
            let mut buffer = vec![0; chunk];
            let mut bytes = 0;
            loop {
                match receiver.read(&mut buffer)? {
                    0 => return io::Result::Ok(bytes),
                    read => bytes += read as u64,
                }
            }
        });
        let buffer = vec![7; chunk];
        while began.elapsed() < limit {
            sender.write_all(&buffer)?;
        }
        drop(sender);
        received.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let elapsed = began.elapsed();
    Ok(WireSample { bytes, elapsed, cpu: process_cpu().saturating_sub(cpu) })
}

/// A bare gRPC server on loopback and connections to it, each side on its own runtime.
#[derive(Debug)]
pub struct BareWire {
    client: Runtime,
    channels: Vec<Channel>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<io::Result<()>>>,
}

impl BareWire {
    /// Starts the server and connects.
    ///
    /// # Errors
    /// When a runtime, the listener or a connection cannot be made.
    pub fn start(settings: WireSettings) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = std::sync::mpsc::channel();
        let server = thread::spawn(move || {
            settings.server.runtime()?.block_on(async {
                let incoming = TcpIncoming::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?
                    .with_nodelay(Some(true));
                let _ = bound.send(incoming.local_addr()?);
                Server::builder()
                    .max_frame_size(u32_of(settings.frame))
                    .initial_stream_window_size(u32_of(settings.stream_window))
                    .initial_connection_window_size(u32_of(settings.connection_window))
                    .add_service(Bare)
                    .serve_with_incoming_shutdown(incoming, async {
                        let _ = stopped.await;
                    })
                    .await
                    .map_err(io::Error::other)
            })
        });
        let address = address.recv().map_err(io::Error::other)?;
        let client = settings.client.runtime()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(io::Error::other)?
            .max_frame_size(u32_of(settings.frame))
            .initial_stream_window_size(u32_of(settings.stream_window))
            .initial_connection_window_size(u32_of(settings.connection_window))
            .buffer_size(4096)
            .tcp_nodelay(true);
        let channels = client.block_on(async {
            let mut channels = Vec::new();
            for _ in 0..settings.connections {
                channels.push(endpoint.connect().await.map_err(io::Error::other)?);
            }
            io::Result::Ok(channels)
        })?;
        Ok(Self { client, channels, stop: Some(stop), server: Some(server) })
    }

    /// G in: one client stream per connection sends messages of `message` bytes for `limit`; the server counts them.
    ///
    /// # Errors
    /// When a call fails.
    pub fn stream_in(&self, message: usize, limit: Duration) -> io::Result<WireSample> {
        self.streams(
            |mut grpc, deadline| async move {
                let payload = Bytes::from(vec![7; message]);
                let messages = tokio_stream::iter(std::iter::repeat(payload))
                    .take_while(move |_| Instant::now() < deadline);
                let counted = grpc
                    .client_streaming(Request::new(messages), PathAndQuery::from_static(SINK), Raw)
                    .await?;
                Ok(counted.into_inner().get_u64_le())
            },
            limit,
        )
    }

    /// G out: one server stream per connection sends messages of `message` bytes for `limit`; the client counts them.
    ///
    /// # Errors
    /// When a call fails.
    pub fn stream_out(&self, message: usize, limit: Duration) -> io::Result<WireSample> {
        self.streams(
            |mut grpc, deadline| async move {
                let wanted = Bytes::copy_from_slice(&(message as u64).to_le_bytes());
                let source = PathAndQuery::from_static(SOURCE);
                let mut messages =
                    grpc.server_streaming(Request::new(wanted), source, Raw).await?.into_inner();
                let mut bytes = 0;
                while let Some(received) = messages.message().await? {
                    bytes += received.len() as u64;
                    if Instant::now() >= deadline {
                        break;
                    }
                }
                Ok(bytes)
            },
            limit,
        )
    }

    /// g: unary calls of `request` bytes, `in_flight` at once over all connections, for `limit`.
    ///
    /// # Errors
    /// When a call fails.
    pub fn unary(
        &self,
        request: usize,
        in_flight: usize,
        limit: Duration,
    ) -> io::Result<CallSample> {
        let empty = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
        let cpu = process_cpu();
        let began = Instant::now();
        let deadline = began + limit;
        let latency = self.client.block_on(async {
            let mut callers = JoinSet::new();
            for caller in 0..in_flight {
                let mut grpc = client(&self.channels[caller % self.channels.len()]);
                let payload = Bytes::from(vec![7; request]);
                let mut latency = empty.clone();
                callers.spawn(async move {
                    while Instant::now() < deadline {
                        let sent = Instant::now();
                        grpc.ready()
                            .await
                            .map_err(|error| Status::unavailable(error.to_string()))?;
                        let echo = PathAndQuery::from_static(ECHO);
                        grpc.unary(Request::new(payload.clone()), echo, Raw).await?;
                        let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        latency.saturating_record(nanos);
                    }
                    Ok::<_, Status>(latency)
                });
            }
            let mut all = empty.clone();
            while let Some(caller) = callers.join_next().await {
                let latency = caller.map_err(io::Error::other)?.map_err(io::Error::other)?;
                all.add(latency).map_err(io::Error::other)?;
            }
            io::Result::Ok(all)
        })?;
        let elapsed = began.elapsed();
        Ok(CallSample { latency, elapsed, cpu: process_cpu().saturating_sub(cpu) })
    }

    fn streams<F>(
        &self,
        stream: impl Fn(tonic::client::Grpc<Channel>, Instant) -> F,
        limit: Duration,
    ) -> io::Result<WireSample>
    where
        F: Future<Output = Result<u64, Status>> + Send + 'static,
    {
        let cpu = process_cpu();
        let began = Instant::now();
        let bytes = self.client.block_on(async {
            let mut streams = JoinSet::new();
            for channel in &self.channels {
                let mut grpc = client(channel);
                grpc.ready().await.map_err(io::Error::other)?;
                streams.spawn(stream(grpc, began + limit));
            }
            let mut bytes = 0;
            while let Some(stream) = streams.join_next().await {
                bytes += stream.map_err(io::Error::other)?.map_err(io::Error::other)?;
            }
            io::Result::Ok(bytes)
        })?;
        let elapsed = began.elapsed();
        Ok(WireSample { bytes, elapsed, cpu: process_cpu().saturating_sub(cpu) })
    }
}

impl Drop for BareWire {
    /// Closes the connections, stops the server and waits for it.
    fn drop(&mut self) {
        self.channels.clear();
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // The connections are tasks of the client's runtime: let them see that their channels are gone.
        self.client.block_on(tokio::task::yield_now());
        if let Some(server) = self.server.take() {
            while !server.is_finished() {
                self.client.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
            }
            let _ = server.join();
        }
    }
}

const SINK: &str = "/meshlog.bench.Bare/Sink";
const SOURCE: &str = "/meshlog.bench.Bare/Source";
const ECHO: &str = "/meshlog.bench.Bare/Echo";
/// The largest message either side takes.
const LARGEST: usize = 64 * MIB;

fn client(channel: &Channel) -> tonic::client::Grpc<Channel> {
    tonic::client::Grpc::new(channel.clone()).max_decoding_message_size(LARGEST)
}

fn u32_of(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Messages as they are: one copy into the send buffer, none out of the receive buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(item.len());
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Repeated = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// The service: `Sink` counts, `Source` repeats, `Echo` answers eight bytes.
#[derive(Clone, Copy, Debug)]
struct Bare;

impl NamedService for Bare {
    const NAME: &'static str = "meshlog.bench.Bare";
}

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw).max_decoding_message_size(LARGEST);
            Ok(match request.uri().path() {
                SINK => grpc.client_streaming(Sink, request).await,
                SOURCE => grpc.server_streaming(Source, request).await,
                ECHO => grpc.unary(Echo, request).await,
                _ => Status::unimplemented("the bare service has no such method").into_http(),
            })
        })
    }
}

struct Sink;

impl tonic::server::ClientStreamingService<Bytes> for Sink {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let mut bytes = 0_u64;
            while let Some(message) = messages.message().await? {
                bytes += message.len() as u64;
            }
            Ok(Response::new(Bytes::copy_from_slice(&bytes.to_le_bytes())))
        })
    }
}

struct Source;

impl tonic::server::ServerStreamingService<Bytes> for Source {
    type Response = Bytes;
    type ResponseStream = Repeated;
    type Future = Answer<Repeated>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let size = request.into_inner().try_get_u64_le();
            let size = size.ok().and_then(|size| usize::try_from(size).ok());
            let size = size
                .filter(|size| (1..=LARGEST).contains(size))
                .ok_or_else(|| Status::invalid_argument("the request is not a message size"))?;
            let payload = Bytes::from(vec![7; size]);
            let messages = tokio_stream::iter(std::iter::repeat(payload)).map(Ok);
            Ok(Response::new(Box::pin(messages) as Repeated))
        })
    }
}

struct Echo;

impl tonic::server::UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(async move {
            let length = request.into_inner().len() as u64;
            Ok(Response::new(Bytes::copy_from_slice(&length.to_le_bytes())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_moves_bytes_on_both_runtimes() -> io::Result<()> {
        let limit = Duration::from_millis(20);
        for server in [Flavour::CurrentThread, Flavour::TwoWorkers] {
            let settings = WireSettings { server, connections: 2, ..WireSettings::default() };
            let wire = BareWire::start(settings)?;
            assert!(wire.stream_in(64 * KIB, limit)?.bytes > 0);
            assert!(wire.stream_out(64 * KIB, limit)?.bytes > 0);
            let calls = wire.unary(100, 4, limit)?;
            assert!(calls.calls_per_second() > 0.0);
            assert!(calls.micros_at(0.5) > 1.0, "a round trip takes longer than that");
        }
        Ok(())
    }
}
