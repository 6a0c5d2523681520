//! The chain of the audit log: each record holds the hash of the one before.
//!
//! ```text
//!  value 1 {"sequence":1,"previous":000…, …}  ── SHA-256 ──► hash 1 ┐
//!  value 2 {"sequence":2,"previous":hash 1, …} ◄────────────────────┘ ── SHA-256 ──► hash 2 ─ …
//! ```
//!
//! A hash is the SHA-256 of the bytes of a value, which hold the hash before it: whoever knows one
//! hash knows that nothing before it was changed, taken out or put in. It stands beside the value in
//! the header [`HASH_HEADER`], so that the record that was changed is found and not the one behind
//! it, and the newest in the storage state, written in the same entry as the record: records cut off
//! at the end are missed too. `sha256sum` on a value gives the same.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::schema::Fingerprint;

/// The header of a record in which its hash stands, as lower-case hexadecimal text.
pub const HASH_HEADER: &str = "meshlog-chain";

/// What comes before the first record.
const NOTHING: [u8; 32] = [0; 32];

/// One place in the chain: a number, from 1 without gaps, and the hash of the record that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Number of the record; 0 before the first.
    pub sequence: u64,
    /// Hash of the record; zeros before the first.
    pub hash: Fingerprint,
}

impl Link {
    /// Before the first record.
    #[must_use]
    pub fn start() -> Self {
        Self { sequence: 0, hash: Fingerprint::from(NOTHING) }
    }

    /// The record that comes next, with this value, which must hold [`Link::next_sequence`] and
    /// this hash.
    #[must_use]
    pub(crate) fn followed_by(&self, value: &[u8]) -> Self {
        Self { sequence: self.next_sequence(), hash: hash_of(value) }
    }

    /// Number of the record that comes next.
    #[must_use]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// Reads `SEQUENCE:HASH`, as [`std::fmt::Display`] writes it.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (sequence, hash) = text.split_once(':')?;
        Some(Self { sequence: sequence.parse().ok()?, hash: Fingerprint::from_text(hash)? })
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// The hash of a record with this value.
#[must_use]
pub fn hash_of(value: &[u8]) -> Fingerprint {
    Fingerprint::from(<[u8; 32]>::from(Sha256::digest(value)))
}

/// Where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Offset of the record that does not fit; that of the end if records are missing there.
    pub offset: u64,
    /// What does not fit, for a person.
    pub what: String,
}

/// What the chain says of itself in a value.
#[derive(Deserialize)]
struct Said {
    sequence: u64,
    previous: String,
}

/// Follows the chain over records in the order of their offsets.
#[derive(Debug, Default)]
pub struct Walk {
    /// The hash before the first record seen: nothing, or what is kept of records that are gone.
    anchor: Option<Link>,
    last: Option<Link>,
    records: u64,
    /// A place noted earlier that the chain must go through.
    noted: Option<Link>,
}

impl Walk {
    /// One that must go through this place, noted earlier.
    #[must_use]
    pub fn through(noted: Option<Link>) -> Self {
        Self { noted, ..Self::default() }
    }

    /// The next record: its value, and the text of its header.
    ///
    /// # Errors
    /// It is not what was written, or does not continue the chain.
    pub fn step(&mut self, offset: u64, value: &[u8], header: Option<&str>) -> Result<Link, Break> {
        let wrong = |what: String| Break { offset, what };
        let Some(header) = header else {
            return Err(wrong(format!("it has no header `{HASH_HEADER}` with its hash")));
        };
        let hash = hash_of(value);
        if Fingerprint::from_text(header) != Some(hash) {
            return Err(wrong(format!(
                "its content was changed: its hash is {hash}, not {header}"
            )));
        }
        let said: Said = serde_json::from_slice(value)
            .map_err(|_| wrong("its content has no `sequence` and `previous`".to_owned()))?;
        let Some(previous) = Fingerprint::from_text(&said.previous) else {
            return Err(wrong("its `previous` is not a hash".to_owned()));
        };
        let before = self.last.unwrap_or(match said.sequence {
            1 => Link::start(),
            // What came before is gone; its hash stands here.
            later => Link { sequence: later.saturating_sub(1), hash: previous },
        });
        if said.sequence != before.next_sequence() {
            return Err(wrong(format!(
                "it is record {} of the chain, where record {} should stand: records were taken \
                 out or put in",
                said.sequence,
                before.next_sequence()
            )));
        }
        if previous != before.hash {
            return Err(wrong(format!(
                "it continues a record with the hash {previous}, and the one before it has {}",
                before.hash
            )));
        }
        let link = Link { sequence: said.sequence, hash };
        self.anchor.get_or_insert(before);
        self.last = Some(link);
        self.records += 1;
        for passed in [before, link] {
            if let Some(noted) = self.noted.filter(|noted| noted.sequence == passed.sequence)
                && noted.hash != passed.hash
            {
                return Err(wrong(format!(
                    "record {} has the hash {}, and {} was noted: the log was written anew",
                    passed.sequence, passed.hash, noted.hash
                )));
            }
        }
        Ok(link)
    }

