//! The committer: the only writer of journal files.
//!
//! It takes one group after another, writes it, syncs, folds it into the state, publishes its LSN
//! and answers. When a file is full it rolls: the next file's header is synced first, then the
//! seal is written and synced, whose footer makes the file a segment that is read in place.

use std::io;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::group::{ClosedGroup, FilledGroup, Place, Waiter, refuse};
use super::reservation::{Refusal, synced};
use super::ring::Ring;
use super::slots::Slot;
use crate::disk::BLOCK;
use crate::engine::Engine;
use crate::entry::Durability;
use crate::error::{Applied, Error, ErrorKind, Result, is_passing};
use crate::files::StoredFile;
use crate::format::{
    FILE_HEADER_BYTES, FileHeader, FileRecord, Footer, GROUP_HEADER_BYTES, GroupHeader,
    PreviousFile, Salted, StreamEnd, round_up,
};
use crate::position::{FileKey, FileSequence, Lsn, Offset, StreamId};
use crate::sabotage::{barrier, skips};
use crate::state::GroupView;
use crate::stream::Stream;

/// The file being written.
pub(crate) struct CurrentFile {
    pub(crate) slot: Slot,
    pub(crate) header: FileHeader,
    /// Where the next group goes.
    pub(crate) position: u64,
}

/// What the file being written holds so far.
#[derive(Default)]
pub(crate) struct FileProgress {
    /// Streams with a batch in it.
    pub(crate) touched: Vec<Arc<Stream>>,
    pub(crate) runs: usize,
}

impl FileProgress {
    /// The footer of the file so far.
    pub(crate) fn footer_so_far(&self, next: Option<FileSequence>) -> Footer {
        let entries = self.touched.iter().filter_map(|s| s.view().footer_so_far(s.id));
        let mut streams: Vec<_> = entries.collect();
        streams.sort_by_key(|entry| entry.stream);
        // A stream deleted and folded anew cannot occur; one touched before and after a gap can.
        streams.dedup_by_key(|entry| entry.stream);
        Footer { next, streams }
    }

    /// The file is finished: its streams look for it among the finished ones.
    pub(crate) fn finish(&mut self, sequence: FileSequence) {
        self.runs = 0;
        for stream in self.touched.drain(..) {
            stream.view().finish_file(sequence);
        }
    }
}

/// How large the next file should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NextFile {
    pub(crate) bytes: u64,
    bytes_max: u64,
    begun: std::time::Duration,
}

impl NextFile {
    pub(crate) fn new(bytes: u64, bytes_max: u64, now: std::time::Duration) -> Self {
        Self { bytes, bytes_max, begun: now }
    }

    /// Doubles with load: a file that lasted less than ten seconds was too small.
    fn advance(&mut self, now: std::time::Duration) {
        if now.saturating_sub(self.begun) < std::time::Duration::from_secs(10) {
            self.bytes = (self.bytes * 2).min(self.bytes_max);
        }
        self.begun = now;
    }
}

/// The only writer of journal files.
pub(crate) struct Committer {
    pub(crate) file: CurrentFile,
    pub(crate) lsn: Lsn,
    pub(crate) progress: FileProgress,
    pub(crate) ring: Ring,
    pub(crate) next_file: NextFile,
    /// Where the streams of the last group with batches stand.
    pub(crate) ends: Arc<[StreamEnd]>,
    /// At the start: the last group needs no later one to prove it durable.
    pub(crate) is_proven: bool,
    pub(crate) has_failed: bool,
}

