//! `verify` reads a directory as a crash, a clean stop or rot left it, and tells these apart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshlog_storage::disk::{CrashPlan, Disk, OsDisk, ReadOnlyDisk, WriteMode};
use meshlog_storage::{
    Control, Entry, ErrorKind, FileKind, Offset, Problem, StreamId, VerifyReport, verify,
};

use crate::merging::{half_dead, trim};
use crate::retaining::pass;
use crate::support::{Machine, append, create, entry, lines};

fn report(machine: &Machine) -> meshlog_storage::Result<VerifyReport> {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    verify(Path::new("data"), &disk, &mut |_| {})
}

/// A directory that a crash or a clean stop left is not damaged, and looking changes nothing.
pub(crate) fn assert_undamaged(machine: &Machine) {
    let (image, calls) = (machine.disk.image(), machine.disk.calls());
    match report(machine) {
        Ok(report) => assert!(report.is_clean(), "{:#?}", damage(&report)),
        // Power went before there was a directory.
        Err(error) => assert_eq!(*error.kind(), ErrorKind::Format, "{error}"),
    }
    assert_eq!((machine.disk.image(), machine.disk.calls()), (image, calls));
}

fn damage(report: &VerifyReport) -> (Vec<&Problem>, &[String]) {
    (report.all_problems().collect(), &report.at_open)
}

/// Several sealed files of two streams, the newest one sealed by a clean stop or cut by a crash.
fn written(seed: u64, clean: bool) -> (Machine, StreamId, StreamId) {
    let machine = Machine::new(seed);
    let storage = machine.open().unwrap();
    let (stream, other) = (create(&storage), create(&storage));
    for tag in 0..40 {
        append(&storage, entry(vec![lines(stream, tag, 2, 3000), lines(other, tag, 1, 500)]))
            .unwrap();
        machine.clock.advance(Duration::from_secs(1));
    }
    if clean {
        storage.close().unwrap();
    } else {
        storage.drive_idle();
        std::mem::forget(storage);
        machine.disk.kill();
    }
    (machine, stream, other)
}

/// The file that holds the text of a line, and where.
fn find(machine: &Machine, needle: &str) -> (String, usize) {
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.sort_by_key(|name| !name.starts_with("segment-"));
    for name in names {
        let mut found = None;
        // A slot may still hold what a segment has now.
        if name.starts_with("journal-") || name.starts_with("segment-") {
            machine.disk.rot(&Path::new("data").join(&name), |bytes| {
                found = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            });
        }
        if let Some(at) = found {
            return (name, at);
        }
    }
    panic!("{needle} is in no file");
}

fn flip(machine: &Machine, name: &str, at: usize) {
    machine.disk.rot(&Path::new("data").join(name), |bytes| bytes[at] ^= 4);
}

#[test]
fn what_was_written_is_counted_and_clean() {
    for clean in [true, false] {
        let (machine, ..) = written(1, clean);
        assert_undamaged(&machine);
        let report = report(&machine).unwrap();
        let journals = report.files.iter().filter(|file| file.kind == FileKind::Journal);
        assert!(journals.clone().count() >= 3, "{report:#?}");
        assert_eq!(journals.clone().map(|file| file.batches).sum::<u64>(), 80);
        assert_eq!(journals.map(|file| file.records).sum::<u64>(), 120);
        assert_eq!((report.streams, report.unproven_records), (2, 0));
    }
}

#[test]
fn a_flipped_bit_in_a_record_is_named_with_its_stream_and_offsets() {
    let (machine, stream, _) = written(2, true);
    let (name, at) = find(&machine, &format!("{stream} 7 1 "));
    flip(&machine, &name, at);
    let report = report(&machine).unwrap();
    let problems: Vec<_> = report.all_problems().collect();
    let [problem] = problems[..] else { panic!("{problems:#?}") };
    assert_eq!(problem.records, Some((stream, Offset(14)..Offset(16))));
    assert_eq!(problem.file.as_deref(), Some(&name[..]));
    let bytes = problem.bytes.clone().unwrap();
    assert!(bytes.contains(&(at as u64)) && bytes.end - bytes.start == 6000, "{bytes:?}");
    assert!(problem.loses_records);
}

#[test]
fn a_damaged_group_is_named_with_its_bytes_and_the_offsets_of_all_its_streams() {
    for clean in [true, false] {
        let (machine, stream, other) = written(3, clean);
        let (name, at) = find(&machine, &format!("{stream} 39 0 "));
        let group = at / 4096 * 4096;
        flip(&machine, &name, group + 17);
        let report = report(&machine).unwrap();
        let in_file = report.files.iter().find(|file| file.name == name).unwrap();
        assert_eq!(in_file.problems[0].bytes.as_ref().unwrap().start, group as u64);
        if clean {
            // The seal says how far the streams went.
            let lost: Vec<_> =
                report.problems.iter().filter_map(|problem| problem.records.clone()).collect();
            let expected = [(stream, Offset(78)..Offset(80)), (other, Offset(39)..Offset(40))];
            assert_eq!(lost, expected);
        }
        assert!(!report.is_clean());
    }
}

