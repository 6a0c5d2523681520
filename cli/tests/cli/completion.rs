//! What the shell offers while a person types.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{MESHLOG, Outcome, TestBroker, command, run};

/// What is offered for the last of these words, as bash asks for it.
fn offered(mut command: Command, words: &[&str]) -> Vec<String> {
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_IFS", "\n")
        .args(["--", "meshlog"])
        .args(words);
    let outcome = run(command, "");
    assert_eq!(outcome.stderr, "", "{words:?}");
    outcome.ok().lines().map(str::to_owned).collect()
}

fn mesh() -> TestBroker {
    let broker = TestBroker::in_memory();
    broker.planes();
    broker.sandbox("sandbox.notes");
    broker.sandbox("sandbox.notes-2");
    broker
}

#[test]
fn names_come_from_the_broker_at_that_moment() {
    let broker = mesh();
    let offered = |words: &[&str]| offered(broker.command(&[]), words);
    assert_eq!(offered(&["product", "show", "sand"]), ["sandbox.notes", "sandbox.notes-2"]);
    assert_eq!(offered(&["product", "show", "fleet.p"]), ["fleet.planes"]);
    assert_eq!(offered(&["produce", "fl"]), ["fleet.planes"]);
    assert_eq!(offered(&["schema", "list", "fl"]), ["fleet.planes"]);
    assert_eq!(offered(&["domain", "show", "fl"]), ["fleet"]);
    assert_eq!(offered(&["product", "list", "--domain", "fl"]), ["fleet"]);
    assert_eq!(offered(&["team", "show", "fl"]), ["fleet-engineering"]);
    assert_eq!(offered(&["product", "create", "a.b", "--owner", "fl"]), ["fleet-engineering"]);
    let versions = offered(&["schema", "show", "fleet.planes", "--version", ""]);
    assert_eq!(versions, ["1"]);
    assert_eq!(offered(&["tag", "show", "p"]), ["pii"]);
    assert_eq!(offered(&["product", "update", "fleet.planes", "--tag", "p"]), ["pii"]);
    broker.run_with(&["produce", "sandbox.notes"], "1\n").ok();
    broker.run(&["consume", "sandbox.notes", "--as", "night-run"]).ok();
    assert_eq!(offered(&["consume", "sandbox.notes", "--as", "ni"]), ["night-run"]);
    assert!(offered(&["product", "show", "nothing"]).is_empty());
    broker.sandbox("sandbox.later");
    assert_eq!(offered(&["product", "show", "sandbox.l"]), ["sandbox.later"]);
}

#[test]
fn the_broker_is_the_one_that_the_command_line_names() {
    let broker = mesh();
    let home = broker.home.path();
    for words in [
        &["product", "show", "--server", &broker.address, "fl"][..],
        &["product", "show", &format!("--server={}", broker.address), "fl"],
    ] {
        assert_eq!(offered(command(home), words), ["fleet.planes"]);
    }
    let mut add = command(home);
    add.args(["config", "context", "add", "lab", "--server", &broker.address]);
    run(add, "").ok();
    let words = ["product", "show", "--context", "lab", "fl"];
    assert_eq!(offered(command(home), &words), ["fleet.planes"]);
    assert_eq!(offered(command(home), &["product", "show", "--context", "l"]), ["lab"]);
    assert_eq!(offered(command(home), &["config", "context", "use", ""])[0], "lab");
}

#[test]
fn commands_and_values_need_no_broker() {
    let home = tempfile::tempdir().unwrap();
    let offered = |words: &[&str]| offered(command(home.path()), words);
    assert!(offered(&["prod"]).iter().map(String::as_str).eq(["produce", "product"]));
    assert_eq!(offered(&["product", "cr"]), ["create"]);
    assert_eq!(offered(&["product", "list", "-o", "js"]), ["json", "jsonl"]);
    assert!(offered(&["consume", "--fol"]).contains(&"--follow".to_owned()));
}

#[test]
fn without_an_answer_there_is_silence_and_soon() {
    let home = tempfile::tempdir().unwrap();
    // Takes connections and never says a word.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap().to_string();
    for server in [mute.as_str(), "127.0.0.1:1", "not an address"] {
        let started = Instant::now();
        let found = offered(command(home.path()), &["product", "show", "--server", server, "f"]);
        assert!(found.is_empty(), "{server}: {found:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{server}: {:?}", started.elapsed());
    }
    let wrong = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&wrong).unwrap();
    std::fs::write(wrong.join("config.toml"), "sevrer = 1\n").unwrap();
    assert!(offered(command(home.path()), &["product", "show", "f"]).is_empty());
}

#[test]
fn every_shell_gets_a_script_that_asks_the_binary() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = command(home.path());
        command.args(["completion", shell]);
        let script = run(command, "").ok();
        for word in ["COMPLETE", "meshlog"] {
            assert!(script.contains(word), "{shell}: no {word} in {script}");
        }
    }
}

/// Runs a script in a bash that finds the binary under its name.
fn bash(broker: &TestBroker, script: &str) -> Outcome {
    let bin = broker.home.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let _ = std::os::unix::fs::symlink(MESHLOG, bin.join("meshlog"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", bin.display());
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script])
        .env("PATH", path)
        .env("HOME", broker.home.path())
        .env("MESHLOG_SERVER", &broker.address)
        .env_remove("MESHLOG_CONTEXT")
        .env_remove("XDG_CONFIG_HOME")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    run(bash, "")
}

#[test]
fn a_real_bash_completes_names_with_the_script() {
    let broker = mesh();
    // What bash does when TAB is pressed behind these words.
    let script = r#"
set -euo pipefail
source <(meshlog completion bash)
function=$(complete -p meshlog | sed 's/.*-F \([^ ]*\).*/\1/')
tab() {
    COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_TYPE=9; COMPREPLY=()
    "$function" meshlog "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    echo "${COMPREPLY[*]}"
}
tab meshlog product show sandbox.n
tab meshlog team show fl
tab meshlog produ
"#;
    let output = bash(&broker, script).ok();
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert_eq!(lines, ["sandbox.notes sandbox.notes-2", "fleet-engineering", "produce product"]);
}
