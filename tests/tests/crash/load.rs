//! Writers that append until the broker is gone, and a reader of everything.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshlog_proto::v1;
use meshlog_proto::v1::catalog_service_client::CatalogServiceClient;
use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::{append, positions, product, read, values};
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::Channel;

use crate::ledger::{Counted, Ledger, Writer, records};

/// The runtime of the writers.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Makes the products of a new directory.
pub(crate) fn create(runtime: &Runtime, channel: &Channel, ledger: &Ledger) {
    runtime.block_on(async {
        let mut catalog = CatalogServiceClient::new(channel.clone());
        for (name, partition) in ledger.partitions() {
            if partition == 0 {
                catalog.create_product(product(&name).partitions(2).request()).await.unwrap();
            }
        }
    });
}

/// Why an append was not acknowledged.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) applied: String,
}

impl Refusal {
    fn of(status: &Status) -> Self {
        let trailer = |name: &str| {
            let value = status.metadata().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        Self { reason: trailer("meshlog-reason"), applied: trailer("meshlog-applied") }
    }

    /// The connection went with the process.
    pub(crate) fn is_silence(&self) -> bool {
        self.reason.is_empty()
    }
}

/// One append of a writer, the last one again if nothing is known of it.
pub(crate) async fn append_once(
    client: &mut RecordServiceClient<Channel>,
    writer: &mut Writer,
) -> Result<(), Refusal> {
    let sequence = writer.next();
    let mut request = append(&writer.product).partition(writer.partition).producer(
        writer.number + 1,
        0,
        sequence,
    );
    for value in records(writer.number, sequence) {
        request = request.value(value);
    }
    let answer = client.append(request).await.map_err(|status| {
        let refusal = Refusal::of(&status);
        if refusal.applied == "no" {
            writer.refuse(sequence);
        }
        refusal
    })?;
    let answer = answer.into_inner();
    assert_eq!(answer.durability, i32::from(v1::Durability::Synced), "an answer before the sync");
    writer.acknowledge(sequence, answer.ranges[0].first_offset);
    Ok(())
}

/// Appends under way.
pub(crate) struct Load {
    tasks: Vec<tokio::task::JoinHandle<Writer>>,
    reader: tokio::task::JoinHandle<()>,
    seen: Arc<Mutex<Ledger>>,
    stop: Arc<AtomicBool>,
    pub(crate) acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// Every writer appends until it is refused or stopped.
    pub(crate) fn start(runtime: &Runtime, channel: &Channel, ledger: &mut Ledger) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let seen = Arc::new(Mutex::new(Ledger {
            writers: Vec::new(),
            seen: std::mem::take(&mut ledger.seen),
        }));
        let partitions = ledger.partitions();
        let tasks = std::mem::take(&mut ledger.writers).into_iter().map(|mut writer| {
            let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
            let mut client = RecordServiceClient::new(channel.clone());
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match append_once(&mut client, &mut writer).await {
                        Ok(()) => drop(acknowledged.fetch_add(1, Ordering::Relaxed)),
                        Err(_) => break,
                    }
                }
                writer
            })
        });
        let tasks = tasks.collect();
        let mut client = RecordServiceClient::new(channel.clone());
        let (told, ended) = (Arc::clone(&seen), Arc::clone(&stop));
        let reader = runtime.spawn(async move {
            for (name, partition) in partitions.iter().cycle() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let request = v1::ReadRequest {
                    partitions: vec![*partition],
                    start: Some(v1::Start {
                        at: Some(v1::start::At::Edge(v1::StartEdge::Latest.into())),
                    }),
                    ..read(name)
                };
                let Ok(answer) = client.read(request).await else { return };
                for state in answer.into_inner().partitions {
                    let place = (name.clone(), state.partition);
                    let mut told = told.lock().unwrap();
                    let end = told.seen.entry(place).or_default();
                    *end = (*end).max(state.durable_end);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { tasks, reader, seen, stop, acknowledged }
    }

    /// Waits until every writer was refused.
    pub(crate) fn refused(&self) {
        let begun = std::time::Instant::now();
        while !self.tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            assert!(begun.elapsed() < Duration::from_secs(60), "writers are not refused");
            crate::server::pause(Duration::from_millis(5));
        }
    }

    /// Waits until all writers have ended: the broker is gone, or they are told to stop.
    pub(crate) fn finish(self, runtime: &Runtime, ledger: &mut Ledger) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            ledger.writers.push(runtime.block_on(task).unwrap());
        }
        runtime.block_on(self.reader).unwrap();
        ledger.seen = std::mem::take(&mut self.seen.lock().unwrap().seen);
    }
}

/// Reads every partition whole and holds it against the ledger.
pub(crate) fn check(runtime: &Runtime, channel: &Channel, ledger: &Ledger) -> Counted {
    let mut counted = Counted::default();
    for (name, partition) in ledger.partitions() {
        let all = runtime.block_on(read_whole(channel, &name, partition));
        counted += ledger.check(&name, partition, &all);
    }
    counted
}

async fn read_whole(channel: &Channel, name: &str, partition: u32) -> Vec<String> {
    let mut client = RecordServiceClient::new(channel.clone()).max_decoding_message_size(16 << 20);
    let mut all = Vec::new();
    loop {
        let request = v1::ReadRequest {
            partitions: vec![partition],
            start: Some(positions(&[(partition, all.len() as u64)])),
            max_bytes: 2 << 20,
            ..read(name)
        };
        let answer = client.read(request).await.unwrap_or_else(|status| {
            panic!("{name} partition {partition} cannot be read at {}: {status}", all.len())
        });
        let answer = answer.into_inner();
        if answer.batches.is_empty() {
            assert_eq!(answer.partitions[0].durable_end, all.len() as u64, "{name} has a hole");
            return all;
        }
        for batch in &answer.batches {
            let first = batch.base_offset + u64::from(batch.skip);
            assert_eq!(first, all.len() as u64, "{name} partition {partition}: a hole");
            all.extend(values(std::slice::from_ref(batch)));
        }
    }
}
