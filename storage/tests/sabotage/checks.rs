//! Checks of mechanisms that the model and the sweeps cannot miss by chance, nor find.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::disk::{CrashPlan, Disk as _, Fault, OpenMode};
use meshlog_storage::{
    Batch, Compaction, Control, Entry, ErrorKind, Offset, Policy, Storage, StreamId,
};

use crate::retaining::pass;
use crate::support::{Machine, append, create, entry, lines, lines_of, read_compacted};
use crate::{backing_up, compacting, erasing, merging, restarting, retaining};

const BLOCK: usize = 4096;

pub(crate) const NAMES: [&str; 21] = [
    "a clean stop",
    "a lying disk",
    "a rotten input",
    "a forged group",
    "a misdirected group",
    "another version",
    "two processes",
    "a full disk",
    "an erasure",
    "a backup",
    "a restore",
    "a rotten control record",
    "a group that says it is a seal",
    "a rotten segment header",
    "a rising start",
    "a jumping clock",
    "a young tombstone",
    "a hole in a file",
    "a jump before a restart",
    "damaged groups in a row",
    "very many damaged groups",
];

pub(crate) fn run(name: &str) {
    match name {
        "a clean stop" => a_clean_stop_proves_the_last_group(),
        "a lying disk" => a_checkpoint_that_reads_back_differently_is_given_up(),
        "a rotten input" => rot_is_not_made_good_by_compaction(),
        "a forged group" => a_client_cannot_forge_a_group(),
        "a misdirected group" => a_group_at_another_place_is_none(),
        "another version" => another_version_is_refused(),
        "two processes" => one_process_opens_a_directory(),
        "a full disk" => control_work_goes_on_when_the_disk_is_full(),
        "an erasure" => {
            erasing::nothing_of_what_is_gone_is_in_any_file_and_everything_else_is();
            erasing::remains_of_earlier_lives_go_with_the_rest();
            erasing::nobody_is_told_before_the_names_of_removed_files_are_synced();
        }
        "a backup" => {
            backing_up::a_crash_while_a_folder_gets_a_newer_backup_leaves_the_old_one_or_the_new_one();
        }
        "a restore" => backing_up::a_crash_while_restoring_leaves_everything_or_no_data_directory(),
        "a rotten control record" => a_rotten_control_record_changes_nothing_silently(),
        "a group that says it is a seal" => a_group_cannot_become_a_seal(),
        "a rotten segment header" => the_second_copy_of_a_segment_header_serves(),
        "a rising start" => retaining::a_raised_start_offset_is_durable_before_it_is_visible(),
        "a jumping clock" => {
            retaining::a_clock_that_jumps_deletes_nothing_for_an_hour_and_health_says_so();
        }
        "a young tombstone" => {
            compacting::a_tombstone_stays_until_its_age_and_the_newest_record_for_ever();
        }
        "a hole in a file" => {
            compacting::what_compaction_left_out_takes_no_bytes_from_what_follows_in_its_file();
            merging::a_start_that_rises_under_a_merge_takes_no_bytes_from_what_stays();
        }
        "a jump before a restart" => {
            retaining::a_jump_that_the_log_knows_already_is_not_trusted_after_a_restart_either();
        }
        "damaged groups in a row" => {
            restarting::offsets_of_several_damaged_groups_in_a_row_are_not_given_again();
        }
        "very many damaged groups" => {
            restarting::of_very_many_damaged_groups_in_a_row_no_offset_is_given_again_either();
        }
        other => panic!("there is no check {other}"),
    }
}

