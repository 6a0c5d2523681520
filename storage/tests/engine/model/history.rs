//! What was asked for and what was answered, each with the disk call after which it happened, so
//! that one run says what was promised at every crash in it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meshlog_storage::{
    Appended, Applied, Control, Durability, Error, ProducerStamp, StreamId, Timestamp,
};
use parking_lot::Mutex;

use super::reference::{Log, Now};

/// An outcome, and the call after which it was told.
pub(crate) type Told = Arc<Mutex<Option<(u64, Result<Appended, Error>)>>>;

/// One submitted entry.
pub(crate) struct Sent {
    /// The call after which it was submitted.
    pub(crate) call: u64,
    pub(crate) wall: Timestamp,
    pub(crate) elapsed: Duration,
    pub(crate) controls: Vec<Control>,
    pub(crate) batches: Vec<(StreamId, Bytes, u32)>,
    pub(crate) producer: Option<ProducerStamp>,
    pub(crate) told: Told,
    /// A retry of this entry: it is never in the log itself.
    pub(crate) retries: Option<usize>,
    /// Whether a later start found it.
    pub(crate) found: Option<bool>,
}

impl Sent {
    /// Refused before this call: it is not in the log and never will be.
    pub(crate) fn is_refused(&self, call: u64) -> bool {
        matches!(&*self.told.lock(), Some((at, Err(error)))
            if *at < call && error.applied() == Applied::No)
    }

    fn is_acknowledged(&self, call: u64) -> bool {
        matches!(&*self.told.lock(), Some((at, Ok(appended)))
            if *at < call && appended.durability > Durability::Written)
    }
}

/// A run from its first open to its end.
#[derive(Default)]
pub(crate) struct History {
    pub(crate) sent: Vec<Sent>,
    /// After this call a reader saw the records of this entry.
    pub(crate) witnessed: Vec<(u64, usize)>,
    /// After this call a stream was seen to start here.
    pub(crate) starts: Vec<(u64, StreamId, u64)>,
    /// After this call a start had found the entries before this one, and told which.
    pub(crate) lives: Vec<(u64, usize)>,
    /// After this call it was this late.
    pub(crate) clocks: Vec<(u64, Now)>,
}

/// What a crash during one call may leave: any prefix of the entries whose fate is open.
pub(crate) struct Promise<'a> {
    history: &'a History,
    call: u64,
    /// What must be there.
    pub(crate) least: Log,
    /// What may follow, in this order.
    open: Vec<usize>,
    /// With everything that may follow.
    pub(crate) most: Log,
    /// The same where the same is promised.
    pub(crate) fingerprint: (usize, usize, usize),
}

impl History {
    /// What holds if power is lost during this call (counted from 1).
    pub(crate) fn at(&self, call: u64) -> Promise<'_> {
        let life = self.lives.iter().rev().find(|(at, _)| *at < call);
        let settled = life.map_or(0, |(_, entries)| *entries);
        let submitted = self.sent.iter().take_while(|sent| sent.call < call).count();
        let kept = |index: usize| {
            let sent = &self.sent[index];
            sent.retries.is_none() && !sent.is_refused(call)
        };
        let mut least = Log::default();
        for index in 0..settled.min(submitted) {
            let sent = &self.sent[index];
            if sent.found == Some(true) {
                least.fold(index, sent);
            } else if sent.retries.is_none() && !sent.is_refused(call) {
                // Whether a policy without effect is there cannot be seen.
                least.fold_policies(sent);
            }
        }
        let seen = self.witnessed.iter().take_while(|(at, _)| *at < call);
        let seen = seen.map(|(_, entry)| entry + 1).max().unwrap_or(0);
        let acknowledged = (settled..submitted).filter_map(|index| {
            let sent = &self.sent[index];
            sent.is_acknowledged(call).then(|| sent.retries.unwrap_or(index) + 1)
        });
        let must = acknowledged.max().unwrap_or(0).max(seen).max(settled);
        let (mut open, mut most) = (Vec::new(), None);
        for index in (settled..submitted).filter(|index| kept(*index)) {
            if index < must {
                least.fold(index, &self.sent[index]);
            } else {
                most.get_or_insert_with(|| least.clone()).fold(index, &self.sent[index]);
                open.push(index);
            }
        }
        let most = most.unwrap_or_else(|| least.clone());
        Promise { history: self, call, least, open, most, fingerprint: (settled, must, submitted) }
    }

    /// What holds at the end.
    pub(crate) fn at_end(&self) -> Promise<'_> {
        self.at(u64::MAX)
    }
}

impl Promise<'_> {
    /// The first log that fits, of all that may be there, and which open entries it lacks.
    pub(crate) fn find(
        &self,
        fits: impl Fn(&Log) -> Result<(), String>,
    ) -> Result<(Log, &[usize]), String> {
        let mut log = self.least.clone();
        let mut why = match fits(&log) {
            Ok(()) => return Ok((log, &self.open)),
            Err(why) => why,
        };
        for (folded, index) in (1..).zip(&self.open) {
            log.fold(*index, &self.history.sent[*index]);
            match fits(&log) {
                Ok(()) => return Ok((log, &self.open[folded..])),
                Err(other) => why = format!("{why}\n  or with entry {index}: {other}"),
            }
        }
        Err(why)
    }

    pub(crate) fn now(&self) -> Now {
        let seen = self.history.clocks.iter().take_while(|(at, _)| *at < self.call);
        seen.last().map(|(_, now)| *now).unwrap_or_default()
    }

    /// The highest start offsets that were seen.
    pub(crate) fn starts(&self) -> impl Iterator<Item = (StreamId, u64)> {
        let seen = self.history.starts.iter().take_while(|(at, ..)| *at < self.call);
        seen.map(|(_, stream, start)| (*stream, *start))
    }
}
