//! `backup` and `restore`, of a broker that goes on meanwhile.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{TestBroker, meshlog};

/// A broker with some notes and a cursor.
fn noted() -> TestBroker {
    let broker = TestBroker::on_disk();
    broker.sandbox("sandbox.notes");
    note(&broker, 0..500);
    broker.run(&["consume", "sandbox.notes", "--as", "nightly", "--max", "20"]).ok();
    broker
}

fn note(broker: &TestBroker, notes: std::ops::Range<u32>) {
    let text: String = notes.map(|n| format!("{{\"note\":\"number {n} of them\"}}\n")).collect();
    broker.run_with(&["produce", "sandbox.notes"], &text).ok();
}

/// The path of something below the broker's home, as an argument.
fn at(broker: &TestBroker, name: &str) -> String {
    broker.home.path().join(name).display().to_string()
}

fn back_up(broker: &TestBroker, to: &str) -> Value {
    broker.run(&["backup", "--to", to, "-o", "json"]).json()
}

/// Restores a backup and starts a broker on it.
fn revived(from: &str) -> TestBroker {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data").display().to_string();
    let told = meshlog(&home, &["restore", from, "--to", &data, "-o", "json"]).json();
    assert_eq!((&told["clean"], &told["backup"]["checked"]), (&true.into(), &true.into()));
    meshlog(&home, &["verify", &data]).ok();
    TestBroker::on(home)
}

/// What a broker has, without what counts its use.
fn everything(broker: &TestBroker) -> Vec<String> {
    [
        &["consume", "sandbox.notes", "-o", "jsonl"][..],
        &["consume", "meshlog.audit", "-o", "jsonl"],
        &["cursor", "list", "-o", "json"],
        &["schema", "list", "sandbox.notes", "-o", "json"],
        &["domain", "list", "-o", "json"],
    ]
    .into_iter()
    .map(|args| broker.run(args).ok())
    .collect()
}

#[test]
fn a_backup_as_one_file_comes_back_as_it_was() {
    let broker = noted();
    let before = everything(&broker);
    let file = at(&broker, "monday.tar.zst");
    let told = back_up(&broker, &file);
    assert_eq!(told["damage"], Value::Array(Vec::new()));
    assert_eq!(told["sent_files"], told["files"]);
    note(&broker, 500..600);
    let restored = revived(&file);
    assert_eq!(everything(&restored), before);
    // It goes on from there.
    note(&restored, 600..610);
    assert_eq!(restored.consume(&["sandbox.notes"]).lines().count(), 510);
    // And no unfinished file stays.
    let names = fs::read_dir(broker.home.path()).unwrap();
    let names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("unfinished")), "{names:?}");
}

#[test]
fn a_directory_gets_only_what_is_new() {
    let broker = noted();
    let folder = at(&broker, "backup");
    let first = back_up(&broker, &folder);
    note(&broker, 500..700);
    let before = everything(&broker);
    let second = back_up(&broker, &folder);
    let bytes = |told: &Value, of| told[of].as_u64().unwrap();
    assert_eq!(bytes(&first, "sent_bytes"), bytes(&first, "bytes"));
    assert!(bytes(&second, "lsn") > bytes(&first, "lsn"));
    assert_eq!(everything(&revived(&folder)), before);
    let shown = broker.run(&["backup", "show", &folder, "--check", "-o", "json"]).json();
    assert_eq!((&shown["lsn"], &shown["checked"]), (&second["lsn"], &true.into()));
    // A broker that has nothing to write writes who took the backup, and no more.
    let third = back_up(&broker, &folder);
    assert!(bytes(&third, "sent_bytes") < 256 << 10, "{third}");
    let told = broker.run(&["audit", "list", "--action", "backup", "-o", "json"]).json();
    assert_eq!(told.as_array().unwrap().len(), 3);
    let words = broker.run(&["backup", "--to", &folder]).ok();
    assert!(words.contains("the state of"), "{words}");
}

#[test]
fn a_broker_in_memory_can_be_backed_up_and_becomes_one_on_disk() {
    let broker = TestBroker::in_memory();
    broker.sandbox("sandbox.notes");
    note(&broker, 0..50);
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    assert_eq!(revived(&file).consume(&["sandbox.notes"]).lines().count(), 50);
}

