//! The epochs of producers that were forgotten, so that none of them is taken for a new one.
//!
//! A table of fixed size, as in a count-min sketch: a producer has one cell in each row, a cell
//! holds one more than the highest epoch forgotten there, and the lowest of its cells is the
//! lowest epoch in which the producer may begin. It is never too low. For a producer that was
//! never here it is rarely above 0; then it begins one epoch higher, and nothing else happens.

use crate::producers::ProducerKey;

const ROWS: usize = 4;
const ROW_CELLS: usize = 1 << 16;

/// One megabyte, once the first producer is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    cells: Vec<u32>,
}

impl Forgotten {
    /// This producer is forgotten, and this was its epoch.
    pub(crate) fn note(&mut self, key: &ProducerKey, epoch: u32) {
        self.raise(cells_of(key), epoch.saturating_add(1));
    }

    /// The lowest epoch in which this producer may begin.
    pub(crate) fn lowest_epoch(&self, key: &ProducerKey) -> u32 {
        if self.cells.is_empty() {
            return 0;
        }
        cells_of(key).into_iter().map(|cell| self.cells[cell]).min().unwrap_or_default()
    }

    /// Every producer may have been here in an epoch up to this one.
    pub(crate) fn note_all(&mut self, epoch: u32) {
        self.raise(0..ROWS * ROW_CELLS, epoch.saturating_add(1));
    }

    /// For a checkpoint: cells that are not 0.
    pub(crate) fn records(&self) -> Vec<(u32, u32)> {
        let cells = (0..).zip(&self.cells);
        cells.filter(|(_, lowest)| **lowest > 0).map(|(cell, lowest)| (cell, *lowest)).collect()
    }

    /// From a checkpoint.
    pub(crate) fn restore(&mut self, records: &[(u32, u32)]) {
        for (cell, lowest) in records {
            let cell = usize::try_from(*cell).unwrap_or(usize::MAX);
            if cell < ROWS * ROW_CELLS {
                self.raise([cell], *lowest);
            }
        }
    }

    fn raise(&mut self, cells: impl IntoIterator<Item = usize>, lowest: u32) {
        if self.cells.is_empty() {
            self.cells = vec![0; ROWS * ROW_CELLS];
        }
        for cell in cells {
            self.cells[cell] = self.cells[cell].max(lowest);
        }
    }
}

/// The cell of each row: 16 bits of a hash. On disk, so it never changes.
fn cells_of((scope, id): &ProducerKey) -> [usize; ROWS] {
    let (high, low) = id.split_at(8);
    let number = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let hash = mix(mix(mix(*scope) ^ number(high)) ^ number(low));
    [0, 1, 2, 3].map(|row| row * ROW_CELLS + usize::from((hash >> (16 * row)) as u16))
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> ProducerKey {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(number).to_le_bytes());
        (7, id)
    }

    #[test]
    fn what_is_forgotten_is_never_taken_for_new_and_what_is_new_rarely_for_forgotten() {
        let mut forgotten = Forgotten::default();
        for number in 0..1_000 {
            forgotten.note(&key(number), (number % 5) as u32);
        }
        for number in 0..1_000 {
            assert!(forgotten.lowest_epoch(&key(number)) > (number % 5) as u32);
        }
        let mistaken = (1_000..11_000).filter(|n| forgotten.lowest_epoch(&key(*n)) > 0).count();
        assert!(mistaken <= 2, "{mistaken} of 10,000");
    }

    #[test]
    fn cells_stay_where_they_are_in_checkpoints_of_other_versions() {
        let id = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        assert_eq!(cells_of(&(7, id)), [49_733, 127_528, 152_323, 239_225]);
    }

    #[test]
    fn it_comes_back_from_a_checkpoint_as_it_was() {
        let mut forgotten = Forgotten::default();
        forgotten.note(&key(1), 0);
        forgotten.note(&key(2), u32::MAX);
        assert_eq!(forgotten.records().len(), 8);
        let mut again = Forgotten::default();
        again.restore(&forgotten.records());
        again.restore(&[(u32::MAX, 1)]);
        assert_eq!(again.records(), forgotten.records());
        assert_eq!(again.lowest_epoch(&key(2)), u32::MAX);
    }
}
