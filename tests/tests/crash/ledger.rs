//! What was sent and what was answered, kept outside of the broker, and the rules that what is
//! read back must keep.

use std::collections::BTreeMap;

/// What is known of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Sent, and nothing is known: it is there once or not at all.
    Sent,
    /// Refused, with the word that it was not applied and never will be.
    Refused,
    /// Acknowledged as durable, its first record at this offset.
    Acknowledged(u64),
}

/// One writer, which appends to one partition, one request after the other.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    pub(crate) number: u8,
    pub(crate) product: String,
    pub(crate) partition: u32,
    /// By sequence, from 0.
    pub(crate) sent: Vec<Known>,
    /// The last one was sent more than once, so that a refusal says nothing of the first time.
    is_retry: bool,
}

impl Writer {
    /// The sequence to send next: the last one again, if nothing is known of it.
    pub(crate) fn next(&mut self) -> u64 {
        match self.sent.last_mut() {
            Some(Known::Sent) => self.is_retry = true,
            Some(known @ Known::Refused) => *known = Known::Sent,
            Some(Known::Acknowledged(_)) | None => {
                self.sent.push(Known::Sent);
                self.is_retry = false;
            }
        }
        self.sent.len() as u64 - 1
    }

    /// Nothing is known of what it sent last.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.sent.last() == Some(&Known::Sent)
    }

    /// It was not applied.
    pub(crate) fn refuse(&mut self, sequence: u64) {
        if !self.is_retry {
            self.sent[usize::try_from(sequence).unwrap()] = Known::Refused;
        }
    }

    pub(crate) fn acknowledge(&mut self, sequence: u64, offset: u64) {
        let known = &mut self.sent[usize::try_from(sequence).unwrap()];
        if let Known::Acknowledged(before) = *known {
            assert_eq!(before, offset, "a second answer names another place");
        }
        *known = Known::Acknowledged(offset);
    }
}

/// Records of one request, told from its writer and sequence alone.
pub(crate) fn records(writer: u8, sequence: u64) -> Vec<String> {
    let mixed = (sequence + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(writer) << 32;
    let count = 1 + (mixed >> 20) % 4;
    let length = match (mixed >> 40) % 40 {
        0 => 60_000,
        1..8 => 4_000,
        _ => 40 + usize::try_from((mixed >> 8) % 400).unwrap(),
    };
    (0..count)
        .map(|index| {
            let head = format!("{writer} {sequence} {index} {count} ");
            let fill = ["ab", "cd", "ef", "gh"][usize::try_from(mixed % 4).unwrap()];
            let fill = fill.repeat(length.saturating_sub(head.len()) / 2);
            head + &fill
        })
        .collect()
}

/// All writers, and how far readers saw each partition.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) writers: Vec<Writer>,
    /// Durable ends that a reader was told: nothing below may go away.
    pub(crate) seen: BTreeMap<(String, u32), u64>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) acknowledged: u64,
    pub(crate) in_doubt: u64,
    pub(crate) in_doubt_there: u64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.in_doubt += other.in_doubt;
        self.in_doubt_there += other.in_doubt_there;
    }
}

impl Ledger {
    /// `products` products of two partitions, and two writers to each partition.
    pub(crate) fn new(products: u8) -> Self {
        let writers = (0..products * 4).map(|number| Writer {
            number,
            product: format!("ops.load-{}", number / 4),
            partition: u32::from(number % 2),
            sent: Vec::new(),
            is_retry: false,
        });
        Self { writers: writers.collect(), seen: BTreeMap::new() }
    }

    pub(crate) fn partitions(&self) -> Vec<(String, u32)> {
        let mut all: Vec<_> =
            self.writers.iter().map(|writer| (writer.product.clone(), writer.partition)).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Holds one partition, read whole from offset 0, against what was answered.
    pub(crate) fn check(&self, product: &str, partition: u32, values: &[String]) -> Counted {
        let place = format!("{product} partition {partition}");
        if let Some(seen) = self.seen.get(&(product.to_owned(), partition)) {
            let end = values.len() as u64;
            assert!(end >= *seen, "{place} ends at {end}, but readers were told {seen}");
        }
        let writers =
            self.writers.iter().filter(|w| w.product == product && w.partition == partition);
        let mut found: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        let mut offset = 0;
        while offset < values.len() {
            let mut words = values[offset].split(' ');
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
            let (Some(writer), Some(sequence), Some(0)) = (number(), number(), number()) else {
                panic!("{place} offset {offset} holds what nobody appended there");
            };
            let writer = u8::try_from(writer).unwrap();
            let expected = records(writer, sequence);
            let end = offset + expected.len();
            assert!(end <= values.len(), "{place} offset {offset}: a request is torn");
            for (at, (is, should)) in (offset..).zip(values[offset..end].iter().zip(&expected)) {
                assert!(is == should, "{place} offset {at}: other bytes than were appended");
            }
            let offsets = found.entry(writer).or_default();
            assert_eq!(
                offsets.len() as u64,
                sequence,
                "{place} offset {offset}: writer {writer} is repeated, overtaken or has a gap"
            );
            offsets.push(offset as u64);
            offset = end;
        }
        let mut counted = Counted::default();
        for writer in writers {
            let offsets = found.remove(&writer.number).unwrap_or_default();
            assert!(
                offsets.len() <= writer.sent.len(),
                "{place}: writer {} never sent sequence {}",
                writer.number,
                writer.sent.len()
            );
            for (sequence, known) in writer.sent.iter().enumerate() {
                let is = offsets.get(sequence).copied();
                match known {
                    Known::Acknowledged(at) => {
                        assert_eq!(
                            is,
                            Some(*at),
                            "{place}: sequence {sequence} of writer {} was acknowledged",
                            writer.number
                        );
                        counted.acknowledged += 1;
                    }
                    Known::Refused => assert_eq!(
                        is, None,
                        "{place}: sequence {sequence} of writer {} was refused as not applied",
                        writer.number
                    ),
                    Known::Sent => {
                        counted.in_doubt += 1;
                        counted.in_doubt_there += u64::from(is.is_some());
                    }
                }
            }
        }
        assert!(found.is_empty(), "{place} holds records of {found:?}");
        counted
    }
}
