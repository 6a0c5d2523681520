//! What became of a directory, and of what was acknowledged in it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use meshlog_storage::disk::Disk;
use meshlog_storage::{ErrorKind, Offset, ReadRequest, Storage, StreamId, VerifyReport, verify};

use crate::image::Image;
use crate::support::{Machine, read};

/// What became of one fault.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Everything is there, and `verify` finds nothing.
    Harmless,
    /// Everything is there, and `verify` names the damage.
    Found,
    /// Some batches answer as damage, all others are there.
    Quarantined(usize),
    /// Some batches are out of the stream's bounds, and health says that something is damaged.
    Announced(usize),
    /// The directory is refused with a sentence.
    Refused,
    /// A promise is broken.
    Broken(String),
}

impl Outcome {
    /// How many acknowledged batches cannot be read.
    pub(crate) fn lost(&self) -> usize {
        match self {
            Self::Quarantined(lost) | Self::Announced(lost) => *lost,
            _ => 0,
        }
    }
}

/// Verifies, opens and reads everything.
pub(crate) fn of(image: &Image, machine: &Machine) -> Outcome {
    let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
    let before = machine.disk.image();
    let report = verify(Path::new("data"), &disk, &mut |_| {});
    if machine.disk.image() != before {
        return Outcome::Broken("verify changed the directory".into());
    }
    let is_clean = report.as_ref().is_ok_and(VerifyReport::is_clean);
    let storage = match machine.open() {
        Ok(storage) => storage,
        Err(error) if is_clean => {
            return Outcome::Broken(format!("verify finds nothing, open refuses: {error}"));
        }
        Err(error) if error.to_string().len() < 20 => {
            return Outcome::Broken(format!("refused without a sentence: {error}"));
        }
        Err(_) => return Outcome::Refused,
    };
    let damage = storage.health().damage;
    let mut lost = Lost::default();
    for (stream, (start, batches)) in &image.streams {
        for (base, (count, payload)) in batches {
            let from = (*base).max(*start);
            if let Err(why) = one(&storage, *stream, from, base.plus(*count), payload, &mut lost) {
                return Outcome::Broken(why);
            }
        }
    }
    if storage.state() != image.state && damage.is_empty() {
        return Outcome::Broken("the state differs, and health says nothing".into());
    }
    drop(storage);
    if lost.out_of_bounds > 0 && damage.is_empty() {
        return Outcome::Broken(format!(
            "{} acknowledged batches are silently gone",
            lost.out_of_bounds
        ));
    }
    if lost.answered + lost.out_of_bounds > 0 && is_clean {
        return Outcome::Broken("records are lost, and verify finds nothing".into());
    }
    match (lost.out_of_bounds, lost.answered, is_clean) {
        (0, 0, true) => Outcome::Harmless,
        (0, 0, false) => Outcome::Found,
        (0, answered, _) => Outcome::Quarantined(answered),
        (out_of_bounds, answered, _) => Outcome::Announced(out_of_bounds + answered),
    }
}

#[derive(Default)]
struct Lost {
    answered: usize,
    out_of_bounds: usize,
}

/// One acknowledged batch: the same bytes, or an answer.
fn one(
    storage: &Storage,
    stream: StreamId,
    from: Offset,
    end: Offset,
    payload: &bytes::Bytes,
    lost: &mut Lost,
) -> Result<(), String> {
    match read(storage, ReadRequest { stream, from, max_bytes: 1, hint: None }) {
        Ok(slice) => match slice.batches.first() {
            Some(batch) if batch.payload == *payload && batch.end() == end => Ok(()),
            Some(batch) => Err(format!(
                "offset {from} of stream {stream} reads as {} to {}, with other bytes",
                batch.base_offset,
                batch.end()
            )),
            None => {
                lost.out_of_bounds += 1;
                Ok(())
            }
        },
        Err(error) => match error.kind() {
            ErrorKind::Corrupt { .. } => {
                lost.answered += 1;
                Ok(())
            }
            ErrorKind::OffsetOutOfRange { .. } | ErrorKind::UnknownStream(_) => {
                lost.out_of_bounds += 1;
                Ok(())
            }
            _ => Err(format!("offset {from} of stream {stream}: {error}")),
        },
    }
}

/// How many faults ended how, by kind.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<&'static str, [usize; 6]>);

impl Tally {
    pub(crate) fn count(&mut self, kind: &'static str, outcome: &Outcome) {
        let column = match outcome {
            Outcome::Harmless => 0,
            Outcome::Found => 1,
            Outcome::Quarantined(_) => 2,
            Outcome::Announced(_) => 3,
            Outcome::Refused => 4,
            Outcome::Broken(_) => 5,
        };
        self.0.entry(kind).or_default()[column] += 1;
    }

    fn sum(&self, columns: std::ops::Range<usize>) -> usize {
        self.0.values().map(|row| row[columns.clone()].iter().sum::<usize>()).sum()
    }

    pub(crate) fn faults(&self) -> usize {
        self.sum(0..6)
    }

    /// Faults that are noticed one way or another.
    pub(crate) fn noticed(&self) -> usize {
        self.sum(1..5)
    }

    pub(crate) fn announced(&self) -> usize {
        self.sum(3..4)
    }

    pub(crate) fn refused(&self) -> usize {
        self.sum(4..5)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = ["harmless", "found", "data loss", "announced", "refused", "BROKEN"];
        writeln!(f, "{:>20} {}", "", titles.map(|title| format!("{title:>10}")).concat())?;
        for (kind, row) in &self.0 {
            writeln!(f, "{kind:>20} {}", row.map(|count| format!("{count:>10}")).concat())?;
        }
        Ok(())
    }
}
