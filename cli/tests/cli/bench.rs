//! `meshlog bench`: what it says, and that nothing of it stays.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Process, TestBroker, command, meshlog, run};

/// Panics if a run left something in the broker.
#[track_caller]
fn assert_clean(broker: &TestBroker) {
    for noun in ["domain", "team", "product"] {
        let names = broker.run(&[noun, "list", "-o", "name"]).ok();
        assert!(!names.contains("meshlog-bench"), "{noun}: {names}");
    }
}

/// The figures of a run that succeeded and left nothing.
#[track_caller]
fn figures(broker: &TestBroker, args: &[&str]) -> Value {
    let figures = broker.run(&[&["bench"], args, &["-o", "json"]].concat()).json();
    assert_eq!(figures["mode"], args[0]);
    assert_clean(broker);
    figures
}

#[track_caller]
fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

/// Percentiles rise, and there are as many times as were counted.
#[track_caller]
fn assert_latency(figures: &Value, path: &str, count: f64) {
    let at = |name: &str| number(figures, &format!("{path}/latency_us/{name}"));
    assert_eq!(at("count"), count, "{figures:#}");
    let rising = ["p50", "p90", "p99", "p999", "p9999"].map(at);
    assert!(rising[0] > 1.0 && rising.is_sorted(), "{rising:?}");
    // The histogram keeps three digits.
    assert!(rising[4] <= at("max") * 1.001, "{rising:?}");
}

#[test]
fn appends_are_measured_on_both_sides_and_leave_nothing() {
    let broker = TestBroker::on_disk();
    let args = ["append", "--records", "2005", "--batch", "10", "--size", "100", "--products", "3"];
    let figures = figures(&broker, &[&args[..], &["--partitions", "2"]].concat());
    assert_eq!(number(&figures, "/append/records"), 2005.0);
    assert_eq!(number(&figures, "/append/appends"), 201.0);
    assert_eq!(number(&figures, "/append/bytes"), 200_500.0);
    assert_latency(&figures, "/append", 201.0);
    assert_eq!(figures["append"]["through"], "producers");
    assert_eq!(figures["storage"], "disk");
    assert_eq!(figures["own_broker"], false);
    // The broker is on this machine, so its costs are known.
    let syncs = number(&figures, "/costs/syncs");
    assert!((1.0..=500.0).contains(&syncs), "{syncs}");
    assert!(number(&figures, "/costs/client_cpu/seconds") > 0.0);
    assert!(number(&figures, "/costs/server_cpu/seconds_per_gigabyte") >= 0.0);
    assert!(number(&figures, "/costs/server_memory_bytes_after") > 1e6);
}

#[test]
fn reads_give_back_all_that_was_filled_in_for_each_reader() {
    let broker = TestBroker::in_memory();
    let args = ["read", "--records", "3000", "--batch", "50", "--readers", "2", "--products", "2"];
    let figures = figures(&broker, &args);
    // 3,000 records over two products, each read by two.
    assert_eq!(number(&figures, "/read/records"), 6000.0);
    assert_eq!(number(&figures, "/read/passes"), 4.0);
    assert_eq!(figures["storage"], "memory");
}

#[test]
fn latency_counts_every_record_until_it_is_acknowledged_and_received() {
    let broker = TestBroker::in_memory();
    let args = ["latency", "--rate", "500", "--records", "500", "--size", "64"];
    let figures = figures(&broker, &args);
    assert_latency(&figures, "/append", 500.0);
    assert_latency(&figures, "/delivery", 500.0);
    // The rate is kept: 500 records at 500 a second take a second.
    assert!(number(&figures, "/append/seconds") > 0.9, "{figures:#}");
    assert_eq!(number(&figures, "/append/unsent_records"), 0.0);
}

#[test]
fn a_rate_that_is_not_reached_is_said_and_charged() {
    let broker = TestBroker::in_memory();
    // One append of one record at a time cannot make ten million records a second.
    let args = ["append", "--rate", "10000000", "--batch", "1", "--in-flight", "1"];
    let figures = figures(&broker, &[&args[..], &["--duration", "500ms"]].concat());
    assert!(number(&figures, "/append/unsent_records") > 1000.0, "{figures:#}");
    // Whoever waits behind the others is charged for it: half a second in the end.
    let p99 = number(&figures, "/append/latency_us/p99");
    assert!(p99 > 200_000.0, "{p99}");
}

