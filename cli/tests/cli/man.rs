//! The manual pages.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use crate::harness::{command, run};

/// The commands that the help of this one lists, and all below them.
fn commands(home: &std::path::Path, path: &[String], found: &mut BTreeSet<String>) {
    found.insert([&["meshlog".to_owned()], path].concat().join("-"));
    let mut help = command(home);
    help.args(path).arg("--help");
    let help = run(help, "").ok();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        // A long explanation goes on in the next line.
        if line.starts_with("   ") || name == "help" {
            continue;
        }
        commands(home, &[path, &[name.to_owned()]].concat(), found);
    }
}

#[test]
fn every_command_has_a_page_that_the_formatter_takes() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("new/man1");
    let mut man = command(home.path());
    man.arg("man").arg(&directory);
    let said = run(man, "").fails(0, &["pages written"]);
    let mut wanted = BTreeSet::new();
    commands(home.path(), &[], &mut wanted);
    let written: BTreeSet<String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.strip_suffix(".1").unwrap().to_owned())
        .collect();
    assert_eq!(written, wanted);
    assert!(said.contains(&format!("{} pages", wanted.len())), "{said}");
    assert!(wanted.len() > 40 && wanted.contains("meshlog-config-context-add"), "{wanted:?}");

    let groff = Command::new("groff").arg("--version").output();
    for name in &written {
        let path = directory.join(format!("{name}.1"));
        let page = std::fs::read_to_string(&path).unwrap();
        for section in [".SH NAME\n", ".SH EXAMPLES\n", ".SH OPTIONS\n"] {
            assert!(page.contains(section), "{name}: no {section}");
        }
        if groff.is_err() {
            eprintln!("SKIPPED: {name} was not formatted; install groff");
            continue;
        }
        let mut format = Command::new("groff");
        format.args(["-man", "-Tutf8", "-ww"]).arg(&path);
        format.stdout(Stdio::piped()).stderr(Stdio::piped());
        let outcome = run(format, "");
        // Names longer than the head line of a page are no fault of the page.
        let warnings: Vec<&str> =
            outcome.stderr.lines().filter(|line| !line.contains("cannot adjust line")).collect();
        assert!(outcome.code == 0 && warnings.is_empty(), "{name}: {warnings:#?}");
        assert!(outcome.stdout.contains("meshlog"), "{name}");
    }
}
