//! What a backup holds, as text: one description of the format, beside its codec.
//!
//! ```text
//! meshlog backup 1
//! format 2                                       of the data directory
//! lsn 5172                                       the last group in it
//! time 1795204800000000000                       when it was taken, ns since 1970
//! damage journal-000003 from 61504 to 65600: …   what was known to be damaged; any number
//! file journal-000003 journal-0000000000000007-9f86…-4194304 4194304 8388608 60303ae2…
//! …    name           id                             bytes   size    SHA-256 of the bytes
//! end 7d865e95…                                  SHA-256 of everything before
//! ```
//!
//! `bytes` are kept; the file takes `size` in a data directory, the rest of it zeros.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::name::{hex, is_data_file, is_id, unhex};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FORMAT_VERSION, FORMAT_VERSION_MIN};
use crate::position::{Lsn, Offset, Timestamp};

/// The name of the manifest in a backup.
pub const MANIFEST_NAME: &str = "meshlog.backup";

const FIRST_LINE: &str = "meshlog backup 1";
/// Half a million files; memory is taken for no more.
const BYTES_MAX: usize = 96 << 20;

/// One file of a backup, before it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its name in a data directory.
    pub name: String,
    /// Says what it is: files of one id hold the same bytes. Usable as a file name.
    pub id: String,
    /// Its length in the backup.
    pub bytes: u64,
    /// Its length in a data directory.
    pub size: u64,
}

impl BackupFile {
    /// A file as somebody else describes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Format`] if it is not named as the engine names its files, or shorter in a
    /// data directory than in the backup.
    pub fn checked(name: String, id: String, bytes: u64, size: u64) -> Result<Self> {
        if !is_data_file(&name) || !is_id(&id) || bytes > size {
            return Err(Error::new(
                ErrorKind::Format,
                format!("{name:?} ({id:?}, {bytes} of {size} bytes) is no file of a backup"),
            ));
        }
        Ok(Self { name, id, bytes, size })
    }
}

/// One file of a backup, and what its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBackupFile {
    /// The file.
    pub file: BackupFile,
    /// Of its bytes.
    pub sha256: [u8; 32],
}

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupManifest {
    /// Version of the format of the data directory.
    pub format_version: u32,
    /// The last group in it.
    pub lsn: Lsn,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// What was damaged when it was taken, one sentence each.
    pub damage: Vec<String>,
    /// Everything in it.
    pub files: Vec<StoredBackupFile>,
}

impl BackupManifest {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|stored| stored.file.bytes).sum()
    }

    /// As text.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if it has more files than a manifest may list.
    pub fn encode(&self) -> Result<String> {
        let mut text = format!(
            "{FIRST_LINE}\nformat {}\nlsn {}\ntime {}\n",
            self.format_version, self.lsn, self.taken_at.0
        );
        for sentence in &self.damage {
            let line = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
            text.push_str("damage ");
            text.push_str(&line);
            text.push('\n');
        }
        for StoredBackupFile { file, sha256 } in &self.files {
            let BackupFile { name, id, bytes, size } = file;
            // Writing to a string does not fail.
            let _ = writeln!(text, "file {name} {id} {bytes} {size} {}", hex(sha256));
        }
        let end = hex(&Sha256::digest(text.as_bytes()));
        let _ = writeln!(text, "end {end}");
        if text.len() > BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a backup of {} files is more than a manifest can list", self.files.len()),
            ));
        }
        Ok(text)
    }

    /// Reads a manifest that may be anything.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`] if it is not as it was written, [`ErrorKind::Format`] if it is of a
    /// version that this program does not know.
    pub fn decode(text: &[u8]) -> Result<Self> {
        if text.len() > BYTES_MAX {
            return Err(damaged("it is longer than any manifest"));
        }
        let text = std::str::from_utf8(text).map_err(|_| damaged("it is not text"))?;
        let (body, end) = text
            .strip_suffix('\n')
            .and_then(|text| text.rfind('\n').map(|at| text.split_at(at + 1)))
            .ok_or_else(|| damaged("it is cut short"))?;
        let Some(first) = body.lines().next().filter(|line| line.starts_with("meshlog backup "))
        else {
            return Err(damaged("it does not begin as a manifest does"));
        };
        let sum = end.strip_prefix("end ").and_then(unhex::<32>);
        if sum != Some(Sha256::digest(body.as_bytes()).into()) {
            return Err(damaged("it is cut short or changed: its checksum differs"));
        }
        if first != FIRST_LINE {
            return Err(Error::new(
                ErrorKind::Format,
                format!("{first:?} was written by a newer program: restore it with that one"),
            ));
        }
        Self::decode_body(body)
    }

    fn decode_body(body: &str) -> Result<Self> {
        let mut numbers = [None; 3];
        let mut manifest = Self {
            format_version: 0,
            lsn: Lsn(0),
            taken_at: Timestamp(0),
            damage: Vec::new(),
            files: Vec::new(),
        };
        for line in body.lines().skip(1) {
            let (word, rest) = line.split_once(' ').ok_or_else(|| unknown(line))?;
            let number = || rest.parse::<u64>().map_err(|_| unknown(line));
            match word {
                "format" => numbers[0] = Some(number()?),
                "lsn" => numbers[1] = Some(number()?),
                "time" => numbers[2] = Some(number()?),
                "damage" => manifest.damage.push(rest.to_owned()),
                "file" => manifest.files.push(decode_file(rest).ok_or_else(|| unknown(line))?),
                _ => return Err(unknown(line)),
            }
        }
        let [Some(format), Some(lsn), Some(time)] = numbers else {
            return Err(damaged("a line is missing"));
        };
        manifest.format_version = u32::try_from(format).unwrap_or(u32::MAX);
        (manifest.lsn, manifest.taken_at) = (Lsn(lsn), Timestamp(time));
        manifest.check()?;
        Ok(manifest)
    }

    /// Refuses what no directory can be made of.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Format`] for another version of the format, [`ErrorKind::Corrupt`] if
    /// something is missing or there twice.
    pub fn check(&self) -> Result<()> {
        if !(FORMAT_VERSION_MIN..=FORMAT_VERSION).contains(&self.format_version) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "the backup holds a directory of format version {}, this program writes \
                     version {FORMAT_VERSION}: restore it with the program that made it",
                    self.format_version
                ),
            ));
        }
        let names: BTreeSet<&str> = self.files.iter().map(|f| f.file.name.as_str()).collect();
        let ids: BTreeSet<&str> = self.files.iter().map(|f| f.file.id.as_str()).collect();
        if names.len() < self.files.len() || ids.len() < self.files.len() {
            return Err(damaged("it lists a file twice"));
        }
        for prefix in ["checkpoint-", "journal-"] {
            if !names.iter().any(|name| name.starts_with(prefix)) {
                return Err(damaged("it lists no checkpoint or no journal file"));
            }
        }
        Ok(())
    }
}

