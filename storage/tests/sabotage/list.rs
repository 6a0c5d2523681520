//! What can be left out, and what should notice.

use std::collections::BTreeSet;
use std::path::Path;

/// What notices that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detector {
    /// Power lost in every call of runs, against the model.
    Crashes,
    /// Every call of a run fails once.
    Faults,
    /// A sector of a write is not written or arrives elsewhere, and nobody is told.
    Lies,
    /// Flipped bits and damaged sectors in directories at rest.
    Rot,
    /// A test of its own in `checks.rs`.
    Check(&'static str),
}

use Detector::{Check, Crashes, Faults, Lies, Rot};

/// A mechanism, the section of the design it belongs to, and what is tried, in this order.
pub(crate) struct Mechanism {
    pub(crate) name: &'static str,
    pub(crate) section: &'static str,
    pub(crate) detectors: &'static [Detector],
}

const fn m(name: &'static str, section: &'static str, detectors: &'static [Detector]) -> Mechanism {
    Mechanism { name, section, detectors }
}

/// Every one of them must be noticed.
pub(crate) const MECHANISMS: &[Mechanism] = &[
    m("the sync of a group", "groups", &[Crashes]),
    m("the sync of the next file's header", "format", &[Crashes]),
    m("the sync of a seal", "format", &[Check("a clean stop")]),
    m("the sync of a new file", "files", &[Crashes]),
    m("the sync of a new file's name", "files", &[Crashes]),
    m("the sync of a small file", "recovery", &[Crashes]),
    m("the sync of a small file's name", "recovery", &[Crashes]),
    m("the reading back of a small file", "recovery", &[Check("a lying disk")]),
    m("the sync of zeros", "erasing", &[Check("an erasure")]),
    m("the sync of an erased end", "erasing", &[Check("an erasure")]),
    m("the sync of erased names", "erasing", &[Check("an erasure")]),
    m("the sync of a backup's file", "backup", &[Check("a backup")]),
    m("the sync of a backup's names", "backup", &[Check("a backup")]),
    m("the sync of a restored file", "backup", &[Check("a restore")]),
    m("the sync of restored names", "backup", &[Check("a restore")]),
    m("the sync of a merge's output", "merge", &[Crashes]),
    m("the sync of a merge's names", "merge", &[Crashes]),
    m("the sync of a carried group", "recovery", &[Crashes]),
    m("the sync of the header after a start", "recovery", &[Crashes]),
    m("the second checkpoint before a file is used again", "files", &[Crashes]),
    m("the end that the next header names", "format", &[Crashes]),
    m("the end after a failed sync", "acks", &[Faults]),
    m("the checksum of a group's header", "format", &[Check("a group that says it is a seal")]),
    m("the checksum of a table in recovery", "format", &[Crashes, Rot]),
    m("the checksum of a table in reading", "reads", &[Rot]),
    m("the checksum of a payload in reading", "reads", &[Rot]),
    m("the checksum of a payload in merging", "merge", &[Check("a rotten input"), Rot]),
    m("the checksum of a control record", "recovery", &[Check("a rotten control record")]),
    m("the checksums of the last group's payloads", "entries", &[Crashes]),
    m("the checksum of a checkpoint", "recovery", &[Rot]),
    m("the checksum of a file header", "format", &[Crashes, Rot]),
    m("the checksum of a segment header", "merge", &[Check("a rotten segment header")]),
    m("the salt", "format", &[Check("a forged group")]),
    m("the order of LSNs", "format", &[Check("a misdirected group")]),
    m("the version of the format", "format", &[Check("another version")]),
    m("the lock of the directory", "one process", &[Check("two processes")]),
    m("the expected offset", "producers", &[Crashes]),
    m("the fence of epochs", "producers", &[Crashes]),
    m("the refusal of gaps", "producers", &[Crashes]),
    m("the window of a producer", "producers", &[Crashes]),
    m("the entry before a start rises", "retention", &[Check("a rising start")]),
    m("the distrust of a clock that jumped", "retention", &[Check("a jumping clock")]),
    m("the doubt of a clock in a checkpoint", "retention", &[Check("a jump before a restart")]),
    m("the ends of earlier groups", "format", &[Check("damaged groups in a row")]),
    m("the offsets of streams that no group names", "format", &[Check("very many damaged groups")]),
    m("the bytes that a merge leaves out", "merge", &[Check("a hole in a file")]),
    m("the age of tombstones", "compaction", &[Check("a young tombstone")]),
    m("the reserve for control work", "disk full", &[Check("a full disk")]),
];

/// The list and the code say the same.
pub(crate) fn is_complete() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    let mut switched = BTreeSet::new();
    let mut unlisted = Vec::new();
    for (name, text) in &files {
        // Disks are what syncs go to; tests in a file come last.
        if name.starts_with("disk/") || name == "sabotage.rs" || name == "fuzzing.rs" {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let joined = code.split_whitespace().collect::<Vec<_>>().join(" ");
        for opening in ["skips(", "barrier("] {
            for part in joined.split(opening).skip(1) {
                let Some(rest) = part.trim_start().strip_prefix('"') else { continue };
                switched.insert(rest.split('"').next().unwrap_or_default().to_owned());
            }
        }
        // Without an argument it is a method of ours around the call.
        for call in [".sync()", ".sync_directory(&", ".sync_directory(directory"] {
            let pieces: Vec<_> = joined.split(call).collect();
            for before in &pieces[..pieces.len() - 1] {
                let tail: String = before.chars().rev().take(90).collect();
                let tail: String = tail.chars().rev().collect();
                if !tail.contains("barrier(") {
                    unlisted.push(format!("{name}: …{tail}{call}"));
                }
            }
        }
    }
    assert!(unlisted.is_empty(), "a sync that is not in the list:\n{}", unlisted.join("\n"));
    let listed: BTreeSet<_> =
        MECHANISMS.iter().map(|mechanism| mechanism.name.to_owned()).collect();
    assert_eq!(listed.len(), MECHANISMS.len(), "a name is listed twice");
    assert_eq!(switched, listed, "switched in the code (left), and listed (right)");
}

fn collect(directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let name = path.strip_prefix(source).unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}
