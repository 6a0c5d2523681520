//! A team that needs what another one has: refused, asking, let in, and shown out again.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Outcome, Process, TestBroker, run};

/// A protected broker with `fleet.planes`, a key file of its owner, and one of another team.
struct Mesh {
    broker: TestBroker,
}

impl Mesh {
    fn start() -> Self {
        let broker = TestBroker::on_disk();
        broker.planes();
        broker.run(&["team", "create", "billing", "--contact", "b@nyc.example"]).ok();
        let mesh = Self { broker };
        mesh.key("admin", &["--admin"], None);
        mesh.key("owner", &["--team", "fleet-engineering"], Some("admin"));
        let report = ["--team", "billing", "--for-application", "nightly-report"];
        mesh.key("billing", &report, Some("admin"));
        mesh
    }

    /// Makes a key in the file `NAME.key`; gives its id.
    fn key(&self, name: &str, args: &[&str], by: Option<&str>) -> String {
        let file = self.file(name).display().to_string();
        let args = [&["key", "create", "--output-file", &file, "-o", "json"], args].concat();
        let made = match by {
            Some(by) => self.run(by, &args),
            None => self.broker.run(&args),
        };
        made.json()["id"].as_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.broker.home.path().join(format!("{name}.key"))
    }

    /// Runs a command with the key of somebody.
    #[track_caller]
    fn run(&self, who: &str, args: &[&str]) -> Outcome {
        self.run_with(who, args, "")
    }

    #[track_caller]
    fn run_with(&self, who: &str, args: &[&str], input: &str) -> Outcome {
        let mut command = self.broker.command(args);
        command.env("MESHLOG_KEY_FILE", self.file(who));
        run(command, input)
    }

    /// Follows `fleet.planes` with the key of somebody.
    fn follow(&self, who: &str) -> Process {
        let mut command =
            self.broker.command(&["consume", "fleet.planes", "--follow", "-o", "raw"]);
        command.env("MESHLOG_KEY_FILE", self.file(who));
        Process::start(command)
    }

    #[track_caller]
    fn waiting(&self, who: &str) -> Vec<Value> {
        let waiting = self.run(who, &["access", "requests", "-o", "json"]).json();
        waiting.as_array().unwrap().clone()
    }

    /// What a team may do with `fleet.planes`, as its owner asks.
    #[track_caller]
    fn may(&self, permission: &str, team: &str) -> Outcome {
        let check = ["access", "check", permission, "--product", "fleet.planes", "--team", team];
        self.run("owner", &[&check[..], &["-o", "json"]].concat())
    }
}

fn plane(number: u32) -> String {
    format!(
        "{{\"tailnum\":\"N1000{number}\",\"year\":1999,\"type\":\"Fixed wing multi engine\",\"manufacturer\":\"BOEING\",\"model\":\"737\",\"engines\":2,\"seats\":149,\"speed\":null,\"engine\":\"Turbo-fan\"}}\n"
    )
}

#[test]
fn a_team_asks_for_access_gets_it_and_loses_it_while_it_reads() {
    let mesh = Mesh::start();
    let produced = mesh.run_with("owner", &["produce", "fleet.planes"], &plane(1));
    produced.ok();
    mesh.run_with("billing", &["produce", "fleet.planes"], &plane(2)).fails(5, &["produce"]);

    // The refusal says what is missing and what to type.
    let refused = mesh.run("billing", &["consume", "fleet.planes"]);
    let suggestion = "meshlog product request-access fleet.planes --purpose TEXT";
    refused.fails(5, &["consume", "`fleet.planes`", suggestion]);
    mesh.run("billing", &["product", "show", "fleet.planes"]).ok();
    let ask = ["product", "request-access", "fleet.planes", "--purpose", "Invoice the seats"];
    let ask = [&ask[..], &["--expires", "30d"]].concat();
    let planned = mesh.run("billing", &[&ask[..], &["--dry-run"]].concat());
    assert!(planned.stderr.contains("nothing was changed"), "{planned:?}");
    assert!(mesh.waiting("owner").is_empty(), "a dry run asks nobody");
    let asked = mesh.run("billing", &[&ask[..], &["-o", "json"]].concat());
    assert!(asked.stderr.contains("fleet-engineering decides"), "{asked:?}");
    let asked = asked.json();
    assert_eq!((&asked["state"], &asked["permissions"]), (&json!("pending"), &json!(["consume"])));
    assert_eq!(asked["application"], "");

    // Who asks cannot decide.
    let id = asked["id"].as_str().unwrap();
    mesh.run("billing", &["access", "approve", id]).fails(5, &["manage"]);
    let waiting = mesh.waiting("owner");
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["purpose"], "Invoice the seats");
    let table = mesh.run("owner", &["access", "requests"]).ok();
    assert!(table.contains("Invoice the seats"), "{table}");
    let denied = mesh.may("consume", "billing");
    denied.fails(5, &["not allowed"]);
    let granted = mesh.run("owner", &["access", "approve", id, "-o", "json"]).json();
    assert_eq!((&granted["team"], &granted["request_id"]), (&json!("billing"), &json!(id)));
    assert_eq!(granted["expire_time"], asked["expire_time"], "for as long as was asked for");
    mesh.run("owner", &["access", "approve", id]).fails(4, &["approved"]);
    let allowed = mesh.may("consume", "billing").json();
    assert_eq!(allowed["allowed"], true);
    let grant = granted["id"].as_str().unwrap();
    assert!(allowed["reasons"].to_string().contains(grant), "{allowed}");

    // It reads, and the stream ends when the grant goes.
    let mut following = mesh.follow("billing");
    assert!(following.line().contains("N1"));
    mesh.run("owner", &["access", "revoke", grant]).fails(2, &["--yes"]);
    mesh.run("owner", &["access", "revoke", grant, "--yes"]).ok();
    following.wait().fails(5, &["consume", suggestion]);
    mesh.run("billing", &["consume", "fleet.planes"]).fails(5, &[suggestion]);
    let grants = mesh.run("owner", &["access", "grants", "-o", "json"]).json();
    assert_eq!(grants, json!([]));
    mesh.run("owner", &["access", "revoke", grant, "--yes"]).fails(3, &["access grants"]);
}

