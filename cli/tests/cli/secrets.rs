//! What is secret is nowhere to be found: not in the log, an error, an answer about the broker, its
//! metrics or its audit log. The harness looks for the same words in what every other broker of this
//! test run has logged.

use crate::harness::{PLANTED, TestBroker};

/// Where somebody could look. Payloads are read by those who may, so `consume` is not among them.
const PLACES: [&[&str]; 12] = [
    &["server", "info", "-o", "json"],
    &["config", "show", "-o", "json"],
    &["audit", "list", "-o", "jsonl"],
    &["audit", "verify", "-o", "json"],
    &["product", "show", "sandbox.notes", "-o", "json"],
    &["product", "list", "-o", "json"],
    &["product", "retention", "sandbox.notes", "-o", "json"],
    &["cursor", "list", "-o", "json"],
    &["search", "notes", "-o", "json"],
    &["team", "list", "-o", "json"],
    &["doctor", "-o", "json"],
    &["server", "health"],
];

#[test]
fn what_is_planted_in_records_is_in_no_log_no_error_and_no_answer_about_the_broker() {
    let mut broker = TestBroker::verbose();
    broker.planes();
    broker.sandbox("sandbox.notes");
    let marker = PLANTED[0];
    let line = format!("{{\"value\": \"{marker}\", \"key\": \"{marker}\", \"headers\": []}}");
    broker.run_with(&["produce", "sandbox.notes", "--input", "envelope"], &line);
    broker.run_with(&["produce", "sandbox.notes"], format!("\"{marker}\"\n")).ok();
    assert!(
        broker.consume(&["sandbox.notes", "--as", "reader"]).contains(marker),
        "it was planted"
    );
    // A record that the schema refuses is described without its values.
    let refused = broker.run_with(
        &["produce", "fleet.planes"],
        format!("{{\"tailnum\": {{\"{marker}\": \"{marker}\"}}}}\n"),
    );
    assert_eq!(refused.code, 7, "{refused:?}");
    broker.run(&["consume", "sandbox.notes", "--from", "999"]);
    for place in PLACES {
        let outcome = broker.run(place);
        let text = format!("{}{}", outcome.stdout, outcome.stderr);
        PLANTED.iter().for_each(|secret| assert!(!text.contains(secret), "{place:?}: {text}"));
    }
    for page in ["/metrics", "/metrics/products"] {
        let (_, text) = crate::watch::get(&broker.address, page);
        PLANTED.iter().for_each(|secret| assert!(!text.contains(secret), "{page}"));
    }
    broker.process.signal(rustix::process::Signal::TERM);
    let outcome = broker.process.wait();
    assert!(outcome.stderr.lines().count() > 20, "it was verbose: {}", outcome.stderr);
}
