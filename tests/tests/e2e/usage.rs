use std::sync::Arc;
use std::time::Duration;

use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
use meshlog_storage::Components;
use meshlog_storage::disk::{CrashPlan, SimulatedDisk};
use meshlog_tests::{TestBroker, append, product, read, subscribe};
use tonic::Request;

/// A request of an application.
fn of<T>(application: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("meshlog-application", application.parse().unwrap());
    request
}

fn use_of(broker: &Broker, name: &str) -> v1::ProductUse {
    let request = v1::GetProductRequest { name: name.to_owned() };
    broker
        .catalogue()
        .get_product(&meshlog_broker::Caller::default(), request)
        .unwrap()
        .product
        .unwrap()
        .r#use
        .unwrap()
}

fn readers(broker: &Broker, name: &str) -> Vec<(String, u32)> {
    let live = use_of(broker, name).live_readers.into_iter();
    live.map(|one| (one.application, one.open_subscriptions)).collect()
}

fn open_on(disk: &Arc<SimulatedDisk>) -> Broker {
    let opened = Broker::open_with(Config::at("/simulated"), |codec, observer| Components {
        disk: disk.clone(),
        ..Components::on_disk(codec, observer)
    });
    opened.unwrap()
}

/// Who appended how much, as a crash would leave it.
fn stored(disk: &SimulatedDisk, name: &str) -> Vec<(String, u64)> {
    let image = Arc::new(disk.after_crash(CrashPlan::KeepNothing));
    let reopened = open_on(&image);
    let request = v1::GetLineageRequest {
        begin: Some(v1::get_lineage_request::Begin::Product(name.to_owned())),
        ..Default::default()
    };
    let graph =
        reopened.catalogue().get_lineage(&meshlog_broker::Caller::default(), request).unwrap();
    let edges = graph.edges.into_iter();
    edges.map(|edge| (edge.from.rsplit('/').next().unwrap().to_owned(), edge.records)).collect()
}

/// The journal's threads do not follow the paused clock.
#[expect(clippy::disallowed_methods, reason = "there is nothing to wait for: nothing may happen")]
fn let_threads_work(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

#[tokio::test]
async fn appends_reads_and_subscriptions_are_counted_for_whoever_makes_them() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(2)).await;
    let mut records = broker.records();
    let first = append("ops.a").partition(1).value("1").value("2").producer(7, 0, 0);
    assert!(!records.append(first.clone()).await.unwrap().into_inner().duplicate);
    assert!(records.append(first).await.unwrap().into_inner().duplicate);
    for values in [["1", "2"], ["3", "4"]] {
        let request = append("ops.a").partition(0).value(values[0]).value(values[1]);
        records.append(request).await.unwrap();
    }
    let used = use_of(&broker.broker(), "ops.a");
    assert_eq!((used.records_appended, used.records_read), (6, 0), "a duplicate counts once");
    assert!(used.last_append_time.is_some() && used.last_read_time.is_none());
    assert!(used.live_readers.is_empty());

    records.read(of("report", read("ops.a"))).await.unwrap();
    assert_eq!(use_of(&broker.broker(), "ops.a").records_read, 6);
    let from = meshlog_tests::positions(&[(0, 3), (1, 2)]);
    let middle = v1::ReadRequest { start: Some(from), ..read("ops.a") };
    records.read(of("report", middle)).await.unwrap();
    assert_eq!(use_of(&broker.broker(), "ops.a").records_read, 7, "skipped records do not count");
    records.read(read("ops.a")).await.unwrap();
    let names = [("report".to_owned(), 0), ("unknown".to_owned(), 0)];
    assert_eq!(readers(&broker.broker(), "ops.a"), names);

    let mut stream =
        records.subscribe(of("alerts", subscribe("ops.a"))).await.unwrap().into_inner();
    let mut seen = 0;
    while seen < 6 {
        let message = stream.message().await.unwrap().unwrap();
        seen += message.batches.iter().map(|batch| batch.count).sum::<u32>();
    }
    let used = use_of(&broker.broker(), "ops.a");
    assert_eq!(used.records_read, 19);
    assert_eq!(readers(&broker.broker(), "ops.a")[0], ("alerts".to_owned(), 1));
    drop(stream);
    for attempt in 0.. {
        if readers(&broker.broker(), "ops.a")[0] == ("alerts".to_owned(), 0) {
            break;
        }
        assert!(attempt < 500, "a subscription that is gone is no longer open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn counts_outlive_a_restart_and_go_with_their_product() {
    let directory = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    broker.create(product("ops.a")).await;
    broker.records().append(append("ops.a").value("1").value("2")).await.unwrap();
    broker.records().read(of("report", read("ops.a"))).await.unwrap();
    let before = use_of(&broker.broker(), "ops.a");
    broker.broker().close().await.unwrap();
    drop(broker);

    let broker = TestBroker::start_with(Config::at(directory.path())).await;
    assert_eq!(use_of(&broker.broker(), "ops.a"), before);
    broker.records().append(append("ops.a").value("3")).await.unwrap();
    assert_eq!(use_of(&broker.broker(), "ops.a").records_appended, 3);
    let delete = v1::DeleteProductRequest { name: "ops.a".to_owned(), ..Default::default() };
    broker.catalog().delete_product(delete).await.unwrap();
    broker.create(product("ops.a")).await;
    assert_eq!(use_of(&broker.broker(), "ops.a"), v1::ProductUse::default(), "a new product");
    broker.broker().close().await.unwrap();
}

#[tokio::test]
async fn counts_are_written_a_minute_after_they_changed_and_not_again_without_a_change() {
    let disk = Arc::new(SimulatedDisk::new(256 << 20));
    let broker = open_on(&disk);
    let created = product("ops.a").request();
    broker.catalogue().create_product(&Caller::default(), created).await.unwrap();
    let encoded = |value: &str| {
        let request = append("ops.a").value(value.to_owned()).request();
        prost::Message::encode_to_vec(&request)
    };
    let append = |value: &str| {
        let request = prost::Message::decode(&encoded(value)[..]).unwrap();
        let broker = broker.clone();
        async move { broker.append(&Caller::default(), request).await.unwrap() }
    };
    append("1").await;
    append("2").await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(50)).await;
    let uncounted = [("(not counted)".to_owned(), 2)];
    assert_eq!(stored(&disk, "ops.a"), uncounted, "a crash may lose whose they were, not how many");
    for attempt in 0.. {
        tokio::time::sleep(Duration::from_secs(11)).await;
        let_threads_work(10);
        if stored(&disk, "ops.a") == [("unknown".to_owned(), 2)] {
            break;
        }
        assert!(attempt < 100, "written after a minute");
    }
    let_threads_work(300);
    let calls = disk.calls();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let_threads_work(100);
    assert_eq!(disk.calls(), calls, "nothing changed, nothing is written");
    broker.close().await.unwrap();
}
