//! Backup and restore: a point in time, whole, whatever goes on beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::disk::{CrashPlan, Disk, OpenMode, SeededRandom, SimulatedDisk};
use meshlog_storage::{
    BackupFolder, BackupManifest, BackupPoint, Bounds, Control, Entry, Error, ErrorKind, Offset,
    Policy, Restore, Storage, StoredBackupFile, StoredBatch, StreamId, VerifyReport,
};

use crate::merging::{all, half_dead, trim};
use crate::retaining::{pass, set_policy};
use crate::support::{Machine, append, create, entry, lines, read_compacted, stamp};

/// Everything a reader can see.
#[derive(Debug, PartialEq)]
struct Contents {
    streams: BTreeMap<StreamId, (Bounds, Vec<StoredBatch>)>,
    state: Vec<(Bytes, Bytes)>,
}

fn contents(storage: &Storage) -> Contents {
    let streams = storage.streams().into_iter().map(|stream| {
        let bounds = storage.bounds(stream).unwrap();
        (stream, (bounds, read_compacted(storage, stream, bounds.start).unwrap()))
    });
    Contents { streams: streams.collect(), state: storage.state() }
}

fn folder(disk: &SimulatedDisk) -> Result<BackupFolder, Error> {
    BackupFolder::open(Path::new("backup"), Arc::new(disk.clone()))
}

/// What a backup brought into a folder.
#[derive(Debug)]
struct Brought {
    manifest: BackupManifest,
    fetched: Vec<String>,
}

/// Reads a point into a folder, doing something else between any two pieces.
fn fetch(
    point: &BackupPoint,
    folder: BackupFolder,
    between: &mut dyn FnMut(),
) -> Result<Brought, Error> {
    let mut manifest = BackupManifest {
        format_version: point.format_version(),
        lsn: point.lsn(),
        taken_at: point.taken_at(),
        damage: point.damage().to_vec(),
        files: Vec::new(),
    };
    let mut fetched = Vec::new();
    for (index, file) in point.files().iter().enumerate() {
        if let Some((bytes, sha256)) = folder.held(&file.id) {
            point.skip(index);
            assert_eq!(bytes, file.bytes);
            manifest.files.push(StoredBackupFile { file: file.clone(), sha256 });
            continue;
        }
        let mut reader = point.read(index)?;
        let mut writer = folder.create(&file.id)?;
        while let Some(bytes) = reader.next(10_000)? {
            writer.write(&bytes)?;
            between();
        }
        let read = reader.finish();
        manifest.damage.extend(read.damage);
        let (bytes, sha256) = writer.finish()?;
        assert_eq!((bytes, sha256), (file.bytes, read.sha256));
        manifest.files.push(StoredBackupFile { file: file.clone(), sha256 });
        fetched.push(file.name.clone());
    }
    folder.commit(&manifest)?;
    Ok(Brought { manifest, fetched })
}

fn back_up(storage: &Storage, disk: &SimulatedDisk) -> Result<Brought, Error> {
    let folder = folder(disk)?;
    fetch(&storage.backup()?, folder, &mut || {})
}

/// Makes the directory `data` of a machine from a folder.
fn restore(folder: &SimulatedDisk, machine: &Machine) -> Result<VerifyReport, Error> {
    let folder = BackupFolder::existing(Path::new("backup"), Arc::new(folder.clone()))?;
    let manifest = folder.manifest().unwrap().clone();
    let mut restoring = Restore::begin(Path::new("data"), Arc::new(machine.disk.clone()))?;
    for stored in &manifest.files {
        restoring.add(&stored.file.name, &mut folder.read(stored)?)?;
    }
    restoring.finish(&manifest, &mut |_| {})
}

fn restored(disk: &SimulatedDisk) -> (Machine, Storage) {
    let machine = Machine::new(99);
    let report = restore(disk, &machine).unwrap();
    assert!(report.is_clean(), "{:#?} {:?}", report.all_problems().collect::<Vec<_>>(), report);
    let storage = machine.open().unwrap();
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health());
    (machine, storage)
}

fn control(storage: &Storage, control: Control) {
    append(storage, Entry { controls: vec![control], ..Entry::default() }).unwrap();
}

