//! gRPC statuses as client errors.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;
use tonic_types::pb::{BadRequest, ErrorInfo, RetryInfo, Status};

use crate::{
    Error,
    error::{Applied, Code, Violation, reason},
};

/// The domain of the broker's `ErrorInfo`.
const DOMAIN: &str = "meshlog";

/// An error of a call or of the stream around it.
pub(crate) fn from_call(status: &tonic::Status) -> Error {
    let details = Status::decode(status.details()).map(|status| status.details);
    let trailer = |name: &str| {
        let value = status.metadata().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let facts = Facts {
        reason: trailer("meshlog-reason"),
        applied: trailer("meshlog-applied"),
        ..Facts::read(&details.unwrap_or_default())
    };
    facts.into_error(code(status.code()), status.message())
}

/// An error that stands inside a message: the outcome of one append of a stream.
pub(crate) fn from_message(status: &Status) -> Error {
    let code = code(tonic::Code::from_i32(status.code));
    Facts::read(&status.details).into_error(code, &status.message)
}

/// What the details of a status say.
#[derive(Default)]
struct Facts {
    reason: Option<String>,
    applied: Option<String>,
    info: Option<ErrorInfo>,
    retry_after: Option<Duration>,
    violations: Vec<Violation>,
}

impl Facts {
    fn read(details: &[prost_types::Any]) -> Self {
        let mut facts = Self::default();
        for detail in details {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            let value = detail.value.as_slice();
            match name {
                "google.rpc.ErrorInfo" => {
                    facts.info = ErrorInfo::decode(value).ok().filter(|info| info.domain == DOMAIN);
                }
                "google.rpc.BadRequest" => {
                    let found = BadRequest::decode(value).unwrap_or_default().field_violations;
                    let violation = |found: tonic_types::pb::bad_request::FieldViolation| {
                        Violation { field: found.field, description: found.description }
                    };
                    facts.violations.extend(found.into_iter().map(violation));
                }
                "google.rpc.RetryInfo" => {
                    let delay = RetryInfo::decode(value).ok().and_then(|info| info.retry_delay);
                    facts.retry_after =
                        Some(delay.and_then(|delay| delay.try_into().ok()).unwrap_or_default());
                }
                _ => {}
            }
        }
        facts
    }

    fn into_error(self, code: Code, message: &str) -> Error {
        let info = self.info.unwrap_or_default();
        let metadata: BTreeMap<_, _> = info.metadata.into_iter().collect();
        let ours = Some(info.reason).filter(|reason| !reason.is_empty()).or(self.reason);
        let applied = match metadata.get("applied").cloned().or(self.applied).as_deref() {
            Some("no") => Applied::No,
            // Without our details nobody decided: a proxy, a cut, a broker that died.
            _ => Applied::Unknown,
        };
        let Some(reason) = ours else {
            let lost = matches!(
                code,
                Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
            );
            let reason = if lost { reason::CONNECTION_LOST } else { code.name() };
            let message = match (lost, message) {
                (true, message) => format!("the connection to the broker was lost: {message}"),
                (false, "") => format!("the call failed with {}", code.name()),
                (false, message) => message.to_owned(),
            };
            return Error::new(code, reason, message)
                .with_applied(applied)
                .with_retry(lost || self.retry_after.is_some(), self.retry_after);
        };
        let retryable =
            self.retry_after.is_some() || code == Code::Unavailable || ours_is_passing(&reason);
        Error::new(code, reason, message)
            .with_applied(applied)
            .with_retry(retryable, self.retry_after)
            .with_metadata(metadata)
            .with_violations(self.violations)
    }
}

/// Reasons that pass by themselves whatever their code.
fn ours_is_passing(reason: &str) -> bool {
    matches!(reason, "OVERLOADED" | "DISK_FULL" | "SHUTTING_DOWN" | reason::PRECEDING_FAILED)
}

fn code(code: tonic::Code) -> Code {
    match code {
        tonic::Code::Ok | tonic::Code::Unknown => Code::Unknown,
        tonic::Code::Cancelled => Code::Cancelled,
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::PermissionDenied => Code::PermissionDenied,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::FailedPrecondition => Code::FailedPrecondition,
        tonic::Code::Aborted => Code::Aborted,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::Internal => Code::Internal,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::DataLoss => Code::DataLoss,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt};

    #[test]
    fn the_brokers_details_become_reason_applied_and_facts() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "OFFSET_OUT_OF_RANGE",
            DOMAIN,
            [("applied".to_owned(), "no".to_owned()), ("start_offset".to_owned(), "5".to_owned())],
        );
        details.add_bad_request_violation("start", "offset 3 is below 5");
        let status =
            tonic::Status::with_error_details(tonic::Code::OutOfRange, "offset 3 is gone", details);
        let error = from_call(&status);
        assert_eq!(error.reason(), "OFFSET_OUT_OF_RANGE");
        assert_eq!((error.code(), error.applied()), (Code::OutOfRange, Applied::No));
        assert_eq!(error.metadata()["start_offset"], "5");
        let violation =
            Violation { field: "start".into(), description: "offset 3 is below 5".into() };
        assert_eq!(error.violations(), [violation]);
        assert!(!error.is_retryable());
        assert_eq!(error.to_string(), "offset 3 is gone (OFFSET_OUT_OF_RANGE)");

        let inside = Status::decode(status.details()).unwrap();
        assert_eq!(from_message(&inside).reason(), "OFFSET_OUT_OF_RANGE");
    }

    #[test]
    fn plain_trailers_are_enough() {
        let mut status = tonic::Status::new(tonic::Code::NotFound, "no such product");
        status.metadata_mut().insert("meshlog-reason", "PRODUCT_NOT_FOUND".parse().unwrap());
        status.metadata_mut().insert("meshlog-applied", "no".parse().unwrap());
        let error = from_call(&status);
        assert_eq!((error.reason(), error.applied()), ("PRODUCT_NOT_FOUND", Applied::No));
    }

    #[test]
    fn overload_says_when_to_come_back_and_a_quota_does_not() {
        let mut details = ErrorDetails::new();
        details.set_error_info("OVERLOADED", DOMAIN, [("applied".to_owned(), "no".to_owned())]);
        details.set_retry_info(Some(Duration::from_millis(250)));
        let overload = tonic::Status::with_error_details(
            tonic::Code::ResourceExhausted,
            "too much under way",
            details,
        );
        let error = from_call(&overload);
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(250)));

        let mut details = ErrorDetails::new();
        details.set_error_info("QUOTA_EXCEEDED", DOMAIN, [("applied".to_owned(), "no".to_owned())]);
        let quota =
            tonic::Status::with_error_details(tonic::Code::ResourceExhausted, "quota", details);
        assert!(!from_call(&quota).is_retryable());
    }

    #[test]
    fn a_refusal_says_who_lacks_what_and_is_not_tried_again() {
        for (code, reason) in [
            (tonic::Code::Unauthenticated, "KEY_REVOKED"),
            (tonic::Code::PermissionDenied, "PERMISSION_DENIED"),
        ] {
            let mut details = ErrorDetails::new();
            let facts = [("applied", "no"), ("permission", "consume"), ("product", "ops.flights")];
            let facts = facts.map(|(name, fact)| (name.to_owned(), fact.to_owned()));
            details.set_error_info(reason, DOMAIN, facts);
            let status = tonic::Status::with_error_details(code, "it is not allowed", details);
            let error = from_call(&status);
            assert_eq!((error.reason(), error.applied()), (reason, Applied::No));
            assert_eq!(error.metadata()["permission"], "consume");
            assert!(!error.is_retryable());
        }
        // A proxy that refused has no reasons of ours.
        let error = from_call(&tonic::Status::unauthenticated("who are you"));
        assert_eq!((error.reason(), error.message()), ("UNAUTHENTICATED", "who are you"));
        assert!(!error.is_retryable());
    }

    #[test]
    fn an_end_without_our_details_leaves_the_outcome_unknown() {
        let error = from_call(&tonic::Status::unavailable("broken pipe"));
        assert_eq!(error.reason(), reason::CONNECTION_LOST);
        assert_eq!(error.applied(), Applied::Unknown);
        assert!(error.is_retryable());

        let error = from_call(&tonic::Status::unimplemented(""));
        assert_eq!(error.reason(), "UNIMPLEMENTED");
        assert!(!error.is_retryable());
    }

    #[test]
    fn details_of_another_domain_are_not_ours() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "RATE_LIMIT",
            "proxy.example",
            [("applied".to_owned(), "no".to_owned())],
        );
        let status = tonic::Status::with_error_details(tonic::Code::Unavailable, "busy", details);
        let error = from_call(&status);
        assert_eq!((error.reason(), error.applied()), (reason::CONNECTION_LOST, Applied::Unknown));
    }
}
