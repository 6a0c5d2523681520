//! Cursors in the storage state. `FORMAT.md` describes it; the golden bytes in the tests pin it.

use bytes::Bytes;
use meshlog_proto::v1;
use prost::Message as _;

use crate::error::{Error, Reason, Result};

/// What stands under the key of a cursor.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredCursor {
    /// In hexadecimal it is the etag.
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    /// By partition, rising, each once.
    #[prost(message, repeated, tag = "2")]
    pub(super) positions: Vec<v1::Position>,
    /// When it was committed.
    #[prost(message, optional, tag = "3")]
    pub(super) update_time: Option<prost_types::Timestamp>,
    /// Who committed it.
    #[prost(string, tag = "4")]
    pub(super) updated_by: String,
}

impl StoredCursor {
    pub(super) fn etag(&self) -> String {
        format!("{:x}", self.revision)
    }

    /// The value under `key`.
    pub(super) fn decode_value(key: &[u8], value: &Bytes) -> Result<Self> {
        Self::decode(value.clone()).map_err(|error| {
            let key = String::from_utf8_lossy(key).into_owned();
            Error::new(
                Reason::DataLoss,
                format!("the cursor `{key}` cannot be read: {error}; restore it from a backup"),
            )
            .with("key", key)
        })
    }
}

/// The key of a cursor in a product.
pub(super) fn key(name: &str, product_id: &str) -> Bytes {
    Bytes::from(format!("cursor/{name}/{product_id}"))
}

/// The cursor's name and the product's id; `None` for keys of other parts of the broker.
pub(super) fn parse(key: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(key).ok()?.strip_prefix("cursor/")?.split_once('/')
}
