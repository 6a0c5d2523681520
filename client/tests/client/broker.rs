//! A broker in a few lines: one partition in memory, sequences as the contract says, and a script
//! of failures. Its purpose is to judge the client, so it panics when the client breaks a rule.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use meshlog_proto::{
    server_v1::{
        self,
        record_service_server::{RecordService, RecordServiceServer},
    },
    v1::{self, append_result::Outcome, start::At},
};
use parking_lot::Mutex;
use prost::Message;
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

/// What to do with the next append instead of appending it.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Do append it.
    None,
    /// Refuse it.
    Refuse { code: Code, reason: &'static str, applied: &'static str, retry: Option<Duration> },
    /// Append it, then end the stream without a result.
    AppendAndHangUp,
    /// Neither append nor answer.
    Swallow,
}

impl Fault {
    pub(crate) fn rejected() -> Self {
        let code = Code::InvalidArgument;
        Fault::Refuse { code, reason: "SCHEMA_REJECTED", applied: "no", retry: None }
    }

    pub(crate) fn overloaded() -> Self {
        let code = Code::ResourceExhausted;
        let retry = Some(Duration::from_millis(5));
        Fault::Refuse { code, reason: "OVERLOADED", applied: "no", retry }
    }

    pub(crate) fn unknown_producer() -> Self {
        let code = Code::FailedPrecondition;
        Fault::Refuse { code, reason: "PRODUCER_UNKNOWN", applied: "no", retry: None }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) batches: Vec<(u64, u32, Bytes)>,
    pub(crate) end: u64,
    windows: HashMap<Bytes, Window>,
    /// One per append request, in the order in which they arrive; then none.
    pub(crate) faults: VecDeque<Fault>,
    pub(crate) appends: u64,
    pub(crate) duplicates: u64,
    pub(crate) epochs: u32,
    pub(crate) applications: Vec<String>,
    /// What each call said about who makes it.
    pub(crate) authorizations: Vec<Option<String>>,
    pub(crate) subscriptions: Vec<v1::SubscribeRequest>,
    /// Subscriptions say nothing after their first message.
    pub(crate) mute: bool,
    /// Subscriptions give whole batches and do not say which records to skip.
    pub(crate) careless: bool,
    /// Subscriptions end with OK after so many messages.
    pub(crate) end_after: Option<usize>,
}

#[derive(Default)]
struct Window {
    epoch: u32,
    next: u64,
    appended: BTreeMap<u64, (u64, u32)>,
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    grown: Notify,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::with_faults([]).await
    }

    pub(crate) async fn with_faults(faults: impl IntoIterator<Item = Fault>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        shared.state.lock().faults.extend(faults);
        let routes = Server::builder().add_service(service(shared.clone()));
        let server = tokio::spawn(async move {
            let _ = routes.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Self { address, shared, server }
    }

    pub(crate) fn append(&self, values: &[String]) {
        let record =
            |value: &String| v1::Record { value: Some(value.clone().into()), ..Default::default() };
        let batch = v1::RecordBatch { records: values.iter().map(record).collect() };
        self.shared.push(batch.encode_to_vec().into());
    }

    /// All values, in offset order.
    pub(crate) fn values(&self) -> Vec<String> {
        let state = self.shared.state.lock();
        let decode = |(_, _, batch): &(u64, u32, Bytes)| {
            v1::RecordBatch::decode(batch.clone()).expect("valid").records
        };
        let text = |record: v1::Record| {
            String::from_utf8(record.value.expect("a value").to_vec()).expect("text")
        };
        state.batches.iter().flat_map(decode).map(text).collect()
    }
}

pub(crate) fn service(shared: Arc<Shared>) -> RecordServiceServer<Service> {
    RecordServiceServer::new(Service { shared })
}

fn refuse(code: Code, reason: &str, applied: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "meshlog", [("applied".to_owned(), applied.to_owned())]);
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, format!("told to answer {reason}"), details)
}

impl Shared {
    fn note<T>(&self, request: &Request<T>) {
        let sent = request.metadata().get("authorization");
        let sent = sent.map(|sent| sent.to_str().expect("text").to_owned());
        self.state.lock().authorizations.push(sent);
    }

