//! Flag, environment, file, default; wrong usage.

use std::path::Path;

use tempfile::TempDir;

use crate::harness::{Outcome, TestBroker, command, run};

fn home(config: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), config).unwrap();
    home
}

/// Ports 1 to 3 have no broker, so the address asked for stands in the error.
fn list(home: &Path, flag: Option<&str>, env: Option<&str>) -> Outcome {
    let mut command = command(home);
    command.args(["product", "list"]);
    flag.map(|server| command.args(["--server", server]));
    env.map(|server| command.env("MESHLOG_SERVER", server));
    run(command, "")
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let home = home("server = \"127.0.0.1:3\"\n");
    let (flag, env) = (Some("127.0.0.1:1"), Some("127.0.0.1:2"));
    list(home.path(), flag, env).fails(6, &["127.0.0.1:1", "meshlog serve", "--server"]);
    list(home.path(), None, env).fails(6, &["127.0.0.1:2"]);
    list(home.path(), None, None).fails(6, &["127.0.0.1:3"]);

    let broker = TestBroker::in_memory();
    let home = self::home(&format!("server = \"{}\"\n", broker.address));
    list(home.path(), None, None).ok();
    list(home.path(), flag, None).fails(6, &["127.0.0.1:1"]);
}

#[test]
fn the_file_may_stand_in_the_xdg_directory() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("xdg/meshlog");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("config.toml"), "server = \"127.0.0.1:3\"\n").unwrap();
    let mut command = command(home.path());
    command.args(["product", "list"]).env("XDG_CONFIG_HOME", home.path().join("xdg"));
    run(command, "").fails(6, &["127.0.0.1:3"]);
}

#[test]
fn an_unknown_key_in_the_file_is_named() {
    for config in ["sevrer = \"127.0.0.1:3\"\n", "[broker]\ndatadir = \"x\"\n", "server = \n"] {
        let home = home(config);
        list(home.path(), None, None).fails(2, &["config.toml"]);
    }
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let home = tempfile::tempdir().unwrap();
    list(home.path(), Some("not an address"), None).fails(2, &["not an address"]);
}

#[test]
fn wrong_usage_ends_with_two() {
    let home = tempfile::tempdir().unwrap();
    for args in [
        &["frobnicate"][..],
        &["consume"],
        &["consume", "sandbox.x", "--from", "yesterday"],
        &["consume", "sandbox.x", "--from", "1", "--last", "1"],
        &["consume", "sandbox.x", "--max", "0"],
        &["consume", "sandbox.x", "-o", "xml"],
        &["produce", "sandbox.x", "--tombstone", "k", "--format", "raw"],
        &["produce", "sandbox.x", "--header", "no-value"],
        &["product", "create", "a.b", "--contact", "x"],
        &["product", "create", "a.b", "--field-tag", "x"],
        &["product", "create", "a.b", "--classification", "secret"],
        &["serve", "--in-memory", "--data-dir", "x"],
        &["serve", "--listen", "nowhere"],
        &["team", "create", "x"],
        &["team", "update", "x"],
        &["domain", "update", "x", "--dry-run"],
        &["tag", "update", "x"],
        &["product", "deprecate", "a.b"],
        &["product", "deprecate", "a.b", "--reason", "x", "--sunset", "soon"],
        &["product", "sample", "a.b", "--max", "0"],
        &["product", "sample", "a.b", "--key", "k", "--around", "2026-11-20"],
        &["product", "show", "a.b", "--profile", "10001"],
        &["product", "update", "a.b", "--link", "no-title"],
        &["config", "context", "add", "x"],
        &["config", "context", "add", "x", "--server", "no-port"],
        &["config", "context", "add", "a b", "--server", "h:1"],
        &["completion", "tcsh"],
        &["key", "create"],
        &["key", "create", "--team", "x", "--permission", "everything"],
        &["key", "create", "--team", "x", "--expires", "soon"],
        &["init", "-o", "name"],
        &["access", "grant", "x", "consume"],
        &["access", "grant", "x", "--everything"],
        &["access", "grant", "x", "consume", "--everything", "--product", "a.b"],
        &["product", "request-access", "a.b"],
        &["product", "list", "--key-file", "/absent/key"],
        &["--color", "pink", "product", "list"],
    ] {
        let mut command = command(home.path());
        command.args(args);
        let outcome = run(command, "");
        assert_eq!(outcome.code, 2, "{args:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty() && outcome.stdout.is_empty(), "{args:?}: {outcome:?}");
    }
}
