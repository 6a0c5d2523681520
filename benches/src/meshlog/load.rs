//! Appends and reads over one connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use meshlog_proto::{server_v1, v1};
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const APPEND: &str = "/meshlog.v1.RecordService/Append";
const APPEND_STREAM: &str = "/meshlog.v1.RecordService/AppendStream";
const SUBSCRIBE: &str = "/meshlog.v1.RecordService/Subscribe";

/// What was acknowledged in some time.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Requests.
    pub requests: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Time they took.
    pub elapsed: Duration,
    /// Nanoseconds from sending to the acknowledgement, of unary calls.
    pub latency: Option<Histogram<u64>>,
}

impl Appended {
    /// GB/s (10⁹ bytes) of batches.
    #[must_use]
    pub fn gigabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e9 / self.elapsed.as_secs_f64()
    }

    /// Requests per second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Millions of records per second.
    #[must_use]
    pub fn million_records_per_second(&self) -> f64 {
        self.records as f64 / 1e6 / self.elapsed.as_secs_f64()
    }
}

/// A client with one connection and a runtime of its own.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    channel: Channel,
}

impl Load {
    /// Connects, with the settings that docs/performance.md decided on.
    ///
    /// # Errors
    /// When the runtime or the connection cannot be made.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(io::Error::other)?
            .max_frame_size(256 << 10)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .buffer_size(4096)
            .tcp_nodelay(true);
        let channel = runtime.block_on(endpoint.connect()).map_err(io::Error::other)?;
        Ok(Self { runtime, channel })
    }

    /// Appends batches of about `batch` bytes of `record`-byte values to the products in turn, `in_flight` bytes under
    /// way, for `limit`.
    ///
    /// # Errors
    /// When an append is refused or the stream fails.
    pub fn append(
        &self,
        products: &[String],
        batch: usize,
        record: usize,
        in_flight: usize,
        limit: Duration,
    ) -> io::Result<Appended> {
        let (payload, records) = encode(batch, record);
        let size = payload.len();
        let permits = Arc::new(Semaphore::new((in_flight / size).max(1)));
        let (sender, requests) = tokio::sync::mpsc::channel(4);
        let acknowledged = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        let deadline = began + limit;
        let products = products.to_vec();
        let sending = Arc::clone(&permits);
        self.runtime.block_on(async {
            self.runtime.spawn(async move {
                for (request_id, product) in (0..).zip(products.iter().cycle()) {
                    let Ok(permit) = sending.acquire().await else { return };
                    permit.forget();
                    let append = server_v1::AppendRequest {
                        product: product.clone(),
                        batch: vec![payload.clone()],
                        ..server_v1::AppendRequest::default()
                    };
                    let request =
                        server_v1::AppendStreamRequest { request_id, append: Some(append) };
                    if Instant::now() >= deadline || sender.send(request).await.is_err() {
                        return;
                    }
                }
            });
            let codec =
                ProstCodec::<server_v1::AppendStreamRequest, v1::AppendStreamResponse>::default();
            let mut grpc = self.grpc().await?;
            let mut answers = grpc
                .streaming(
                    Request::new(ReceiverStream::new(requests)),
                    PathAndQuery::from_static(APPEND_STREAM),
                    codec,
                )
                .await
                .map_err(io::Error::other)?
                .into_inner();
            while let Some(answer) = answers.message().await.map_err(io::Error::other)? {
                for result in &answer.results {
                    if let Some(v1::append_result::Outcome::Error(error)) = &result.outcome {
                        return Err(io::Error::other(error.message.clone()));
                    }
                }
                permits.add_permits(answer.results.len());
                acknowledged.fetch_add(answer.results.len() as u64, Ordering::Relaxed);
            }
            let requests = acknowledged.load(Ordering::Relaxed);
            Ok(Appended {
                requests,
                bytes: requests * size as u64,
                records: requests * records,
                elapsed: began.elapsed(),
                latency: None,
            })
        })
    }

    /// Unary appends of one record of `record` bytes, `in_flight` at once, for `limit`.
    ///
    /// # Errors
    /// When an append fails.
    pub fn append_unary(
        &self,
        product: &str,
        record: usize,
        in_flight: usize,
        limit: Duration,
    ) -> io::Result<Appended> {
        let (payload, _) = encode(record, record);
        let size = payload.len() as u64;
        let empty = Histogram::new_with_bounds(1, 60_000_000_000, 3).map_err(io::Error::other)?;
        let began = Instant::now();
        let deadline = began + limit;
        let latency = self.runtime.block_on(async {
            let mut callers = tokio::task::JoinSet::new();
            for _ in 0..in_flight {
                let channel = self.channel.clone();
                let mut latency: Histogram<u64> = empty.clone();
                let request = server_v1::AppendRequest {
                    product: product.to_owned(),
                    batch: vec![payload.clone()],
                    ..server_v1::AppendRequest::default()
                };
                callers.spawn(async move {
                    let mut grpc = Grpc::new(channel);
                    while Instant::now() < deadline {
                        let sent = Instant::now();
                        grpc.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
                        let codec =
                            ProstCodec::<server_v1::AppendRequest, v1::AppendResponse>::default();
                        let path = PathAndQuery::from_static(APPEND);
                        grpc.unary(Request::new(request.clone()), path, codec).await?;
                        let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        latency.saturating_record(nanos);
                    }
                    Ok::<_, Status>(latency)
                });
            }
            let mut all: Histogram<u64> = empty.clone();
            while let Some(caller) = callers.join_next().await {
                let latency = caller.map_err(io::Error::other)?.map_err(io::Error::other)?;
                all.add(latency).map_err(io::Error::other)?;
            }
            io::Result::Ok(all)
        })?;
        let requests = latency.len();
        Ok(Appended {
            requests,
            bytes: requests * size,
            records: requests,
            elapsed: began.elapsed(),
            latency: Some(latency),
        })
    }

    /// Reads a product from its start to its end; returns the bytes of its batches and the time.
    ///
    /// # Errors
    /// When the subscription fails.
    pub fn read(&self, product: &str) -> io::Result<Appended> {
        self.runtime.block_on(async {
            let request = v1::SubscribeRequest {
                product: product.to_owned(),
                stop_at_end: true,
                ..v1::SubscribeRequest::default()
            };
            let codec = ProstCodec::<v1::SubscribeRequest, server_v1::SubscribeResponse>::default();
            let mut grpc = self.grpc().await?.max_decoding_message_size(8 << 20);
            let path = PathAndQuery::from_static(SUBSCRIBE);
            let began = Instant::now();
            let mut messages = grpc
                .server_streaming(Request::new(request), path, codec)
                .await
                .map_err(io::Error::other)?
                .into_inner();
            let mut read = Appended {
                requests: 0,
                bytes: 0,
                records: 0,
                elapsed: Duration::ZERO,
                latency: None,
            };
            while let Some(message) = messages.message().await.map_err(io::Error::other)? {
                for batch in &message.batches {
                    read.requests += 1;
                    read.bytes += batch.batch.len() as u64;
                    read.records += u64::from(batch.count);
                }
            }
            read.elapsed = began.elapsed();
            Ok(read)
        })
    }

    async fn grpc(&self) -> io::Result<Grpc<Channel>> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(io::Error::other)?;
        Ok(grpc)
    }
}

/// A batch of about this many bytes, of records whose values have `record` bytes.
fn encode(batch: usize, record: usize) -> (Bytes, u64) {
    let value = Bytes::from(vec![b'x'; record]);
    let mut encoded = BytesMut::new();
    let mut records = 0;
    let one = v1::Record { value: Some(value), ..v1::Record::default() };
    let length = one.encoded_len();
    while records == 0 || encoded.len() + length + 8 <= batch {
        encoded.put_u8(0x0a);
        prost::encoding::encode_varint(length as u64, &mut encoded);
        // A BytesMut grows, so encoding into it cannot fail.
        let _ = one.encode(&mut encoded);
        records += 1;
    }
    (encoded.freeze(), records)
}