    /// The end, at this offset. With `head`, the newest record must be that one.
    ///
    /// # Errors
    /// Records are missing at the end; or the noted place was never passed.
    pub fn finish(self, end: u64, head: Option<Link>) -> Result<Walked, Break> {
        let wrong = |what: String| Break { offset: end, what };
        let last = self.last.unwrap_or_else(Link::start);
        if let Some(head) = head.filter(|head| *head != last) {
            return Err(wrong(format!(
                "the newest record should be {} with the hash {}, and is {} with {}: records are \
                 missing at the end",
                head.sequence, head.hash, last.sequence, last.hash
            )));
        }
        let anchor = self.anchor.unwrap_or(last);
        if let Some(noted) = self.noted {
            if noted.sequence > last.sequence {
                return Err(wrong(format!(
                    "record {} was noted, and the newest is {}: records are missing at the end",
                    noted.sequence, last.sequence
                )));
            }
            if noted.sequence < anchor.sequence {
                return Err(wrong(format!(
                    "record {} was noted, and the oldest that is kept is {}: whether the one leads \
                     to the other cannot be told",
                    noted.sequence,
                    anchor.next_sequence()
                )));
            }
        }
        Ok(Walked { anchor, head: last, records: self.records })
    }
}

/// A chain that holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// What came before the first record that is there.
    pub anchor: Link,
    /// The newest record.
    pub head: Link,
    /// Records of the chain.
    pub records: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values with their hashes, as a broker writes them.
    fn written(count: u64) -> Vec<(Vec<u8>, String)> {
        let mut head = Link::start();
        (1..=count)
            .map(|number| {
                let value = format!(
                    r#"{{"sequence":{number},"previous":"{}","name":"n{number}"}}"#,
                    head.hash
                );
                head = head.followed_by(value.as_bytes());
                (value.into_bytes(), head.hash.to_string())
            })
            .collect()
    }

    fn walk(records: &[(Vec<u8>, String)], noted: Option<Link>) -> Result<Walked, Break> {
        let mut walk = Walk::through(noted);
        for (offset, (value, hash)) in records.iter().enumerate() {
            walk.step(offset as u64, value, Some(hash))?;
        }
        walk.finish(records.len() as u64, None)
    }

    fn link(records: &[(Vec<u8>, String)], sequence: usize) -> Link {
        let hash = Fingerprint::from_text(&records[sequence - 1].1).unwrap();
        Link { sequence: sequence as u64, hash }
    }

    #[test]
    fn any_change_of_any_record_is_found_where_it_is() {
        let records = written(6);
        let walked = walk(&records, None).unwrap();
        assert_eq!((walked.records, walked.head), (6, link(&records, 6)));
        for at in 0..records.len() {
            for byte in 0..records[at].0.len() {
                let mut changed = records.clone();
                changed[at].0[byte] ^= 1;
                assert_eq!(walk(&changed, None).unwrap_err().offset, at as u64);
            }
            // Whoever also writes the hash anew breaks the record behind it, or the noted head.
            let mut changed = records.clone();
            let text = String::from_utf8(changed[at].0.clone()).unwrap();
            let text = text.replace(r#""name":"n"#, r#""name":"m"#);
            changed[at] = (text.clone().into_bytes(), hash_of(text.as_bytes()).to_string());
            let found = walk(&changed, Some(link(&records, 6))).unwrap_err();
            assert_eq!(found.offset, (at as u64 + 1).min(5), "{}", found.what);
        }
    }

    #[test]
    fn records_taken_out_put_in_or_in_another_order_are_found() {
        let records = written(6);
        for at in 0..5 {
            let mut fewer = records.clone();
            fewer.remove(at);
            let found = walk(&fewer, Some(link(&records, 1)));
            // Without the first the rest is a chain whose beginning is gone.
            match at {
                0 => assert_eq!(found.unwrap().anchor, link(&records, 1)),
                _ => assert_eq!(found.unwrap_err().offset, at as u64),
            }
            let mut twice = records.clone();
            twice.insert(at, records[at].clone());
            assert_eq!(walk(&twice, None).unwrap_err().offset, at as u64 + 1);
            let mut swapped = records.clone();
            swapped.swap(at, at + 1);
            assert!(walk(&swapped, Some(link(&records, 6))).is_err());
        }
        let cut = walk(&records[..4], Some(link(&records, 6))).unwrap_err();
        assert!(cut.what.contains("missing at the end"), "{}", cut.what);
        let mut walk = Walk::default();
        for (offset, (value, hash)) in records[..5].iter().enumerate() {
            walk.step(offset as u64, value, Some(hash)).unwrap();
        }
        assert!(walk.finish(5, Some(link(&records, 6))).is_err());
    }

    #[test]
    fn a_log_written_anew_does_not_lead_to_the_head_that_was_noted() {
        let (records, mut other) = (written(4), written(4));
        let last = link(&records, 4);
        let noted = Some(last);
        assert!(walk(&records, noted).is_ok() && walk(&written(9), noted).is_ok());
        let mut head = Link::start();
        for (number, (value, hash)) in (1..).zip(&mut other) {
            let name = if number == 1 { "m1".to_owned() } else { format!("n{number}") };
            let text =
                format!(r#"{{"sequence":{number},"previous":"{}","name":"{name}"}}"#, head.hash);
            head = head.followed_by(text.as_bytes());
            (*value, *hash) = (text.into_bytes(), head.hash.to_string());
        }
        assert!(walk(&other, None).is_ok(), "in itself it holds");
        assert_eq!(walk(&other, noted).unwrap_err().offset, 3);
        assert_eq!(Link::from_text(&last.to_string()), noted);
        assert_eq!(Link::from_text("4:xyz"), None);
    }
}