#[test]
fn an_owner_denies_with_a_reason_and_grants_without_a_request() {
    let mesh = Mesh::start();
    let ask = ["product", "request-access", "fleet.planes", "--purpose", "To look", "-o", "name"];
    let id = mesh.run("billing", &ask).ok();
    let id = id.trim_end();
    let deny = ["access", "deny", id, "--reason", "use fleet.summary", "-o", "json"];
    let denied = mesh.run("owner", &deny).json();
    assert_eq!(
        (&denied["state"], &denied["reason"]),
        (&json!("denied"), &json!("use fleet.summary"))
    );
    let mine = mesh.run("billing", &["access", "requests", "--decided", "-o", "json"]).json();
    assert_eq!(mine[0]["reason"], "use fleet.summary");
    mesh.run("owner", &["access", "deny", "no-such"]).fails(3, &["access requests"]);

    let give = ["access", "grant", "billing", "consume", "--product", "fleet.planes"];
    let planned = mesh.run("owner", &[&give[..], &["--dry-run"]].concat()).ok();
    assert!(planned.contains("billing"), "{planned}");
    mesh.may("consume", "billing").fails(5, &[]);
    mesh.run("owner", &[&give[..], &["--purpose", "by hand", "--expires", "1d"]].concat()).ok();
    mesh.run("billing", &["consume", "fleet.planes"]).ok();
    let grants = mesh.run("billing", &["access", "grants", "-o", "json"]).json();
    assert_eq!(
        (&grants[0]["on"], &grants[0]["purpose"]),
        (&json!("product fleet.planes"), &json!("by hand"))
    );
    // What is everybody's is for an administrator to give.
    let all = ["access", "grant", "*", "consume", "--everything"];
    mesh.run("owner", &all).fails(5, &["admin"]);
    mesh.run("admin", &all).ok();
    mesh.run("billing", &["whoami"]).ok();
}

#[test]
fn a_revoked_key_ends_what_is_open_and_a_limited_one_does_only_what_it_is_for() {
    let mesh = Mesh::start();
    let limits = ["--team", "fleet-engineering", "--permission", "produce"];
    mesh.key("loader", &[&limits[..], &["--product", "fleet.planes"]].concat(), Some("owner"));
    mesh.run_with("loader", &["produce", "fleet.planes"], &plane(1)).ok();
    mesh.run("loader", &["consume", "fleet.planes"]).fails(5, &["consume"]);

    let id = mesh.key("reader", &["--team", "fleet-engineering"], Some("owner"));
    let mut following = mesh.follow("reader");
    assert!(following.line().contains("N1"));
    mesh.run("owner", &["key", "revoke", &id, "--yes"]).ok();
    let revoked = Instant::now();
    following.wait().fails(5, &["revoked", &id]);
    let took = revoked.elapsed();
    assert!(took < Duration::from_secs(1), "the open stream ended after {took:?}");
    mesh.run("reader", &["consume", "fleet.planes"]).fails(5, &["revoked"]);
    // Who was refused stands in the audit log, and no secret does.
    let refused = mesh.run("admin", &["audit", "list", "--kind", "denial", "-o", "jsonl"]).ok();
    assert!(refused.contains("meshlog.v1.RecordService"), "{refused}");
    let key = std::fs::read_to_string(mesh.file("loader")).unwrap();
    let all = mesh.run("admin", &["audit", "list", "-o", "jsonl"]).ok();
    assert!(!all.contains(key.trim_end().splitn(3, '_').nth(2).unwrap()), "a secret was written");
}

#[test]
fn ids_are_completed_from_the_broker() {
    let mesh = Mesh::start();
    let ask = ["product", "request-access", "fleet.planes", "--purpose", "To look", "-o", "name"];
    let id = mesh.run("billing", &ask).ok();
    let offered = |who: &str, words: &[&str]| {
        let mut command = mesh.broker.command(&[]);
        command
            .env("MESHLOG_KEY_FILE", mesh.file(who))
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("_CLAP_IFS", "\n")
            .args(["--", "meshlog"])
            .args(words);
        run(command, "").ok()
    };
    assert_eq!(offered("owner", &["access", "approve", "01"]).trim_end(), id.trim_end());
    assert_eq!(offered("owner", &["access", "check", "con"]).trim_end(), "consume");
    let keys = offered("admin", &["key", "revoke", "01"]);
    assert_eq!(keys.lines().count(), 3, "{keys}");
}