/// Why a group could not be written.
enum Failure {
    /// No space for another file: nothing was written, nothing is lost.
    NoSpace(io::Error),
    /// The journal can no longer be trusted.
    Final { what: &'static str, error: io::Error },
}

impl Committer {
    /// Writes, syncs, publishes and answers one group.
    pub(crate) fn commit(&mut self, engine: &Engine, group: ClosedGroup) {
        if self.has_failed {
            let error = engine.refusal_error();
            refuse(group.group.abandon(), &error);
            return;
        }
        let (ticket, ends) = (group.ticket, Arc::clone(&group.ends));
        let is_marker = group.frames == 0;
        if let Err(failure) = self.make_room(engine, group.length, group.frames) {
            let waiters = group.group.abandon();
            match failure {
                Failure::NoSpace(error) => self.give_up_space(engine, waiters, error),
                Failure::Final { what, error } => {
                    self.fail(engine, waiters, None, what, error);
                }
            }
            return;
        }
        let lsn = self.lsn.next();
        let place = Place {
            salt: &self.file.header.salt,
            sequence: self.file.header.sequence,
            lsn,
            wall_time: engine.parts.clock.now(),
        };
        let wall_time = place.wall_time;
        let FilledGroup { bytes, frames, waiters } = group.finish(&place);
        let position = self.file.position;
        if let Err(error) = self.file.slot.file.write_at(position, &bytes) {
            self.fail(engine, Vec::new(), Some((ticket, waiters)), "write", error);
            return;
        }
        let waiters = acknowledge_written(lsn, waiters);
        let sync_begins = engine.parts.clock.monotonic();
        if let Err(error) = barrier("the sync of a group", || self.file.slot.file.sync()) {
            self.fail(engine, Vec::new(), Some((ticket, waiters)), "sync", error);
            return;
        }
        engine.counters.sync_times.add(engine.parts.clock.monotonic().saturating_sub(sync_begins));
        self.lsn = lsn;
        self.ends = ends;
        self.file.position += bytes.len() as u64;
        engine.set_proven(is_marker || engine.parts.disk.is_memory());
        engine.counters.wrote(bytes.len(), frames.iter().filter(|f| f.starts_entry).count());

        let mut folded = engine.state.folded();
        let sequence = self.file.header.sequence;
        let view = GroupView { lsn, sequence, position, frames: &frames, keep: true };
        let outcome = engine.state.fold(&mut folded, &mut self.progress, &view, &mut |frame| {
            let start = frame.payload_offset as usize;
            Ok(bytes.slice(start..start + frame.payload_bytes as usize))
        });
        let changes = match outcome {
            Ok(changes) => changes,
            Err(error) => unreachable!("what was reserved folds: {error}"),
        };
        folded.position = self.file.position;
        folded.newest_time = folded.newest_time.max(wall_time);
        engine.files.advance(self.file.position);
        let mut retired = Vec::new();
        for merged in &changes.merged {
            retired.extend(engine.files.merged(&merged.inputs, &merged.outputs));
        }
        engine.publish(lsn);
        drop(folded);
        if !retired.is_empty() {
            engine.keeper.note_retired(retired, lsn);
        }
        if changes.has_freed {
            engine.retention.note_freed();
            engine.keeper.wake();
            engine.merger.wake();
        }

        engine.keeper.note_written(bytes.len() as u64, is_marker);
        self.ring.push(bytes.len(), changes.batches);
        let retries = engine.reservation.lock().settle(ticket, &changes.stamps);
        let durability = synced(engine.parts.disk.is_memory());
        for waiter in waiters {
            let mut appended = waiter.appended;
            appended.lsn = lsn;
            appended.durability = durability;
            (waiter.done)(Ok(appended));
        }
        for waiter in retries {
            let mut appended = waiter.appended;
            appended.lsn = lsn;
            appended.durability = durability;
            appended.duplicate = true;
            (waiter.done)(Ok(appended));
        }
        let mut streams = changes.streams;
        streams.sort_unstable();
        streams.dedup();
        if !streams.is_empty() {
            engine.parts.observer.advanced(&streams);
        }
        engine.keeper.file_filled(self.file.position, self.file.slot.size);
    }

    /// Writes the last group of the journal: a seal with no file after it.
    pub(crate) fn seal_for_good(&mut self, engine: &Engine) -> Result<()> {
        if self.has_failed {
            return Ok(());
        }
        let footer = self.progress.footer_so_far(None);
        self.write_seal(engine, &footer).map_err(|error| {
            self.has_failed = true;
            Error::new(ErrorKind::Io, "the journal could not be sealed; it recovers when opened")
                .caused_by(error)
        })
    }

    /// True if the file being written holds records that are deleted.
    pub(crate) fn has_dead(&self, engine: &Engine) -> bool {
        self.progress.touched.iter().any(|stream| {
            engine.state.stream(stream.id).is_err() || {
                let view = stream.view();
                view.active.first().is_some_and(|run| run.base_offset < view.start)
            }
        })
    }

    /// Streams with readable records in the file being written, beside this one.
    pub(crate) fn live_streams(&self, engine: &Engine, beside: StreamId) -> usize {
        let is_live = |stream: &&Arc<Stream>| {
            let view = stream.view();
            stream.id != beside && view.start < view.end() && engine.state.stream(stream.id).is_ok()
        };
        self.progress.touched.iter().filter(is_live).count()
    }

    /// Finishes the file being written before it is full. Without space it stays as it is.
    pub(crate) fn roll_early(&mut self, engine: &Engine) {
        if self.has_failed {
            return;
        }
        let needed = FILE_HEADER_BYTES + 2 * BLOCK + seal_bytes(0);
        match self.roll(engine, needed as u64) {
            Ok(()) => engine.keeper.note_finished(),
            Err(Failure::NoSpace(error)) => {
                tracing::debug!(%error, "there is no space for another file yet");
            }
            Err(Failure::Final { what, error }) => {
                self.fail(engine, Vec::new(), None, what, error);
            }
        }
    }

