//! The machine: limits of the process, memory, and the clock.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use indicatif::HumanBytes;
use rustix::process::{Resource, getrlimit};

use super::Finding;

/// Journal files that readers have open, and a thousand connections.
const FILES_MIN: u64 = 4096;
/// Ring, caches and requests under way with the default settings, with some room.
const MEMORY_MIN: u64 = 512 << 20;
/// 2024: no broker ran before.
const EPOCH: Duration = Duration::from_secs(1_704_067_200);

/// For a word from the system about its clock.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Limits and clock.
pub(super) async fn look() -> Vec<Finding> {
    vec![open_files(), memory(), clock().await]
}

fn open_files() -> Finding {
    const WHAT: &str = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES_MIN => Finding::warning(
            WHAT,
            format!("at most {limit}"),
            format!(
                "many products and clients need more: `ulimit -n {}`, or LimitNOFILE= in the unit",
                FILES_MIN * 4
            ),
        ),
        Some(limit) => Finding::ok(WHAT, format!("at most {limit}")),
        None => Finding::ok(WHAT, "not limited"),
    }
}

fn memory() -> Finding {
    const WHAT: &str = "memory";
    let installed = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    });
    let group = control_group();
    let Some(limit) = [installed, group].into_iter().flatten().min() else {
        return Finding::ok(WHAT, "this system does not say how much there is");
    };
    let found = match group {
        Some(group) if Some(group) <= installed => {
            format!("{}, the limit of the control group", HumanBytes(group))
        }
        _ => HumanBytes(limit).to_string(),
    };
    if limit < MEMORY_MIN {
        return Finding::warning(
            WHAT,
            found,
            "the defaults keep about 200 MiB of records in memory: give more, or lower \
             broker.storage.ring and broker.storage.in_flight",
        );
    }
    Finding::ok(WHAT, found)
}

/// The memory limit of this process's control group, version 2 or 1.
fn control_group() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let read = |path: String| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        match controllers {
            "" => read(format!("/sys/fs/cgroup{path}/memory.max"))
                .or_else(|| read("/sys/fs/cgroup/memory.max".into())),
            "memory" => read(format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"))
                .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes".into())),
            _ => None,
        }
    });
    limits.min()
}

async fn clock() -> Finding {
    const WHAT: &str = "clock";
    let (wall, monotonic) = (SystemTime::now(), Instant::now());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let passed = monotonic.elapsed();
    let Ok(by_wall) = wall.elapsed() else {
        return Finding::problem(
            WHAT,
            "it ran backwards within a tenth of a second",
            "records are stamped with it: let one program set the clock, slowly (chrony, \
             systemd-timesyncd)",
        );
    };
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since < EPOCH {
        return Finding::problem(
            WHAT,
            "it is before 2024",
            "records are stamped with it, and retention by age counts from it: set the clock",
        );
    }
    let drift = by_wall.abs_diff(passed);
    if drift > Duration::from_millis(20) {
        return Finding::warning(
            WHAT,
            format!("it moved by {drift:?} against the steady clock in a tenth of a second"),
            "let one program set the clock, slowly (chrony, systemd-timesyncd)",
        );
    }
    match is_synchronised().await {
        Some(true) => Finding::ok(WHAT, "steady, and set from a time server"),
        Some(false) => Finding::warning(
            WHAT,
            "steady, but not set from a time server",
            "records are stamped with it: switch on chrony or systemd-timesyncd",
        ),
        None => Finding::ok(WHAT, "steady; nothing here says whether a time server sets it"),
    }
}

/// What systemd says, if it is there to ask.
async fn is_synchronised() -> Option<bool> {
    if std::path::Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let mut asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let deadline = Instant::now() + ANSWER_WITHIN;
    while asked.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            let _ = asked.kill();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = asked.wait_with_output().ok()?;
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