#[test]
fn fanout_delivers_every_record_to_every_reader() {
    let broker = TestBroker::in_memory();
    let args = ["fanout", "--readers", "5", "--records", "300", "--rate", "1000"];
    let figures = figures(&broker, &args);
    assert_latency(&figures, "/delivery", 1500.0);
    assert_eq!(number(&figures, "/delivery/readers"), 5.0);
}

#[test]
fn many_products_are_created_appended_to_and_removed() {
    let broker = TestBroker::in_memory();
    let figures = figures(&broker, &["products", "--products", "200", "--records", "1000"]);
    assert_eq!(number(&figures, "/creation/products"), 200.0);
    assert_eq!(number(&figures, "/append/records"), 1000.0);
    assert_eq!(number(&figures, "/one_product/records"), 1000.0);
    // More than have a connection each.
    assert_eq!(figures["append"]["through"], "calls");
}

#[test]
fn a_mixed_run_appends_delivers_and_reads_at_once() {
    let broker = TestBroker::in_memory();
    let args = ["mixed", "--products", "2", "--partitions", "2", "--rate", "2000"];
    let figures = figures(&broker, &[&args[..], &["--duration", "1s"]].concat());
    let appended = number(&figures, "/append/records");
    assert!(appended > 0.0);
    assert_eq!(number(&figures, "/delivery/records"), appended);
    assert!(number(&figures, "/read/records") > 0.0);
}

#[test]
fn the_limits_of_the_machine_stand_beside_the_figures() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let broker = TestBroker::on_disk();
    let place = broker.home.path().display().to_string();
    let args = ["bench", "append", "--records", "1000", "--limits", &place];
    let table = broker.run(&args).ok();
    assert_clean(&broker);
    for words in ["FIGURE", "until acknowledged", "of D", "of g", "G out", "CPU s/GB", "syncs"] {
        assert!(table.contains(words), "`{words}`: {table}");
    }
    // The probe is gone; only the data directory is there.
    let left = std::fs::read_dir(broker.home.path()).unwrap().count();
    assert_eq!(left, 1);
}

/// What runs of their own brokers left in a directory, and whether one of those still runs.
#[track_caller]
fn assert_gone(place: &std::path::Path) {
    let left: Vec<_> =
        std::fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let place = place.display().to_string();
    let running = std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.contains(&place))
    });
    assert!(!running, "a broker still runs in {place}");
}