#[test]
fn a_restored_directory_holds_what_was_acknowledged_before_and_nothing_later() {
    let machine = Machine::new(1);
    let (storage, streams) = half_dead(&machine);
    for sequence in 0..5 {
        let producer = Some(stamp(7, sequence));
        let batches = vec![lines(streams[2], 1000 + sequence, 1, 100)];
        append(&storage, Entry { batches, producer, ..Entry::default() }).unwrap();
    }
    control(&storage, Control::SetState { key: "product".into(), value: Some("flights".into()) });
    let expected = contents(&storage);

    let point = storage.backup().unwrap();
    let late = entry(vec![lines(streams[0], 5000, 3, 1000)]);
    append(&storage, late).unwrap();
    control(&storage, Control::SetState { key: "late".into(), value: Some("yes".into()) });
    let disk = SimulatedDisk::new(64 << 20);
    fetch(&point, folder(&disk).unwrap(), &mut || {}).unwrap();

    let (_machine, copy) = restored(&disk);
    assert_eq!(contents(&copy), expected);
    let retry = |sequence| {
        let batches = vec![lines(streams[2], 1000 + sequence, 1, 100)];
        let producer = Some(stamp(7, sequence));
        append(&copy, Entry { batches, producer, ..Entry::default() })
    };
    assert!(retry(4).unwrap().duplicate, "a retry after the restore is still a duplicate");
    assert!(!retry(5).unwrap().duplicate);
    let gap = retry(7).unwrap_err();
    assert_eq!(*gap.kind(), ErrorKind::SequenceGap { expected: 6 });
    copy.close().unwrap();
}

#[test]
fn files_of_a_point_survive_merges_retention_and_deletion_until_they_are_read() {
    let machine = Machine::new(2);
    let (storage, streams) = half_dead(&machine);
    let expected = contents(&storage);
    let before: Vec<_> = machine.disk.list(Path::new("data")).unwrap();
    let point = storage.backup().unwrap();
    for stream in &streams[1..] {
        control(&storage, Control::DeleteStream(*stream));
    }
    trim(&storage, streams[0], 290);
    let other = create(&storage);
    let churn = |rounds| {
        for tag in 0..rounds {
            append(&storage, entry(vec![lines(other, tag, 1, 8000)])).unwrap();
            trim(&storage, other, tag + 1);
            pass(&machine, &storage, 30);
        }
    };
    churn(60);
    assert!(storage.stats().merges > 0 || storage.stats().bytes > 500_000);
    let notes = storage.health().notes;
    assert!(notes.iter().any(|note| note.contains("a backup that began")), "{notes:?}");

    let disk = SimulatedDisk::new(64 << 20);
    fetch(&point, folder(&disk).unwrap(), &mut || {}).unwrap();
    assert_eq!(contents(&restored(&disk).1), expected);

    let held = machine.disk.used();
    drop(point);
    churn(10);
    assert!(storage.health().notes.is_empty(), "{:?}", storage.health());
    assert!(machine.disk.used() < held, "what only the backup needed goes with it");
    assert!(!before.is_empty());
}

#[test]
fn a_second_backup_fetches_only_what_is_new_and_removes_what_is_not_needed() {
    let machine = Machine::new(3);
    let (storage, streams) = half_dead(&machine);
    let disk = SimulatedDisk::new(64 << 20);
    let first = back_up(&storage, &disk).unwrap();
    assert_eq!(first.fetched.len(), first.manifest.files.len());
    assert!(first.fetched.len() > 4, "{first:?}");

    append(&storage, entry(vec![lines(streams[1], 1, 1, 100)])).unwrap();
    let second = back_up(&storage, &disk).unwrap();
    assert_eq!(second.fetched.len(), 2, "the checkpoint and the file being written: {second:?}");

    storage.drive_idle();
    let third = back_up(&storage, &disk).unwrap();
    let fourth = back_up(&storage, &disk).unwrap();
    assert!(third.fetched.len() <= 2, "{third:?}");
    assert_eq!(fourth.fetched.len(), 0, "nothing happened meanwhile: {fourth:?}");

    trim(&storage, streams[0], 280);
    pass(&machine, &storage, 300);
    assert!(storage.stats().merges > 0);
    let expected = contents(&storage);
    let fifth = back_up(&storage, &disk).unwrap();
    assert!(fifth.fetched.iter().any(|name| name.starts_with("segment-")), "{fifth:?}");
    let names = disk.list(Path::new("backup")).unwrap();
    assert_eq!(names.len(), fifth.manifest.files.len() + 1, "old files are gone: {names:?}");
    assert_eq!(contents(&restored(&disk).1), expected);
}

