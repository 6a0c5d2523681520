//! The manual pages.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
};

use crate::harness::{command, run};

/// The words of every command that help knows, from the top; the first are none.
pub fn commands_of_the_help(home: &Path) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    collect(home, &[], &mut found);
    found
}

fn collect(home: &Path, path: &[String], found: &mut BTreeSet<Vec<String>>) {
    found.insert(path.to_owned());
    let mut help = command(home);
    help.args(path).arg("--help");
    let help = run(help, "").ok();
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    for line in listed.take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        // A long explanation goes on in the next line.
        if !line.starts_with("   ") && name != "help" {
            collect(home, &[path, &[name.to_owned()]].concat(), found);
        }
    }
}

#[test]
fn every_command_has_a_page_that_the_formatter_takes() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("new/man1");
    let mut man = command(home.path());
    man.arg("man").arg(&directory);
    let said = run(man, "").fails(0, &["pages written"]);
    let wanted: BTreeSet<String> = commands_of_the_help(home.path())
        .into_iter()
        .map(|path| [&["meshlog".to_owned()][..], &path].concat().join("-"))
        .collect();
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
