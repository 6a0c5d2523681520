//! Keys: the first one, where commands find theirs, who one is, and what is never shown.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Outcome, Process, TestBroker, command, files_with, meshlog, run, settings};

const NOWHERE: [PathBuf; 0] = [];

/// A directory with a broker's first key in it, and the key.
fn initialised() -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data").display().to_string();
    let made = meshlog(&home, &["init", "--data-dir", &data]);
    assert!(made.stderr.contains("every call must say who makes it"), "{made:?}");
    (home, made.ok().trim_end().to_owned())
}

/// A command with a key in its environment.
fn with_key(broker: &TestBroker, key: &str, args: &[&str]) -> Outcome {
    let mut command = broker.command(args);
    command.env("MESHLOG_KEY", key);
    run(command, "")
}

fn private(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

#[test]
fn the_first_key_is_shown_once_and_closes_the_broker() {
    let (home, key) = initialised();
    assert!(key.starts_with("mlk_") && key.len() > 60, "{}", key.len());
    let data = home.path().join("data").display().to_string();
    // Nobody gets a second one by the way.
    meshlog(&home, &["init", "--data-dir", &data]).fails(4, &["--rescue"]);
    let broker = TestBroker::on(home);
    broker.run(&["product", "list"]).fails(5, &["--key-file", "MESHLOG_KEY"]);
    broker.run(&["server", "health"]).ok();
    with_key(&broker, &key, &["product", "list"]).ok();
    let who = with_key(&broker, &key, &["whoami", "-o", "json"]).json();
    assert_eq!((&who["admin"], &who["authenticated"]), (&json!(true), &json!(true)));
    let keys = with_key(&broker, &key, &["key", "list", "-o", "json"]);
    // A secret may have `_` in it.
    let secret = key.splitn(3, '_').nth(2).unwrap();
    assert!(!keys.stdout.contains(secret), "only its maker saw it");
    assert_eq!(keys.json()[0]["description"], "made by meshlog init");
    // A wrong key is as good as none, and is not repeated.
    let wrong = format!("{}A", &key[..key.len() - 1]);
    let wrong = if wrong == key { format!("{}B", &key[..key.len() - 1]) } else { wrong };
    let refused = with_key(&broker, &wrong, &["product", "list"]);
    assert!(!refused.stderr.contains(&secret[..20]), "it was repeated");
    refused.fails(5, &["no such key"]);
    // Nor does the directory hold it, neither as it was shown nor as the bytes that it stands for.
    let (_home, data) = broker.stopped();
    let bytes = URL_SAFE_NO_PAD.decode(secret).unwrap();
    assert_eq!(files_with(&data, &[secret.as_bytes(), &bytes]), NOWHERE);
    assert_ne!(files_with(&data, &["made by meshlog init"]), NOWHERE, "it looks");
}

#[test]
fn whoever_has_the_directory_can_make_a_key_when_all_are_lost() {
    let (home, lost) = initialised();
    let data = home.path().join("data").display().to_string();
    let file = home.path().join("rescue.key");
    let args = ["init", "--rescue", "--data-dir", &data, "--output-file"];
    let made = meshlog(&home, &[&args[..], &[&file.display().to_string()]].concat());
    assert!(!made.stdout.contains("mlk_") && !made.stderr.contains("mlk_"), "{made:?}");
    made.ok();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let broker = TestBroker::on(home);
    let file = file.display().to_string();
    let keys = broker.run(&["key", "list", "--key-file", &file, "-o", "json"]).json();
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_eq!(keys[1]["description"], "made by meshlog init --rescue");
    // The one that somebody else may have found is ended.
    let id = keys[0]["id"].as_str().unwrap();
    broker.run(&["key", "revoke", id, "--key-file", &file]).fails(2, &["--yes"]);
    broker.run(&["key", "revoke", id, "--key-file", &file, "--yes"]).ok();
    with_key(&broker, &lost, &["product", "list"]).fails(5, &["revoked", id]);
    broker.run(&["product", "list", "--key-file", &file]).ok();
    let all = broker.run(&["key", "list", "--ended", "--key-file", &file, "-o", "json"]).json();
    assert!(all[0]["revoke_time"].is_string() && all[1]["revoke_time"].is_null(), "{all}");
}

#[test]
fn a_broker_that_runs_gets_its_first_key_without_a_restart() {
    let broker = TestBroker::on_disk();
    let data = broker.home.path().join("data").display().to_string();
    meshlog(&broker.home, &["init", "--data-dir", &data]).fails(1, &["key create --admin"]);
    let who = broker.run(&["whoami"]);
    assert!(who.stderr.contains("asks nobody who it is"), "{who:?}");
    let who = broker.run(&["whoami", "-o", "json"]).json();
    assert_eq!(
        (&who["principal"], &who["authentication_required"]),
        (&json!("unverified:meshlog-cli"), &json!(false))
    );
    broker.run(&["team", "create", "billing", "--contact", "b@nyc.example"]).ok();
    broker.run(&["key", "create", "--team", "billing"]).fails(4, &["meshlog init"]);
    let admin = ["key", "create", "--admin"];
    broker.run(&[&admin[..], &["-o", "name"]].concat()).fails(2, &["--output-file"]);
    let planned = broker.run(&[&admin[..], &["--dry-run"]].concat());
    assert!(planned.stderr.contains("nothing was changed"), "{planned:?}");
    assert!(!planned.ok().contains("mlk_"));
    let file = broker.home.path().join("admin.key").display().to_string();
    let made = broker.run(&[&admin[..], &["--output-file", &file]].concat());
    assert!(made.stderr.contains("from now on"), "{made:?}");
    assert!(!made.ok().contains("mlk_"));
    broker.run(&["product", "list"]).fails(5, &["--key-file"]);
    broker.run(&["product", "list", "--key-file", &file]).ok();
    // What is there is not written over, and no key is made for it.
    let again = [&admin[..], &["--output-file", &file, "--key-file", &file]].concat();
    broker.run(&again).fails(4, &["admin.key"]);
    let keys = broker.run(&["key", "list", "--key-file", &file, "-o", "name"]).ok();
    assert_eq!(keys.lines().count(), 1, "{keys}");
}

#[test]
fn whoami_says_what_a_key_is_limited_to() {
    let (home, admin) = initialised();
    let broker = TestBroker::on(home);
    with_key(&broker, &admin, &["team", "create", "billing", "--contact", "b@nyc.example"]).ok();
    let create = [
        "key",
        "create",
        "--team",
        "billing",
        "--for-application",
        "report",
        "--permission",
        "consume",
        "--expires",
        "90d",
        "-o",
        "json",
    ];
    let made = with_key(&broker, &admin, &create).json();
    let key = made["secret"].as_str().unwrap();
    let who = with_key(&broker, key, &["whoami", "-o", "json"]).json();
    assert_eq!(who["principal"], format!("key:{}", made["id"].as_str().unwrap()));
    assert_eq!((&who["team"], &who["application"]), (&json!("billing"), &json!("report")));
    assert_eq!((&who["admin"], &who["limited_to"]), (&json!(false), &json!(["consume"])));
    assert_eq!(who["expire_time"], made["expire_time"]);
    // It can neither make keys that can do more, nor end those of others.
    let more = ["key", "create", "--team", "billing", "--permission", "produce"];
    assert_ne!(with_key(&broker, key, &more).code, 0);
    let other = with_key(&broker, &admin, &["key", "list", "-o", "json"]).json();
    let other = other[0]["id"].as_str().unwrap();
    with_key(&broker, key, &["key", "revoke", other, "--yes"]).fails(5, &["admin"]);
    // It can end itself.
    with_key(&broker, key, &["key", "revoke", made["id"].as_str().unwrap(), "--yes"]).ok();
    with_key(&broker, key, &["whoami"]).fails(5, &["revoked"]);
}

#[test]
fn a_key_comes_from_a_flag_the_environment_or_the_file_for_its_broker_alone() {
    let (home, admin) = initialised();
    let broker = TestBroker::on(home);
    let home = broker.home.path();
    let good = private(&home.join("good.key"), &format!("{admin}\n")).display().to_string();
    let bad = private(&home.join("bad.key"), "mlk_no\n").display().to_string();
    let list = ["product", "list"];
    let go = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = broker.command(&[&list[..], args].concat());
        command.envs(variables.iter().copied());
        run(command, "")
    };
    go(&["--key-file", &good], &[("MESHLOG_KEY", "mlk_no")]).ok();
    go(&[], &[("MESHLOG_KEY", &admin), ("MESHLOG_KEY_FILE", &bad)]).ok();
    go(&[], &[("MESHLOG_KEY_FILE", &good)]).ok();
    go(&["--key-file", &bad], &[("MESHLOG_KEY", &admin)]).fails(5, &["not a whole key"]);
    go(&[], &[("MESHLOG_KEY", "two words")]).fails(2, &["the key"]);

    // A context has its own, and it goes to no other broker.
    let mut add = command(home);
    let context = ["config", "context", "add", "lab", "--server", &broker.address, "--use"];
    add.args(context).args(["--key-file", "good.key"]).current_dir(home);
    run(add, "").ok();
    meshlog(home, &list).ok();
    let mut named = command(home);
    named.args(list).args(["--context", "lab"]).env("MESHLOG_KEY", "mlk_no");
    run(named, "").ok();
    go(&[], &[]).fails(5, &["--key-file"]);
    let shown = meshlog(home, &["config", "context", "show", "-o", "json"]).json();
    assert_eq!(shown["key_file"], good, "it is found from everywhere");

    // Where it is can be asked; what it is cannot.
    let config = |variables: &[(&str, &str)]| {
        let mut show = command(home);
        show.args(["config", "show", "-o", "json"]).envs(variables.iter().copied());
        let outcome = run(show, "");
        assert!(!outcome.stdout.contains("mlk_"), "the key is shown");
        let rows = outcome.json();
        let row = rows.as_array().unwrap().iter().find(|row| row["name"] == "key_file").cloned();
        row.map(|row| [row["value"].clone(), row["source"].clone()])
    };
    assert_eq!(config(&[]), Some([json!(good), json!("context lab")]));
    let hidden = config(&[("MESHLOG_KEY", &admin)]);
    assert_eq!(hidden, Some([json!("(hidden)"), json!("environment MESHLOG_KEY")]));
}