    /// Finishes the file being written if it holds batches that are to be erased, by stream and
    /// first offset, or what an earlier life of its slot left. Answers whether the file being
    /// written holds neither now.
    pub(crate) fn roll_to_erase(
        &mut self,
        engine: &Engine,
        is_condemned: impl Fn(StreamId, Offset) -> bool,
    ) -> Result<bool> {
        let holds_some = self.progress.touched.iter().any(|stream| {
            stream.view().active.first().is_some_and(|run| is_condemned(stream.id, run.base_offset))
        });
        let sequence = self.file.header.sequence;
        if !holds_some && self.file.slot.is_blank {
            return Ok(true);
        }
        self.roll_early(engine);
        match self.file.header.sequence == sequence {
            true if self.has_failed => Err(engine.refusal_error()),
            true => Err(Error::new(
                ErrorKind::DiskFull,
                "there is no space for another journal file, which erasing needs: free some space",
            )),
            false => Ok(self.file.slot.is_blank),
        }
    }

    fn make_room(
        &mut self,
        engine: &Engine,
        length: usize,
        frames: usize,
    ) -> std::result::Result<(), Failure> {
        let after = self.file.position + (length + self.seal_bound(frames)) as u64;
        if after <= self.file.slot.size {
            return Ok(());
        }
        let needed = FILE_HEADER_BYTES + length + seal_bytes(Footer::encoded_bound(0, 0, frames));
        self.roll(engine, needed as u64)
    }

    fn seal_bound(&self, more: usize) -> usize {
        seal_bytes(Footer::encoded_bound(self.progress.touched.len(), self.progress.runs, more))
    }

    fn roll(&mut self, engine: &Engine, needed: u64) -> std::result::Result<(), Failure> {
        let mut next_file = self.next_file;
        next_file.advance(engine.parts.clock.monotonic());
        let slot = engine.next_slot(needed, next_file.bytes).map_err(|error| {
            if is_passing(&error) {
                Failure::NoSpace(error)
            } else {
                Failure::Final { what: "make ready a file of", error }
            }
        })?;
        self.next_file = next_file;
        engine.keeper.set_next_bytes(next_file.bytes);

        let sequence = self.file.header.sequence;
        let footer = self.progress.footer_so_far(Some(sequence.next()));
        let seal_position = self.file.position;
        let header = FileHeader {
            sequence: sequence.next(),
            salt: engine.parts.random.salt(),
            base_lsn: self.lsn.next().next(),
            previous: Some(PreviousFile { sequence, end: seal_position }),
            size: slot.size,
            wall_time: engine.parts.clock.now(),
        };
        let sync = || barrier("the sync of the next file's header", || slot.file.sync());
        let written = slot.file.write_at(0, &header.encode()).and_then(|()| sync());
        written.map_err(|error| Failure::Final { what: "begin a file of", error })?;
        self.write_seal(engine, &footer)
            .map_err(|error| Failure::Final { what: "seal a file of", error })?;

        let mut folded = engine.state.folded();
        engine.files.finish(StoredFile::Journal(FileRecord {
            sequence,
            slot: self.file.slot.number,
            salt: self.file.header.salt,
            size: self.file.slot.size,
            base_lsn: self.file.header.base_lsn,
            last_lsn: self.lsn,
            end: seal_position,
            seal: Some(seal_position),
            previous: self.file.header.previous,
        }));
        engine.footers.insert(FileKey::journal(sequence), footer);
        self.progress.finish(sequence);
        let position = FILE_HEADER_BYTES as u64;
        engine.files.begin(header.sequence, slot.number, header.salt, position);
        folded.lsn = self.lsn;
        folded.sequence = header.sequence;
        folded.position = position;
        engine.publish(self.lsn);
        self.file = CurrentFile { slot, header, position };
        engine.retention.note_rolled();
        engine.keeper.wake();
        engine.merger.note_rolled();
        Ok(())
    }

