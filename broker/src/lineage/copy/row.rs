//! A record as its values, whatever they are called and however they are written.
//!
//! | Value | Counts as |
//! |---|---|
//! | number | itself: `1`, `1.0` and an Avro `long` are the same |
//! | text, enum symbol | the text |
//! | boolean, bytes | itself |
//! | null, absent | nothing |
//! | object, array | what is in it |
//! | a value that cannot be read | all of its bytes |

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;

use crate::catalogue::ProductHandle;
use crate::sample::{Decoder, Listener, Number, Parts, Paths, Place, Scalar};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Of all of its scalar values, each as often as it occurs.
    pub(super) hash: u64,
    /// The same by field.
    pub(super) fields: Vec<(Place, u64)>,
}

/// Reads the records of one product.
pub(super) struct RowReader {
    product: Arc<ProductHandle>,
    /// By schema version; `None`: its values cannot be read.
    decoders: HashMap<u32, Option<Decoder>>,
    values: Values,
}

/// The values of one record, and the paths of all so far.
#[derive(Default)]
struct Values {
    paths: Paths,
    fields: Vec<(Place, u64)>,
}

impl RowReader {
    pub(super) fn new(product: &Arc<ProductHandle>) -> Self {
        let product = Arc::clone(product);
        Self { product, decoders: HashMap::new(), values: Values::default() }
    }

    /// The record of this schema version with this value; `None`: it has no values.
    pub(super) fn read(&mut self, version: u32, value: &[u8]) -> Option<Row> {
        let decoder = self.decoders.entry(version).or_insert_with(|| {
            self.product.value_schema(version).and_then(|schema| Decoder::new(&schema))
        });
        self.values.fields.clear();
        let value = self.product.unframed(value);
        match decoder.as_ref().and_then(|decoder| decoder.read(value)) {
            Some(value) => value.tell(&mut self.values),
            None => self.values.scalar(Paths::RECORD, Scalar::Bytes(value)),
        }
        let mut fields = std::mem::take(&mut self.values.fields);
        fields.sort_unstable();
        fields.dedup_by(|next, field| {
            let same = next.0 == field.0;
            if same {
                field.1 = field.1.wrapping_add(next.1);
            }
            same
        });
        let hash = fields.iter().fold(0, |sum: u64, (_, hash)| sum.wrapping_add(*hash));
        (!fields.is_empty()).then_some(Row { hash, fields })
    }

    /// The path of a field of a row.
    pub(super) fn path(&self, field: Place) -> &str {
        self.values.paths.path(field)
    }
}

impl Listener for Values {
    fn member(&mut self, object: Place, name: &str) -> Option<Place> {
        self.paths.member(object, name)
    }

    fn items(&mut self, array: Place) -> Option<Place> {
        self.paths.items(array)
    }

    fn item(&mut self, _items: Place) {}

    fn parts(&mut self, _place: Place, _parts: Parts) {}

    fn scalar(&mut self, place: Place, scalar: Scalar<'_>) {
        let mut hasher = DefaultHasher::new();
        match scalar {
            Scalar::Null => return,
            Scalar::Boolean(boolean) => hasher.write(&[0, boolean.into()]),
            Scalar::Number(Number::Integer(integer)) => {
                hasher.write(&[1]);
                hasher.write(&integer.to_le_bytes());
            }
            Scalar::Number(Number::Float(float)) | Scalar::NotFinite(float) => {
                hasher.write(&[2]);
                hasher.write(&float.to_bits().to_le_bytes());
            }
            Scalar::Text(text) => {
                hasher.write(&[3]);
                hasher.write(text.as_bytes());
            }
            Scalar::Bytes(bytes) => {
                hasher.write(&[4]);
                hasher.write(bytes);
            }
        }
        self.fields.push((place, hasher.finish()));
    }
}