#[test]
fn every_kind_of_file_and_the_padding_is_looked_at() {
    let (machine, stream, _) = written(4, true);
    let (name, at) = find(&machine, &format!("{stream} 3 0 "));
    let names = machine.disk.list(Path::new("data")).unwrap();
    let checkpoint = names.iter().filter(|name| name.starts_with("checkpoint")).min().unwrap();
    let seal = {
        let mut seal = 0;
        machine.disk.rot(&Path::new("data").join(&name), |bytes| {
            let is_seal = |block: &[u8]| block.starts_with(b"MLGR\x01");
            seal = bytes.chunks(4096).rposition(is_seal).unwrap() * 4096;
        });
        seal
    };
    let padding = (at / 4096 + 2) * 4096 - 1;
    let places =
        [(&name, 100), (&name, 20), (&name, 4096 + 20), (&name, padding), (&name, seal + 70)];
    for (name, at) in places.into_iter().chain([(checkpoint, 60)]) {
        flip(&machine, name, at);
        let found = report(&machine).unwrap();
        let problems: Vec<_> = found.all_problems().collect();
        assert_eq!(problems.len(), 1, "{name} at {at}: {problems:#?}");
        assert_eq!(problems[0].file.as_ref(), Some(name), "{name} at {at}");
        assert!(!problems[0].loses_records, "a broker serves everything: {problems:#?}");
        flip(&machine, name, at);
    }
    assert_undamaged(&machine);
}

/// Three streams, most of one trimmed, and what was left merged.
fn merged(seed: u64) -> (Machine, [StreamId; 3]) {
    let machine = Machine::new(seed);
    let (storage, streams) = half_dead(&machine);
    trim(&storage, streams[0], 280);
    pass(&machine, &storage, 300);
    assert!(storage.stats().merges > 0);
    storage.close().unwrap();
    (machine, streams)
}

#[test]
fn a_segment_is_read_from_its_header_to_its_footer() {
    let (machine, [_, stream, _]) = merged(10);
    assert_undamaged(&machine);
    let found = report(&machine).unwrap();
    let segments = found.files.iter().filter(|file| file.kind == FileKind::Segment);
    assert!(segments.clone().map(|file| file.records).sum::<u64>() >= 100, "{found:#?}");

    let (name, at) = find(&machine, &format!("{stream} 7 0 "));
    assert!(name.starts_with("segment-"), "{name} holds what was merged");
    flip(&machine, &name, at);
    let found = report(&machine).unwrap();
    let problems: Vec<_> = found.all_problems().collect();
    let [problem] = problems[..] else { panic!("{problems:#?}") };
    assert_eq!(problem.records, Some((stream, Offset(7)..Offset(8))));
    assert!(problem.loses_records && problem.bytes.clone().unwrap().contains(&(at as u64)));
    flip(&machine, &name, at);

    let (mut group, mut seal, mut end) = (0, 0, 0);
    machine.disk.rot(&Path::new("data").join(&name), |bytes| {
        group = bytes[..at].chunks(4096).rposition(|block| block.starts_with(b"MLGR")).unwrap();
        let is_seal = |block: &[u8]| block.starts_with(b"MLGR\x01");
        seal = bytes.chunks(4096).rposition(is_seal).unwrap();
        end = bytes.len();
    });
    // Both copies of the header, what follows them, the footer and what follows it.
    for at in [20, 4096 + 20, 200, seal * 4096 + 70, end - 1] {
        flip(&machine, &name, at);
        let found = report(&machine).unwrap();
        let problems: Vec<_> = found.all_problems().collect();
        assert_eq!(problems.len(), 1, "{at}: {problems:#?}");
        assert_eq!(problems[0].file.as_ref(), Some(&name), "{at}");
        assert!(!problems[0].loses_records, "a broker serves everything: {problems:#?}");
        flip(&machine, &name, at);
    }
    flip(&machine, &name, group * 4096 + 17);
    let lost = report(&machine).unwrap();
    let of_stream = lost.all_problems().filter_map(|problem| problem.records.clone());
    let is_named =
        of_stream.into_iter().any(|(id, range)| id == stream && range.contains(&Offset(7)));
    assert!(is_named, "{:#?}", damage(&lost));
    flip(&machine, &name, group * 4096 + 17);
    assert_undamaged(&machine);
}

#[test]
fn a_missing_segment_is_named_with_the_offsets_it_held() {
    let (machine, [_, stream, _]) = merged(11);
    let (name, _) = find(&machine, &format!("{stream} 7 0 "));
    machine.disk.remove(&Path::new("data").join(&name)).unwrap();
    let found = report(&machine).unwrap();
    let missing = found.problems.iter().find(|p| p.what.contains("should be in")).unwrap();
    assert_eq!(missing.file.as_ref(), Some(&name));
    let lost = found.problems.iter().find_map(|problem| {
        problem.records.clone().filter(|(id, range)| *id == stream && range.contains(&Offset(7)))
    });
    assert!(lost.is_some(), "{:#?}", found.problems);
}

