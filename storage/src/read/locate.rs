//! Finding runs: in the file being written, else by bisecting the footers of finished files.
//!
//! A stream's runs rise in offset, append time and bytes, from file to file. So every question of
//! the kind "the last run before …" is one bisection, whatever it asks for.

use std::sync::Arc;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::files::ReadableFile;
use crate::format::{RUN_SPAN, Run};
use crate::position::{FileKey, Offset, StreamId};
use crate::stream::last_run;

/// Times the search begins anew because the files changed under it.
const ATTEMPTS: usize = 3;

/// A place to read groups from: the groups of one run begin in it.
pub(crate) struct Window {
    pub(crate) file: Arc<ReadableFile>,
    pub(crate) position: u64,
    pub(crate) end: u64,
}

impl Window {
    fn of(file: Arc<ReadableFile>, run: &Run) -> Self {
        Self { position: run.position, end: file.groups_end.min(run.position + RUN_SPAN), file }
    }
}

/// The last run for which `is_before` holds; it must hold for the stream's first runs.
pub(crate) fn find_run(
    engine: &Engine,
    id: StreamId,
    is_before: impl Fn(&Run) -> bool,
) -> Result<Option<(Window, Run)>> {
    let stream = engine.state.stream(id)?;
    let mut missing = None;
    for _ in 0..ATTEMPTS {
        let (active, active_file, last_file) = {
            let view = stream.view();
            (last_run(&view.active, &is_before), view.active_file, view.last_file)
        };
        if let (Some(run), Some(sequence)) = (active, active_file) {
            let key = FileKey::journal(sequence);
            match engine.files.readable(key) {
                Some(file) => return Ok(Some((Window::of(file, &run), run))),
                // Finished and merged between the two looks.
                None => missing = Some(Error::missing_file(key)),
            }
            continue;
        }
        let Some(last) = last_file else { return Ok(None) };
        let files = engine.files.holding(id, last);
        return bisect(engine, id, &files, &is_before);
    }
    missing.map_or(Ok(None), Err)
}

/// A probe that misses the stream goes down to the next file that holds it.
fn bisect(
    engine: &Engine,
    id: StreamId,
    files: &[Arc<ReadableFile>],
    is_before: &impl Fn(&Run) -> bool,
) -> Result<Option<(Window, Run)>> {
    let (mut low, mut high) = (0, files.len());
    let mut found = None;
    while low < high {
        let middle = low.midpoint(high);
        let mut holder = None;
        for index in (low..=middle).rev() {
            if let Some(entry) = engine.footers.load(engine, &files[index])?.find(id) {
                holder = Some((index, last_run(&entry.runs, is_before)));
                break;
            }
        }
        match holder {
            Some((index, Some(run))) => {
                found = Some((Window::of(Arc::clone(&files[index]), &run), run));
                low = middle + 1;
            }
            Some((index, None)) => high = index,
            None => low = middle + 1,
        }
    }
    Ok(found)
}

/// The first offset of the first run that begins after an offset. Footers that cannot be read are
/// passed over.
pub(crate) fn next_run(engine: &Engine, id: StreamId, from: Offset) -> Option<Offset> {
    let stream = engine.state.stream(id).ok()?;
    let (active, in_memory, last_file) = {
        let view = stream.view();
        let active = view.active.iter().map(|run| run.base_offset).find(|offset| *offset > from);
        let in_memory = view.recent_oldest().map(|batch| batch.base_offset);
        (active, in_memory.filter(|offset| *offset > from), view.last_file)
    };
    let finished = last_file.and_then(|last| {
        let files = engine.files.holding(id, last);
        files.iter().find_map(|file| {
            let footer = engine.footers.load(engine, file).ok()?;
            let entry = footer.find(id).filter(|entry| entry.end > from)?;
            entry.runs.iter().map(|run| run.base_offset).find(|offset| *offset > from)
        })
    });
    [finished, active, in_memory].into_iter().flatten().min()
}
