//! Whether two samples are the same records.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::row::Row;
use crate::sample::Place;

/// Less than this, both ways, is no copy.
const SAME: f64 = 0.95;
/// So many different records must be on both sides: few values agree by chance.
const MIN_DIFFERENT: usize = 20;
/// Fields agree if they do so in this share of the records.
const SAME_FIELD: f64 = 0.99;
/// Records of which fields are compared …
pub(super) const DETAILED: usize = 500;
/// … and comparisons of two fields at most: records may have a thousand fields of the same value.
const MAX_VOTES: usize = 500_000;
/// Fields of a copy that are told, and bytes of their paths.
const MAX_FIELDS: usize = 200;
const MAX_PATH_BYTES: usize = 16 << 10;

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// There are too few different records to tell.
    Unclear,
    Different,
    Same {
        percent: f64,
        records: u32,
        fields: Vec<(String, String)>,
    },
}

/// The records of one side, newest first.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Hash and append time of each.
    pub(super) rows: Vec<(u64, u64)>,
    /// Whether these are all there are.
    pub(super) is_whole: bool,
    /// Fields of some of them, by hash.
    pub(super) detailed: HashMap<u64, Vec<(Place, u64)>>,
}

impl Sample {
    /// One more record; `detail`: its fields may be compared.
    pub(super) fn add(&mut self, row: Row, time: u64, detail: bool) {
        self.rows.push((row.hash, time));
        if detail && self.detailed.len() < DETAILED {
            self.detailed.entry(row.hash).or_insert(row.fields);
        }
    }
}

/// Compares what an application appended with what it read.
pub(super) fn compare(source: &Sample, copy: &Sample) -> Verdict {
    // What was appended before the oldest record looked at on the other side has its origin there.
    let oldest = match (source.is_whole, source.rows.last()) {
        (false, Some((_, time))) => *time,
        _ => 0,
    };
    let copied: Vec<u64> =
        copy.rows.iter().filter(|(_, time)| *time >= oldest).map(|(hash, _)| *hash).collect();
    let mut left: HashMap<u64, u32> = HashMap::new();
    copied.iter().for_each(|hash| *left.entry(*hash).or_default() += 1);
    let different = left.len();
    let mut matched: Vec<usize> = Vec::new();
    let mut matched_different = HashSet::new();
    for (at, (hash, _)) in source.rows.iter().enumerate() {
        if let Some(count) = left.get_mut(hash).filter(|count| **count > 0) {
            *count -= 1;
            matched.push(at);
            matched_different.insert(*hash);
        }
    }
    if different < MIN_DIFFERENT || source.rows.len() < MIN_DIFFERENT {
        return Verdict::Unclear;
    }
    let (Some(newest), Some(last)) = (matched.first(), matched.last()) else {
        return Verdict::Different;
    };
    if matched_different.len() < MIN_DIFFERENT {
        return Verdict::Different;
    }
    let between = last - newest + 1;
    let forth = matched.len() as f64 / copied.len() as f64;
    let back = matched.len() as f64 / between as f64;
    let share = forth.min(back);
    if share < SAME {
        return Verdict::Different;
    }
    let records = u32::try_from(copied.len()).unwrap_or(u32::MAX);
    Verdict::Same { percent: (share * 1000.0).floor() / 10.0, records, fields: Vec::new() }
}

