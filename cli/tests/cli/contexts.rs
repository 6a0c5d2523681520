//! Brokers by name, in a configuration file that stays the user's own.

use std::{os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Outcome, TestBroker, command, run};

/// Runs a command with these variables set.
fn meshlog(home: &Path, args: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = command(home);
    command.args(args).envs(variables.iter().copied());
    run(command, "")
}

fn config(home: &TempDir) -> std::path::PathBuf {
    home.path().join(".config/meshlog/config.toml")
}

#[track_caller]
fn add(home: &TempDir, name: &str, server: &str, more: &[&str]) {
    let args = ["config", "context", "add", name, "--server", server];
    meshlog(home.path(), &[&args, more].concat(), &[]).ok();
}

/// Ports 1 to 9 have no broker, so the address in the error says which setting won.
#[track_caller]
fn goes_to(home: &TempDir, args: &[&str], variables: &[(&str, &str)], address: &str) {
    let args = [&["product", "list"], args].concat();
    meshlog(home.path(), &args, variables).fails(6, &[address]);
}

#[test]
fn a_context_is_added_used_shown_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let broker = TestBroker::in_memory();
    meshlog(home.path(), &["config", "context", "show"], &[]).fails(3, &["context use"]);
    meshlog(home.path(), &["config", "context", "list"], &[]).fails(0, &["no contexts"]);
    add(&home, "lab", &broker.address, &["--application", "night-shift"]);
    add(&home, "other", "127.0.0.1:1", &[]);
    goes_to(&home, &["--server", "127.0.0.1:9"], &[], "127.0.0.1:9");
    meshlog(home.path(), &["config", "context", "use", "lab"], &[]).fails(0, &["lab"]);
    meshlog(home.path(), &["product", "list"], &[]).ok();
    let shown = meshlog(home.path(), &["config", "context", "show", "-o", "json"], &[]).json();
    assert_eq!(
        shown,
        json!({
            "name": "lab", "server": broker.address, "application": "night-shift", "current": true
        })
    );
    let names = meshlog(home.path(), &["config", "context", "list", "-o", "name"], &[]).ok();
    assert_eq!(names, "lab\nother\n");

    // What the context says of the application is what the broker sees.
    meshlog(home.path(), &["product", "create", "sandbox.notes"], &[]).ok();
    let product = broker.run(&["product", "show", "sandbox.notes", "-o", "json"]).json();
    assert_eq!(product["created_by"], "unverified:night-shift");

    let removed = meshlog(home.path(), &["config", "context", "remove", "lab"], &[]);
    removed.fails(0, &["no context is in use now"]);
    let left = meshlog(home.path(), &["config", "context", "list", "-o", "json"], &[]).json();
    assert_eq!(left[0]["current"], false);
    assert_eq!(left.as_array().unwrap().len(), 1);
    meshlog(home.path(), &["config", "context", "remove", "lab"], &[]).fails(3, &["other"]);
}

#[test]
fn an_unknown_context_is_an_error_that_lists_those_there_are() {
    let home = tempfile::tempdir().unwrap();
    meshlog(home.path(), &["product", "list", "--context", "lab"], &[])
        .fails(3, &["`lab`", "there are none yet", "config context add lab"]);
    add(&home, "one", "127.0.0.1:1", &[]);
    add(&home, "two", "127.0.0.1:2", &[]);
    for args in [
        &["product", "list", "--context", "lab"][..],
        &["config", "context", "use", "lab"],
        &["config", "context", "show", "lab"],
        &["config", "show", "--context", "lab"],
        &["consume", "sandbox.x", "--context", "lab"],
        &["produce", "sandbox.x", "--context", "lab"],
        &["search", "x", "--context", "lab"],
    ] {
        meshlog(home.path(), args, &[]).fails(3, &["`lab`", "one, two"]);
    }
    let variables = [("MESHLOG_CONTEXT", "lab")];
    meshlog(home.path(), &["product", "list"], &variables).fails(3, &["`lab`"]);
}

#[test]
fn a_flag_wins_over_the_environment_over_a_context_over_the_file() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(config(&home).parent().unwrap()).unwrap();
    std::fs::write(config(&home), "server = \"127.0.0.1:5\"\n").unwrap();
    goes_to(&home, &[], &[], "127.0.0.1:5");
    add(&home, "one", "127.0.0.1:1", &["--use"]);
    add(&home, "two", "127.0.0.1:2", &[]);
    goes_to(&home, &[], &[], "127.0.0.1:1");
    goes_to(&home, &[], &[("MESHLOG_CONTEXT", "two")], "127.0.0.1:2");
    goes_to(&home, &["--context", "one"], &[("MESHLOG_CONTEXT", "two")], "127.0.0.1:1");
    let server = ("MESHLOG_SERVER", "127.0.0.1:3");
    goes_to(&home, &[], &[server, ("MESHLOG_CONTEXT", "two")], "127.0.0.1:3");
    goes_to(&home, &["--context", "one"], &[server], "127.0.0.1:1");
    goes_to(&home, &["--context", "one", "--server", "127.0.0.1:4"], &[server], "127.0.0.1:4");
    // Set to nothing is not set.
    let nothing = [("MESHLOG_SERVER", ""), ("MESHLOG_CONTEXT", "")];
    goes_to(&home, &[], &nothing, "127.0.0.1:1");
}