fn decode_file(text: &str) -> Option<StoredBackupFile> {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let (name, id) = (word()?.to_owned(), word()?.to_owned());
    let (bytes, size) = (word()?.parse().ok()?, word()?.parse().ok()?);
    let sha256 = unhex(word()?)?;
    let file = BackupFile::checked(name, id, bytes, size).ok()?;
    words.next().is_none().then_some(StoredBackupFile { file, sha256 })
}

fn unknown(line: &str) -> Error {
    damaged(&format!("{line:?} is no line of a manifest"))
}

fn damaged(why: &str) -> Error {
    Error::new(
        ErrorKind::Corrupt { next_readable: Offset(0) },
        format!("the manifest of the backup is damaged ({why}): use another backup"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint_id() -> String {
        format!("checkpoint-0000000000000007-{}", "a5".repeat(32))
    }

    fn manifest() -> BackupManifest {
        let file = |name: &str, id: &str| StoredBackupFile {
            file: BackupFile { name: name.into(), id: id.into(), bytes: 8192, size: 65536 },
            sha256: [0xa5; 32],
        };
        BackupManifest {
            format_version: FORMAT_VERSION,
            lsn: Lsn(7),
            taken_at: Timestamp(1_795_204_800_000_000_000),
            damage: vec!["journal-000001 is\n damaged".into()],
            files: vec![
                file("checkpoint-0000000000000001", &checkpoint_id()),
                file("journal-000002", "journal-0000000000000003-00112233445566778899aabbccddeeff"),
            ],
        }
    }

    /// With a checksum that fits whatever the body says.
    fn signed(body: &str) -> Vec<u8> {
        format!("{body}end {}\n", hex(&Sha256::digest(body.as_bytes()))).into_bytes()
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let mut expected = manifest();
        let read = BackupManifest::decode(expected.encode().unwrap().as_bytes()).unwrap();
        expected.damage = vec!["journal-000001 is damaged".into()];
        assert_eq!(read, expected);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let text = manifest().encode().unwrap().into_bytes();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone();
                flipped[at] ^= 1 << bit;
                assert!(BackupManifest::decode(&flipped).is_err(), "bit {bit} of byte {at}");
            }
            assert!(BackupManifest::decode(&text[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_forged_manifest_cannot_name_other_files() {
        let text = manifest().encode().unwrap();
        let body = &text[..text.rfind("end ").unwrap()];
        let good = BackupManifest::decode(&signed(body));
        assert!(good.is_ok());
        let once = checkpoint_id();
        for (what, with) in [
            ("file journal-000002", "file ../journal-000002"),
            ("file journal-000002", "file /etc/passwd"),
            ("file journal-000002", "file meshlog.lock"),
            ("journal-0000000000000003", "../../journal-0000000000000003"),
            ("journal-0000000000000003", "notes-0000000000000003"),
            ("journal-0000000000000003-00112233445566778899aabbccddeeff", &once),
            ("journal-000002", "checkpoint-0000000000000001"),
            ("8192 65536", "8192 8191"),
            ("8192 65536", "8192 65536 1"),
            ("8192 65536", "8192"),
            ("8192 65536", "-1 65536"),
            ("format 3", "format 4"),
            ("format 3", "formats 3"),
            ("lsn 7\n", ""),
            ("backup 1", "backup 2"),
        ] {
            let forged = body.replace(what, with);
            assert_ne!(forged, body, "{what}");
            assert!(BackupManifest::decode(&signed(&forged)).is_err(), "{what} as {with}");
        }
    }
}
