//! The life of a broker: ready, stopped, refused.

use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{Process, TestBroker, command, meshlog, run};

#[test]
fn the_first_line_says_where_and_sigterm_or_sigint_ends_with_zero() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = TestBroker::on_disk();
        assert!(broker.address.starts_with("127.0.0.1:"), "{}", broker.address);
        assert!(!broker.address.ends_with(":0"));
        broker.sandbox("sandbox.notes");
        broker.process.signal(signal);
        let outcome = broker.process.wait();
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let broker = TestBroker::on_disk();
    broker.planes();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n{\"a\": 2}\n").ok();
    let product = broker.run(&["product", "show", "fleet.planes", "-o", "json"]).ok();
    let schema = broker.run(&["schema", "show", "fleet.planes", "-o", "json"]).ok();
    let notes = broker.consume(&["sandbox.notes"]);

    let broker = broker.restart();
    assert_eq!(broker.run(&["product", "show", "fleet.planes", "-o", "json"]).ok(), product);
    assert_eq!(broker.run(&["schema", "show", "fleet.planes", "-o", "json"]).ok(), schema);
    assert_eq!(broker.consume(&["sandbox.notes"]), notes);
    broker.run_with(&["produce", "sandbox.notes"], "3\n").ok();
    assert_eq!(broker.consume(&["sandbox.notes", "-o", "raw"]), "1\n{\"a\": 2}\n3\n");
}

#[test]
fn a_killed_broker_loses_nothing_that_was_acknowledged() {
    let mut broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n2\n3\n").ok();
    broker.process.signal(Signal::KILL);
    broker.process.wait();
    let data = broker.home.path().join("data");
    let mut again = command(broker.home.path());
    again.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
    let mut process = Process::start(again);
    broker.address = process.line().strip_prefix("listening on ").unwrap().to_owned();
    assert_eq!(broker.consume(&["sandbox.notes", "-o", "raw"]), "1\n2\n3\n");
}

#[test]
fn a_port_in_use_is_named_and_leaves_no_directory_behind() {
    let home = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = home.path().join("data");
    let mut serve = command(home.path());
    serve.args(["serve", "--listen", &address, "--data-dir"]).arg(&data);
    run(serve, "").fails(1, &[&address, "in use", "--listen"]);
    assert!(!data.exists());
}

#[test]
fn a_directory_that_another_broker_has_is_refused() {
    let broker = TestBroker::on_disk();
    let data = broker.home.path().join("data").display().to_string();
    let mut serve = command(broker.home.path());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir", &data]);
    run(serve, "").fails(1, &[&data]);
    broker.sandbox("sandbox.still-serving");
}

#[test]
fn a_directory_of_another_version_is_refused_and_left_alone() {
    let mut broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    broker.process.signal(Signal::TERM);
    broker.process.wait().ok();
    let data = broker.home.path().join("data");
    let format = data.join("meshlog.format");
    let ours = std::fs::read_to_string(&format).unwrap();
    let theirs = ours.replace("version 3", "version 99");
    assert_ne!(ours, theirs);
    std::fs::write(&format, &theirs).unwrap();
    let mut serve = command(broker.home.path());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
    run(serve, "").fails(1, &["99", "2", &data.display().to_string()]);
    assert_eq!(std::fs::read_to_string(&format).unwrap(), theirs);
    std::fs::write(&format, ours).unwrap();
    let broker = TestBroker::on(broker.home);
    broker.run(&["product", "show", "sandbox.notes"]).ok();
}

#[test]
fn followers_do_not_hold_up_the_end_and_find_the_broker_again() {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n").ok();
    let follow = ["consume", "sandbox.notes", "--follow", "-o", "raw"];
    let mut follow = Process::start(broker.command(&follow));
    assert_eq!(follow.line(), "1");
    let broker = broker.restart_on_the_same_port();
    broker.run_with(&["produce", "sandbox.notes"], "2\n").ok();
    assert_eq!(follow.line(), "2");
    follow.signal(Signal::INT);
    assert_eq!(follow.wait().code, 130);
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--in-memory", "--listen", "0.0.0.0:0"]);
    run(serve, "").fails(2, &["0.0.0.0:0", "tls.certificate", "127.0.0.1"]);
}

#[test]
fn a_lab_serves_everybody_and_is_warned() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--in-memory", "--listen", "0.0.0.0:0", "--insecure-allow-remote"]);
    let mut broker = Process::start(serve);
    let address = broker.line().strip_prefix("listening on ").unwrap().to_owned();
    let port = address.rsplit_once(':').unwrap().1;
    let server = format!("127.0.0.1:{port}");
    meshlog(&home, &["server", "info", "--server", &server]).ok();
    broker.signal(Signal::TERM);
    let outcome = broker.wait();
    assert!(outcome.stderr.contains("--insecure-allow-remote"), "{outcome:?}");
}