fn content(machine: &Machine, path: &Path) -> Vec<u8> {
    let file = machine.disk.open(path, OpenMode::Existing).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn after(machine: &Machine, plan: CrashPlan) -> Machine {
    Machine { disk: machine.disk.after_crash(plan), ..Machine::new(5) }
}

/// The journal file that holds these bytes, and where.
fn find(machine: &Machine, wanted: &[u8]) -> (PathBuf, usize) {
    let mut names = machine.disk.list(Path::new("data")).unwrap();
    names.retain(|name| name.starts_with("journal-"));
    names.sort();
    let found = names.iter().find_map(|name| {
        let path = Path::new("data").join(name);
        let bytes = content(machine, &path);
        let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
        Some((path, at))
    });
    found.expect("what was appended is in a journal file")
}

fn flip(machine: &Machine, (path, at): (PathBuf, usize)) {
    machine.disk.rot(&path, |bytes| bytes[at] ^= 1);
}

fn one_stream(machine: &Machine, payloads: &[Bytes]) -> (Storage, StreamId) {
    let storage = machine.open().unwrap();
    let stream = create(&storage);
    for payload in payloads {
        append(&storage, entry(vec![with_payload(stream, payload)])).unwrap();
    }
    (storage, stream)
}

fn with_payload(stream: StreamId, payload: &Bytes) -> Batch {
    let count = lines_of(payload).count() as u32;
    Batch { payload: vec![payload.clone()], count, ..lines(stream, 0, 1, 10) }
}

fn a_clean_stop_proves_the_last_group() {
    let machine = Machine::new(1);
    let (storage, _) = one_stream(&machine, &[Bytes::from_static(b"first\n")]);
    let stream = storage.streams()[0];
    append(&storage, entry(vec![with_payload(stream, &Bytes::from_static(b"the last one\n"))]))
        .unwrap();
    storage.close().unwrap();
    let machine = after(&machine, CrashPlan::KeepNothing);
    flip(&machine, find(&machine, b"the last one"));
    let storage = machine.open().unwrap();
    let read = read_compacted(&storage, stream, Offset(0));
    let is_said = !storage.health().damage.is_empty() || read.is_err();
    assert!(is_said, "an acknowledged record is gone without a word");
}

fn a_checkpoint_that_reads_back_differently_is_given_up() {
    let work = |machine: &Machine| {
        let (storage, stream) = one_stream(machine, &[Bytes::from_static(b"x\n")]);
        for tag in 0..3 {
            machine.clock.advance(Duration::from_secs(11));
            append(&storage, entry(vec![lines(stream, tag, 1, 100)])).unwrap();
            storage.drive();
        }
    };
    let recorded = Machine::new(2);
    recorded.disk.record();
    work(&recorded);
    let moments = recorded.disk.recorded();
    let mut tried = 0;
    for (index, moment) in moments.iter().enumerate() {
        if moment.call().starts_with("create data/checkpoint-") {
            let machine = Machine::new(2);
            // The creation is call `index + 1`, the write the one after it.
            machine.disk.fault_at(index as u64 + 2, Fault::Stale(0));
            work(&machine);
            let machine = after(&machine, CrashPlan::KeepAll);
            let damage = machine.open().unwrap().health().damage;
            assert!(damage.is_empty(), "a checkpoint was not read back: {damage:?}");
            tried += 1;
        }
    }
    assert!(tried > 0);
}

fn rot_is_not_made_good_by_compaction() {
    let machine = Machine::new(3);
    let (storage, stream) = one_stream(&machine, &[]);
    let compact = Some(Compaction { tombstone_min_age: Duration::from_secs(3600) });
    let policy = Control::SetPolicy(stream, Policy { compact, ..Policy::default() });
    append(&storage, Entry { controls: vec![policy], ..Entry::default() }).unwrap();
    let filler = "y".repeat(2000);
    let record = |tag: u32| {
        let other = tag % 5;
        Bytes::from(format!("@once{tag} kept {tag} {filler}\n@key{other} {tag} {filler}\n"))
    };
    for tag in 0..60 {
        append(&storage, entry(vec![with_payload(stream, &record(tag))])).unwrap();
    }
    flip(&machine, find(&machine, b"@once3 kept 3 "));
    for _ in 0..120 {
        machine.clock.advance(Duration::from_secs(11));
        storage.drive();
    }
    drop(storage);
    let machine = after(&machine, CrashPlan::KeepAll);
    let storage = machine.open().unwrap();
    let mut next = Offset(0);
    loop {
        match crate::model::read_some(&storage, stream, next) {
            Ok(batches) if batches.is_empty() => break,
            Ok(batches) => {
                for line in batches.iter().flat_map(|batch| lines_of(&batch.payload)) {
                    let text = String::from_utf8_lossy(line).into_owned();
                    let is_whole = (0..60)
                        .any(|tag| record(tag).split(|byte| *byte == b'\n').any(|one| one == line));
                    assert!(is_whole, "a rotten record is served: {}", &text[..20]);
                }
                next = batches.last().unwrap().end();
            }
            Err(error) => match error.kind() {
                ErrorKind::Corrupt { next_readable } => next = *next_readable,
                kind => panic!("{kind:?}"),
            },
        }
    }
}

/// A client that knows everything but the salt appends what looks like a newer group.
fn a_client_cannot_forge_a_group() {
    let machine = Machine::new(4);
    let (storage, stream) = one_stream(&machine, &[Bytes::from_static(b"found here\n")]);
    let (path, _) = find(&machine, b"found here");
    let number = |at: usize| {
        let bytes = content(&machine, &path);
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let sequence = number(16);
    let mut payload = Vec::new();
    let end = content(&machine, &path)
        .chunks(BLOCK)
        .rposition(|block| block.starts_with(b"MLGR"))
        .unwrap();
    let lsn = number(end * BLOCK + 16) + 5;
    payload.resize(BLOCK - 64, b'x');
    for _ in 0..2 {
        payload.extend(forged(sequence, lsn));
    }
    payload.push(b'\n');
    let batch = Batch { payload: vec![payload.into()], count: 1, ..lines(stream, 0, 1, 10) };
    append(&storage, entry(vec![batch])).unwrap();
    // Before anything proves it durable.
    let machine = after(&machine, CrashPlan::KeepAll);
    // The first sector of that group never arrived, so it is torn.
    machine.disk.rot(&path, |bytes| bytes[(end + 1) * BLOCK..(end + 1) * BLOCK + 512].fill(0));
    let storage = machine.open().unwrap();
    let damage = storage.health().damage;
    assert!(damage.is_empty(), "bytes of a client were taken for a group: {damage:?}");
}

/// A marker as it would be in a file whose salt is zero.
fn forged(sequence: u64, lsn: u64) -> Vec<u8> {
    let mut seed = crc32fast::Hasher::new();
    seed.update(&[0; 16]);
    seed.update(&sequence.to_le_bytes());
    seed.update(&lsn.to_le_bytes());
    let seed = seed.finalize();
    let crc = |bytes: &[u8]| {
        let mut hasher = crc32fast::Hasher::new_with_initial(seed);
        hasher.update(bytes);
        hasher.finalize()
    };
    let mut header = Vec::new();
    header.extend(b"MLGR");
    header.extend([0; 4]);
    header.extend(sequence.to_le_bytes());
    header.extend(lsn.to_le_bytes());
    for field in [BLOCK as u32, 0, 0, 64, 0, crc(&[])] {
        header.extend(field.to_le_bytes());
    }
    header.extend([0; 12]);
    header.extend(crc(&header).to_le_bytes());
    header.resize(BLOCK, 0);
    header
}

fn a_group_at_another_place_is_none() {
    let machine = Machine::new(6);
    let payloads = [1, 2, 3].map(|n| Bytes::from(format!("record {n}\n")));
    let (_storage, stream) = one_stream(&machine, &payloads);
    let machine = after(&machine, CrashPlan::KeepAll);
    let (path, at) = find(&machine, b"record 1");
    let last = find(&machine, b"record 3").1;
    machine.disk.rot(&path, |bytes| {
        let group = bytes[at / BLOCK * BLOCK..at / BLOCK * BLOCK + BLOCK].to_vec();
        let end = last / BLOCK * BLOCK + BLOCK;
        assert!(bytes[end..end + BLOCK].iter().all(|byte| *byte == 0), "nothing follows");
        bytes[end..end + BLOCK].copy_from_slice(&group);
    });
    let storage = machine.open().unwrap_or_else(|error| panic!("{error}"));
    let batches = read_compacted(&storage, stream, Offset(0)).unwrap();
    assert_eq!(batches.iter().map(|batch| batch.payload.clone()).collect::<Vec<_>>(), payloads);
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health().damage);
}

fn another_version_is_refused() {
    let machine = Machine::new(7);
    drop(one_stream(&machine, &[]));
    let machine = after(&machine, CrashPlan::KeepAll);
    machine.disk.rot(Path::new("data/meshlog.format"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let at = text.find("version ").unwrap() + 8;
        bytes[at] = b'9';
    });
    let opened = machine.open().map(|_| ()).map_err(|error| error.kind().clone());
    assert_eq!(opened, Err(ErrorKind::Format));
}

fn one_process_opens_a_directory() {
    let machine = Machine::new(8);
    let first = machine.open().unwrap();
    let second = machine.open().map(|_| ()).map_err(|error| error.kind().clone());
    assert_eq!(second, Err(ErrorKind::Locked));
    drop(first);
}

fn control_work_goes_on_when_the_disk_is_full() {
    let mut machine = Machine::new(9);
    machine.options.file_bytes_max = 64 << 10;
    let (storage, stream) = one_stream(&machine, &[Bytes::from_static(b"x\n")]);
    machine.clock.advance(Duration::from_secs(2));
    storage.drive();
    machine.disk.set_capacity(machine.disk.used() + (100 << 10));
    let refused = (0..200).find_map(|tag| {
        machine.clock.advance(Duration::from_secs(1));
        append(&storage, entry(vec![lines(stream, tag, 1, 6000)])).err()
    });
    assert_eq!(*refused.expect("the disk is full").kind(), ErrorKind::DiskFull);
    for key in 0..4_u8 {
        let value = Some(Bytes::from(vec![key; 1000]));
        let controls = vec![Control::SetState { key: Bytes::from(vec![key]), value }];
        append(&storage, Entry { controls, ..Entry::default() })
            .unwrap_or_else(|error| panic!("control work is refused: {error}"));
    }
}

fn a_rotten_control_record_changes_nothing_silently() {
    let machine = Machine::new(12);
    let (storage, stream) = one_stream(&machine, &[Bytes::from_static(b"x\n")]);
    let value = Some(Bytes::from_static(b"the genuine value"));
    let controls = vec![Control::SetState { key: Bytes::from_static(b"key"), value }];
    append(&storage, Entry { controls, ..Entry::default() }).unwrap();
    append(&storage, entry(vec![lines(stream, 1, 1, 50)])).unwrap();
    // Before a checkpoint carries it.
    let machine = after(&machine, CrashPlan::KeepAll);
    flip(&machine, find(&machine, b"the genuine value"));
    let Ok(storage) = machine.open() else { return };
    let is_there = storage.state().iter().any(|(_, value)| value == "the genuine value");
    assert!(is_there || !storage.health().damage.is_empty(), "{:?}", storage.state());
}

fn a_group_cannot_become_a_seal() {
    let machine = Machine::new(13);
    let payloads = [1, 2, 3].map(|n| Bytes::from(format!("record {n}\n")));
    let (_storage, stream) = one_stream(&machine, &payloads);
    let machine = after(&machine, CrashPlan::KeepAll);
    let (path, at) = find(&machine, b"record 2");
    // The flags stand behind the magic.
    machine.disk.rot(&path, |bytes| bytes[at / BLOCK * BLOCK + 4] ^= 1);
    let storage = machine.open().unwrap_or_else(|error| panic!("{error}"));
    let read = read_compacted(&storage, stream, Offset(0));
    let is_whole = read.is_ok_and(|batches| batches.len() == payloads.len());
    assert!(is_whole || !storage.health().damage.is_empty(), "records are gone without a word");
}

fn the_second_copy_of_a_segment_header_serves() {
    let machine = Machine::new(14);
    let (storage, streams) = merging::half_dead(&machine);
    merging::trim(&storage, streams[0], 280);
    pass(&machine, &storage, 300);
    let before = streams.map(|stream| merging::all(&storage, stream));
    storage.close().unwrap();
    let names = machine.disk.list(Path::new("data")).unwrap();
    let segments: Vec<_> = names.iter().filter(|name| name.starts_with("segment-")).collect();
    assert!(!segments.is_empty());
    for name in segments {
        machine.disk.rot(&Path::new("data").join(name), |bytes| bytes[40] ^= 1);
    }
    let storage = machine.open().unwrap();
    assert!(storage.health().damage.is_empty(), "{:?}", storage.health().damage);
    assert_eq!(streams.map(|stream| merging::all(&storage, stream)), before);
}
