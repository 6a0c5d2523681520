//! One error type for the broker: a reason that programs branch on, a sentence for a person, and
//! whether the append it refused may nevertheless be in the log.
//!
//! `docs/errors.md` has one row per [`Reason`]; a test fails when a row is missing. The edge maps
//! a reason to its gRPC code in one place.

use std::collections::BTreeMap;
use std::fmt;

pub use meshlog_storage::Applied;
use meshlog_storage::ErrorKind;

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
    /// A record does not meet a rule of the product.
    RuleFailed = "RULE_FAILED",
    /// A rule of the product takes too many steps for a record.
    RuleOverBudget = "RULE_OVER_BUDGET",
    /// An expression of a rule cannot be used.
    RuleInvalid = "RULE_INVALID",
    /// The schema itself is malformed.
    SchemaMalformed = "SCHEMA_MALFORMED",
    /// No such schema version.
    SchemaVersionUnknown = "SCHEMA_VERSION_UNKNOWN",
    /// Several versions exist: the append must say which one it uses.
    SchemaVersionRequired = "SCHEMA_VERSION_REQUIRED",
    /// The version is not in the log any more, and a later one cannot read it.
    SchemaVersionClosed = "SCHEMA_VERSION_CLOSED",
    /// The schema breaks what the product promises.
    SchemaIncompatible = "SCHEMA_INCOMPATIBLE",
    /// Two schemas cannot be compared within bounds.
    SchemaTooComplex = "SCHEMA_TOO_COMPLEX",
    /// A record's key is not the field that the product's key rule names.
    KeyMismatch = "KEY_MISMATCH",
    /// A key without a value, where nothing is compacted.
    TombstoneNotAllowed = "TOMBSTONE_NOT_ALLOWED",
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
    /// No such key in the tag vocabulary.
    TagKeyNotFound = "TAG_KEY_NOT_FOUND",
    /// The tag key exists already.
    TagKeyExists = "TAG_KEY_EXISTS",
    /// The value of a tag is not what its key wants.
    TagValueInvalid = "TAG_VALUE_INVALID",
    /// Something else still needs it.
    InUse = "IN_USE",
    /// The product's state does not allow it.
    StateInvalid = "STATE_INVALID",
    /// A successor would lead back to the product.
    SuccessorCycle = "SUCCESSOR_CYCLE",
    /// No transfer of the product waits, or it waits for another team.
    TransferNotPending = "TRANSFER_NOT_PENDING",
    /// The broker alone writes this product.
    ProductReadOnly = "PRODUCT_READ_ONLY",
    /// The search query cannot be read.
    QueryInvalid = "QUERY_INVALID",
    /// No such cursor.
    CursorNotFound = "CURSOR_NOT_FOUND",
    /// As many as there may be exist already.
    LimitReached = "LIMIT_REACHED",
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
    /// A backup took so long that what was kept for it was let go.
    BackupExpired = "BACKUP_EXPIRED",
    /// Stored bytes are damaged.
    DataLoss = "DATA_LOSS",
    /// The broker is shutting down.
    ShuttingDown = "SHUTTING_DOWN",
    /// The call does not say who makes it, and must.
    CredentialMissing = "CREDENTIAL_MISSING",
    /// What says who makes the call cannot be read.
    CredentialMalformed = "CREDENTIAL_MALFORMED",
    /// Who it is was proved, and the settings do not say for which team it works.
    CredentialUnmapped = "CREDENTIAL_UNMAPPED",
    /// No such key.
    KeyUnknown = "KEY_UNKNOWN",
    /// The key was revoked.
    KeyRevoked = "KEY_REVOKED",
    /// The key has expired.
    KeyExpired = "KEY_EXPIRED",
    /// The token has expired, or is not valid yet.
    TokenExpired = "TOKEN_EXPIRED",
    /// The token was issued by somebody else.
    TokenIssuer = "TOKEN_ISSUER",
    /// The token is for somebody else.
    TokenAudience = "TOKEN_AUDIENCE",
    /// The token is not signed in a way that is accepted.
    TokenAlgorithm = "TOKEN_ALGORITHM",
    /// The token is signed with a key that the issuer does not publish.
    TokenKeyUnknown = "TOKEN_KEY_UNKNOWN",
    /// The signature of the token is wrong.
    TokenSignature = "TOKEN_SIGNATURE",
    /// The keys of the issuer of tokens cannot be read.
    KeySetUnavailable = "KEY_SET_UNAVAILABLE",
    /// No such key, for whoever manages them.
    KeyNotFound = "KEY_NOT_FOUND",
    /// No such grant.
    GrantNotFound = "GRANT_NOT_FOUND",
    /// No such request for access.
    AccessRequestNotFound = "ACCESS_REQUEST_NOT_FOUND",
    /// The caller lacks a permission.
    PermissionDenied = "PERMISSION_DENIED",
    /// A defect of the broker.
    Internal = "INTERNAL",
    /// Over HTTP: there is nothing at this address.
    RouteNotFound = "ROUTE_NOT_FOUND",
    /// Over HTTP: what is at this address does not know the method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED",
    /// Over HTTP: the body is of a media type that is not understood here.
    MediaTypeUnsupported = "MEDIA_TYPE_UNSUPPORTED",
    /// Over HTTP: the broker is not known under this name.
    HostRefused = "HOST_REFUSED",
    /// The call comes from a page of another site.
    OriginRefused = "ORIGIN_REFUSED",
    /// The data directory cannot be opened, for instance because another process has it.
    DirectoryUnavailable = "DIRECTORY_UNAVAILABLE",
    /// The listening address cannot be used.
    AddressUnavailable = "ADDRESS_UNAVAILABLE",
    /// A file of the TLS settings cannot be used.
    CertificateUnusable = "CERTIFICATE_UNUSABLE",
    /// A quota of the caller is used up.
    QuotaExceeded = "QUOTA_EXCEEDED",
    /// The client did not send its request in time.
    RequestTimeout = "REQUEST_TIMEOUT",
}

