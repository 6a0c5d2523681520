//! The catalogue's part of the storage state: keys, and what stands under them. `FORMAT.md`
//! describes it; the golden bytes in the tests pin it.

use bytes::Bytes;
use meshlog_proto::v1;

use crate::audit::Link;
use crate::error::{Error, Reason, Result};
use crate::schema::Fingerprint;

/// A key of the storage state that belongs to the catalogue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "a tag key is called so")]
pub(super) enum Key<'a> {
    /// `counter/catalogue`
    Counters,
    /// `team/<name>`
    Team(&'a str),
    /// `domain/<name>`
    Domain(&'a str),
    /// `tag-key/<name>`
    TagKey(&'a str),
    /// `schema/<digest>`
    Schema(&'a str),
    /// `product/<id>`
    Product(&'a str),
    /// `application/<number>`
    Application(u32),
    /// `key/<id>`
    ApiKey(&'a str),
    /// `grant/<id>`
    Grant(&'a str),
    /// `access-request/<id>`
    AccessRequest(&'a str),
    /// `access/protection`
    Protection,
    /// `audit/chain`
    Chain,
}

impl<'a> Key<'a> {
    /// `None` for keys of other parts of the broker.
    pub(super) fn parse(key: &'a [u8]) -> Option<Self> {
        let (kind, name) = std::str::from_utf8(key).ok()?.split_once('/')?;
        match kind {
            "counter" if name == "catalogue" => Some(Self::Counters),
            "team" => Some(Self::Team(name)),
            "domain" => Some(Self::Domain(name)),
            "tag-key" => Some(Self::TagKey(name)),
            "schema" => Some(Self::Schema(name)),
            "product" => Some(Self::Product(name)),
            "application" => name.parse().ok().map(Self::Application),
            "key" => Some(Self::ApiKey(name)),
            "grant" => Some(Self::Grant(name)),
            "access-request" => Some(Self::AccessRequest(name)),
            "access" if name == "protection" => Some(Self::Protection),
            "audit" if name == "chain" => Some(Self::Chain),
            _ => None,
        }
    }

    pub(super) fn bytes(self) -> Bytes {
        Bytes::from(match self {
            Self::Counters => "counter/catalogue".to_owned(),
            Self::Team(name) => format!("team/{name}"),
            Self::Domain(name) => format!("domain/{name}"),
            Self::TagKey(name) => format!("tag-key/{name}"),
            Self::Schema(digest) => format!("schema/{digest}"),
            Self::Product(id) => format!("product/{id}"),
            Self::Application(number) => format!("application/{number}"),
            Self::ApiKey(id) => format!("key/{id}"),
            Self::Grant(id) => format!("grant/{id}"),
            Self::AccessRequest(id) => format!("access-request/{id}"),
            Self::Protection => "access/protection".to_owned(),
            Self::Chain => "audit/chain".to_owned(),
        })
    }
}

/// Numbers that are never given twice, also not after what they named is gone.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct Counters {
    /// Products created so far.
    #[prost(uint64, tag = "1")]
    pub(super) products: u64,
    /// Schema versions added so far; the number of one is the schema id in stored frames.
    #[prost(uint32, tag = "2")]
    pub(super) schema_versions: u32,
    /// Changes so far; in hexadecimal the number of one is an etag.
    #[prost(uint64, tag = "3")]
    pub(super) changes: u64,
}

/// Where the chain of the audit log stands.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Chain {
    /// Number of the newest record; 0: there is none yet.
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    /// Its hash, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) hash: Bytes,
    /// Offset of the record with number 1; those before are of a broker that kept no chain.
    #[prost(uint64, tag = "3")]
    pub(crate) first_offset: u64,
}

impl Chain {
    /// The newest record.
    pub(crate) fn link(&self) -> Link {
        let hash = Fingerprint::from_bytes(&self.hash);
        hash.map_or_else(Link::start, |hash| Link { sequence: self.sequence, hash })
    }

    /// A record with this value was added.
    pub(super) fn follow(&mut self, value: &[u8]) {
        let link = self.link().followed_by(value);
        self.sequence = link.sequence;
        self.hash = Bytes::copy_from_slice(link.hash.as_bytes());
    }
}

/// A schema text, once, however many products use it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct StoredSchema {
    /// Of the canonical form, 32 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) fingerprint: Bytes,
    /// `meshlog.v1.SchemaSource`, encoded. Its digest is the key.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) source: Bytes,
}

/// A product.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredProduct {
    /// Without what is worked out when it is read. `successor` and `inputs` hold ids, which stay
    /// when a product gets another name.
    #[prost(message, optional, tag = "1")]
    pub(super) product: Option<v1::Product>,
    /// From [`Counters::products`].
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    /// The stream of each partition.
    #[prost(uint64, repeated, tag = "3")]
    pub(super) streams: Vec<u64>,
    /// Oldest first, without gaps.
    #[prost(message, repeated, tag = "4")]
    pub(super) versions: Vec<StoredVersion>,
    /// The stream of the attached product `<name>$quarantine`, once there was a need for it.
    #[prost(uint64, optional, tag = "5")]
    pub(super) quarantine: Option<u64>,
}

/// One schema version of a product.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct StoredVersion {
    /// 1, 2, 3 and so on.
    #[prost(uint32, tag = "1")]
    pub(super) version: u32,
    /// From [`Counters::schema_versions`].
    #[prost(uint32, tag = "2")]
    pub(super) storage_id: u32,
    /// Digest of the value schema, 32 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) value: Bytes,
    /// Digest of the key schema, 32 bytes; empty: none.
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) key: Bytes,
    /// When it was added.
    #[prost(message, optional, tag = "5")]
    pub(super) create_time: Option<prost_types::Timestamp>,
    /// Who added it.
    #[prost(string, tag = "6")]
    pub(super) created_by: String,
    /// Whether it takes no more appends: a later version does not read it, and was accepted because
    /// no record of it was left.
    #[prost(bool, tag = "7")]
    pub(super) closed: bool,
}

/// A key of a caller, without its secret.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredKey {
    /// What everybody with the right may see of it.
    #[prost(message, optional, tag = "1")]
    pub(super) key: Option<v1::ApiKey>,
    /// SHA-256 of its text, 32 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) hash: Bytes,
}

/// That calls must say who makes them.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct StoredProtection {
    /// Since when.
    #[prost(message, optional, tag = "1")]
    pub(super) since: Option<prost_types::Timestamp>,
}

/// The value under a key, decoded.
pub(super) fn decode<M: prost::Message + Default>(key: Key<'_>, value: Bytes) -> Result<M> {
    M::decode(value).map_err(|error| unreadable(key, &error.to_string()))
}

/// 32 bytes that name a schema.
pub(super) fn digest(key: Key<'_>, bytes: &[u8]) -> Result<Fingerprint> {
    Fingerprint::from_bytes(bytes).ok_or_else(|| unreadable(key, "a digest has the wrong length"))
}

/// A value that this version of the broker cannot have written.
pub(super) fn unreadable(key: Key<'_>, what: &str) -> Error {
    let key = String::from_utf8_lossy(&key.bytes()).into_owned();
    Error::new(
        Reason::DataLoss,
        format!("the catalogue entry `{key}` cannot be read: {what}; restore it from a backup"),
    )
    .with("key", key)
}
