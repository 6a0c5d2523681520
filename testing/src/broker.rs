//! The broker of one test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_broker::config::ByteSize;
use meshlog_broker::{Broker, Caller, Config, edge};
use meshlog_client::{Client, ConsumedBatch, ConsumedRecord, Record};
use meshlog_proto::{server_v1, v1};
use meshlog_storage::Components;
use meshlog_storage::disk::{CrashPlan, Disk, MemoryDisk, OsDisk, SimulatedDisk};
use parking_lot::Mutex;
use prost::Message as _;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::builder::TestBrokerBuilder;
use crate::clock::TestClock;
use crate::disk::TestDisk;
use crate::host::Host;
use crate::network::{TestConnector, TestNetwork, Upstream};
use crate::product::ProductBuilder;

/// Bytes that a disk in memory may hold.
const CAPACITY: u64 = 1 << 30;
/// The name that the helpers below call under.
const APPLICATION: &str = "test";

/// A broker of its own for one test.
///
/// All methods take `&self`, so a fixture can share it. Dropping it ends everything before `drop`
/// returns, a few milliseconds later.
pub struct TestBroker {
    host: Host,
    inside: Arc<Inside>,
    address: Option<SocketAddr>,
}

struct Inside {
    config: Config,
    has_port: bool,
    disk: TestDisk,
    clock: TestClock,
    network: TestNetwork,
    data: Mutex<Data>,
    running: Mutex<Option<Running>>,
    /// Held by a restart, crash or reset.
    changing: tokio::sync::Mutex<()>,
}

/// Where a builder wants the data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Medium {
    Memory,
    Temporary,
    Simulated,
    /// In the settings' directory.
    Named,
}

/// Where the data is.
enum Data {
    Memory,
    Temporary(TempDir),
    Simulated(SimulatedDisk),
    Named(PathBuf),
}

/// What runs between two starts.
struct Running {
    broker: Broker,
    server: Option<Server>,
}

struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<meshlog_broker::Result<()>>,
}

/// What happens to a broker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Restart,
    Crash,
    Reset,
}

impl TestBroker {
    /// In memory, without a port: the fastest.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// As the test wants it.
    pub fn builder() -> TestBrokerBuilder {
        let mut config = Config::default();
        // A disk of the test's becomes full after less than a megabyte.
        config.storage.file_min = ByteSize(256 << 10);
        TestBrokerBuilder { config, medium: Medium::Memory, has_port: false }
    }

    pub(crate) async fn start_as(builder: TestBrokerBuilder) -> Self {
        let host = Host::start();
        let network = TestNetwork::new(host.handle().clone());
        let inside = Arc::new(Inside {
            data: Mutex::new(Data::new(builder.medium, &builder.config)),
            config: builder.config,
            has_port: builder.has_port,
            disk: TestDisk::new(),
            clock: TestClock::new(),
            network,
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        });
        let starting = Arc::clone(&inside);
        let address = host.run(async move {
            let address = match starting.has_port {
                true => Some(starting.listen().await),
                false => None,
            };
            starting.open().await;
            address
        });
        let address = address.await;
        Self { host, inside, address }
    }

