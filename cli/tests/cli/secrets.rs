//! What is secret is nowhere to be found: not in the log, an error, an answer about the broker, its
//! metrics or its audit log. The harness looks for the same words in what every other broker of this
//! test run has logged.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::process::Signal;

use crate::harness::{Outcome, PLANTED, TestBroker, files_with, meshlog, run, settings};

/// Where somebody could look. Payloads are read by those who may, so `consume` is not among them.
const PLACES: [&[&str]; 16] = [
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
    &["key", "list", "-o", "json"],
    &["access", "requests", "-o", "json"],
    &["access", "grants", "-o", "json"],
    &["whoami", "-o", "json"],
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
    broker.process.signal(Signal::TERM);
    let outcome = broker.process.wait();
    assert!(outcome.stderr.lines().count() > 20, "it was verbose: {}", outcome.stderr);
}

/// What nobody may find, and where they have looked.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    /// A key, of which the part behind its id is secret; gives the key.
    fn key(&mut self, key: &str) -> String {
        let secret = key.splitn(3, '_').nth(2).unwrap();
        assert_eq!(secret.len(), 43, "a whole key");
        self.0.push(secret.to_owned());
        key.to_owned()
    }

    /// The lines of a private key.
    fn pem(&mut self, path: &Path) -> String {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("PRIVATE KEY"), "{text}");
        let lines: Vec<_> = text.lines().filter(|line| !line.contains('-')).collect();
        assert!(!lines.is_empty());
        self.0.extend(lines.into_iter().map(str::to_owned));
        text
    }

    /// Neither as text nor as a list of its bytes, which is how libraries show what they cannot read.
    #[track_caller]
    fn are_not_in(&self, place: &str, text: &str) {
        for secret in &self.0 {
            let bytes = format!("{:?}", secret.as_bytes());
            let found = text.contains(secret) || text.contains(bytes.trim_matches(['[', ']']));
            assert!(!found, "{place} holds `{}…`", &secret[..6]);
        }
    }
}

/// A broker that encrypts, whose log tells all it can, and a key to it.
struct Guarded {
    broker: TestBroker,
    ca: String,
}

impl Guarded {
    fn run(&self, key: &str, args: &[&str]) -> Outcome {
        self.run_with(key, args, "")
    }

    fn run_with(&self, key: &str, args: &[&str], input: &str) -> Outcome {
        let mut command = self.broker.command(args);
        command.env("MESHLOG_TLS_CA", &self.ca).env("MESHLOG_KEY", key);
        run(command, input)
    }