#[test]
fn a_missing_file_is_named_with_the_offsets_it_held() {
    let (machine, stream, _) = written(5, true);
    let (name, _) = find(&machine, &format!("{stream} 12 0 "));
    machine.disk.remove(&Path::new("data").join(&name)).unwrap();
    let report = report(&machine).unwrap();
    let missing = report.problems.iter().find(|p| p.what.contains("should be in")).unwrap();
    assert_eq!(missing.file.as_ref(), Some(&name));
    let lost = report.problems.iter().find_map(|problem| {
        problem
            .records
            .clone()
            .filter(|(id, offsets)| *id == stream && offsets.contains(&Offset(24)))
    });
    assert!(lost.is_some(), "{:#?}", report.problems);
    assert!(report.at_open[0].contains("missing"), "{:?}", report.at_open);
}

/// The two ends that look alike: cut by a crash, which is nobody's loss, and rotten, which is.
#[test]
fn a_torn_group_that_nobody_was_promised_is_not_damage() {
    let machine = Machine::new(6);
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    append(&storage, entry(vec![lines(stream, 0, 1, 9000)])).unwrap();
    append(&storage, entry(vec![lines(stream, 1, 1, 9000)])).unwrap();
    std::mem::forget(storage);
    let torn = Machine { disk: machine.disk.after_crash(CrashPlan::KeepAll), ..machine };
    let (name, at) = find(&torn, &format!("{stream} 1 0 "));
    flip(&torn, &name, at + 5000);
    assert_undamaged(&torn);
    flip(&torn, &name, at + 5000);
    assert_eq!(report(&torn).unwrap().unproven_records, 1);
    let (name, at) = find(&torn, &format!("{stream} 0 0 "));
    flip(&torn, &name, at + 5000);
    assert!(!report(&torn).unwrap().is_clean(), "a later group proves it acknowledged");
}

#[test]
fn a_journal_that_no_broker_can_open_is_still_read() {
    let (machine, ..) = written(7, true);
    for name in machine.disk.list(Path::new("data")).unwrap() {
        if name.starts_with("checkpoint") || name == "journal-000001" {
            machine.disk.remove(&Path::new("data").join(name)).unwrap();
        }
    }
    let report = report(&machine).unwrap();
    assert!(report.at_open[0].contains("no checkpoint"), "{:?}", report.at_open);
    assert!(report.files.iter().any(|file| file.records > 0));
    assert_eq!(
        *machine.open().unwrap_err().kind(),
        ErrorKind::Corrupt { next_readable: Offset(0) }
    );
}

#[test]
fn a_deleted_stream_and_files_used_again_are_no_damage() {
    let machine = Machine::new(8);
    let storage = machine.open().unwrap();
    for _ in 0..4 {
        let stream = create(&storage);
        for tag in 0..30 {
            append(&storage, entry(vec![lines(stream, tag, 1, 4000)])).unwrap();
        }
        let controls = vec![
            Control::TrimStream(stream, Offset(3)),
            Control::DeleteStream(stream),
            Control::SetState { key: "k".into(), value: Some("v".into()) },
        ];
        append(&storage, Entry { controls, ..Entry::default() }).unwrap();
        for _ in 0..3 {
            machine.clock.advance(Duration::from_secs(11));
            storage.drive();
        }
    }
    storage.close().unwrap();
    assert_undamaged(&machine);
    let report = report(&machine).unwrap();
    assert!(report.files.iter().any(|file| file.kind == FileKind::FreeSlot));
    assert_eq!(report.state, [("k".into(), "v".into())]);
}

#[test]
fn an_open_directory_a_foreign_one_and_another_version_are_refused() {
    let machine = Machine::new(9);
    assert_eq!(*report(&machine).unwrap_err().kind(), ErrorKind::Format);
    let storage = machine.open().unwrap();
    let error = report(&machine).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Locked);
    assert!(error.to_string().contains("stop the broker"), "{error}");
    storage.close().unwrap();
    machine.disk.rot(Path::new("data/meshlog.format"), |bytes| {
        *bytes = b"meshlog data directory\nversion 9\nfeatures 00000000 00000000 00000000\n".into();
    });
    assert!(report(&machine).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn a_real_directory_is_read_through_a_disk_that_cannot_write() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1");
    let disk: Arc<dyn Disk> = Arc::new(ReadOnlyDisk);
    let found = verify(&fixture, &disk, &mut |_| {}).unwrap();
    assert!(found.is_clean(), "{:#?}", damage(&found));
    assert!(!fixture.join("meshlog.lock").exists(), "looking made a file");

    let directory = tempfile::tempdir().unwrap();
    let open = OsDisk { write_mode: WriteMode::Buffered }.lock(directory.path()).unwrap();
    std::fs::write(directory.path().join("meshlog.format"), "").unwrap();
    let error = verify(directory.path(), &disk, &mut |_| {}).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Locked);
    drop(open);
}