#[test]
fn what_an_interrupted_backup_brought_is_not_fetched_again() {
    let machine = Machine::new(4);
    let (storage, _) = half_dead(&machine);
    let disk = SimulatedDisk::new(64 << 20);
    let point = storage.backup().unwrap();
    let begun = folder(&disk).unwrap();
    for index in [1, 2] {
        let mut writer = begun.create(&point.files()[index].id).unwrap();
        let mut reader = point.read(index).unwrap();
        while let Some(bytes) = reader.next(1 << 20).unwrap() {
            writer.write(&bytes).unwrap();
        }
        if index == 1 {
            writer.finish().unwrap();
        }
    }
    drop((begun, point));
    let folder = folder(&disk).unwrap();
    assert_eq!(folder.have().count(), 1, "only what was finished counts");
    let point = storage.backup().unwrap();
    let brought = fetch(&point, folder, &mut || {}).unwrap();
    assert_eq!(brought.fetched.len(), brought.manifest.files.len() - 1);
    assert_eq!(contents(&restored(&disk).1), contents(&storage));
}

#[test]
fn an_empty_storage_and_one_that_was_restored_are_backed_up_like_any_other() {
    let machine = Machine::new(5);
    let storage = machine.open().unwrap();
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    let (_machine, copy) = restored(&disk);
    assert_eq!(contents(&copy), contents(&storage));
    let stream = create(&copy);
    append(&copy, entry(vec![lines(stream, 0, 2, 300)])).unwrap();
    let second = SimulatedDisk::new(64 << 20);
    back_up(&copy, &second).unwrap();
    assert_eq!(contents(&restored(&second).1), contents(&copy));
}

/// The moment when a backup is wanted most.
#[test]
fn a_journal_that_failed_is_backed_up_up_to_its_last_acknowledgement() {
    let machine = Machine::new(6);
    let (storage, streams) = half_dead(&machine);
    let expected = contents(&storage);
    machine.disk.fail_at(machine.disk.calls() + 2, std::io::ErrorKind::Other);
    append(&storage, entry(vec![lines(streams[0], 9, 1, 100)])).unwrap_err();
    assert!(storage.health().appends_refused.is_some());
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    assert_eq!(contents(&restored(&disk).1), expected);
}

#[test]
fn damage_found_while_reading_is_told_and_everything_else_is_in_the_backup() {
    let machine = Machine::new(7);
    let (storage, streams) = half_dead(&machine);
    let needle = format!("{} 20 0 ", streams[1]);
    for name in machine.disk.list(Path::new("data")).unwrap() {
        machine.disk.rot(&Path::new("data").join(&name), |bytes| {
            let found = bytes.windows(needle.len()).position(|part| part == needle.as_bytes());
            if let Some(at) = found {
                bytes[at + 30] ^= 1;
            }
        });
    }
    let disk = SimulatedDisk::new(64 << 20);
    let brought = back_up(&storage, &disk).unwrap();
    let [damage] = &brought.manifest.damage[..] else { panic!("{:?}", brought.manifest.damage) };
    assert!(damage.contains("journal-") && damage.contains("checksum"), "{damage}");

    let copy = Machine::new(98);
    let report = restore(&disk, &copy).unwrap();
    assert_eq!(report.all_problems().count(), 1, "verify finds the same");
    let storage = copy.open().unwrap();
    let error = read_compacted(&storage, streams[1], Offset(0)).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(21) });
    assert_eq!(read_compacted(&storage, streams[1], Offset(21)).unwrap().len(), 129);
}

