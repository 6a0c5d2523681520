//! The disk: what it is mounted as, what is free, and how long a sync takes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use indicatif::HumanBytes;

use super::Finding;

const BLOCK: usize = 4096;
const SYNCS: usize = 200;
const SYNCS_FOR_AT_MOST: Duration = Duration::from_secs(4);
const PROBE: &str = "doctor.unfinished";
/// Less than the reserve of a broker that was busy.
const FREE_MIN: u64 = 512 << 20;
const FREE_WARN: u64 = 5 << 30;

/// Everything about the disk below a directory.
pub(super) fn look(directory: &Path) -> Vec<Finding> {
    // Where there is no directory yet, the one it will be made in.
    let Some(place) = directory.ancestors().find(|place| place.is_dir()) else {
        return Vec::new();
    };
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let mut findings = vec![file_system(place)];
    findings.extend(space(place));
    if place == directory {
        findings.push(permissions(place));
    }
    findings.extend(syncs(place));
    findings
}

/// One line of `/proc/self/mountinfo`.
struct Mount {
    point: PathBuf,
    kind: String,
    options: String,
}

fn mount_of(place: &Path) -> Option<Mount> {
    let place = place.canonicalize().ok()?;
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounts = text.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let point = PathBuf::from(before.next()?.replace("\\040", " "));
        let mut after = after.split(' ');
        let kind = after.next()?.to_owned();
        let options = format!("{},{}", before.next()?, after.nth(1).unwrap_or_default());
        Some(Mount { point, kind, options })
    });
    // The last of the longest covers the others.
    mounts
        .filter(|mount| place.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count())
}

fn file_system(place: &Path) -> Finding {
    const WHAT: &str = "file system";
    let Some(mount) = mount_of(place) else {
        return Finding::warning(
            WHAT,
            "unknown",
            "this system does not say what is mounted; a local file system is what is tested",
        );
    };
    let options: Vec<&str> = mount.options.split(',').collect();
    let found = format!("{} at {}, {}", mount.kind, mount.point.display(), mount.options);
    if options.contains(&"ro") {
        return Finding::problem(WHAT, found, "it is mounted for reading only: mount it with `rw`");
    }
    if options.contains(&"nobarrier") || options.contains(&"barrier=0") {
        return Finding::problem(
            WHAT,
            found,
            "without barriers a sync does not reach the disk, and a power cut loses what was \
             acknowledged: mount it without that option",
        );
    }
    match mount.kind.as_str() {
        "ext4" | "xfs" | "btrfs" | "zfs" | "f2fs" | "bcachefs" | "apfs" => Finding::ok(WHAT, found),
        "tmpfs" | "ramfs" => Finding::problem(
            WHAT,
            found,
            "this is memory: nothing survives a restart of the machine; use a directory on a disk, \
             or `serve --in-memory`",
        ),
        "overlay" | "overlayfs" | "aufs" => Finding::warning(
            WHAT,
            found,
            "this is the layer of a container and goes with it: mount a volume",
        ),
        kind if kind.starts_with("nfs") || kind.starts_with("fuse") || kind == "cifs" => {
            Finding::warning(
                WHAT,
                found,
                "locks and syncs of a network or user-space file system are as good as its server; \
                 a local disk is what is tested",
            )
        }
        _ => Finding::warning(WHAT, found, "not tested; ext4 and xfs are known to be good"),
    }
}

fn space(place: &Path) -> Vec<Finding> {
    let Ok(stat) = rustix::fs::statvfs(place) else { return Vec::new() };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let total = stat.f_blocks.saturating_mul(stat.f_frsize);
    let found = format!("{} free of {}", HumanBytes(free), HumanBytes(total));
    let advice = "appends are refused when the reserve cannot be kept: make room, or use a larger \
                  disk";
    let mut findings = vec![if free < FREE_MIN {
        Finding::problem("space", found, advice)
    } else if free < FREE_WARN {
        Finding::warning("space", found, advice)
    } else {
        Finding::ok("space", found)
    }];
    // Some file systems have no table of inodes and say zero.
    if stat.f_files > 0 && stat.f_favail < 1000 {
        findings.push(Finding::warning(
            "inodes",
            format!("{} free of {}", stat.f_favail, stat.f_files),
            "remove small files, or make the file system with more inodes",
        ));
    }
    findings
}

fn permissions(directory: &Path) -> Finding {
    const WHAT: &str = "permissions";
    let Ok(metadata) = std::fs::metadata(directory) else {
        return Finding::problem(WHAT, "cannot be read", "let this user read the directory");
    };
    let mode = metadata.permissions().mode() & 0o777;
    let found = format!("{mode:03o}, owner {}", metadata.uid());
    if mode & 0o022 != 0 {
        let advice = format!("others can write there: `chmod 700 {}`", directory.display());
        return Finding::problem(WHAT, found, advice);
    }
    if mode & 0o044 != 0 {
        let advice = format!(
            "others can list the directory, though not read its files: `chmod 700 {}`",
            directory.display()
        );
        return Finding::warning(WHAT, found, advice);
    }
    Finding::ok(WHAT, found)
}