#[test]
fn a_lab_encrypts_its_connections_and_knows_its_clients() {
    let home = tempfile::tempdir().unwrap();
    let tls = home.path().join("tls").display().to_string();
    let init = ["tls", "init", &tls, "--host", "broker.lab", "-o", "json"];
    let planned = meshlog(&home, &[&init[..], &["--dry-run"]].concat()).json();
    assert!(!home.path().join("tls").exists(), "a dry run makes nothing");
    let made = meshlog(&home, &init).json();
    assert_eq!(
        (planned["hosts"].as_array(), &made["made"]),
        (made["hosts"].as_array(), &true.into())
    );
    meshlog(&home, &init).fails(4, &["ca.pem", "--replace"]);
    let file = |key: &str| made[key].as_str().unwrap().to_owned();
    let settings = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&settings).unwrap();
    let config = format!(
        "[broker.tls]\ncertificate = {:?}\nkey = {:?}\nclient_ca = {:?}\n\
         require_client_certificate = true\n",
        file("certificate"),
        file("key"),
        file("ca")
    );
    std::fs::write(settings.join("config.toml"), config).unwrap();
    let mut serve = command(home.path());
    // Encrypted and with known clients it may be any address.
    serve.args(["serve", "--in-memory", "--listen", "0.0.0.0:0"]);
    let mut broker = Process::start(serve);
    let address = broker.line().strip_prefix("listening on ").unwrap().to_owned();
    let server = format!("localhost:{}", address.rsplit_once(':').unwrap().1);
    let info = ["server", "info", "-o", "json", "--server", &server];
    let (ca, cert, key) = (file("ca"), file("client_certificate"), file("client_key"));
    let shown = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    assert_eq!(meshlog(&home, &[&info[..], &shown[..]].concat()).json()["api_version"], "v1");
    // Who is not known, or does not know the broker, gets nothing.
    assert_ne!(meshlog(&home, &[&info[..], &shown[..2]].concat()).code, 0);
    meshlog(&home, &["server", "info", "--server", &format!("https://{server}")])
        .fails(5, &["--tls-ca"]);
    let context = ["config", "context", "add", "lab", "--server", &server, "--use"];
    meshlog(&home, &[&context[..], &shown[..]].concat()).ok();
    meshlog(&home, &["server", "info"]).ok();
    broker.signal(Signal::HUP);
    meshlog(&home, &["server", "info"]).ok();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().code, 0);
}

#[test]
fn a_file_where_the_directory_should_be_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&file);
    run(serve, "").fails(1, &[&file.display().to_string()]);
}

#[test]
fn without_a_directory_the_users_own_is_taken() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = command(home.path());
    serve.args(["serve", "--listen", "127.0.0.1:0"]).env("XDG_DATA_HOME", home.path().join("xdg"));
    let mut process = Process::start(serve);
    process.line();
    assert!(home.path().join("xdg/meshlog").is_dir());
    process.signal(Signal::TERM);
    process.wait().ok();
}

#[test]
fn the_log_says_where_a_tail_that_was_cut_off_can_go_on() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&config).unwrap();
    let settings = "[broker.http]\ntail_deadline = \"500ms\"\n";
    std::fs::write(config.join("config.toml"), settings).unwrap();
    let mut broker = TestBroker::on(home);
    broker.sandbox("sandbox.notes");
    // More than the buffers of two sockets hold.
    let line = format!("\"{}\"\n", "x".repeat(900_000));
    broker.run_with(&["produce", "sandbox.notes"], line.repeat(24)).ok();
    let mut tail = TcpStream::connect(&broker.address).unwrap();
    let request = format!(
        "GET /v1/products/sandbox.notes/records HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n\r\n",
        broker.address
    );
    tail.write_all(request.as_bytes()).unwrap();
    let open = || {
        let product = broker.run(&["product", "show", "sandbox.notes", "-o", "json"]).json();
        product["use"]["live_readers"].to_string().contains("\"open_subscriptions\":1")
    };
    let begun = Instant::now();
    while !open() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the tail does not begin");
    }
    while open() {
        assert!(begun.elapsed() < Duration::from_secs(40), "the tail is not cut off");
    }
    broker.process.signal(Signal::TERM);
    let log = broker.process.wait().stderr;
    let cut =
        log.lines().find(|line| line.contains("is cut off")).unwrap_or_else(|| panic!("{log}"));
    assert!(cut.contains("sandbox.notes") && cut.contains("\"resume\":\"0:"), "{cut}");
}
