//! The one place where a reason becomes a gRPC status. `docs/errors.md` says the same for people;
//! a test compares the two.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::error::{Applied, Error, Reason};

/// `ErrorInfo.domain` of every error.
pub(super) const DOMAIN: &str = "meshlog";
/// The reason again, for stacks that cannot decode status details.
pub(super) const REASON_TRAILER: &str = "meshlog-reason";
/// Whether a failed append may be in the log: `no` or `unknown`.
pub(super) const APPLIED_TRAILER: &str = "meshlog-applied";

/// When to try again, in milliseconds, for stacks that retry by themselves.
const PUSHBACK_TRAILER: &str = "grpc-retry-pushback-ms";

/// Some clients refuse more than 8 KiB of trailers, in which the details stand as base64.
const MAX_DETAIL_BYTES: usize = 4 << 10;

/// The gRPC code of a reason.
pub(super) fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument
        | Reason::FieldMissing
        | Reason::NameInvalid
        | Reason::NameReserved
        | Reason::BatchMalformed
        | Reason::TooLarge
        | Reason::SchemaRejected
        | Reason::RuleFailed
        | Reason::RuleOverBudget
        | Reason::RuleInvalid
        | Reason::SchemaMalformed
        | Reason::SchemaVersionUnknown
        | Reason::SchemaVersionRequired
        | Reason::SchemaTooComplex
        | Reason::KeyMismatch
        | Reason::TombstoneNotAllowed
        | Reason::TagValueInvalid
        | Reason::SuccessorCycle
        | Reason::QueryInvalid
        | Reason::MediaTypeUnsupported => Code::InvalidArgument,
        Reason::ProductNotFound
        | Reason::TeamNotFound
        | Reason::DomainNotFound
        | Reason::TagKeyNotFound
        | Reason::CursorNotFound
        | Reason::KeyNotFound
        | Reason::GrantNotFound
        | Reason::AccessRequestNotFound
        | Reason::PartitionNotFound
        | Reason::RouteNotFound => Code::NotFound,
        Reason::MethodNotAllowed => Code::Unimplemented,
        Reason::HostRefused | Reason::OriginRefused | Reason::PermissionDenied => {
            Code::PermissionDenied
        }
        Reason::ProductExists
        | Reason::TeamExists
        | Reason::DomainExists
        | Reason::TagKeyExists => Code::AlreadyExists,
        Reason::ProductRecreated
        | Reason::ProducerUnknown
        | Reason::SequenceGap
        | Reason::SequenceTooOld
        | Reason::ProducerFenced
        | Reason::InUse
        | Reason::StateInvalid
        | Reason::SchemaIncompatible
        | Reason::SchemaVersionClosed
        | Reason::TransferNotPending
        | Reason::ProductReadOnly
        | Reason::DirectoryUnavailable
        | Reason::AddressUnavailable
        | Reason::CertificateUnusable => Code::FailedPrecondition,
        Reason::OffsetMismatch
        | Reason::EtagMismatch
        | Reason::PrecedingFailed
        | Reason::BackupExpired => Code::Aborted,
        Reason::OffsetOutOfRange => Code::OutOfRange,
        Reason::Overloaded | Reason::DiskFull | Reason::LimitReached | Reason::QuotaExceeded => {
            Code::ResourceExhausted
        }
        Reason::RequestTimeout => Code::DeadlineExceeded,
        Reason::JournalFailed | Reason::ShuttingDown | Reason::KeySetUnavailable => {
            Code::Unavailable
        }
        Reason::CredentialMissing
        | Reason::CredentialMalformed
        | Reason::CredentialUnmapped
        | Reason::KeyUnknown
        | Reason::KeyRevoked
        | Reason::KeyExpired
        | Reason::TokenExpired
        | Reason::TokenIssuer
        | Reason::TokenAudience
        | Reason::TokenAlgorithm
        | Reason::TokenKeyUnknown
        | Reason::TokenSignature => Code::Unauthenticated,
        Reason::DataLoss => Code::DataLoss,
        Reason::Internal => Code::Internal,
    }
}

/// When to try again, if waiting helps.
pub(super) fn retry_after(error: &Error) -> Option<Duration> {
    match error.reason() {
        Reason::Overloaded | Reason::QuotaExceeded => {
            let millis = error.metadata().get("retry_after_ms")?.parse().ok()?;
            Some(Duration::from_millis(millis))
        }
        Reason::DiskFull => Some(Duration::from_secs(10)),
        Reason::KeySetUnavailable => Some(Duration::from_secs(5)),
        Reason::ShuttingDown => Some(Duration::from_secs(1)),
        _ => None,
    }
}

pub(super) fn applied_text(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "no",
        Applied::Unknown => "unknown",
    }
}

/// The error as unary calls and ending streams carry it: code, message, details, plain trailers.
pub(super) fn status_of(error: &Error) -> Status {
    let mut trailers = MetadataMap::new();
    trailers.insert(REASON_TRAILER, AsciiMetadataValue::from_static(error.reason().text()));
    let applied = AsciiMetadataValue::from_static(applied_text(error.applied()));
    trailers.insert(APPLIED_TRAILER, applied);
    if let Some(delay) = retry_after(error) {
        trailers.insert(
            PUSHBACK_TRAILER,
            delay
                .as_millis()
                .to_string()
                .parse()
                .unwrap_or_else(|_| AsciiMetadataValue::from_static("0")),
        );
    }
    let details = details_of(error);
    Status::with_error_details_and_metadata(
        code(error.reason()),
        error.to_string(),
        details,
        trailers,
    )
}

/// The error as a result on a stream of appends carries it.
pub(super) fn rpc_status_of(error: &Error) -> tonic_types::Status {
    let status = status_of(error);
    tonic_types::Status::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn details_of(error: &Error) -> ErrorDetails {
    let mut facts: HashMap<String, String> =
        error.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    facts.insert("applied".to_owned(), applied_text(error.applied()).to_owned());
    let mut room = MAX_DETAIL_BYTES;
    for (key, value) in &facts {
        room = room.saturating_sub(key.len() + value.len());
    }
    let mut details = ErrorDetails::with_error_info(error.reason().text(), DOMAIN, facts);
    for violation in error.violations() {
        let size = violation.field.len() + violation.description.len();
        if size > room {
            break;
        }
        room -= size;
        details.add_bad_request_violation(&violation.field, &violation.description);
    }
    if let (Some(field), []) = (error.metadata().get("field"), error.violations()) {
        details.add_bad_request_violation(field, error.to_string());
    }
    if let Some(delay) = retry_after(error) {
        details.set_retry_info(Some(delay));
    }
    details
}

#[cfg(test)]
pub(super) use tests::screaming;

#[cfg(test)]
mod tests;
