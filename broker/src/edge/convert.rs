//! Plain conversions between what the wire carries and what the broker takes.

use http::HeaderMap;
use meshlog_proto::v1;

use super::status::rpc_status_of;
use crate::caller::Caller;
use crate::record::AppendOutcome;

/// Metadata key in which a program names itself.
const APPLICATION: &str = "meshlog-application";

/// The name that a program gives itself.
pub(super) fn application_in(headers: &HeaderMap) -> Option<&str> {
    headers.get(APPLICATION)?.to_str().ok()
}

/// Who makes a call, as it was established. A call that was not admitted has no rights.
pub(super) fn caller_of<T>(request: &tonic::Request<T>) -> Caller {
    let caller = request.extensions().get().cloned();
    caller.unwrap_or_else(|| Caller::unverified(Caller::ANONYMOUS))
}

/// One result on a stream of appends.
pub(super) fn append_result(outcome: AppendOutcome) -> v1::AppendResult {
    let result = match outcome.result {
        Ok(response) => v1::append_result::Outcome::Appended(response),
        Err(error) => v1::append_result::Outcome::Error(rpc_status_of(&error)),
    };
    v1::AppendResult { request_id: outcome.request_id, outcome: Some(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Reason};

    #[test]
    fn a_caller_is_known_by_the_name_it_gives() {
        let mut headers = HeaderMap::new();
        assert_eq!(application_in(&headers), None);
        headers.insert(APPLICATION, "billing".parse().unwrap());
        assert_eq!(application_in(&headers), Some("billing"));
        let mut request = tonic::Request::new(());
        assert!(!caller_of(&request).is_trusted(), "nobody is trusted by default");
        request.extensions_mut().insert(Caller::new("billing"));
        assert_eq!(caller_of(&request), Caller::new("billing"));
    }

    #[test]
    fn a_failed_append_on_a_stream_keeps_its_request_id() {
        let result = Err(Error::new(Reason::SequenceGap, "a gap"));
        let converted = append_result(AppendOutcome { request_id: 9, result });
        assert_eq!(converted.request_id, 9);
        assert!(matches!(converted.outcome, Some(v1::append_result::Outcome::Error(_))));
    }
}