    /// Has the files of TLS read again, and waits until the broker tells of them what is expected.
    fn reads_files_again(&self, key: &str, is_refused: bool) {
        self.broker.process.signal(Signal::HUP);
        let begun = Instant::now();
        loop {
            let info = self.run(key, &["server", "info", "-o", "json"]).ok();
            if info.contains("cannot be used for TLS") == is_refused {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{info}");
        }
    }
}

/// Asks over plain HTTP.
fn ask(address: &str, path: &str, authorization: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Authorization: {authorization}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Another last character.
fn wrong(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    [rest, if last == "A" { "E" } else { "A" }].concat()
}

#[test]
fn no_key_is_in_a_log_an_answer_the_audit_log_or_a_file_of_the_directory() {
    let mut secrets = Secrets::default();
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let (data, tls) = (path("data").display().to_string(), path("tls").display().to_string());
    meshlog(&home, &["tls", "init", &tls]).ok();
    let server_key = path("tls/server-key.pem");
    let good = secrets.pem(&server_key);
    let client_key = secrets.pem(&path("tls/client-key.pem"));
    secrets.pem(&path("tls/ca-key.pem"));
    let of_tls = format!(
        "[broker.tls]\ncertificate = \"{tls}/server.pem\"\nkey = {server_key:?}\nclient_ca = \"{tls}/ca.pem\"\n"
    );
    settings(home.path(), &of_tls);
    let admin = meshlog(&home, &["init", "--data-dir", &data]);
    let admin = secrets.key(admin.ok().trim_end());
    let mesh = Guarded { broker: TestBroker::verbose_on(home), ca: format!("{tls}/ca.pem") };
    let mut said = Vec::new();
    let mut hear = |outcome: Outcome| {
        said.push(outcome.stdout);
        said.push(outcome.stderr);
        outcome.code
    };

    // Keys that are good, limited, revoked and expired.
    let team = ["team", "create", "billing", "--contact", "b@nyc.example"];
    assert_eq!(hear(mesh.run(&admin, &team)), 0);
    let mut make = |args: &[&str]| {
        let create = ["key", "create", "--team", "billing", "-o", "json", "--description"];
        let create = [&create[..], &["planted-description"], args].concat();
        let made = mesh.run(&admin, &create).json();
        (made["id"].as_str().unwrap().to_owned(), secrets.key(made["secret"].as_str().unwrap()))
    };
    let (_, billing) = make(&[]);
    let (_, limited) = make(&["--permission", "discover"]);
    let (id, revoked) = make(&[]);
    let (_, short) = make(&["--expires", "1s"]);
    assert_eq!(hear(mesh.run(&admin, &["key", "revoke", &id, "--yes"])), 0);
    let begun = Instant::now();
    while hear(mesh.run(&short, &["whoami", "-o", "json"])) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not expire");
    }

    // What goes well, and what is refused.
    for key in [&admin, &billing] {
        let name = if *key == admin { "sandbox.notes" } else { "sandbox.more" };
        assert_eq!(hear(mesh.run(key, &["product", "create", name])), 0);
        assert_eq!(hear(mesh.run_with(key, &["produce", name], "1\n2\n")), 0);
        assert_eq!(hear(mesh.run(key, &["consume", name, "--as", "reader"])), 0);
        assert_eq!(hear(mesh.run(key, &["whoami", "-o", "json"])), 0);
    }
    let odd = format!("mlk_{}", &secrets.0[secrets.0.len() - 1]);
    let unknown = format!("mlk_{}{}", "0".repeat(26), &billing[30..]);
    let (guess, cut) = (wrong(&billing), &billing[..billing.len() - 1]);
    secrets.key(&guess);
    secrets.0.push(cut.splitn(3, '_').nth(2).unwrap().to_owned());
    for key in [revoked.as_str(), &short, &guess, &odd, &unknown, cut, "two words"] {
        for args in [&["whoami", "-o", "json"][..], &["consume", "sandbox.notes"]] {
            assert_ne!(hear(mesh.run(key, args)), 0, "{args:?}");
        }
    }
    let more = ["key", "create", "--admin", "-o", "json"];
    assert_eq!(hear(mesh.run(&billing, &more)), 5);
    assert_eq!(hear(mesh.run_with(&limited, &["produce", "sandbox.notes"], "3\n")), 5);
    assert_eq!(hear(mesh.run(&limited, &["consume", "sandbox.notes"])), 5);
    for place in PLACES {
        hear(mesh.run(&admin, place));
    }
    hear(mesh.run(&admin, &["key", "list", "--ended", "-o", "json"]));
    hear(mesh.run(&limited, &["access", "check", "consume", "--product", "sandbox.notes"]));

    // Files that the broker cannot use, the key on one line among them, and one of a client.
    let one_line = good.trim_end().replace('\n', " ");
    for bad in [client_key.as_str(), &one_line, &good[..good.len() / 2]] {
        std::fs::write(&server_key, bad).unwrap();
        mesh.reads_files_again(&admin, true);
        hear(mesh.run(&admin, &["server", "info", "-o", "json"]));
        hear(mesh.run(&admin, &["doctor", "-o", "json"]));
        std::fs::write(&server_key, &good).unwrap();
        mesh.reads_files_again(&admin, false);
    }
    let squeezed = mesh.broker.home.path().join("one-line.pem");
    std::fs::write(&squeezed, client_key.trim_end().replace('\n', " ")).unwrap();
    let client = ["whoami", "--tls-cert", &format!("{tls}/client.pem"), "--tls-key"];
    assert_ne!(
        hear(mesh.run(&admin, &[&client[..], &[&squeezed.display().to_string()]].concat())),
        0
    );

    // The same over HTTP, and where a key does not belong.
    let Guarded { mut broker, .. } = mesh;
    broker.process.signal(Signal::TERM);
    let first = broker.process.wait();
    settings(broker.home.path(), "[broker.metrics]\nper_product = true\n");
    let mut broker = TestBroker::verbose_on(broker.home);
    let bearer = |key: &str| format!("Bearer {key}");
    let records = "/v1/products/sandbox.notes/records";
    for path in [records, "/v1/products", "/metrics", "/metrics/products", "/openapi.json"] {
        let answer = ask(&broker.address, path, &bearer(&admin));
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        said.push(answer);
    }
    for authorization in [
        &bearer(&guess),
        &bearer(&revoked),
        &bearer(&odd),
        &format!("Basic {admin}"),
        &admin,
        &format!("Bearer {admin} {admin}"),
    ] {
        let answer = ask(&broker.address, records, authorization);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        said.push(answer);
    }
    for name in ["access_token", "key", "page_token"] {
        said.push(ask(&broker.address, &format!("/v1/products?{name}={admin}"), "none"));
        said.push(ask(&broker.address, &format!("/v1/products?{name}={admin}"), &bearer(&billing)));
    }
    broker.process.signal(Signal::TERM);
    let second = broker.process.wait();

    let logs = [("the log", first.stderr, 100), ("the second log", second.stderr, 8)];
    for (place, log, least) in logs {
        assert!(log.lines().count() > least, "it was verbose: {place}, {log}");
        assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""));
        for line in log.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        secrets.are_not_in(place, &log);
    }
    assert!(said.len() > 80);
    for text in &said {
        secrets.are_not_in("an answer", text);
    }
    let mut looked: Vec<Vec<u8>> = secrets.0.iter().map(|text| text.clone().into()).collect();
    looked.extend(secrets.0.iter().filter_map(|text| URL_SAFE_NO_PAD.decode(text).ok()));
    let data = Path::new(&data);
    assert_eq!(files_with(data, &looked), Vec::<PathBuf>::new());
    assert!(
        !files_with(data, &["planted-description"]).is_empty(),
        "this is how it would be found"
    );
    assert!(said.iter().any(|text| text.contains("planted-description")));
}
