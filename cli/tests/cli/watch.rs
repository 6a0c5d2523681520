//! What those get who watch a broker: metrics, log lines, health, the service manager.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Process, TestBroker, command, root};

/// The body of an answer over HTTP/1.1, and its head.
pub fn get(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let body = match head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    (head.to_owned(), body)
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    text
}

/// A broker that has done something of everything, with the page about products.
fn busy() -> (TestBroker, String) {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), "[broker.metrics]\nper_product = true\n").unwrap();
    let broker = TestBroker::on(home);
    broker.planes();
    broker.run_with(&["produce", "fleet.planes"], "{\"tailnum\": 5}\n").fails(7, &[]);
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n2\n3\n").ok();
    broker.consume(&["sandbox.notes", "--as", "reader"]);
    broker.run(&["product", "show", "sandbox.none"]).fails(3, &[]);
    let (head, page) = get(&broker.address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    (broker, page)
}

/// Names of metrics on a page, as Prometheus stores them: without what histograms add.
fn names(page: &str) -> BTreeSet<String> {
    let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    typed.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn value(page: &str, series: &str) -> f64 {
    let line = page
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no `{series}` in {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_page_of_metrics_counts_what_happened() {
    let (broker, page) = busy();
    assert_eq!(value(&page, "meshlog_publish_records_total"), 3.0);
    assert_eq!(value(&page, "meshlog_fetch_records_total"), 3.0);
    assert!(value(&page, "meshlog_publish_bytes_total") > 3.0);
    let rejected = "meshlog_append_rejections_total{reason=\"SCHEMA_REJECTED\"}";
    assert!(value(&page, rejected) >= 1.0);
    let missing = "meshlog_rpc_server_duration_seconds_count\
                   {method=\"CatalogService/GetProduct\",code=\"NOT_FOUND\"}";
    assert!(value(&page, missing) >= 1.0);
    assert!(value(&page, "meshlog_log_sync_duration_seconds_count") >= 3.0);
    assert_eq!(value(&page, "meshlog_products"), 2.0);
    assert_eq!(value(&page, "meshlog_cursors"), 1.0);
    assert!(value(&page, "meshlog_disk_free_bytes") > 0.0);
    assert!(value(&page, "meshlog_connections") >= 1.0, "this one");
    assert_eq!(value(&page, "meshlog_subscriptions_active"), 0.0);
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 600, "{series}");

    let (_, products) = get(&broker.address, "/metrics/products");
    let notes = "meshlog_product_publish_records_total{product=\"sandbox.notes\"}";
    assert_eq!(value(&products, notes), 3.0);
    let lag = "meshlog_cursor_lag_records{cursor=\"reader\",product=\"sandbox.notes\"}";
    assert_eq!(value(&products, lag), 0.0);
}

#[test]
fn the_page_of_products_is_there_for_those_who_ask_for_it() {
    let broker = TestBroker::in_memory();
    let (_, page) = get(&broker.address, "/metrics/products");
    assert!(!page.contains("meshlog_"), "{page}");
}

#[test]
fn every_metric_is_described_and_every_description_is_of_a_metric() {
    let (broker, page) = busy();
    let (_, products) = get(&broker.address, "/metrics/products");
    let mut live = names(&page);
    live.extend(names(&products));
    let text = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut described = BTreeSet::new();
    for row in rows {
        let (name, rest) = row.split_once('`').unwrap();
        // What only some brokers have.
        if !rest.contains("(if there is one)") || live.contains(name) {
            described.insert(name.to_owned());
        }
    }
    let missing: Vec<_> = live.difference(&described).collect();
    let extra: Vec<_> = described.difference(&live).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not described: {missing:?}; gone: {extra:?}");
}

/// Every `meshlog_…` and `process_…` name in a text.
fn named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_metric = |word: &&str| word.starts_with("meshlog_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

#[test]
fn the_dashboard_and_the_alerts_use_metrics_that_there_are() {
    let (broker, page) = busy();
    let (_, products) = get(&broker.address, "/metrics/products");
    let mut live = names(&page);
    live.extend(names(&products));
    let described = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    for file in ["deploy/grafana/meshlog.json", "deploy/prometheus/alerts.yml"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let used = named_in(&text);
        assert!(used.len() > 10, "{file}: {used:?}");
        for name in used {
            let stem = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|stem| live.contains(*stem))
                .unwrap_or(&name);
            let is_conditional = described.lines().any(|line| {
                line.starts_with(&format!("| `{stem}`")) && line.contains("(if there is one)")
            });
            assert!(
                live.contains(stem) || is_conditional,
                "{file} uses {name}, which is not there"
            );
        }
    }
    let dashboard = std::fs::read_to_string(root().join("deploy/grafana/meshlog.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 10);
}

#[test]
fn log_lines_are_json_and_the_first_one_says_with_which_settings_it_runs() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = command(home.path());
    let data = home.path().join("data").display().to_string();
    serve.args(["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut process = Process::start(serve);
    let address = process.line().strip_prefix("listening on ").unwrap().to_owned();
    let (head, _) = get(&address, "/metrics");
    assert!(head.to_ascii_lowercase().contains("meshlog-request-id: "), "{head}");
    let archive = home.path().join("b.tar.zst").display().to_string();
    let backup = ["backup", "--to", &archive, "--server", &address];
    crate::harness::meshlog(home.path(), &backup).ok();
    process.signal(Signal::TERM);
    let outcome = process.wait();
    let lines: Vec<Value> =
        outcome.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let first = &lines[0];
    assert_eq!((&first["message"], &first["level"]), (&"starting".into(), &"INFO".into()));
    let settings: Value = serde_json::from_str(first["settings"].as_str().unwrap()).unwrap();
    assert_eq!(settings["storage"]["ring"], "64MiB");
    assert!(lines.iter().any(|line| line["message"] == "listening"), "{lines:?}");
    // What is said during a call is found by its id.
    let begins = lines.iter().find(|line| line["message"] == "a backup begins").unwrap();
    let id = begins["span"]["request_id"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{begins}");
}

#[test]
fn text_is_for_people() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--in-memory", "--listen", "127.0.0.1:0", "--log-format", "text"]);
    let mut process = Process::start(serve);
    process.line();
    process.signal(Signal::TERM);
    let outcome = process.wait();
    let first = outcome.stderr.lines().find(|line| line.contains("starting")).unwrap();
    assert!(first.contains("INFO") && serde_json::from_str::<Value>(first).is_err(), "{first}");
}

#[test]
fn health_ends_with_0_or_with_6() {
    let broker = TestBroker::in_memory();
    assert_eq!(broker.run(&["server", "health"]).ok(), "serving\n");
    let address = broker.address.clone();
    let (home, _) = broker.stopped();
    let args = ["server", "health", "--server", &address];
    crate::harness::meshlog(home.path(), &args).fails(6, &[]);
}

#[test]
fn the_service_manager_is_told_ready_alive_and_stopping() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--in-memory", "--listen", "127.0.0.1:0"]);
    serve.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    let mut process = Process::start(serve);
    let next = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let ready = next();
    let address = process.line().strip_prefix("listening on ").unwrap().to_owned();
    assert_eq!(ready, format!("READY=1\nSTATUS=listening on {address}"));
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1");
    }
    process.signal(Signal::TERM);
    let mut last = next();
    while last == "WATCHDOG=1" {
        last = next();
    }
    assert!(last.starts_with("STOPPING=1\n"), "{last}");
    process.wait().ok();
}

#[test]
fn a_broker_that_cannot_export_says_so_instead_of_being_silent() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&config).unwrap();
    let text = "[telemetry]\notlp_endpoint = \"http://127.0.0.1:1\"\n";
    std::fs::write(config.join("config.toml"), text).unwrap();
    if cfg!(feature = "otlp") {
        return;
    }
    let outcome = crate::harness::meshlog(home.path(), &["serve", "--in-memory"]);
    outcome.fails(2, &["cargo feature `otlp`"]);
}
