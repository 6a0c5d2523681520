//! One error type for the broker: a reason that programs branch on, a sentence for a person, and
//! whether the append it refused may nevertheless be in the log.
//!
//! `docs/errors.md` has one row per [`Reason`]; a test fails when a row is missing. The edge maps
//! a reason to its gRPC code in one place.

use std::collections::BTreeMap;
use std::fmt;

pub use meshlog_storage::Applied;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a call failed. The text of each is part of the wire contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// As it stands in `ErrorInfo.reason` and the trailer `meshlog-reason`.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Reason::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// A field of the request is missing or malformed.
    InvalidArgument = "INVALID_ARGUMENT",
    /// A mandatory field of a product is missing.
    FieldMissing = "FIELD_MISSING",
    /// A name breaks the naming rules.
    NameInvalid = "NAME_INVALID",
    /// The name is reserved for the broker.
    NameReserved = "NAME_RESERVED",
    /// The encoded batch cannot be read.
    BatchMalformed = "BATCH_MALFORMED",
    /// A record, batch or request is larger than the limit.
    TooLarge = "TOO_LARGE",
    /// A record does not conform to the product's schema.
    SchemaRejected = "SCHEMA_REJECTED",
    /// The schema itself is malformed.
    SchemaMalformed = "SCHEMA_MALFORMED",
    /// No such schema version.
    SchemaVersionUnknown = "SCHEMA_VERSION_UNKNOWN",
    /// Several versions exist: the append must say which one it uses.
    SchemaVersionRequired = "SCHEMA_VERSION_REQUIRED",
    /// A record's key is not the field that the product's key rule names.
    KeyMismatch = "KEY_MISMATCH",
    /// No such product.
    ProductNotFound = "PRODUCT_NOT_FOUND",
    /// The product exists already.
    ProductExists = "PRODUCT_EXISTS",
    /// The product was deleted and created again since the caller learned its id.
    ProductRecreated = "PRODUCT_RECREATED",
    /// No such team.
    TeamNotFound = "TEAM_NOT_FOUND",
    /// The team exists already.
    TeamExists = "TEAM_EXISTS",
    /// No such domain.
    DomainNotFound = "DOMAIN_NOT_FOUND",
    /// The domain exists already.
    DomainExists = "DOMAIN_EXISTS",
    /// No such partition.
    PartitionNotFound = "PARTITION_NOT_FOUND",
    /// The offset is below the start offset or above the durable end.
    OffsetOutOfRange = "OFFSET_OUT_OF_RANGE",
    /// `expected_offset` is not the next offset.
    OffsetMismatch = "OFFSET_MISMATCH",
    /// The etag is not the current one.
    EtagMismatch = "ETAG_MISMATCH",
    /// The producer is not known: start a new epoch at sequence 0.
    ProducerUnknown = "PRODUCER_UNKNOWN",
    /// An earlier sequence is missing.
    SequenceGap = "SEQUENCE_GAP",
    /// The outcome of this old sequence is no longer known.
    SequenceTooOld = "SEQUENCE_TOO_OLD",
    /// A producer with a higher epoch took over.
    ProducerFenced = "PRODUCER_FENCED",
    /// An earlier request of this producer on the same stream failed.
    PrecedingFailed = "PRECEDING_FAILED",
    /// Too much is under way; try again after the delay given.
    Overloaded = "OVERLOADED",
    /// The disk is full; appends resume by themselves.
    DiskFull = "DISK_FULL",
    /// A write or sync failed; appends are refused until the broker is restarted.
    JournalFailed = "JOURNAL_FAILED",
    /// Stored bytes are damaged.
    DataLoss = "DATA_LOSS",
    /// The broker is shutting down.
    ShuttingDown = "SHUTTING_DOWN",
    /// A defect of the broker.
    Internal = "INTERNAL",
    /// The data directory cannot be opened, for instance because another process has it.
    DirectoryUnavailable = "DIRECTORY_UNAVAILABLE",
    /// The listening address cannot be used.
    AddressUnavailable = "ADDRESS_UNAVAILABLE",
}

/// What went wrong, where, and what to do next.
#[derive(Clone, Debug)]
pub struct Error {
    reason: Reason,
    message: String,
    applied: Applied,
    metadata: BTreeMap<&'static str, String>,
}

/// The result of a broker call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error after which nothing was applied.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), applied: Applied::No, metadata: BTreeMap::new() }
    }

    /// The same error with one more fact for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key, value.to_string());
        self
    }

    /// The same error for an append that may be in the log.
    #[must_use]
    pub fn with_applied(mut self, applied: Applied) -> Self {
        self.applied = applied;
        self
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// For an append: whether it may be in the log all the same.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// Facts for programs, for instance the bounds of an offset range.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<&'static str, String> {
        &self.metadata
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
