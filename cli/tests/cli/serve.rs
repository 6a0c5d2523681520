//! The life of a broker: ready, stopped, refused.

use std::net::TcpListener;

use rustix::process::Signal;

use crate::harness::{Process, TestBroker, command, run};

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
    run(serve, "").fails(2, &["0.0.0.0:0", "127.0.0.1"]);
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