#[test]
fn nothing_is_restored_over_data_and_nothing_else_is_taken_for_a_backup() {
    let mut broker = noted();
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    let data = at(&broker, "data");
    broker.run(&["restore", &file, "--to", &data]).fails(1, &["in use"]);
    broker.process.signal(Signal::TERM);
    broker.process.wait().ok();
    let error = meshlog(&broker.home, &["restore", &file, "--to", &data]).fails(1, &["not empty"]);
    assert!(error.contains("Nothing is ever restored over"), "{error}");
    meshlog(&broker.home, &["verify", &data]).ok();

    let other = at(&broker, "other");
    fs::create_dir(&other).unwrap();
    for from in [other.as_str(), &data] {
        let to = at(&broker, "new");
        meshlog(&broker.home, &["restore", from, "--to", &to]).fails(1, &["no backup"]);
        meshlog(&broker.home, &["backup", "show", from]).fails(1, &["no backup"]);
        assert!(!Path::new(&to).exists());
    }
    for to in ["b.tar", "b.zip", "b.tar.gz"] {
        meshlog(&broker.home, &["backup", "--to", to]).fails(2, &[".tar.zst"]);
    }
    fs::write(Path::new(&other).join("Holiday.jpg"), "").unwrap();
    meshlog(&broker.home, &["backup", "--to", &other]).fails(1, &["Holiday.jpg"]);
    meshlog(&broker.home, &["backup"]).fails(2, &["--to"]);
}

/// The members of an archive, unpacked.
fn members(file: &str) -> Vec<u8> {
    zstd::decode_all(fs::File::open(file).unwrap()).unwrap()
}

/// An archive of these bytes.
fn packed(home: &TempDir, bytes: &[u8]) -> String {
    let path = home.path().join("changed.tar.zst");
    fs::write(&path, zstd::encode_all(bytes, 1).unwrap()).unwrap();
    path.display().to_string()
}

/// Both `restore` and `show` refuse it, and nothing is left behind.
#[track_caller]
fn refused(home: &TempDir, from: &str, what: &str) {
    let to: PathBuf = home.path().join("refused");
    let outcome = meshlog(home, &["restore", from, "--to", to.to_str().unwrap()]);
    assert!([1, 8].contains(&outcome.code), "{what}: {outcome:?}");
    assert!(!to.exists(), "{what}: nothing is left");
    let outcome = meshlog(home, &["backup", "show", from]);
    assert!([1, 8].contains(&outcome.code), "{what}: {outcome:?}");
    assert!(outcome.stderr.contains("backup"), "{what}: {outcome:?}");
}

#[test]
fn an_archive_that_is_cut_or_changed_is_refused() {
    let broker = noted();
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    let home = &broker.home;
    let bytes = fs::read(&file).unwrap();
    let changed = home.path().join("changed.tar.zst");
    let from = changed.to_str().unwrap();
    let step = (bytes.len() / 12).max(1);
    for at in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
        fs::write(&changed, &bytes[..at]).unwrap();
        refused(home, from, &format!("cut at {at}"));
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        fs::write(&changed, &flipped).unwrap();
        refused(home, from, &format!("changed at {at}"));
    }
    let mut longer = bytes.clone();
    longer.extend(b"more");
    fs::write(&changed, &longer).unwrap();
    refused(home, from, "bytes at the end");

    // The same below the compression, whose own checksum is right then.
    let plain = members(&file);
    let used = plain.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for at in (0..used).step_by((used / 24).max(1)) {
        refused(home, &packed(home, &plain[..at]), &format!("cut at {at}"));
        if is_filling(&plain, at) {
            continue;
        }
        let mut flipped = plain.clone();
        flipped[at] ^= 0x04;
        let from = packed(home, &flipped);
        // Owner, time and such of a member mean nothing; its checksum covers them all the same.
        refused(home, &from, &format!("changed at {at}"));
    }
    fs::write(&changed, &bytes).unwrap();
    meshlog(home, &["backup", "show", from]).ok();
}

/// Whether a byte only fills up a member to tar's unit.
fn is_filling(plain: &[u8], at: usize) -> bool {
    let mut begin = 0;
    while begin + 512 <= plain.len() && plain[begin] != 0 {
        let header = tar::Header::from_byte_slice(&plain[begin..begin + 512]);
        let end = begin + 512 + usize::try_from(header.size().unwrap()).unwrap();
        begin = end.next_multiple_of(512);
        if (end..begin).contains(&at) {
            return true;
        }
    }
    false
}