/// Removes the probe however its use ends.
struct Probe(PathBuf);

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn syncs(place: &Path) -> Vec<Finding> {
    let probe = Probe(place.join(PROBE));
    match measure(&probe.0) {
        Ok(measured) => measured.findings(),
        Err(error) => vec![Finding::problem(
            "sync",
            format!("a file in {} cannot be written: {error}", place.display()),
            "let the user that runs the broker write there",
        )],
    }
}

struct Measured {
    /// Smallest unit that goes past the page cache, if any does.
    direct: Option<usize>,
    /// Of one write and its sync, rising.
    latencies: Vec<Duration>,
}

fn measure(path: &Path) -> io::Result<Measured> {
    let _ = std::fs::remove_file(path);
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    // Two blocks, one of which is aligned whatever the allocator gave.
    let memory = vec![1_u8; 2 * BLOCK];
    let aligned = &memory[memory.as_ptr().align_offset(BLOCK).min(BLOCK)..][..BLOCK];
    let blocks = 64;
    for block in 0..blocks {
        file.write_all_at(aligned, block * BLOCK as u64)?;
    }
    file.sync_all()?;
    let direct_file = open_direct(path);
    let direct = direct_file.as_ref().and_then(|file| {
        let takes = |unit: usize| file.write_all_at(&aligned[..unit], unit as u64).is_ok();
        [512, BLOCK].into_iter().find(|unit| takes(*unit))
    });
    let writer = if direct.is_some() { direct_file.as_ref() } else { None }.unwrap_or(&file);
    let begun = Instant::now();
    let mut latencies = Vec::with_capacity(SYNCS);
    for round in 0..SYNCS as u64 {
        let start = Instant::now();
        writer.write_all_at(aligned, round % blocks * BLOCK as u64)?;
        file.sync_data()?;
        latencies.push(start.elapsed());
        if begun.elapsed() > SYNCS_FOR_AT_MOST {
            break;
        }
    }
    latencies.sort_unstable();
    Ok(Measured { direct, latencies })
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
    OpenOptions::new().write(true).custom_flags(flag).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<File> {
    None
}

impl Measured {
    fn findings(&self) -> Vec<Finding> {
        let direct = match self.direct {
            Some(unit) => {
                Finding::ok("direct writes", format!("taken, in multiples of {unit} bytes"))
            }
            None => Finding::warning(
                "direct writes",
                "refused",
                "writes go through the page cache, which is slower for large ones; a local ext4 or \
                 xfs takes direct writes",
            ),
        };
        let at = |part: usize| {
            let index = (self.latencies.len() * part / 100).min(self.latencies.len() - 1);
            self.latencies[index]
        };
        let (median, slow) = (at(50), at(99));
        let found = format!(
            "{} of 4 KiB: least {:?}, median {median:?}, 99 of 100 under {slow:?}",
            self.latencies.len(),
            at(0)
        );
        let sync = if median < Duration::from_micros(15) {
            Finding::warning(
                "sync",
                found,
                "faster than disks are: the system may confirm syncs without doing them, and then a \
                 power cut loses what was acknowledged",
            )
        } else if median > Duration::from_millis(20) || slow > Duration::from_millis(100) {
            Finding::warning(
                "sync",
                found,
                "every acknowledgement waits for one sync: use a disk of its own, an SSD, or one \
                 with power-loss protection",
            )
        } else {
            Finding::ok("sync", found)
        };
        vec![direct, sync]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn measured(micros: u64) -> Measured {
        Measured { direct: Some(512), latencies: vec![Duration::from_micros(micros); 200] }
    }

    #[test]
    fn syncs_that_are_too_fast_to_be_true_and_too_slow_are_warned_of() {
        let states = [2, 90, 50_000].map(|micros| measured(micros).findings()[1].state);
        assert_eq!(states, [State::Warning, State::Ok, State::Warning]);
        let refused = Measured { direct: None, ..measured(90) };
        assert_eq!(refused.findings()[0].state, State::Warning);
    }

    #[test]
    fn memory_is_not_a_disk() {
        if mount_of(Path::new("/dev/shm")).is_some_and(|mount| mount.kind == "tmpfs") {
            assert_eq!(file_system(Path::new("/dev/shm")).state, State::Problem);
        }
    }

    #[test]
    fn the_probe_is_gone_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        assert!(look(directory.path()).iter().any(|finding| finding.what == "sync"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
