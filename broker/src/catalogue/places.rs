//! Which partition a stream is, told from the bare keys, also where a catalogue cannot be opened.

use std::collections::BTreeMap;

use bytes::Bytes;
use meshlog_storage::StreamId;

use super::stored::{Key, StoredProduct, decode};
use crate::verify::Place;

/// The streams of every product that can be understood; one that cannot has none here.
pub(crate) fn places(state: Vec<(Bytes, Bytes)>) -> BTreeMap<StreamId, Place> {
    let mut places = BTreeMap::new();
    for (key, value) in state {
        let Some(key @ Key::Product(_)) = Key::parse(&key) else { continue };
        let Ok(stored) = decode::<StoredProduct>(key, value) else { continue };
        let name = stored.product.map(|product| product.name).unwrap_or_default();
        if let Some(stream) = stored.quarantine {
            let product = super::attached::quarantine_of(&name);
            places.insert(StreamId(stream), Place { product, partition: 0 });
        }
        for (partition, stream) in (0..).zip(stored.streams) {
            places.insert(StreamId(stream), Place { product: name.clone(), partition });
        }
    }
    places
}
