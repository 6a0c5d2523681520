//! What is different when a person sits at a terminal.

use std::{
    fs::File,
    io::{Read, Write},
    process::Command,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::harness::{TestBroker, command, flights};

/// Runs a command on a terminal of its own, types this, and returns exit code and screen.
fn on_a_terminal(mut command: Command, typed: &str) -> (i32, String) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let slave = || File::options().read(true).write(true).open(&name).unwrap();
    command.env("TERM", "xterm").stdin(slave()).stdout(slave()).stderr(slave());
    let mut child = command.spawn().unwrap();
    // Its copies of the terminal must close, or reading would never end.
    drop(command);
    let mut master = File::from(master);
    master.write_all(typed.as_bytes()).unwrap();
    let mut screen = Vec::new();
    let mut piece = [0; 4096];
    // The end of a terminal is an error.
    while let Ok(read @ 1..) = master.read(&mut piece) {
        screen.extend_from_slice(&piece[..read]);
    }
    (child.wait().unwrap().code().unwrap_or(-1), String::from_utf8(screen).unwrap())
}

#[test]
fn deleting_asks_and_takes_only_yes_for_an_answer() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    broker.run_with(&["produce", "sandbox.notes"], "1\n").ok();
    let delete = || broker.command(&["product", "delete", "sandbox.notes"]);
    for answer in ["n\n", "\n", "yess\n"] {
        let (code, screen) = on_a_terminal(delete(), answer);
        assert_eq!(code, 1, "{screen}");
        assert!(screen.contains("Delete sandbox.notes of team sandbox with 1 record? [y/N]"));
        assert!(screen.contains("nothing was deleted"), "{screen}");
        broker.run(&["product", "show", "sandbox.notes"]).ok();
    }
    let (code, screen) = on_a_terminal(delete(), "y\n");
    assert_eq!(code, 0, "{screen}");
    broker.run(&["product", "show", "sandbox.notes"]).fails(3, &[]);
}

#[test]
fn progress_is_drawn_on_a_terminal_and_nowhere_else() {
    let broker = TestBroker::in_memory();
    broker.planes();
    let planes = flights("planes.csv");
    let produce = ["produce", "fleet.planes", &planes, "--null", "NA"];
    let (code, screen) = on_a_terminal(broker.command(&produce), "");
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("records acknowledged"), "{screen}");
    let stderr = broker.run(&produce).fails(0, &["3,322 records"]);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn no_color_means_no_colour() {
    let home = tempfile::tempdir().unwrap();
    let help = |no_color: Option<&str>| {
        let mut help = command(home.path());
        help.arg("--help").env_remove("NO_COLOR").env_remove("CLICOLOR");
        no_color.map(|value| help.env("NO_COLOR", value));
        on_a_terminal(help, "").1
    };
    assert!(help(None).contains('\u{1b}'), "there is colour to be left out");
    assert!(!help(Some("1")).contains('\u{1b}'));
}

#[test]
fn what_changes_has_a_colour_where_somebody_sees_it() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    let update = |more: &[&str], no_color: &str| {
        let args = ["product", "update", "sandbox.notes", "--support", "#x", "--dry-run"];
        let mut command = broker.command(&[&args[..], more].concat());
        command.env("NO_COLOR", no_color);
        command
    };
    let green = "\u{1b}[32m+ support: #x\u{1b}[0m";
    let on_terminal = |more: &[&str], no_color| on_a_terminal(update(more, no_color), "").1;
    assert!(on_terminal(&[], "").contains(green), "{:?}", on_terminal(&[], ""));
    assert!(!on_terminal(&[], "1").contains('\u{1b}'));
    assert!(!on_terminal(&["--color", "never"], "").contains('\u{1b}'));
    assert!(on_terminal(&["--color", "always"], "1").contains(green));
    let in_a_pipe = |more: &[&str]| crate::harness::run(update(more, ""), "").ok();
    assert!(!in_a_pipe(&[]).contains('\u{1b}'));
    assert!(in_a_pipe(&["--color=always"]).contains(green));
    // The parser's own words follow it too.
    let help = |color: &str| broker.run(&["--color", color, "product", "--help"]).ok();
    assert!(help("always").contains('\u{1b}') && !help("auto").contains('\u{1b}'));
}

#[test]
fn retiring_asks_as_deleting_does() {
    let broker = TestBroker::in_memory();
    broker.planes();
    broker.run(&["product", "deprecate", "fleet.planes", "--reason", "x"]).ok();
    let retire = || broker.command(&["product", "retire", "fleet.planes"]);
    let (code, screen) = on_a_terminal(retire(), "n\n");
    assert_eq!(code, 1, "{screen}");
    assert!(screen.contains("Retire fleet.planes of team fleet-engineering?"), "{screen}");
    assert!(screen.contains("nothing was retired"), "{screen}");
    let (code, screen) = on_a_terminal(retire(), "y\n");
    assert_eq!(code, 0, "{screen}");
    let (code, screen) = on_a_terminal(broker.command(&["team", "delete", "sandbox"]), "n\n");
    assert_eq!(code, 1, "{screen}");
}
