use std::collections::BTreeSet;

use super::*;
use crate::position::Timestamp;

fn path(name: &str) -> std::path::PathBuf {
    Path::new("d").join(name)
}

fn create(disk: &SimulatedDisk, name: &str) -> Arc<dyn DiskFile> {
    let file = disk.open(&path(name), OpenMode::CreateNew).unwrap();
    disk.sync_directory(Path::new("d")).unwrap();
    file
}

/// The bytes of a file, if its name is there.
fn content(disk: &SimulatedDisk, name: &str) -> Option<Vec<u8>> {
    let file = disk.open(&path(name), OpenMode::Existing).ok()?;
    let mut bytes = vec![0; file.size().unwrap() as usize];
    let length = bytes.len();
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), length);
    Some(bytes)
}

#[test]
fn a_crash_takes_what_was_not_synced() {
    let disk = SimulatedDisk::new(1 << 20);
    let a = create(&disk, "a");
    a.write_at(0, &[1; 1024]).unwrap();
    a.sync().unwrap();
    a.write_at(0, &[2; 1024]).unwrap();
    disk.open(&path("b"), OpenMode::CreateNew).unwrap();

    let after = disk.after_crash(CrashPlan::KeepNothing);
    assert_eq!(content(&after, "a"), Some(vec![1; 1024]));
    assert_eq!(content(&after, "b"), None);
    let after = disk.after_crash(CrashPlan::KeepAll);
    assert_eq!(content(&after, "a"), Some(vec![2; 1024]));
    assert_eq!(content(&after, "b"), Some(vec![]));

    let images = |plan: fn(u64) -> CrashPlan| {
        let images = (0..64).map(|seed| disk.after_crash(plan(seed)).image());
        images.collect::<BTreeSet<_>>().len()
    };
    assert_eq!(images(CrashPlan::Random), 8, "two sectors and one name: every subset");
    assert_eq!(images(CrashPlan::InOrder), 6, "three beginnings of the file, with and without b");
}

#[test]
fn a_grown_size_may_survive_without_its_bytes() {
    let disk = SimulatedDisk::new(1 << 20);
    create(&disk, "a").write_at(0, &[7; 1024]).unwrap();
    let found: BTreeSet<_> =
        (0..64).map(|seed| content(&disk.after_crash(CrashPlan::Random(seed)), "a")).collect();
    assert!(found.contains(&Some(vec![0; 1024])), "the size and no byte");
    assert!(found.contains(&Some(vec![])));
    assert!(found.contains(&Some([[0; 512], [7; 512]].concat())), "the second sector alone");
}

#[test]
fn a_name_is_lost_without_the_sync_of_its_directory() {
    let disk = SimulatedDisk::new(1 << 20);
    create(&disk, "a").write_at(0, &[1; 8]).unwrap();
    let b = disk.open(&path("b"), OpenMode::CreateNew).unwrap();
    b.write_at(0, &[2; 8]).unwrap();
    b.sync().unwrap();
    disk.rename(&path("b"), &path("a")).unwrap();
    let after = disk.after_crash(CrashPlan::KeepNothing);
    assert_eq!((content(&after, "a"), content(&after, "b")), (Some(vec![]), None));
    disk.sync_directory(Path::new("d")).unwrap();
    disk.remove(&path("a")).unwrap();
    let after = disk.after_crash(CrashPlan::KeepNothing);
    assert_eq!(content(&after, "a"), Some(vec![2; 8]));
    assert_eq!(content(&disk.after_crash(CrashPlan::KeepAll), "a"), None);
}

#[test]
fn after_a_failed_sync_a_second_one_succeeds_and_the_bytes_are_gone() {
    let disk = SimulatedDisk::new(1 << 20);
    let a = create(&disk, "a");
    a.write_at(0, &[1; 512]).unwrap();
    disk.fail_at(disk.calls() + 1, io::ErrorKind::Other);
    assert!(a.sync().is_err());
    assert_eq!(content(&disk, "a"), Some(vec![1; 512]), "they read back well");
    a.sync().unwrap();
    assert_eq!(content(&disk.after_crash(CrashPlan::KeepAll), "a"), Some(vec![0; 512]));
}

