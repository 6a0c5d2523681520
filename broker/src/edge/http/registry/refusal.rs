//! Errors as clients of Confluent read them: `{"error_code":40401,"message":"…"}`.
//!
//! | `error_code` | |
//! |---|---|
//! | 40401, 40402, 40403 | no such subject, version, schema |
//! | 409 | the schema does not keep what the product promises |
//! | 42201, 42202, 42203, 42205 | malformed schema, version, compatibility level; the product takes none |
//! | 40101, 40301, 42901 | who calls, what it may do, how much |
//! | others | the HTTP status |

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;

use super::MEDIA_TYPE;
use crate::edge::http::problem;
use crate::error::{Error, Reason};

/// An error with the code of a schema registry.
#[derive(Debug)]
pub(in crate::edge::http) struct Refusal {
    code: u16,
    error: Error,
}

impl Refusal {
    /// The first digits of the code are those of its HTTP status.
    pub(super) fn new(code: u16, error: Error) -> Self {
        Self { code, error }
    }

    /// Nothing can be done with the request as it is.
    pub(super) fn invalid(code: u16, what: impl Into<String>) -> Self {
        Self::new(code, Error::new(Reason::InvalidArgument, what))
    }

    /// As an answer; the reason stands in a header, as everywhere.
    pub(super) fn response(&self) -> Response<Body> {
        let body = json!({"error_code": self.code, "message": self.message()});
        let mut response = problem::response(&self.error);
        *response.body_mut() = Body::from(body.to_string());
        let status = if self.code >= 1_000 { self.code / 100 } else { self.code };
        if let Ok(status) = StatusCode::from_u16(status) {
            *response.status_mut() = status;
        }
        let kind = HeaderValue::from_static(MEDIA_TYPE);
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    /// Clients show nothing else, so all that is wrong stands in it.
    fn message(&self) -> String {
        let mut message = self.error.to_string();
        let violations = self.error.violations();
        if self.error.reason() == Reason::SchemaIncompatible && violations.len() > 1 {
            for one in violations {
                message += &format!("\n- {}: {}", one.field, one.description);
            }
        }
        message
    }
}

/// An error before a route was asked.
pub(in crate::edge::http) fn response(error: &Error) -> Response<Body> {
    Refusal::from(error.clone()).response()
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = problem::status_of(error.reason());
        let code = match error.reason() {
            Reason::ProductNotFound => 40401,
            Reason::SchemaVersionUnknown => 40402,
            Reason::SchemaMalformed | Reason::SchemaTooComplex => 42201,
            Reason::StateInvalid | Reason::ProductReadOnly => 42205,
            Reason::Internal => 50001,
            _ if status == StatusCode::UNAUTHORIZED => 40101,
            _ if status == StatusCode::FORBIDDEN => 40301,
            _ if status == StatusCode::TOO_MANY_REQUESTS => 42901,
            _ => status.as_u16(),
        };
        Self { code, error }
    }
}