#[test]
fn pins_that_are_let_go_and_a_closed_storage_end_the_backup() {
    let machine = Machine::new(8);
    let (storage, _) = half_dead(&machine);
    let point = storage.backup().unwrap();
    let mut reader = point.read(1).unwrap();
    assert!(reader.next(4096).unwrap().is_some());
    point.pins().let_go(Error::new(ErrorKind::Closed, "too slow"));
    assert_eq!(reader.next(4096).unwrap_err().to_string(), "too slow");
    assert_eq!(point.read(2).unwrap_err().to_string(), "too slow");

    let point = storage.backup().unwrap();
    let mut reader = point.read(1).unwrap();
    storage.close().unwrap();
    assert_eq!(*reader.next(4096).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(*storage.backup().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn an_erasure_waits_until_a_backup_has_read_what_goes() {
    let machine = Machine::new(20);
    let (storage, streams) = half_dead(&machine);
    let expected = contents(&storage);
    let point = storage.backup().unwrap();
    control(&storage, Control::DeleteStream(streams[0]));
    let told = crate::erasing::ask(&storage, vec![streams[0]]);
    pass(&machine, &storage, 600);
    assert!(told.lock().is_none(), "the backup holds some of it");
    let disk = SimulatedDisk::new(64 << 20);
    fetch(&point, folder(&disk).unwrap(), &mut || {}).unwrap();
    assert_eq!(contents(&restored(&disk).1), expected);
    pass(&machine, &storage, 3000);
    told.lock().take().expect("each file is let go when it was read").unwrap();
    drop(point);
}

#[test]
fn a_full_disk_takes_back_what_only_a_backup_needs() {
    let machine = Machine::new(9);
    let (storage, streams) = half_dead(&machine);
    let point = storage.backup().unwrap();
    for stream in streams {
        control(&storage, Control::DeleteStream(stream));
    }
    pass(&machine, &storage, 60);
    let stream = create(&storage);
    machine.disk.set_capacity(machine.disk.used() + 100_000);
    let mut tag = 0;
    let error = loop {
        match point.read(1) {
            Ok(_) => {}
            Err(error) => break error,
        }
        // Some are refused until what was kept is there again.
        drop(append(&storage, entry(vec![lines(stream, tag, 1, 8000)])));
        pass(&machine, &storage, 20);
        tag += 1;
        assert!(tag < 1000, "the backup gives way");
    };
    assert_eq!(*error.kind(), ErrorKind::DiskFull, "{error}");
    pass(&machine, &storage, 60);
    for tag in 0..10 {
        append(&storage, entry(vec![lines(stream, 2000 + tag, 1, 8000)])).unwrap();
    }
}

/// Random work on one side, backups of it into one folder on the other, each read while the work
/// goes on.
#[test]
fn every_backup_of_a_busy_storage_restores_to_its_own_moment() {
    for seed in 0..6 {
        let machine = Machine::new(seed);
        let storage = machine.open().unwrap();
        let random = SeededRandom::new(seed);
        let mut streams = vec![create(&storage)];
        let disk = SimulatedDisk::new(64 << 20);
        let mut sequences = [0; 3];
        let mut tag = 0;
        let mut work = |storage: &Storage| {
            tag += 1;
            let pick = random.next_u64() as usize;
            let stream = streams[pick / 16 % streams.len()];
            match pick % 16 {
                0 if streams.len() < 8 => streams.push(create(storage)),
                1 if streams.len() > 2 => {
                    let index = pick / 16 % streams.len();
                    control(storage, Control::DeleteStream(streams.swap_remove(index)));
                }
                2 => {
                    let Bounds { start, durable_end, .. } = storage.bounds(stream).unwrap();
                    trim(storage, stream, start.0 + (durable_end.0 - start.0) * 3 / 4);
                }
                3 => {
                    let max_bytes = Some(20_000 + random.next_u64() % 50_000);
                    set_policy(storage, stream, Policy { max_bytes, ..Policy::default() });
                }
                4 => pass(&machine, storage, 60),
                5 => {
                    let key = format!("key {}", pick / 16 % 5).into();
                    let value = Some(format!("value {tag}").into());
                    control(storage, Control::SetState { key, value });
                }
                6..9 => {
                    let id = pick / 16 % 3;
                    let producer = Some(stamp(id as u8, sequences[id]));
                    let batches = vec![lines(stream, tag, 1, 500)];
                    append(storage, Entry { batches, producer, ..Entry::default() }).unwrap();
                    sequences[id] += 1;
                }
                _ => {
                    let batches = vec![lines(stream, tag, 3, 3000), lines(streams[0], tag, 1, 200)];
                    append(storage, entry(batches)).unwrap();
                    machine.clock.advance(Duration::from_millis(300));
                }
            }
        };
        for _ in 0..5 {
            for _ in 0..60 {
                work(&storage);
            }
            // What is due goes before the point, so that it is not due again in the copy.
            pass(&machine, &storage, 40);
            let folder = folder(&disk).unwrap();
            let expected = contents(&storage);
            let point = storage.backup().unwrap();
            fetch(&point, folder, &mut || work(&storage)).unwrap();
            drop(point);
            assert_eq!(contents(&restored(&disk).1), expected, "seed {seed}");
        }
        assert!(storage.stats().merges > 0, "seed {seed}: {:?}", storage.stats());
    }
}

/// Power goes at every call on the disk that takes the backup: the old one is whole, or the new
/// one.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_crash_while_a_folder_gets_a_newer_backup_leaves_the_old_one_or_the_new_one() {
    let machine = Machine::new(10);
    let (storage, streams) = half_dead(&machine);
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    let before = contents(&storage);
    trim(&storage, streams[0], 280);
    pass(&machine, &storage, 300);
    let after = contents(&storage);
    assert!(storage.stats().merges > 0);
    assert_ne!(before, after);

    let old = disk.after_crash(CrashPlan::KeepNothing);
    let calls = {
        let disk = old.after_crash(CrashPlan::KeepNothing);
        back_up(&storage, &disk).unwrap();
        disk.calls()
    };
    assert!(calls > 30, "{calls}");
    let (mut olds, mut news) = (0, 0);
    for call in 1..=calls {
        for plan in plans(call) {
            let disk = old.after_crash(CrashPlan::KeepNothing);
            disk.crash_at(call, call);
            let outcome = back_up(&storage, &disk);
            let left = disk.after_crash(plan);
            let (_machine, copy) = restored(&left);
            let found = contents(&copy);
            assert!(found == before || found == after, "call {call}, {plan:?}");
            assert!(outcome.is_err() || found == after, "call {call}, {plan:?}: it was done");
            if found == after {
                news += 1
            } else {
                olds += 1
            }
            // And the next backup into it works.
            if call % 7 == 0 {
                back_up(&storage, &left).unwrap();
                assert_eq!(contents(&restored(&left).1), after);
            }
        }
    }
    assert!(olds > 0 && news > 0, "{olds} old, {news} new");
}

fn plans(seed: u64) -> [CrashPlan; 4] {
    [
        CrashPlan::KeepNothing,
        CrashPlan::KeepAll,
        CrashPlan::Random(seed),
        CrashPlan::Random(seed + 1000),
    ]
}

/// Power goes at every call of a restore: there is a data directory with everything in it, or none,
/// and running it again makes one.
#[cfg_attr(not(sabotage), test)]
pub(crate) fn a_crash_while_restoring_leaves_everything_or_no_data_directory() {
    let source = Machine::new(11);
    let (storage, streams) = half_dead(&source);
    trim(&storage, streams[0], 280);
    pass(&source, &storage, 300);
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    let expected = contents(&storage);
    let calls = {
        let machine = Machine::new(12);
        restore(&disk, &machine).unwrap();
        machine.disk.calls()
    };
    assert!(calls > 20, "{calls}");
    let (mut whole, mut none) = (0, 0);
    for call in 1..=calls {
        for plan in plans(call) {
            let mut machine = Machine::new(12);
            machine.disk.crash_at(call, call);
            let outcome = restore(&disk, &machine);
            machine.disk = machine.disk.after_crash(plan);
            let names = machine.disk.list(Path::new("data")).unwrap();
            if names.iter().any(|name| name == "meshlog.format") {
                whole += 1;
            } else {
                none += 1;
                assert!(outcome.is_err(), "call {call}, {plan:?}: it was done");
                if names.iter().any(|name| !name.ends_with(".unfinished")) {
                    let error = machine.open().unwrap_err();
                    assert_eq!(*error.kind(), ErrorKind::Format);
                    assert!(error.to_string().contains("run it again"), "{error}");
                }
                let report = restore(&disk, &machine).unwrap();
                assert!(report.is_clean());
            }
            crate::verifying::assert_undamaged(&machine);
            let copy = machine.open().unwrap();
            assert_eq!(contents(&copy), expected, "call {call}, {plan:?}");
            assert!(copy.health().damage.is_empty(), "call {call}, {plan:?}");
            assert!(
                !machine
                    .disk
                    .list(Path::new("data"))
                    .unwrap()
                    .contains(&"restore.unfinished".into())
            );
        }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} none");
}

/// Every call of a restore fails once: it says so and leaves an empty directory, or was done.
#[test]
fn a_restore_that_fails_leaves_nothing_behind() {
    let source = Machine::new(13);
    let (storage, _) = half_dead(&source);
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    let calls = {
        let machine = Machine::new(14);
        restore(&disk, &machine).unwrap();
        machine.disk.calls()
    };
    let mut failed = 0;
    for call in 1..=calls {
        for kind in [std::io::ErrorKind::Other, std::io::ErrorKind::StorageFull] {
            let machine = Machine::new(14);
            machine.disk.fail_at(call, kind);
            let outcome = restore(&disk, &machine);
            let names = machine.disk.list(Path::new("data")).unwrap();
            match outcome {
                Ok(report) => assert!(report.is_clean()),
                Err(error) => {
                    failed += 1;
                    assert!(
                        matches!(error.kind(), ErrorKind::Io | ErrorKind::DiskFull),
                        "call {call}: {error}"
                    );
                    assert!(names.is_empty(), "call {call}: {error}, {names:?}");
                }
            }
        }
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn a_changed_missing_or_foreign_file_is_refused_and_nothing_is_restored() {
    let source = Machine::new(15);
    let (storage, _) = half_dead(&source);
    let disk = SimulatedDisk::new(64 << 20);
    let brought = back_up(&storage, &disk).unwrap();
    let refuses = |disk: &SimulatedDisk, what: &str| {
        let machine = Machine::new(16);
        let error = restore(disk, &machine).unwrap_err();
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert_eq!(*error.kind(), ErrorKind::Corrupt { next_readable: Offset(0) }, "{error}");
        assert!(machine.disk.list(Path::new("data")).unwrap().is_empty());
    };
    for stored in &brought.manifest.files {
        let path = Path::new("backup").join(&stored.file.id);
        for at in [0, stored.file.bytes / 2, stored.file.bytes - 1] {
            let changed = disk.after_crash(CrashPlan::KeepAll);
            changed.rot(&path, |bytes| bytes[at as usize] ^= 0x10);
            refuses(&changed, "checksum");
        }
        let cut = disk.after_crash(CrashPlan::KeepAll);
        cut.rot(&path, |bytes| bytes.truncate(bytes.len() - 1));
        refuses(&cut, "checksum");
        let missing = disk.after_crash(CrashPlan::KeepAll);
        missing.remove(&path).unwrap();
        refuses(&missing, "missing");
    }
    let changed = disk.after_crash(CrashPlan::KeepAll);
    changed.rot(Path::new("backup/meshlog.backup"), |bytes| bytes[40] ^= 1);
    refuses(&changed, "manifest");
}

#[test]
fn nothing_is_restored_over_anything_and_no_name_leads_elsewhere() {
    let source = Machine::new(17);
    let (storage, _) = half_dead(&source);
    let disk = SimulatedDisk::new(64 << 20);
    back_up(&storage, &disk).unwrap();
    // Over the very directory it came from, once it is closed.
    storage.close().unwrap();
    let image = source.disk.image();
    let error = restore(&disk, &source).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("not empty"), "{error}");
    assert_eq!(source.disk.image(), image);

    let machine = Machine::new(18);
    machine.disk.open(Path::new("data/notes.txt"), OpenMode::CreateNew).unwrap();
    let image = machine.disk.image();
    restore(&disk, &machine).unwrap_err();
    assert_eq!(machine.disk.image(), image);

    let target = SimulatedDisk::new(1 << 20);
    let mut restoring = Restore::begin(Path::new("data"), Arc::new(target.clone())).unwrap();
    for name in ["../x", "/x", "x", "meshlog.format", "meshlog.lock", "journal-000001/x", ""] {
        let error = restoring.add(name, &mut &b"bytes"[..]).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Format, "{name}");
    }
    restoring.add("journal-000001", &mut &b"bytes"[..]).unwrap();
    restoring.add("journal-000001", &mut &b"other"[..]).unwrap_err();
    drop(restoring);
    assert!(target.list(Path::new("data")).unwrap().is_empty());
    assert!(target.list(Path::new("")).unwrap().is_empty());
}

#[test]
fn a_folder_with_anything_else_in_it_is_not_backed_up_into() {
    let disk = SimulatedDisk::new(64 << 20);
    disk.open(Path::new("backup/Holiday.jpg"), OpenMode::CreateNew).unwrap();
    let error = folder(&disk).unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Format);
    assert!(error.to_string().contains("Holiday.jpg"), "{error}");
    for name in ["notes", "src", "journal-000001", "checkpoint-1", "draft.unfinished"] {
        let disk = SimulatedDisk::new(64 << 20);
        disk.open(&Path::new("backup").join(name), OpenMode::CreateNew).unwrap();
        let image = disk.image();
        assert_eq!(*folder(&disk).unwrap_err().kind(), ErrorKind::Format, "{name}");
        assert_eq!(disk.image(), image, "{name}");
    }
    let machine = Machine::new(19);
    let storage = machine.open().unwrap();
    assert!(BackupFolder::open(Path::new("data"), Arc::new(machine.disk.clone())).is_err());
    assert!(all(&storage, create(&storage)).is_empty());
}
