//! What the streams should hold against what was found in the files, read in the order of writing.

use std::collections::HashMap;
use std::ops::Range;

use super::report::{Problem, VerifyReport};
use crate::format::Frame;
use crate::position::{FileSequence, Offset, StreamId, Timestamp};
use crate::state::State;

/// Every stream, and how far it was seen.
pub(super) struct Coverage {
    streams: HashMap<StreamId, Seen>,
    problems: Vec<Problem>,
}

struct Seen {
    /// What the state says, if the stream still exists.
    expected: Option<Expected>,
    /// One past the last record found, or the start offset if that is higher.
    next: Offset,
    /// One past the last record found.
    found: Offset,
    last_time: Timestamp,
    last_file: Option<FileSequence>,
}

struct Expected {
    end: Offset,
    last_file: Option<FileSequence>,
    quarantine: Vec<(Offset, Offset)>,
    /// Before this offset records may be missing because newer ones have their keys.
    compacted_to: Offset,
}

impl Coverage {
    pub(super) fn new(state: &State) -> Self {
        let streams = state.streams().into_iter().map(|stream| {
            let view = stream.view();
            let expected = Expected {
                end: view.end(),
                last_file: view.last_file,
                quarantine: view.quarantine.clone(),
                compacted_to: view.compacted_to,
            };
            let seen = Seen {
                expected: Some(expected),
                next: view.start,
                found: Offset(0),
                last_time: Timestamp(0),
                last_file: None,
            };
            (stream.id, seen)
        });
        Self { streams: streams.collect(), problems: Vec::new() }
    }

    /// Whether the stream still exists.
    pub(super) fn is_live(&self, stream: StreamId) -> bool {
        self.streams.get(&stream).is_some_and(|seen| seen.expected.is_some())
    }

    /// A batch that follows what was seen before, from a file that may begin with
    /// records of this journal file.
    pub(super) fn batch(&mut self, first_rank: FileSequence, name: &str, frame: &Frame) {
        let seen = self.streams.entry(frame.stream).or_insert(Seen {
            expected: None,
            next: frame.base_offset,
            found: Offset(0),
            last_time: Timestamp(0),
            last_file: None,
        });
        if let Some(expected) = &seen.expected
            && let Some(missing) = expected.gap(seen.next, frame.base_offset)
        {
            self.problems.push(expected.missing(frame.stream, missing, Some(name)));
        }
        if frame.base_offset < seen.found || frame.append_time < seen.last_time {
            self.problems.push(Problem {
                file: Some(name.to_owned()),
                records: Some((frame.stream, frame.base_offset..frame.end())),
                ..Problem::of(format!(
                    "offset {} of stream {} is out of order, {} comes next",
                    frame.base_offset, frame.stream, seen.found
                ))
            });
        }
        seen.found = seen.found.max(frame.end());
        seen.next = seen.next.max(seen.found);
        seen.last_time = seen.last_time.max(frame.append_time);
        seen.last_file = Some(first_rank);
    }

    /// The footer of a file with damaged groups says how far the stream went in it.
    pub(super) fn went_to(&mut self, stream: StreamId, end: Offset, name: &str) {
        let Some(seen) = self.streams.get_mut(&stream) else { return };
        let Some(expected) = &mut seen.expected else { return };
        if end > seen.next {
            if let Some(missing) = expected.gap(seen.next, end) {
                self.problems.push(expected.missing(stream, missing, Some(name)));
            }
            seen.next = end;
            expected.end = expected.end.max(end);
        }
    }

    /// Everything was read.
    pub(super) fn finish(self, report: &mut VerifyReport) {
        let mut problems = self.problems;
        for (stream, seen) in &self.streams {
            let Some(expected) = &seen.expected else { continue };
            report.streams += 1;
            if let Some(missing) = expected.gap(seen.next, expected.end) {
                problems.push(expected.missing(*stream, missing, None));
            }
            if seen.found > expected.end {
                problems.push(Problem {
                    records: Some((*stream, expected.end..seen.found)),
                    ..Problem::of(format!("stream {stream} goes on after its end"))
                });
            }
            if let (Some(wanted), Some(found)) = (expected.last_file, seen.last_file)
                && wanted < found
            {
                problems.push(Problem::of(format!(
                    "the state names journal file {wanted} as the newest one of stream {stream}, \
                     but {found} holds its end"
                )));
            }
        }
        problems.sort_by_key(|problem| problem.records.as_ref().map(|(s, r)| (*s, r.start)));
        problems.into_iter().for_each(|problem| report.add(problem));
    }
}

impl Expected {
    /// What is missing between two offsets, if compaction does not explain it.
    fn gap(&self, next: Offset, found: Offset) -> Option<Range<Offset>> {
        let first = next.max(self.compacted_to.min(found));
        (first < found).then_some(first..found)
    }

    fn missing(&self, stream: StreamId, missing: Range<Offset>, before: Option<&str>) -> Problem {
        let is_known = self
            .quarantine
            .iter()
            .any(|(first, end)| *first <= missing.start && missing.end <= *end);
        let known = if is_known { "; reads of them answer DATA_LOSS" } else { "" };
        Problem {
            file: before.map(str::to_owned),
            what: format!(
                "offsets {} to {} of stream {stream} are in no file{known}",
                missing.start,
                missing.end.0 - 1
            ),
            records: Some((stream, missing)),
            ..Problem::of("")
        }
    }
}