#[test]
fn a_key_file_that_others_can_read_is_told() {
    let (home, admin) = initialised();
    let broker = TestBroker::on(home);
    let path = private(&broker.home.path().join("a.key"), &admin);
    let args = ["product", "list", "--key-file", &path.display().to_string()];
    assert!(!broker.run(&args).stderr.contains("warning"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let warned = broker.run(&args);
    assert!(warned.stderr.contains("chmod 600"), "{warned:?}");
    warned.ok();
}

#[test]
fn with_certificates_and_keys_a_broker_serves_other_machines_and_without_keys_it_does_not() {
    let home = tempfile::tempdir().unwrap();
    let tls = home.path().join("tls").display().to_string();
    let made = meshlog(&home, &["tls", "init", &tls, "-o", "json"]).json();
    let file = |name: &str| made[name].as_str().unwrap().to_owned();
    let data = home.path().join("data");
    let config = format!(
        "[broker]\ndata_dir = {data:?}\n[broker.tls]\ncertificate = {:?}\nkey = {:?}\n",
        file("certificate"),
        file("key")
    );
    settings(home.path(), &config);
    let serve = || {
        let mut serve = command(home.path());
        serve.args(["serve", "--listen", "0.0.0.0:0"]);
        serve
    };
    run(serve(), "").fails(2, &["meshlog init", "who they are"]);
    let key = private(&home.path().join("admin.key"), &meshlog(&home, &["init"]).ok());
    let mut broker = Process::start(serve());
    let address = broker.line().strip_prefix("listening on ").unwrap().to_owned();
    let server = format!("localhost:{}", address.rsplit_once(':').unwrap().1);
    let (ca, key) = (file("ca"), key.display().to_string());
    let list = ["product", "list", "--server", &server, "--tls-ca", &ca];
    meshlog(&home, &list).fails(5, &["--key-file"]);
    meshlog(&home, &[&list[..], &["--key-file", &key]].concat()).ok();
    // To what may be another machine no key goes in the clear, unless one insists.
    let plain = address.replace("127.0.0.1", "0.0.0.0");
    let plain = ["product", "list", "--server", &plain, "--key-file", &key];
    meshlog(&home, &plain).fails(2, &["unencrypted", "--tls-ca", "--insecure-send-key"]);
    let insists = meshlog(&home, &[&plain[..], &["--insecure-send-key"]].concat());
    assert!(!insists.stderr.contains("unencrypted"), "{insists:?}");
    broker.signal(Signal::TERM);
    let ended = broker.wait();
    assert_eq!(ended.code, 0);
    assert!(!ended.stderr.contains("--insecure-allow-remote"), "{ended:?}");
}