    fn push(&self, batch: Bytes) -> (u64, u32) {
        let count = v1::RecordBatch::decode(batch.clone()).expect("valid").records.len() as u32;
        let mut state = self.state.lock();
        let first = state.end;
        state.end += u64::from(count);
        state.batches.push((first, count, batch));
        self.grown.notify_waiters();
        (first, count)
    }

    fn append(&self, request: server_v1::AppendRequest) -> Result<v1::AppendResponse, Status> {
        assert_eq!(request.batch.len(), 1, "one batch per request");
        let batch = request.batch.into_iter().next().expect("one");
        let producer = request.producer.expect("the client always sends its sequence");
        assert_eq!(producer.id.len(), 16);
        let fault = {
            let mut state = self.state.lock();
            state.appends += 1;
            state.faults.pop_front().unwrap_or(Fault::None)
        };
        let duplicate = {
            let mut state = self.state.lock();
            state.epochs = state.epochs.max(producer.epoch);
            let window = state.windows.entry(producer.id.clone()).or_default();
            if producer.epoch < window.epoch {
                return Err(refuse(Code::FailedPrecondition, "PRODUCER_FENCED", "no", None));
            }
            if producer.epoch > window.epoch {
                *window = Window { epoch: producer.epoch, ..Window::default() };
            }
            window.appended.get(&producer.sequence).copied()
        };
        if let Fault::Refuse { code, reason, applied, retry } = fault {
            return Err(refuse(code, reason, applied, retry));
        }
        if matches!(fault, Fault::Swallow) {
            return Err(Status::cancelled("swallow"));
        }
        let (first_offset, count) = match duplicate {
            Some(range) => {
                self.state.lock().duplicates += 1;
                range
            }
            None => {
                let next = self.state.lock().windows[&producer.id].next;
                if producer.sequence != next {
                    return Err(refuse(Code::FailedPrecondition, "SEQUENCE_GAP", "no", None));
                }
                if let Some(expected) = request.expected_offset
                    && expected != self.state.lock().end
                {
                    return Err(refuse(Code::Aborted, "OFFSET_MISMATCH", "no", None));
                }
                let range = self.push(batch);
                let mut state = self.state.lock();
                let window = state.windows.get_mut(&producer.id).expect("created above");
                window.appended.insert(producer.sequence, range);
                window.next += 1;
                range
            }
        };
        if matches!(fault, Fault::AppendAndHangUp) {
            return Err(Status::cancelled("hang up"));
        }
        let range = v1::AppendedRange { partition: 0, first_offset, count, append_time: None };
        Ok(v1::AppendResponse {
            ranges: vec![range],
            product_id: "01PRODUCT".into(),
            durability: v1::Durability::Synced.into(),
            duplicate: duplicate.is_some(),
            ..Default::default()
        })
    }

    fn partition(&self, next_offset: u64) -> Vec<v1::PartitionState> {
        let durable_end = self.state.lock().end;
        vec![v1::PartitionState { partition: 0, next_offset, start_offset: 0, durable_end }]
    }
}

pub(crate) struct Service {
    shared: Arc<Shared>,
}

