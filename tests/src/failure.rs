//! What an error said, in all three places where it must say it.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A refused call, taken apart.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The gRPC code.
    pub code: Code,
    /// The reason.
    pub reason: String,
    /// `no` or `unknown`.
    pub applied: String,
    /// The sentence.
    pub message: String,
    /// `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// `BadRequest`: field and description.
    pub violations: Vec<(String, String)>,
}

/// Takes a status apart; fails the test if the details and the plain trailers disagree.
#[must_use]
#[track_caller]
pub fn failure(status: &Status) -> Failure {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        panic!("an error without ErrorInfo: {status:?}");
    };
    assert_eq!(info.domain, "meshlog");
    let trailer = |name: &str| {
        let value = status.metadata().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_else(|| panic!("an error without {name}: {status:?}")).to_owned()
    };
    assert_eq!(trailer("meshlog-reason"), info.reason);
    assert_eq!(trailer("meshlog-applied"), info.metadata["applied"]);
    let violations = details.bad_request().map(|bad| {
        let fields = bad.field_violations.iter();
        fields.map(|one| (one.field.clone(), one.description.clone())).collect()
    });
    Failure {
        code: status.code(),
        reason: info.reason.clone(),
        applied: trailer("meshlog-applied"),
        message: status.message().to_owned(),
        metadata: info.metadata.clone(),
        violations: violations.unwrap_or_default(),
    }
}