#[test]
fn a_full_disk_takes_a_part_of_a_write_before_it_refuses() {
    let disk = SimulatedDisk::new(4096);
    let a = create(&disk, "a");
    a.allocate(1024).unwrap();
    assert_eq!(a.allocate(8192).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let error = a.write_at(1024, &[3; 8192]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a"), Some([[0; 1024].as_slice(), &[3; 3072]].concat()));
    a.write_at(0, &[4; 4096]).unwrap();
    disk.set_capacity(8192);
    a.write_at(4096, &[5; 4096]).unwrap();
}

#[test]
fn short_and_interrupted_calls_are_repeated_until_all_is_done() {
    let disk = SimulatedDisk::new(1 << 20);
    let a = create(&disk, "a");
    let bytes: Vec<u8> = (0..4096).map(|index| (index / 64) as u8).collect();
    for fault in [Fault::Partial, Fault::Interrupted] {
        disk.fault_at(disk.calls() + 1, fault);
        let before = disk.calls();
        a.write_at(0, &bytes).unwrap();
        assert_eq!(disk.calls(), before + 2, "{fault:?} takes a second call");
        disk.fault_at_read(disk.reads() + 1, fault);
        let before = disk.reads();
        assert_eq!(content(&disk, "a"), Some(bytes.clone()));
        assert_eq!(disk.reads(), before + 2, "{fault:?} takes a second read");
    }
    disk.fault_at(disk.calls() + 1, Fault::Short(io::ErrorKind::StorageFull));
    let error = a.write_at(0, &[0; 4096]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "a"), Some([&[0; 2048], &bytes[2048..]].concat()));
    disk.fault_at_read(disk.reads() + 1, Fault::Short(io::ErrorKind::Other));
    assert!(a.read_at(0, &mut [0; 4096]).is_err());
    assert!(disk.is_past_faults());
}

#[test]
fn a_failed_write_may_leave_any_of_its_sectors() {
    let mut found = BTreeSet::new();
    for seed in 0..64 {
        let disk = SimulatedDisk::new(1 << 20);
        let a = create(&disk, "a");
        disk.fault_at(disk.calls() + 1, Fault::Torn(io::ErrorKind::Other, seed));
        assert!(a.write_at(0, &[1; 1536]).is_err());
        found.insert(content(&disk, "a"));
    }
    assert_eq!(found.len(), 8, "every subset of three sectors");
}

#[test]
fn stale_misdirected_and_flipped_bytes_are_told_to_nobody() {
    let disk = SimulatedDisk::new(1 << 20);
    let a = create(&disk, "a");
    a.write_at(0, &[1; 4096]).unwrap();
    disk.fault_at(disk.calls() + 1, Fault::Stale(1));
    a.write_at(0, &[2; 2048]).unwrap();
    let sectors = |byte: u8| {
        let bytes = content(&disk, "a").unwrap();
        bytes.chunks(512).filter(|sector| **sector == [byte; 512]).count()
    };
    assert_eq!((sectors(1), sectors(2)), (5, 3));
    disk.fault_at(disk.calls() + 1, Fault::Misdirected(2));
    a.write_at(0, &[3; 512]).unwrap();
    assert_eq!(sectors(3), 2);
    disk.fault_at_read(disk.reads() + 1, Fault::Flipped(3));
    let (read, again) = (content(&disk, "a").unwrap(), content(&disk, "a").unwrap());
    let flipped: u32 = read.iter().zip(&again).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(flipped, 1);
}

#[test]
fn a_bad_sector_fails_reads_until_it_is_written() {
    let disk = SimulatedDisk::new(1 << 20);
    let a = create(&disk, "a");
    a.write_at(0, &[1; 2048]).unwrap();
    disk.spoil(&path("a"), 2);
    assert!(a.read_at(0, &mut [0; 1025]).is_err());
    assert_eq!(a.read_at(0, &mut [0; 1024]).unwrap(), 1024);
    a.write_at(1024, &[2; 512]).unwrap();
    assert_eq!(a.read_at(0, &mut [0; 2048]).unwrap(), 2048);
}

#[test]
fn files_are_swapped_and_lost_for_good() {
    let disk = SimulatedDisk::new(1 << 20);
    create(&disk, "a").allocate(1).unwrap();
    create(&disk, "b").allocate(2).unwrap();
    disk.swap(&path("a"), &path("b"));
    let after = disk.after_crash(CrashPlan::KeepAll);
    assert_eq!(content(&after, "a").map(|bytes| bytes.len()), Some(2));
    disk.lose(&path("a"));
    assert_eq!(content(&disk.after_crash(CrashPlan::KeepAll), "a"), None);
}

#[test]
fn a_slow_call_takes_its_time() {
    let clock = Arc::new(ManualClock::starting_at(Timestamp(5)));
    let disk = SimulatedDisk::new(1 << 20).with_clock(Arc::clone(&clock));
    let a = create(&disk, "a");
    disk.fault_at(disk.calls() + 1, Fault::Slow(Duration::from_secs(5)));
    a.sync().unwrap();
    assert_eq!(crate::disk::Clock::monotonic(&*clock), Duration::from_secs(5));
}

#[test]
fn a_recorded_run_gives_the_images_of_every_crash_in_it() {
    let work = |disk: &SimulatedDisk| -> io::Result<()> {
        let a = disk.open(&path("a"), OpenMode::CreateNew)?;
        a.allocate(4096)?;
        a.write_at(0, &[1; 2048])?;
        a.sync()?;
        disk.sync_directory(Path::new("d"))?;
        a.write_at(1024, &[2; 2048])?;
        disk.rename(&path("a"), &path("b"))?;
        a.sync()
    };
    let disk = SimulatedDisk::new(1 << 20);
    disk.record();
    work(&disk).unwrap();
    let moments = disk.recorded();
    assert_eq!(moments.len() as u64, disk.calls());
    for (call, moment) in (1..).zip(&moments) {
        for seed in 0..8 {
            let crashed = SimulatedDisk::new(1 << 20);
            crashed.crash_at(call, seed);
            assert!(work(&crashed).is_err());
            for plan in [CrashPlan::KeepAll, CrashPlan::Random(seed), CrashPlan::KeepNothing] {
                let image = moment.cut(seed ^ call).after_crash(plan).image();
                assert_eq!(image, crashed.after_crash(plan).image(), "{}", moment.call());
            }
        }
    }
}

#[test]
fn the_trace_names_every_call() {
    let disk = SimulatedDisk::new(1 << 20);
    disk.keep_trace();
    let a = create(&disk, "a");
    a.write_at(4096, &[1; 512]).unwrap();
    disk.fail_at(disk.calls() + 1, io::ErrorKind::Other);
    drop(a.sync());
    a.read_at(0, &mut [0; 16]).unwrap();
    let crc = crc32fast::hash(&[1; 512]);
    assert_eq!(
        disk.trace(),
        format!(
            "create d/a -> 1\nsync directory -> 0\nwrite #1 4096+512 {crc:08x} -> 512\n\
             sync #1 -> other error\nread #1 0+16 -> 16\n"
        )
    );
}