/// Which field of the copy came from which field of the source: those that agree in nearly all
/// records. Of several, the one of the same path.
pub(super) fn same_fields<'a>(
    source: &Sample,
    copy: &Sample,
    source_path: impl Fn(Place) -> &'a str,
    copy_path: impl Fn(Place) -> &'a str,
) -> Vec<(String, String)> {
    let mut votes: BTreeMap<(Place, Place), u32> = BTreeMap::new();
    let mut present: (BTreeMap<Place, u32>, BTreeMap<Place, u32>) = Default::default();
    let mut left = MAX_VOTES;
    for (hash, copied) in &copy.detailed {
        let Some(original) = source.detailed.get(hash) else { continue };
        let product = original.len() * copied.len();
        if product > left {
            break;
        }
        left -= product;
        original.iter().for_each(|(place, _)| *present.0.entry(*place).or_default() += 1);
        copied.iter().for_each(|(place, _)| *present.1.entry(*place).or_default() += 1);
        for (there, value) in original {
            for (here, _) in copied.iter().filter(|(_, hash)| hash == value) {
                *votes.entry((*there, *here)).or_default() += 1;
            }
        }
    }
    let mut agreed: Vec<(bool, u32, String, String)> = votes
        .into_iter()
        .filter(|((there, here), votes)| {
            let most = present.0[there].max(present.1[here]);
            f64::from(*votes) >= SAME_FIELD * f64::from(most)
        })
        .map(|((there, here), votes)| {
            let (there, here) = (source_path(there).to_owned(), copy_path(here).to_owned());
            (there != here, u32::MAX - votes, there, here)
        })
        .filter(|(_, _, there, _)| !there.is_empty())
        .collect();
    agreed.sort();
    let (mut taken, mut given, mut bytes) = (HashSet::new(), HashSet::new(), 0);
    let mut fields = Vec::new();
    for (_, _, there, here) in agreed {
        if taken.contains(&there) || given.contains(&here) {
            continue;
        }
        bytes += there.len() + here.len();
        if fields.len() == MAX_FIELDS || bytes > MAX_PATH_BYTES {
            break;
        }
        taken.insert(there.clone());
        given.insert(here.clone());
        fields.push((there, here));
    }
    fields.sort();
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hashes: impl IntoIterator<Item = u64>) -> Sample {
        let rows = hashes.into_iter().enumerate().map(|(n, hash)| (hash, 1_000_000 - n as u64));
        Sample { rows: rows.collect(), is_whole: true, ..Sample::default() }
    }

    fn percent(source: Sample, copy: Sample) -> Option<f64> {
        match compare(&source, &copy) {
            Verdict::Same { percent, .. } => Some(percent),
            _ => None,
        }
    }

    #[test]
    fn the_same_records_are_a_copy_also_in_another_order() {
        assert_eq!(percent(sample(0..100), sample(0..100)), Some(100.0));
        assert_eq!(percent(sample(0..100), sample((0..100).rev())), Some(100.0));
        assert_eq!(percent(sample(0..100), sample(1..100)), Some(100.0), "one is still to come");
        assert_eq!(percent(sample((0..100).chain(0..50)), sample(0..100)), Some(100.0));
    }

    #[test]
    fn what_was_filtered_changed_or_added_to_is_no_copy() {
        let half = (0..200).filter(|n| n % 2 == 0);
        assert_eq!(percent(sample(0..200), sample(half)), None, "filtered");
        assert_eq!(
            percent(sample(0..200), sample((0..200).filter(|n| n % 10 > 0))),
            None,
            "a tenth"
        );
        assert_eq!(percent(sample(0..200), sample(1_000..1_200)), None, "changed");
        let mixed = (0..100).chain(1_000..1_100);
        assert_eq!(percent(sample(0..100), sample(mixed)), None, "made of two");
        let often = (0..100).flat_map(|n| [n, n]);
        assert_eq!(percent(sample(0..100), sample(often)), None, "each twice");
    }

    #[test]
    fn the_threshold_is_95_percent_both_ways() {
        let without =
            |left_out: u64| sample((0..1_000).filter(move |n| *n == 0 || n % left_out > 0));
        assert!(percent(sample(0..1_000), without(25)).is_some_and(|percent| percent >= 96.0));
        assert_eq!(percent(sample(0..1_000), without(18)), None, "94.5 %");
        let with_others = |others: u64| sample((0..1_000).chain(5_000..5_000 + others));
        assert!(percent(sample(0..1_000), with_others(50)).is_some_and(|percent| percent >= 95.0));
        assert_eq!(percent(sample(0..1_000), with_others(60)), None);
    }

    #[test]
    fn few_different_records_say_nothing() {
        assert_eq!(compare(&sample(0..19), &sample(0..19)), Verdict::Unclear);
        let same = || sample(std::iter::repeat_n(7, 1_000));
        assert_eq!(compare(&same(), &same()), Verdict::Unclear);
        assert_ne!(compare(&sample(0..20), &sample(0..20)), Verdict::Unclear);
    }

    #[test]
    fn of_a_large_source_only_what_was_looked_at_counts() {
        // Newest first: the source was looked at down to time 900, the copy further back.
        let source = Sample {
            is_whole: false,
            rows: (0..100).map(|n| (n, 999 - n)).collect(),
            ..Sample::default()
        };
        let copy = Sample { rows: (0..300).map(|n| (n, 1_000 - n)).collect(), ..Sample::default() };
        assert_eq!(percent(source, copy), Some(99.0));
    }
}