#[test]
fn config_show_names_the_source_of_every_setting() {
    let home = tempfile::tempdir().unwrap();
    let sources = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["config", "show", "-o", "json"], args].concat();
        let rows = meshlog(home.path(), &args, variables).json();
        let row = |name: &str| {
            let found = rows.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
            (text(&found["value"]), text(&found["source"]))
        };
        ["context", "server", "application", "serve.listen", "broker.data_dir", "log"].map(row)
    };
    let pair = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    let data = home.path().join(".local/share/meshlog").display().to_string();
    assert_eq!(
        sources(&[], &[]),
        [
            pair("-", "default"),
            pair("127.0.0.1:7420", "default"),
            pair("meshlog-cli", "default"),
            pair("127.0.0.1:7420", "default"),
            pair(&data, "default"),
            pair("info", "default"),
        ]
    );
    std::fs::create_dir_all(config(&home).parent().unwrap()).unwrap();
    let text = "server = \"h:1\"\n[serve]\nlisten = \"127.0.0.1:0\"\n[broker]\ndata_dir = \"/d\"\n";
    std::fs::write(config(&home), text).unwrap();
    add(&home, "lab", "h:2", &["--application", "x"]);
    let of_file = sources(&[], &[("MESHLOG_LOG", "debug")]);
    assert_eq!(of_file[1], pair("h:1", "file"));
    assert_eq!(of_file[3..5], [pair("127.0.0.1:0", "file"), pair("/d", "file")]);
    assert_eq!(of_file[5], pair("debug", "environment MESHLOG_LOG"));
    let of_context = sources(&["--context", "lab"], &[("MESHLOG_SERVER", "h:3")]);
    assert_eq!(of_context[0], pair("lab", "flag --context"));
    assert_eq!(of_context[1..3], [pair("h:2", "context lab"), pair("x", "context lab")]);
    let of_flag = sources(&["--server", "h:4"], &[("MESHLOG_CONTEXT", "lab")]);
    assert_eq!(of_flag[0], pair("lab", "environment MESHLOG_CONTEXT"));
    assert_eq!(of_flag[1..3], [pair("h:4", "flag --server"), pair("x", "context lab")]);

    let path = meshlog(home.path(), &["config", "path"], &[]).ok();
    assert_eq!(path.trim_end(), config(&home).display().to_string());
}

#[test]
fn what_the_user_wrote_into_the_file_stays() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(config(&home).parent().unwrap()).unwrap();
    let written = "\
# Mine.
server   = \"127.0.0.1:5\" # the old one

[broker]
data_dir = '/d' # big disk

[context.old]
# Ask Ann before use.
server = \"127.0.0.1:6\"
";
    std::fs::write(config(&home), written).unwrap();
    std::fs::set_permissions(config(&home), std::fs::Permissions::from_mode(0o644)).unwrap();
    add(&home, "lab", "127.0.0.1:1", &["--use"]);
    let text = std::fs::read_to_string(config(&home)).unwrap();
    for line in written.lines() {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    assert!(text.contains("[context.lab]\nserver = \"127.0.0.1:1\"\n"), "{text}");
    let mode = std::fs::metadata(config(&home)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // The same name again only by demand.
    let again = ["config", "context", "add", "lab", "--server", "127.0.0.1:2"];
    meshlog(home.path(), &again, &[]).fails(4, &["lab", "--replace"]);
    add(&home, "lab", "127.0.0.1:2", &["--replace"]);
    goes_to(&home, &[], &[], "127.0.0.1:2");
    meshlog(home.path(), &["config", "context", "remove", "lab"], &[]).ok();
    assert_eq!(std::fs::read_to_string(config(&home)).unwrap(), written);
    let beside: Vec<_> = std::fs::read_dir(config(&home).parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left lying about: {beside:?}");
}

#[test]
fn a_file_that_is_a_link_stays_one() {
    let home = tempfile::tempdir().unwrap();
    let real = home.path().join("dotfiles.toml");
    std::fs::write(&real, "# dots\n").unwrap();
    std::fs::create_dir_all(config(&home).parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, config(&home)).unwrap();
    add(&home, "lab", "127.0.0.1:1", &[]);
    assert!(std::fs::symlink_metadata(config(&home)).unwrap().is_symlink());
    let text = std::fs::read_to_string(&real).unwrap();
    assert!(text.starts_with("# dots\n") && text.contains("[context.lab]"), "{text}");
}

#[test]
fn a_file_that_cannot_be_used_is_not_changed() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(config(&home).parent().unwrap()).unwrap();
    for wrong in ["sevrer = \"h:1\"\n", "[context.x]\n", "server = \n"] {
        std::fs::write(config(&home), wrong).unwrap();
        let add = ["config", "context", "add", "lab", "--server", "127.0.0.1:1"];
        meshlog(home.path(), &add, &[]).fails(2, &["config.toml"]);
        assert_eq!(std::fs::read_to_string(config(&home)).unwrap(), wrong);
    }
}
