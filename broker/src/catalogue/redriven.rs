//! Which quarantined records were redriven.
//!
//! One key of the storage state per product and [`CHUNK`] offsets, `redriven/<product id>/<chunk>`,
//! with a bit for each. It is set in the entry that appends the record, so a record is redriven once,
//! whatever fails and however late somebody tries again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::Control;
use parking_lot::RwLock;

use super::Catalogue;

/// Offsets that one key stands for.
const CHUNK: u64 = 1024;

/// The marks of all products.
#[derive(Default)]
pub(crate) struct Redriven {
    marks: RwLock<BTreeMap<(Arc<str>, u64), Bytes>>,
    /// Held by the one redrive that is under way: marks are read, changed and written as a whole.
    pub(crate) gate: Arc<tokio::sync::Mutex<()>>,
}

impl Redriven {
    /// From the storage state.
    pub(super) fn open<'a>(state: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let marks = state.filter_map(|(key, value)| Some((parse(key)?, value.clone()))).collect();
        Self { marks: RwLock::new(marks), gate: Arc::default() }
    }

    /// Whether the record at this offset was redriven.
    pub(crate) fn is_marked(&self, product_id: &Arc<str>, offset: u64) -> bool {
        let marks = self.marks.read();
        let bits = marks.get(&(Arc::clone(product_id), offset / CHUNK));
        let (byte, bit) = place(offset);
        bits.and_then(|bits| bits.get(byte)).is_some_and(|bits| bits & bit != 0)
    }

    /// The changes of the state that mark it: those of records before `start`, which are gone, go too.
    /// With the gate held.
    pub(crate) fn mark(&self, product_id: &Arc<str>, offset: u64, start: u64) -> Vec<Control> {
        let marks = self.marks.read();
        let chunk = offset / CHUNK;
        let known = marks.get(&(Arc::clone(product_id), chunk));
        let mut bits = known.map_or_else(|| vec![0; CHUNK as usize / 8], |bits| bits.to_vec());
        let (byte, bit) = place(offset);
        if let Some(bits) = bits.get_mut(byte) {
            *bits |= bit;
        }
        let gone = of(&marks, product_id).map(|(chunk, _)| chunk);
        let gone = gone.filter(|gone| (gone + 1) * CHUNK <= start && *gone != chunk);
        let gone = gone.map(|chunk| set(product_id, chunk, None));
        gone.chain([set(product_id, chunk, Some(Bytes::from(bits)))]).collect()
    }

    /// The changes are durable.
    pub(crate) fn apply(&self, changes: &[Control]) {
        let mut marks = self.marks.write();
        for change in changes {
            let Control::SetState { key, value } = change else { continue };
            let Some(place) = parse(key) else { continue };
            match value {
                Some(value) => drop(marks.insert(place, value.clone())),
                None => drop(marks.remove(&place)),
            }
        }
    }

    /// The changes of the state that take the marks of a product away.
    pub(super) fn removals(&self, product_id: &Arc<str>) -> Vec<Control> {
        let marks = self.marks.read();
        of(&marks, product_id).map(|(chunk, _)| set(product_id, chunk, None)).collect()
    }

    /// The product is gone.
    pub(super) fn forget(&self, product_id: &Arc<str>) {
        self.marks.write().retain(|(id, _), _| id != product_id);
    }
}

impl Catalogue {
    /// Which quarantined records were redriven.
    pub(crate) fn redriven(&self) -> &Arc<Redriven> {
        &self.inner.redriven
    }
}

fn of<'a>(
    marks: &'a BTreeMap<(Arc<str>, u64), Bytes>,
    product_id: &Arc<str>,
) -> impl Iterator<Item = (u64, &'a Bytes)> {
    let all = (Arc::clone(product_id), 0)..=(Arc::clone(product_id), u64::MAX);
    marks.range(all).map(|((_, chunk), bits)| (*chunk, bits))
}

fn place(offset: u64) -> (usize, u8) {
    ((offset % CHUNK / 8) as usize, 1 << (offset % 8))
}

fn set(product_id: &str, chunk: u64, value: Option<Bytes>) -> Control {
    Control::SetState { key: Bytes::from(format!("redriven/{product_id}/{chunk}")), value }
}

fn parse(key: &[u8]) -> Option<(Arc<str>, u64)> {
    let rest = std::str::from_utf8(key).ok()?.strip_prefix("redriven/")?;
    let (product_id, chunk) = rest.split_once('/')?;
    Some((Arc::from(product_id), chunk.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again_and_those_of_records_that_are_gone_go_with_the_next_one() {
        let marks = Redriven::default();
        let id: Arc<str> = Arc::from("01ID");
        let other: Arc<str> = Arc::from("01IE");
        for offset in [0, 9, 1023, 1024, 5000] {
            assert!(!marks.is_marked(&id, offset));
            marks.apply(&marks.mark(&id, offset, 0));
            assert!(marks.is_marked(&id, offset));
            assert!(!marks.is_marked(&other, offset) && !marks.is_marked(&id, offset + 1));
        }
        let changes = marks.mark(&id, 6000, 2048);
        assert_eq!(changes.len(), 3, "two chunks are gone, one is new");
        marks.apply(&changes);
        assert!(!marks.is_marked(&id, 9) && marks.is_marked(&id, 5000));
        let state: Vec<(Bytes, Bytes)> = marks
            .marks
            .read()
            .iter()
            .map(|((id, chunk), bits)| {
                (Bytes::from(format!("redriven/{id}/{chunk}")), bits.clone())
            })
            .collect();
        let again = Redriven::open(state.iter().map(|(key, value)| (key, value)));
        assert!(again.is_marked(&id, 6000) && !again.is_marked(&id, 6001));
        again.apply(&again.removals(&id));
        assert!(!again.is_marked(&id, 6000));
    }

    #[test]
    fn the_format_is_the_same_for_ever() {
        let mut bits = vec![0; 128];
        bits[1] = 2;
        let marked = Redriven::default().mark(&Arc::from("01ID"), 2 * CHUNK + 9, 0);
        let [Control::SetState { key, value: Some(value) }] = &marked[..] else {
            panic!("{marked:?}")
        };
        assert_eq!((&key[..], &value[..]), (&b"redriven/01ID/2"[..], &bits[..]));
    }
}