    /// Where it listens. Stays the same over restarts.
    ///
    /// # Panics
    /// If it was built without [`port`](TestBrokerBuilder::port).
    #[must_use]
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        let Some(address) = self.address else {
            panic!("this broker has no port; start it with TestBroker::builder().port()");
        };
        address
    }

    /// A client: over the port if there is one, otherwise inside the process, without a socket.
    ///
    /// # Panics
    /// If it cannot connect; a test that disturbs connections makes its clients before.
    pub async fn client(&self) -> Client {
        let client = match self.address {
            Some(address) => Client::connect(address.to_string()).await,
            None => Client::over(self.connector()).await,
        };
        let client = client.expect("a client connects to the broker of the test");
        // A connection may be made and not yet taken; from here on it counts as open.
        client.catalog().server_info().await.expect("the broker of the test answers");
        client
    }

    /// Connects clients with settings of their own: `Client::over_with(broker.connector(), config)`.
    #[must_use]
    pub fn connector(&self) -> TestConnector {
        TestConnector { network: self.inside.network.clone() }
    }

    /// The embedded API of the broker that runs now; a restart makes another one.
    #[must_use]
    pub fn broker(&self) -> Broker {
        self.inside.broker().expect("it runs from the start to the end of the test")
    }

    /// Its disk: failing, full or slow.
    #[must_use]
    pub fn disk(&self) -> &TestDisk {
        &self.inside.disk
    }

    /// Its connections: cut, refused or slow.
    #[must_use]
    pub fn network(&self) -> &TestNetwork {
        &self.inside.network
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self) -> &TestClock {
        &self.inside.clock
    }

    /// Stops it in order and starts it again, as `systemctl restart` does: streams are told where to
    /// resume, calls under way finish. What is on disk stays; in memory everything is gone. The disk
    /// is no longer slow or about to fail; if it is full, it stays full.
    ///
    /// # Panics
    /// If it cannot be opened again.
    pub async fn restart(&self) {
        self.change(Change::Restart).await;
    }

    /// Cuts the power and starts again: connections break, and of the disk only what was synced is
    /// left. As after a [`restart`](Self::restart), the disk is no longer slow or about to fail.
    ///
    /// # Panics
    /// Without [`on_simulated_disk`](TestBrokerBuilder::on_simulated_disk).
    pub async fn crash(&self) {
        let is_simulated = matches!(*self.inside.data.lock(), Data::Simulated(_));
        assert!(
            is_simulated,
            "only the simulated disk can lose power; start the broker with \
             TestBroker::builder().on_simulated_disk()"
        );
        self.change(Change::Crash).await;
    }

    /// Makes it as new, at the same address: connections are cut; records, products and disturbances
    /// are gone; the clock runs with the machine's.
    ///
    /// # Panics
    /// On a directory that the settings name, which is not the test's to empty.
    pub async fn reset(&self) {
        self.change(Change::Reset).await;
    }

    /// Creates a product, its domain and its owner.
    ///
    /// # Panics
    /// If that is refused, with the broker's sentence.
    pub async fn create(&self, product: ProductBuilder) -> v1::Product {
        let broker = self.broker();
        let created = broker.catalogue().create_product(&caller(), product.request()).await;
        match created {
            Ok(created) => created.product.expect("an answer has it"),
            Err(error) => panic!("the product of the test cannot be created: {error}"),
        }
    }

    /// Appends records as one batch, past the network.
    ///
    /// # Panics
    /// If that is refused, with the broker's sentence.
    pub async fn append(
        &self,
        product: &str,
        records: impl IntoIterator<Item = Record>,
    ) -> v1::AppendResponse {
        let records = records.into_iter().map(|record| v1::Record {
            key: record.key,
            value: record.value,
            headers: record
                .headers
                .into_iter()
                .map(|header| v1::Header { name: header.name, value: header.value })
                .collect(),
            event_time_unix_nano: record.event_time_unix_nano,
        });
        let batch = v1::RecordBatch { records: records.collect() };
        let request = server_v1::AppendRequest {
            product: product.to_owned(),
            batch: vec![Bytes::from(batch.encode_to_vec())],
            ..server_v1::AppendRequest::default()
        };
        match self.broker().append(&caller(), request).await {
            Ok(appended) => appended,
            Err(error) => panic!("the records of the test cannot be appended: {error}"),
        }
    }

    /// All records of a product, by partition and offset, past the network.
    ///
    /// # Panics
    /// If they cannot be read, with the broker's sentence.
    pub async fn records(&self, product: &str) -> Vec<ConsumedRecord> {
        let broker = self.broker();
        let mut records = Vec::new();
        let mut request =
            v1::ReadRequest { product: product.to_owned(), ..v1::ReadRequest::default() };
        loop {
            let read = match broker.read(&caller(), request.clone()).await {
                Ok(read) => read,
                Err(error) => panic!("the records of the test cannot be read: {error}"),
            };
            for batch in read.batches {
                let batch = ConsumedBatch::from(batch);
                records.extend(batch.records().map(|record| record.expect("a record decodes")));
            }
            if read.partitions.iter().all(|at| at.next_offset >= at.durable_end) {
                break;
            }
            let next = read.partitions.iter();
            let next =
                next.map(|at| v1::Position { partition: at.partition, offset: at.next_offset });
            let positions = v1::Positions { positions: next.collect() };
            request.start = Some(v1::Start { at: Some(v1::start::At::Positions(positions)) });
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// The values of [`TestBroker::records`] as text; a tombstone is empty.
    ///
    /// # Panics
    /// As [`TestBroker::records`].
    pub async fn values(&self, product: &str) -> Vec<String> {
        let records = self.records(product).await;
        let value = |record: ConsumedRecord| record.record.value.unwrap_or_default();
        let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
        records.into_iter().map(value).map(text).collect()
    }

    async fn change(&self, change: Change) {
        let inside = Arc::clone(&self.inside);
        self.host.run(async move { inside.change(change).await }).await;
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        // Nothing here waits for the test's own tasks, which cannot run meanwhile.
        self.inside.network.go_down();
        self.inside.network.cut();
        self.inside.disk.reset();
        self.inside.clock.wakes(None);
        if let Some(running) = self.inside.running.lock().take() {
            self.host.end(running.broker);
        }
    }
}

impl std::fmt::Debug for TestBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestBroker").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Inside {
    fn broker(&self) -> Option<Broker> {
        self.running.lock().as_ref().map(|running| running.broker.clone())
    }

    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port of 127.0.0.1");
        let address = listener.local_addr().expect("a bound listener has an address");
        tokio::spawn(self.network.clone().listen(listener));
        address
    }

    async fn change(&self, change: Change) {
        let _changing = self.changing.lock().await;
        self.network.go_down();
        if change != Change::Restart {
            self.network.cut();
        }
        if change == Change::Crash
            && let Data::Simulated(disk) = &*self.data.lock()
        {
            disk.cut_power();
        }
        self.disk.calm();
        self.stop().await;
        self.network.cut();
        if change == Change::Reset {
            self.disk.reset();
            self.network.reset();
            self.clock.reset();
        }
        self.data.lock().change(change);
        self.open().await;
    }

    /// Closes what runs; it stays in place, closed, until the next one is open.
    async fn stop(&self) {
        let (broker, server) = match &mut *self.running.lock() {
            Some(running) => (running.broker.clone(), running.server.take()),
            None => return,
        };
        self.clock.wakes(None);
        if let Some(server) = server {
            drop(server.stop);
            // A drain that fails shows in what the clients see.
            drop(server.task.await);
        }
        // What could not be written here, the next opening recovers.
        let _ = broker.close().await;
    }

    async fn open(&self) {
        let (disk, directory) = self.data.lock().disk();
        let config = Config { data_dir: directory, ..self.config.clone() };
        let disk = self.disk.over(disk);
        let clock = Arc::new(self.clock.clone());
        let opening = tokio::task::spawn_blocking(move || {
            Broker::open_with(config, |codec, observer| Components {
                disk,
                clock,
                ..Components::on_disk(codec, observer)
            })
        });
        let broker = match opening.await.expect("opening does not panic") {
            Ok(broker) => broker,
            Err(error) => panic!("the broker of the test cannot be opened: {error}"),
        };
        let mut upstream = Upstream { local: broker.local_connector(), port: None };
        let mut server = None;
        if self.has_port {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            upstream.port = Some(listener.local_addr().expect("a bound listener has an address"));
            let (stop, stopped) = oneshot::channel::<()>();
            let task = tokio::spawn(edge::serve(broker.clone(), listener, async move {
                // A dropped sender stops the server as well.
                let _dropped = stopped.await;
            }));
            server = Some(Server { stop, task });
        }
        let woken = broker.clone();
        self.clock.wakes(Some(Arc::new(move || woken.wake())));
        *self.running.lock() = Some(Running { broker, server });
        self.network.come_up(upstream);
    }
}