#[test]
fn a_broker_of_the_runs_own_is_measured_and_gone_with_its_directory() {
    let (home, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = place.path().display().to_string();
    let args = ["bench", "append", "--records", "500", "--own", &own, "--no-limits", "-o", "json"];
    let figures = meshlog(&home, &args).json();
    assert_eq!(number(&figures, "/append/records"), 500.0);
    assert_eq!((&figures["own_broker"], &figures["storage"]), (&true.into(), &"disk".into()));
    assert_eq!(figures["limits"], Value::Null);
    assert!(number(&figures, "/costs/server_memory_bytes_after") > 1e6);
    assert_gone(place.path());
}

#[test]
fn where_no_broker_is_named_and_none_listens_one_is_started() {
    if std::net::TcpStream::connect("127.0.0.1:7420").is_ok() {
        eprintln!("SKIPPED: something listens at 127.0.0.1:7420");
        return;
    }
    let (home, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut bench = command(home.path());
    bench.args(["bench", "append", "--records", "100", "--no-limits"]).env("TMPDIR", place.path());
    let said = run(bench, "").fails(0, &["no broker listens at 127.0.0.1:7420", "--own DIR"]);
    assert!(said.contains(&place.path().display().to_string()), "{said}");
    assert_gone(place.path());
}

#[test]
fn beside_a_broker_of_the_runs_own_stand_the_limits_of_its_disk() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (home, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = place.path().display().to_string();
    let figures =
        meshlog(&home, &["bench", "append", "--records", "500", "--own", &own, "-o", "json"]);
    let figures = figures.json();
    assert!(number(&figures, "/limits/f_writes_per_second") > 1.0, "{figures:#}");
    let measured = figures.pointer("/limits/directory").and_then(Value::as_str).unwrap();
    assert!(measured.starts_with(&own), "{measured}");
    assert_gone(place.path());
}

#[test]
fn a_run_that_is_interrupted_takes_its_own_broker_with_it() {
    let (home, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut own = command(home.path());
    own.args(["bench", "append", "--duration", "60s", "--own"]).arg(place.path());
    let mut process = Process::start(own);
    // Its data directory is there once it runs.
    let serves = || {
        let made = std::fs::read_dir(place.path()).unwrap().flatten().next();
        made.is_some_and(|made| made.path().join("data").exists())
    };
    while !serves() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    process.signal(Signal::INT);
    let outcome = process.wait();
    assert_eq!(outcome.code, 130, "{outcome:#?}");
    assert_gone(place.path());
}

#[test]
fn a_broker_that_was_named_is_not_replaced_and_a_place_that_cannot_be_is_said() {
    let home = tempfile::tempdir().unwrap();
    let args = ["bench", "append", "--records", "1", "--server", "127.0.0.1:1"];
    meshlog(&home, &args).fails(6, &["127.0.0.1:1", "--server HOST:PORT"]);
    let args = ["bench", "append", "--records", "1", "--own", "/no/such/place"];
    meshlog(&home, &args).fails(1, &["/no/such/place", "--own DIR"]);
    let args = ["bench", "append", "--own", "--server", "127.0.0.1:1"];
    meshlog(&home, &args).fails(2, &["--own", "--server"]);
}

#[test]
fn an_error_after_the_products_were_made_removes_them() {
    let broker = TestBroker::in_memory();
    let args = ["bench", "append", "--records", "10", "--limits", "/no/such/directory"];
    broker.run(&args).fails(1, &["limits", "--limits DIR"]);
    assert_clean(&broker);
}

#[test]
fn nonsense_is_refused_before_anything_is_made() {
    let broker = TestBroker::in_memory();
    for (args, word) in [
        (&["append", "--batch", "0"][..], "--batch 0 appends nothing"),
        (&["append", "--batch", "100000", "--size", "1KiB"], "at most --batch"),
        (&["latency", "--size", "4"], "at least 8 bytes"),
        (&["append", "--rate", "-5"], "--rate"),
        (&["append", "--rate", "NaN"], "--rate"),
        (&["append", "--duration", "0s"], "measures nothing"),
        (&["append", "--in-flight", "0"], "--in-flight"),
        (&["products", "--products", "1"], "bench append"),
        (&["fanout", "--readers", "0"], "readers"),
        (&["append", "--records", "0"], "--records 0"),
    ] {
        broker.run(&[&["bench"], args].concat()).fails(2, &[word]);
    }
    assert_clean(&broker);
}

/// A run that would take a minute, once its product is there.
fn long_run(broker: &TestBroker) -> Process {
    let run = Process::start(broker.command(&["bench", "append", "--duration", "60s"]));
    while !broker.run(&["product", "list", "-o", "name"]).ok().contains("meshlog-bench") {}
    run
}

#[test]
fn a_run_that_is_interrupted_removes_what_it_made() {
    let broker = TestBroker::in_memory();
    for signal in [Signal::INT, Signal::TERM] {
        let mut run = long_run(&broker);
        run.signal(signal);
        let outcome = run.wait();
        assert_eq!(outcome.code, 130, "{outcome:#?}");
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("removing what the run made"), "{outcome:#?}");
        assert_clean(&broker);
    }
}

#[test]
fn a_run_that_is_interrupted_while_it_creates_removes_all_of_it() {
    let broker = TestBroker::in_memory();
    let args = ["bench", "products", "--products", "20000"];
    let mut run = Process::start(broker.command(&args));
    while !broker.run(&["product", "list", "-o", "name"]).ok().contains("product-1") {}
    run.signal(Signal::INT);
    assert_eq!(run.wait().code, 130);
    assert_clean(&broker);
}

#[test]
fn cleanup_removes_what_a_killed_run_left_and_nothing_else() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let mut run = long_run(&broker);
    run.signal(Signal::KILL);
    run.wait();
    let listed = broker.run(&["bench", "cleanup", "--dry-run"]).ok();
    assert!(listed.starts_with("meshlog-bench-"), "{listed}");
    broker.run(&["bench", "cleanup"]).fails(2, &["--yes"]);
    broker.run(&["bench", "cleanup", "--yes"]).fails(0, &["removed, with 1 product"]);
    assert_clean(&broker);
    assert!(broker.run(&["product", "list", "-o", "name"]).ok().contains("sandbox.notes"));
    broker.run(&["bench", "cleanup", "--yes"]).fails(0, &["no run left anything behind"]);
}
