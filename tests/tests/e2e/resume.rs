//! The Rust client and the broker while connections are cut at any byte under load: nothing is
//! lost, nothing is there twice, and the order holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use meshlog_broker::Broker;
use meshlog_client::{Client, ClientConfig, Record, StartAt};
use meshlog_tests::{TestBroker, product};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const PARTITIONS: u32 = 4;
const KEYS: u64 = 32;

/// Cuts each of the first connections after a random number of bytes of both directions together.
struct CuttingProxy {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl CuttingProxy {
    /// Cuts `cuts` connections after fewer than `most` bytes each, drawn from `seed`.
    async fn start(broker: SocketAddr, mut seed: u64, cuts: u64, most: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let task = tokio::spawn(async move {
            let mut relays = JoinSet::new();
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                // Xorshift: a failing run can be repeated from its seed.
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let budget = if connection < cuts { seed % most } else { u64::MAX };
                let counter = counter.clone();
                relays.spawn(async move {
                    if relay(client, broker, budget).await {
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { address, cuts: made, task }
    }

    fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// A client through the proxy, which may cut it while it is made. It never uses its own
    /// connection, only those of its producers and consumers.
    async fn client(&self) -> Client {
        loop {
            let config = ClientConfig { application: "resume".into(), ..ClientConfig::default() };
            if let Ok(client) = Client::connect_with(self.address.to_string(), config).await {
                return client;
            }
        }
    }
}

/// True if the connection was cut, false if an end closed it.
async fn relay(mut client: TcpStream, broker: SocketAddr, mut budget: u64) -> bool {
    let Ok(mut broker) = TcpStream::connect(broker).await else { return false };
    let (mut up, mut down) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    while budget > 0 {
        let (read, to, buffer) = tokio::select! {
            read = client.read(&mut up) => (read, &mut broker, &up),
            read = broker.read(&mut down) => (read, &mut client, &down),
        };
        let Ok(read @ 1..) = read else { return false };
        let allowed = read.min(usize::try_from(budget).unwrap_or(usize::MAX));
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return false;
        }
        budget -= allowed as u64;
    }
    true
}

fn record(number: u64) -> Record {
    Record::new(format!("{number:0>100}")).key(format!("key-{}", number % KEYS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_cuts_under_load_leave_no_gap_and_no_repeat() {
    const CUTS_EACH: u64 = 110;
    let broker = TestBroker::start().await;
    broker.create(product("ops.flights").partitions(PARTITIONS)).await;
    let writing = CuttingProxy::start(broker.address(), 0x5eed, CUTS_EACH, 600_000).await;
    let reading = CuttingProxy::start(broker.address(), 0xfeed, CUTS_EACH, 300_000).await;

    let builder = writing.client().await.producer("ops.flights").batch_bytes(4_000);
    let producer = builder.max_in_flight_bytes(400_000).build().unwrap();
    let client = reading.client().await;
    let mut consumer = client.consumer("ops.flights").from(StartAt::Earliest).build();

    let (said, total) = tokio::sync::oneshot::channel();
    let produce = async {
        let mut count = 0;
        // One connection of each client stays unused and so is never cut.
        while writing.cuts() + 2 < CUTS_EACH || reading.cuts() + 2 < CUTS_EACH {
            for _ in 0..100 {
                producer.push(&record(count)).await.unwrap();
                count += 1;
            }
            tokio::task::yield_now().await;
            assert!(count < 3_000_000, "cuts: {} and {}", writing.cuts(), reading.cuts());
        }
        producer.close().await.unwrap();
        said.send(count).unwrap();
        count
    };
    let consume = async {
        let mut total = total;
        let mut count = None;
        let mut read = 0;
        let mut next_offsets = BTreeMap::new();
        let mut last_of_key = BTreeMap::new();
        while count.is_none_or(|count| read < count) {
            let found = tokio::select! {
                found = consumer.next_record() => found.unwrap().unwrap(),
                said = &mut total, if count.is_none() => {
                    count = Some(said.unwrap());
                    continue;
                }
            };
            let next = next_offsets.entry(found.partition).or_insert(0);
            assert_eq!(found.offset, *next, "a gap or a repeat in partition {}", found.partition);
            *next += 1;
            let number: u64 =
                String::from_utf8_lossy(&found.record.value.clone().unwrap()).parse().unwrap();
            assert_eq!(found.record, record(number));
            // Every number of a key follows the one before: nothing lost, repeated or overtaken.
            let expected =
                last_of_key.get(&(number % KEYS)).map_or(number % KEYS, |last| *last + KEYS);
            assert_eq!(number, expected, "of key {}", number % KEYS);
            last_of_key.insert(number % KEYS, number);
            read += 1;
        }
        read
    };
    let both = async { tokio::join!(produce, consume) };
    let (sent, read) = tokio::time::timeout(Duration::from_secs(240), both).await.unwrap();
    assert_eq!(sent, read);
    let cuts = writing.cuts() + reading.cuts();
    assert!(cuts >= 200, "{cuts} cuts");
}

#[tokio::test]
async fn the_client_reads_back_what_it_appended_to_a_broker_in_the_same_process() {
    let broker = Broker::in_memory().unwrap();
    let client = Client::over(broker.local_connector()).await.unwrap();
    let catalog = client.catalog();
    catalog.create_product(product("ops.flights").partitions(PARTITIONS).request()).await.unwrap();

    let producer = client.producer("ops.flights").build().unwrap();
    let mut deliveries = Vec::new();
    for number in 0..5_000 {
        deliveries.push(producer.enqueue(&record(number)).await.unwrap());
    }
    let mut places = Vec::new();
    for delivery in deliveries {
        let ack = delivery.await.unwrap();
        places.push((ack.partition, ack.offset));
    }
    producer.close().await.unwrap();

    let mut consumer = client.consumer("ops.flights").stop_at_end(true).build();
    let mut found = BTreeMap::new();
    while let Some(one) = consumer.next_record().await.unwrap() {
        assert!(found.insert((one.partition, one.offset), one.record).is_none());
    }
    assert_eq!(found.len(), places.len());
    for (number, place) in places.iter().enumerate() {
        assert_eq!(found[place], record(number as u64), "an acknowledgement names the wrong place");
    }
    let refused = client.producer("ops.none").build().unwrap().send(record(0)).await.unwrap_err();
    assert_eq!(refused.reason(), "PRODUCT_NOT_FOUND");
}