    fn write_seal(&mut self, engine: &Engine, footer: &Footer) -> io::Result<()> {
        let lsn = self.lsn.next();
        let header = &self.file.header;
        let mut body = Vec::with_capacity(encoded_length(footer));
        footer.encode(&mut body);
        let salted = Salted::new(&header.salt, header.sequence, lsn.0);
        let length = seal_bytes(body.len());
        let group = GroupHeader {
            is_seal: true,
            sequence: header.sequence,
            lsn,
            length: length as u32,
            entries: 0,
            frames: 0,
            table_offset: GROUP_HEADER_BYTES as u32,
            table_bytes: body.len() as u32,
            table_crc: salted.crc(&body),
            ends: 0,
            reach: 0,
            wall_time: engine.parts.clock.now(),
        };
        let mut bytes = BytesMut::with_capacity(length);
        group.encode(salted, &mut bytes);
        bytes.put_slice(&body);
        bytes.put_bytes(0, length - bytes.len());
        assert!(
            self.file.position + length as u64 <= self.file.slot.size,
            "room for the seal is kept"
        );
        self.file.slot.file.write_at(self.file.position, &bytes)?;
        barrier("the sync of a seal", || self.file.slot.file.sync())?;
        self.lsn = lsn;
        self.file.position += length as u64;
        engine.set_proven(true);
        engine.counters.wrote(length, 0);
        Ok(())
    }

    /// Nothing was written: everything under way is refused, and what was reserved is undone.
    fn give_up_space(&mut self, engine: &Engine, waiters: Vec<Waiter>, error: io::Error) {
        let refused = Error::disk_full(error);
        let mut reservation = engine.reservation.lock();
        let (groups, retries) = reservation.abandon();
        if !matches!(reservation.refusal, Some(Refusal::All(_))) {
            reservation.refusal = Some(Refusal::Data(refused.clone()));
        }
        let ends = Arc::clone(&self.ends);
        reservation.reset(engine.state.tails(), ends);
        drop(reservation);
        tracing::error!(error = %refused, "appends are refused");
        refuse(waiters, &refused);
        refuse(retries.into_iter().map(|(_, waiter)| waiter).collect(), &refused);
        groups.into_iter().for_each(|group| refuse(group.group.abandon(), &refused));
        engine.keeper.wake();
    }

    /// The journal is no longer trusted: `untouched` entries are not in it, `unknown` ones may be.
    fn fail(
        &mut self,
        engine: &Engine,
        untouched: Vec<Waiter>,
        unknown: Option<(u64, Vec<Waiter>)>,
        what: &'static str,
        error: io::Error,
    ) {
        self.has_failed = !skips("the end after a failed sync");
        let sentence = if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
            "the file system of the data directory has become read-only, so appends are refused: \
             the kernel's log says why; mend it and mount it writable, then restart the broker"
                .to_owned()
        } else {
            format!(
                "the disk failed to {what} the journal, so appends are refused: check the disk, \
                 then restart the broker"
            )
        };
        let failed = Error::new(ErrorKind::JournalFailed, sentence).caused_by(error);
        let mut reservation = engine.reservation.lock();
        let (groups, retries) = reservation.abandon();
        let doubtful = unknown.as_ref().map(|(ticket, _)| *ticket);
        reservation.forget_pending(doubtful);
        if self.has_failed {
            reservation.refusal = Some(Refusal::All(failed.clone()));
        }
        drop(reservation);
        let (in_doubt, retries): (Vec<_>, Vec<_>) =
            retries.into_iter().partition(|(ticket, _)| Some(*ticket) == doubtful);
        let waiters = |retries: Vec<(u64, Waiter)>| retries.into_iter().map(|(_, w)| w).collect();
        tracing::error!(error = %failed, "appends are refused");
        refuse(untouched, &failed);
        refuse(waiters(retries), &failed);
        groups.into_iter().for_each(|group| refuse(group.group.abandon(), &failed));
        let failed = failed.with_applied(Applied::Unknown);
        refuse(unknown.map(|(_, waiters)| waiters).unwrap_or_default(), &failed);
        refuse(waiters(in_doubt), &failed);
    }
}

fn encoded_length(footer: &Footer) -> usize {
    let runs = footer.streams.iter().map(|stream| stream.runs.len()).sum();
    Footer::encoded_bound(footer.streams.len(), runs, 0)
}

/// The length of a seal whose footer takes this much.
pub(crate) fn seal_bytes(footer_bytes: usize) -> usize {
    round_up(GROUP_HEADER_BYTES + footer_bytes).max(BLOCK)
}

fn acknowledge_written(lsn: Lsn, waiters: Vec<Waiter>) -> Vec<Waiter> {
    if waiters.iter().all(|waiter| waiter.wanted > Durability::Written) {
        return waiters;
    }
    let (written, rest): (Vec<_>, Vec<_>) =
        waiters.into_iter().partition(|waiter| waiter.wanted == Durability::Written);
    for waiter in written {
        let mut appended = waiter.appended;
        appended.lsn = lsn;
        appended.durability = Durability::Written;
        (waiter.done)(Ok(appended));
    }
    rest
}