type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl RecordService for Service {
    type AppendStreamStream = Replies<v1::AppendStreamResponse>;
    type SubscribeStream = Replies<server_v1::SubscribeResponse>;

    async fn append(
        &self,
        request: Request<server_v1::AppendRequest>,
    ) -> Result<Response<v1::AppendResponse>, Status> {
        let mut request = request.into_inner();
        request
            .producer
            .get_or_insert(v1::Producer { id: vec![0; 16].into(), ..Default::default() });
        self.shared.append(request).map(Response::new)
    }

    async fn list_quarantined(
        &self,
        _request: Request<v1::ListQuarantinedRequest>,
    ) -> Result<Response<v1::ListQuarantinedResponse>, Status> {
        Err(Status::unimplemented("not part of this broker"))
    }

    async fn redrive_quarantined(
        &self,
        _request: Request<v1::RedriveQuarantinedRequest>,
    ) -> Result<Response<v1::RedriveQuarantinedResponse>, Status> {
        Err(Status::unimplemented("not part of this broker"))
    }

    async fn append_stream(
        &self,
        request: Request<Streaming<server_v1::AppendStreamRequest>>,
    ) -> Result<Response<Self::AppendStreamStream>, Status> {
        let application = request.metadata().get("meshlog-application").expect("always sent");
        let application = application.to_str().expect("text").to_owned();
        self.shared.state.lock().applications.push(application);
        self.shared.note(&request);
        let shared = self.shared.clone();
        let mut requests = request.into_inner();
        let (replies, receiver) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            // Sequences at which an earlier request of the producer failed.
            let mut failed: HashMap<Bytes, (u32, u64)> = HashMap::new();
            while let Some(Ok(request)) = requests.next().await {
                let append = request.append.expect("an append");
                let producer = append.producer.clone().expect("a producer");
                let waits_for = failed.get(&producer.id).copied();
                let outcome = match waits_for {
                    Some((epoch, sequence))
                        if producer.epoch == epoch && producer.sequence > sequence =>
                    {
                        Err(refuse(Code::Aborted, "PRECEDING_FAILED", "no", None))
                    }
                    _ => shared.append(append),
                };
                let outcome = match outcome {
                    Ok(response) => {
                        failed.remove(&producer.id);
                        Outcome::Appended(response)
                    }
                    Err(status) if status.message() == "hang up" => return,
                    Err(status) if status.message() == "swallow" => {
                        // Answers nothing any more, but lives.
                        while let Some(Ok(_)) = requests.next().await {}
                        return;
                    }
                    Err(status) => {
                        failed.entry(producer.id).or_insert((producer.epoch, producer.sequence));
                        let details = tonic_types::Status::decode(status.details());
                        Outcome::Error(details.expect("details"))
                    }
                };
                let result =
                    v1::AppendResult { request_id: request.request_id, outcome: Some(outcome) };
                let reply = v1::AppendStreamResponse { results: vec![result] };
                if replies.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        let replies = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn read(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<server_v1::ReadResponse>, Status> {
        self.shared.note(&request);
        Err(refuse(Code::NotFound, "PRODUCT_NOT_FOUND", "no", None))
    }

    async fn subscribe(
        &self,
        request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.shared.note(&request);
        let request = request.into_inner();
        let shared = self.shared.clone();
        let (end, mute, end_after) = {
            let mut state = shared.state.lock();
            state.subscriptions.push(request.clone());
            (state.end, state.mute, state.end_after)
        };
        let mut next = match request.start.and_then(|start| start.at) {
            Some(At::Positions(at)) => at.positions[0].offset,
            Some(At::Edge(edge)) if edge == i32::from(v1::StartEdge::Latest) => end,
            _ => 0,
        };
        if next > end {
            return Err(refuse(Code::OutOfRange, "OFFSET_OUT_OF_RANGE", "no", None));
        }
        let (replies, receiver) = tokio::sync::mpsc::channel(4);
        tokio::spawn(async move {
            let message = |batches, next| server_v1::SubscribeResponse {
                product_id: "01PRODUCT".into(),
                batches,
                partitions: shared.partition(next),
                notices: Vec::new(),
            };
            if replies.send(Ok(message(Vec::new(), next))).await.is_err() {
                return;
            }
            if mute {
                return replies.closed().await;
            }
            for _ in 0..end_after.unwrap_or(usize::MAX) {
                let grown = shared.grown.notified();
                let found = shared.state.lock().batches.iter().find_map(|(first, count, batch)| {
                    let until = first + u64::from(*count);
                    (next < until).then(|| (*first, *count, batch.clone()))
                });
                let reply = match found {
                    Some((base_offset, count, batch)) => {
                        let careless = shared.state.lock().careless;
                        let skip = if careless { 0 } else { (next - base_offset) as u32 };
                        next = base_offset + u64::from(count);
                        let stored = server_v1::StoredBatch {
                            base_offset,
                            count,
                            skip,
                            batch,
                            ..Default::default()
                        };
                        message(vec![stored], next)
                    }
                    None if request.stop_at_end => return,
                    None => {
                        tokio::select! {
                            () = grown => continue,
                            () = replies.closed() => return,
                            () = tokio::time::sleep(Duration::from_millis(500)) => {}
                        }
                        message(Vec::new(), next)
                    }
                };
                if replies.send(Ok(reply)).await.is_err() {
                    return;
                }
            }
        });
        let replies = tokio_stream::wrappers::ReceiverStream::new(receiver);
        Ok(Response::new(Box::pin(replies)))
    }

    async fn list_offsets(
        &self,
        _: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        Err(Status::unavailable("a proxy without our details"))
    }
}