impl Data {
    fn new(medium: Medium, config: &Config) -> Self {
        match (medium, &config.data_dir) {
            (Medium::Memory, _) => Self::Memory,
            (Medium::Simulated, _) => Self::Simulated(SimulatedDisk::new(CAPACITY)),
            (Medium::Named, Some(directory)) => Self::Named(directory.clone()),
            (Medium::Temporary | Medium::Named, _) => Self::temporary(),
        }
    }

    fn temporary() -> Self {
        let named = tempfile::Builder::new().prefix("meshlog-test-").tempdir();
        Self::Temporary(named.expect("a temporary directory can be made"))
    }

    fn change(&mut self, change: Change) {
        match (&mut *self, change) {
            (Self::Simulated(disk), Change::Crash) => {
                *disk = disk.after_crash(CrashPlan::KeepNothing);
            }
            (Self::Simulated(disk), Change::Reset) => *disk = SimulatedDisk::new(CAPACITY),
            (Self::Temporary(_), Change::Reset) => *self = Self::temporary(),
            (Self::Named(directory), Change::Reset) => {
                panic!("{} is not the test's to empty", directory.display());
            }
            (_, Change::Restart | Change::Crash) | (Self::Memory, Change::Reset) => {}
        }
    }

    /// The disk, and the directory on it.
    fn disk(&self) -> (Arc<dyn Disk>, Option<PathBuf>) {
        match self {
            Self::Memory => (Arc::new(MemoryDisk::with_capacity(CAPACITY)), None),
            Self::Simulated(disk) => (Arc::new(disk.clone()), Some(PathBuf::from("/simulated"))),
            Self::Temporary(directory) => {
                (Arc::new(OsDisk::default()), Some(directory.path().to_owned()))
            }
            Self::Named(directory) => (Arc::new(OsDisk::default()), Some(directory.clone())),
        }
    }
}

fn caller() -> Caller {
    Caller::new(APPLICATION)
}
