//! One error type: what happened, whether an append may be in the log, and what to do next.

use std::{collections::BTreeMap, fmt, time::Duration};

/// The result of a client call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// For a call that changes something: whether it may have taken effect although it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It did not and will not.
    No,
    /// It may have; look before doing it again without a producer's sequence.
    Unknown,
}

/// The gRPC status code of an error. Programs branch on [`Error::reason`]; the code is the coarse
/// class behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the gRPC status codes, documented there")]
pub enum Code {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

impl Code {
    /// The name as gRPC writes it, for instance `NOT_FOUND`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::Cancelled => "CANCELLED",
            Code::Unknown => "UNKNOWN",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::NotFound => "NOT_FOUND",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::Aborted => "ABORTED",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::Internal => "INTERNAL",
            Code::Unavailable => "UNAVAILABLE",
            Code::DataLoss => "DATA_LOSS",
            Code::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

/// Reasons this client gives itself; every other reason is the broker's, listed in
/// `docs/errors.md`.
pub(crate) mod reason {
    /// No connection could be made.
    pub(crate) const UNREACHABLE: &str = "UNREACHABLE";
    /// The broker did not prove who it is.
    pub(crate) const UNTRUSTED: &str = "UNTRUSTED";
    /// The key would go to another machine without encryption.
    pub(crate) const UNENCRYPTED: &str = "UNENCRYPTED";
    /// The connection ended while the call was under way.
    pub(crate) const CONNECTION_LOST: &str = "CONNECTION_LOST";
    /// A record was not acknowledged within the producer's delivery timeout.
    pub(crate) const DELIVERY_TIMEOUT: &str = "DELIVERY_TIMEOUT";
    /// The producer was closed, or its runtime ended.
    pub(crate) const CLOSED: &str = "CLOSED";
    /// A record or batch is larger than a request may be.
    pub(crate) const TOO_LARGE: &str = "TOO_LARGE";
    /// An argument that cannot be sent.
    pub(crate) const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// An earlier request of the same producer failed.
    pub(crate) const PRECEDING_FAILED: &str = "PRECEDING_FAILED";
    /// The broker answered something the contract does not allow.
    pub(crate) const PROTOCOL: &str = "PROTOCOL_VIOLATED";
    /// The broker does not know this producer any more.
    pub(crate) const PRODUCER_UNKNOWN: &str = "PRODUCER_UNKNOWN";
    /// Somebody else changed it first.
    pub(crate) const ETAG_MISMATCH: &str = "ETAG_MISMATCH";
    /// A sequence before this one is missing.
    pub(crate) const SEQUENCE_GAP: &str = "SEQUENCE_GAP";
}

/// A failed call.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    reason: String,
    message: String,
    applied: Applied,
    retryable: bool,
    retry_after: Option<Duration>,
    metadata: BTreeMap<String, String>,
    violations: Vec<Violation>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, for instance `product.owner` or `batch.records[3]`.
    pub field: String,
    /// What is wrong with it, for a person.
    pub description: String,
}

impl Error {
    pub(crate) fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            applied: Applied::No,
            retryable: false,
            retry_after: None,
            metadata: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn with_applied(mut self, applied: Applied) -> Self {
        self.applied = applied;
        self
    }

    pub(crate) fn with_retry(mut self, retryable: bool, after: Option<Duration>) -> Self {
        self.retryable = retryable;
        self.retry_after = after;
        self
    }

    pub(crate) fn with_metadata(mut self, metadata: BTreeMap<String, String>) -> Self {
        self.metadata = metadata;
        self
    }

    pub(crate) fn with_violations(mut self, violations: Vec<Violation>) -> Self {
        self.violations = violations;
        self
    }

    /// The same error, its message led by what was being done.
    pub(crate) fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Why, as a stable word programs branch on: a row of `docs/errors.md`, or one of this client's
    /// own `UNREACHABLE`, `UNTRUSTED`, `UNENCRYPTED`, `CONNECTION_LOST`, `DELIVERY_TIMEOUT`, `CLOSED`,
    /// `PROTOCOL_VIOLATED`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// A sentence for a person: what, where, what to do next.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The gRPC status code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// Whether the call may have taken effect all the same. Means nothing for calls that only read.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// Whether the same call may succeed later without anything being changed. Producers and
    /// consumers have already retried these until their time was up.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// How long the broker asks to wait before a retry.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Facts for programs, for instance the bounds of an offset range.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What is wrong with the request, field by field or record by record, as far as the broker
    /// described it.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl std::error::Error for Error {}
