//! Where a read begins and where the next one goes on, as text.
//!
//! ```text
//! earliest | latest | 42 | 2026-11-20T12:00:00Z | 0:42,1:7   (partition:offset, the cursor of an answer)
//! ```

use std::fmt::Write as _;

use meshlog_proto::v1;

use crate::error::{Error, Reason, Result};

/// A cursor travels in headers and in the id of an event, which must stay small.
pub(super) const MAX_CURSOR_PARTITIONS: usize = 128;

/// The next offsets to read as `partition:offset,…`.
pub(super) fn cursor(positions: &[v1::Position]) -> String {
    let mut text = String::new();
    for position in positions {
        let comma = if text.is_empty() { "" } else { "," };
        _ = write!(text, "{comma}{}:{}", position.partition, position.offset);
    }
    text
}

/// Where to start, as `from` says it. A lone offset is one of the only partition, or of the one that
/// is named.
pub(super) fn start(from: &str, named: &[u32], partitions: usize) -> Result<v1::Start> {
    use v1::start::At;
    let edge = |edge: v1::StartEdge| At::Edge(edge.into());
    let at = match from {
        "" | "earliest" => edge(v1::StartEdge::Earliest),
        "latest" => edge(v1::StartEdge::Latest),
        _ => {
            if let Ok(offset) = from.parse() {
                let partition = match named {
                    [one] => *one,
                    [] if partitions == 1 => 0,
                    _ => return Err(ambiguous(partitions)),
                };
                At::Positions(v1::Positions { positions: vec![v1::Position { partition, offset }] })
            } else if let Some(positions) = positions(from) {
                At::Positions(v1::Positions { positions })
            } else {
                let time = from.parse().map_err(|_| unreadable(from))?;
                At::AppendTime(time)
            }
        }
    };
    Ok(v1::Start { at: Some(at) })
}

fn positions(text: &str) -> Option<Vec<v1::Position>> {
    text.split(',')
        .map(|one| {
            let (partition, offset) = one.split_once(':')?;
            Some(v1::Position { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        })
        .collect()
}

fn unreadable(from: &str) -> Error {
    Error::new(
        Reason::InvalidArgument,
        format!(
            "`from` is `{from}`; write earliest, latest, an offset, a time as RFC 3339 writes it, or \
             the cursor of an earlier answer"
        ),
    )
    .with("field", "from")
}

fn ambiguous(partitions: usize) -> Error {
    Error::new(
        Reason::InvalidArgument,
        format!(
            "an offset says nothing about {partitions} partitions; name one with `partition`, or \
             write `from` as `partition:offset,…`"
        ),
    )
    .with("field", "from")
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::start::At;

    fn at(from: &str) -> At {
        start(from, &[], 1).unwrap().at.unwrap()
    }

    #[test]
    fn every_way_to_say_where_to_start_is_understood() {
        assert_eq!(at("earliest"), At::Edge(v1::StartEdge::Earliest.into()));
        assert_eq!(at("latest"), At::Edge(v1::StartEdge::Latest.into()));
        let one = vec![v1::Position { partition: 0, offset: 42 }];
        assert_eq!(at("42"), At::Positions(v1::Positions { positions: one }));
        let At::AppendTime(time) = at("2026-11-20T12:00:00.5Z") else { panic!("no time") };
        assert_eq!((time.seconds, time.nanos), (1_795_176_000, 500_000_000));
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let positions = vec![
            v1::Position { partition: 0, offset: 42 },
            v1::Position { partition: 7, offset: u64::MAX },
        ];
        let text = cursor(&positions);
        assert_eq!(text, "0:42,7:18446744073709551615");
        assert_eq!(at(&text), At::Positions(v1::Positions { positions }));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for from in ["soon", "-1", "1:", "0:1,", "2026-13-01T00:00:00Z"] {
            assert_eq!(start(from, &[], 1).unwrap_err().metadata()["field"], "from", "{from}");
        }
        assert!(start("5", &[], 2).is_err());
        assert!(start("5", &[1], 2).is_ok());
    }
}