/// What went wrong, where, and what to do next.
#[derive(Clone, Debug)]
pub struct Error {
    reason: Reason,
    message: String,
    applied: Applied,
    metadata: BTreeMap<&'static str, String>,
    violations: Vec<Violation>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, for instance `product.owner` or `batch.records[3].value`.
    pub field: String,
    /// What is wrong with it, for a person.
    pub description: String,
}

/// The result of a broker call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error after which nothing was applied.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            applied: Applied::No,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// The broker takes nothing new and ends its streams.
    pub(crate) fn shutting_down() -> Self {
        Self::new(
            Reason::ShuttingDown,
            "the broker is shutting down; connect again when it is back and go on from there",
        )
    }

    /// The same error with one more fact for programs.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.metadata.insert(key, value.to_string());
        self
    }

    /// The same error with one more thing that is wrong with the request.
    #[must_use]
    pub fn with_violation(
        mut self,
        field: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        self.violations.push(Violation { field: field.into(), description: description.into() });
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

    /// What is wrong with the request, field by field, if that is known.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl From<meshlog_storage::Error> for Error {
    /// The engine's words, under the broker's reason; the caller adds which product it was.
    fn from(error: meshlog_storage::Error) -> Self {
        let reason = match error.kind() {
            ErrorKind::UnknownStream(_) => Reason::ProductNotFound,
            ErrorKind::OffsetOutOfRange { .. } => Reason::OffsetOutOfRange,
            ErrorKind::OffsetMismatch { .. } => Reason::OffsetMismatch,
            ErrorKind::ProducerUnknown { .. } => Reason::ProducerUnknown,
            ErrorKind::SequenceGap { .. } => Reason::SequenceGap,
            ErrorKind::SequenceTooOld => Reason::SequenceTooOld,
            ErrorKind::ProducerFenced { .. } => Reason::ProducerFenced,
            ErrorKind::TooLarge => Reason::TooLarge,
            ErrorKind::DiskFull => Reason::DiskFull,
            ErrorKind::JournalFailed => Reason::JournalFailed,
            ErrorKind::Corrupt { .. } => Reason::DataLoss,
            ErrorKind::Locked | ErrorKind::Format => Reason::DirectoryUnavailable,
            ErrorKind::Io => Reason::Internal,
            ErrorKind::Closed => Reason::ShuttingDown,
        };
        let broker = Self::new(reason, error.to_string()).with_applied(error.applied());
        match error.kind() {
            ErrorKind::OffsetOutOfRange { start, durable_end } => {
                broker.with("start_offset", start).with("durable_end", durable_end)
            }
            ErrorKind::OffsetMismatch { next_offset, .. } => {
                broker.with("next_offset", next_offset)
            }
            ErrorKind::SequenceGap { expected } => broker.with("expected_sequence", expected),
            ErrorKind::ProducerUnknown { epoch } | ErrorKind::ProducerFenced { epoch } => {
                broker.with("epoch", epoch)
            }
            ErrorKind::Corrupt { next_readable } => broker.with("next_readable", next_readable),
            _ => broker,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