/// One member of an archive, with whatever header somebody makes up.
fn member(name: &str, kind: tar::EntryType, link: Option<&str>, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    // Around the checks of those who write archives in good faith.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    if let Some(link) = link {
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Each is put in front of a backup that is whole.
#[test]
fn an_archive_cannot_write_outside_of_the_directory_or_bring_anything_but_data_files() {
    use tar::EntryType::{
        Block, Char, Continuous, Directory, Fifo, GNULongLink, GNULongName, GNUSparse, Link,
        Regular, Symlink, XHeader,
    };
    let broker = noted();
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    let plain = members(&file);
    let home = &broker.home;
    let victim = home.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let absolute = victim.to_str().unwrap();
    let evil = [
        member("../victim", Regular, None, b"evil"),
        member(absolute, Regular, None, b"evil"),
        member("./../victim", Regular, None, b"evil"),
        member("journal-000001/../../victim", Regular, None, b"evil"),
        member("../refused-beside", Regular, None, b"evil"),
        member("journal-777777", Symlink, Some("../victim"), b""),
        member("journal-777777", Symlink, Some(absolute), b""),
        member("journal-777777", Link, Some(absolute), b""),
        member("journal-777777", Directory, None, b""),
        member("journal-777777", Fifo, None, b""),
        member("journal-777777", Char, None, b""),
        member("journal-777777", Block, None, b""),
        member("journal-777777", Continuous, None, b"x"),
        member("journal-777777", GNUSparse, None, b"x"),
        member("././@LongLink", GNULongName, None, b"../victim\0"),
        member("././@LongLink", GNULongLink, None, b"../victim\0"),
        member("pax", XHeader, None, b"19 path=../victim\n"),
        member("journal-777777", Regular, None, b"a file that the manifest does not list"),
        member("meshlog.format", Regular, None, b"meshlog data directory\n"),
        member("meshlog.lock", Regular, None, b""),
        member("meshlog.backup", Regular, None, b"meshlog backup 1\n"),
        member("reserve", Regular, None, b"x"),
        member("footer-0000000000000001", Regular, None, b"x"),
        member("notes.txt", Regular, None, b"x"),
        member("", Regular, None, b"x"),
    ];
    for (index, first) in evil.iter().enumerate() {
        let from = packed(home, &[first, &plain[..]].concat());
        refused(home, &from, &format!("evil member {index}"));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    }
    let mut names: Vec<String> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    assert_eq!(names, ["b.tar.zst", "changed.tar.zst", "data", "victim"]);
    let twice = [&plain[..first_member(&plain)], &plain[..]].concat();
    refused(home, &packed(home, &twice), "a file twice");
}

/// Where the second member begins.
fn first_member(plain: &[u8]) -> usize {
    let header = tar::Header::from_byte_slice(&plain[..512]);
    512 + usize::try_from(header.size().unwrap()).unwrap().next_multiple_of(512)
}

#[test]
fn an_archive_is_one_that_tar_and_zstd_can_list() {
    let broker = noted();
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    let mut names = Vec::new();
    let mut archive =
        tar::Archive::new(zstd::Decoder::new(fs::File::open(&file).unwrap()).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        names.push(entry.path().unwrap().display().to_string());
        if names.last().is_some_and(|name| name == "meshlog.backup") {
            assert!(content.starts_with(b"meshlog backup 1\n"));
        }
    }
    assert_eq!(names.last().map(String::as_str), Some("meshlog.backup"));
    assert!(names.iter().any(|name| name.starts_with("checkpoint-")), "{names:?}");
}

#[test]
fn a_backup_that_cannot_be_finished_leaves_the_one_before() {
    let mut broker = noted();
    let file = at(&broker, "b.tar.zst");
    back_up(&broker, &file);
    let before = fs::read(&file).unwrap();
    let folder = at(&broker, "backup");
    back_up(&broker, &folder);
    let manifest = fs::read(Path::new(&folder).join("meshlog.backup")).unwrap();
    broker.process.signal(Signal::TERM);
    broker.process.wait().ok();
    for to in [&file, &folder] {
        broker.run(&["backup", "--to", to]).fails(6, &["no broker answers"]);
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read(Path::new(&folder).join("meshlog.backup")).unwrap(), manifest);
    let names = fs::read_dir(broker.home.path()).unwrap();
    assert!(names.map(|n| n.unwrap().file_name()).all(|n| n != "b.tar.zst.unfinished"));
}

#[test]
fn rot_on_the_brokers_disk_ends_a_backup_with_eight_and_the_backup_is_there() {
    let broker = noted();
    let journal = fs::read_dir(broker.home.path().join("data"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(15).any(|part| part == b"number 250 of t")
        })
        .unwrap();
    let bytes = fs::read(&journal).unwrap();
    let at_byte = bytes.windows(15).position(|part| part == b"number 250 of t").unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at_byte as u64)).unwrap();
    file.write_all(b"N").unwrap();
    file.sync_all().unwrap();
    let to = at(&broker, "b.tar.zst");
    let outcome = broker.run(&["backup", "--to", &to]);
    outcome.fails(8, &["the backup is made", "damaged", "checksum"]);
    let shown = broker.run(&["backup", "show", &to, "-o", "json"]).json();
    assert_eq!(shown["damage"].as_array().unwrap().len(), 1);
    let data = at(&broker, "restored");
    let outcome = meshlog(&broker.home, &["restore", &to, "--to", &data]);
    outcome.fails(8, &["is restored as it was backed up", "meshlog verify"]);
    meshlog(&broker.home, &["verify", &data]).fails(8, &["damaged"]);
}
