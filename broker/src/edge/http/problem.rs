//! Errors over HTTP: `application/problem+json` of RFC 9457, and the one place where a gRPC code
//! becomes an HTTP status. `docs/errors.md` says the same for people; a test compares the two.
//!
//! ```text
//! {"type":"about:blank","title":"Not Found","status":404,"detail":"there is no product …",
//!  "reason":"PRODUCT_NOT_FOUND","applied":"no","metadata":{"product":"ops.flights"},
//!  "violations":[{"field":"…","description":"…"}]}
//! ```

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use tonic::Code;

use crate::edge::status::{APPLIED_TRAILER, REASON_TRAILER, applied_text, code, retry_after};
use crate::error::{Error, Reason};

/// The media type of every error.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// The HTTP status of a gRPC code.
fn status_of_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound | Code::Unimplemented => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::DataLoss | Code::Internal | Code::Unknown => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The HTTP status of a reason: that of its gRPC code, unless HTTP has a word of its own for it.
pub(super) fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Reason::MediaTypeUnsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        other => status_of_code(code(other)),
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    reason: &'static str,
    applied: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation<'a>>,
}

#[derive(Serialize)]
struct Violation<'a> {
    field: &'a str,
    description: &'a str,
}

/// The error as JSON.
pub(super) fn body(error: &Error) -> Vec<u8> {
    let status = status_of(error.reason());
    let metadata = error.metadata().iter();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: error.to_string(),
        reason: error.reason().text(),
        applied: applied_text(error.applied()),
        metadata: metadata.map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect(),
        violations: error
            .violations()
            .iter()
            .map(|one| Violation { field: &one.field, description: &one.description })
            .collect(),
    };
    serde_json::to_vec(&problem).expect("a problem holds only strings and numbers")
}

/// The error as an answer: status, reason as a header too, and when to come back.
pub(in crate::edge) fn response(error: &Error) -> Response<Body> {
    let mut response = Response::new(Body::from(body(error)));
    let status = status_of(error.reason());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(REASON_TRAILER, HeaderValue::from_static(error.reason().text()));
    headers.insert(APPLIED_TRAILER, HeaderValue::from_static(applied_text(error.applied())));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(delay) = retry_after(error) {
        // HTTP knows whole seconds only.
        let seconds = delay.as_millis().div_ceil(1_000).max(1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds as u64));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_says_which_status_each_code_has() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        let text = std::fs::read_to_string(path).unwrap();
        let table = text.split("| gRPC code or reason | HTTP status |").nth(1).unwrap();
        let rows: Vec<(&str, &str)> = table
            .lines()
            .skip(2)
            .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
            .collect();
        let codes = Reason::ALL.iter().map(|reason| code(*reason));
        let codes: std::collections::BTreeSet<_> = codes.map(|code| code as i32).collect();
        for code in codes.into_iter().map(Code::from) {
            let name = crate::edge::status::screaming(code);
            let row = rows.iter().find(|(left, _)| *left == name);
            let (_, status) = row.unwrap_or_else(|| panic!("no row for {name}"));
            assert_eq!(*status, status_of_code(code).as_str(), "{name}");
        }
        for reason in Reason::ALL {
            let own = status_of(*reason) != status_of_code(code(*reason));
            let row = rows.iter().find(|(left, _)| *left == reason.text());
            // A reason may be called as a code is.
            assert!(row.is_some() || !own, "no row for {}", reason.text());
            if let Some((name, status)) = row {
                assert_eq!(*status, status_of(*reason).as_str(), "{name}");
            }
        }
    }

    #[test]
    fn a_problem_says_what_a_status_says() {
        let error = Error::new(Reason::Overloaded, "come back later")
            .with("retry_after_ms", 250)
            .with_violation("batch.records[3].value", "is no number");
        let answer = response(&error);
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
        assert_eq!(answer.headers()[header::CONTENT_TYPE], MEDIA_TYPE);
        let problem: Value = serde_json::from_slice(&body(&error)).unwrap();
        assert_eq!(problem["reason"], "OVERLOADED");
        assert_eq!(problem["applied"], "no");
        assert_eq!(problem["metadata"]["retry_after_ms"], "250");
        assert_eq!(problem["violations"][0]["field"], "batch.records[3].value");
        assert_eq!(problem["title"], "Too Many Requests");
    }
}
