//! Who calls, found out once per call, and the refusal of calls that are in no row of the table.

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::{HeaderValue, Method, Request};

use super::call::grpc_kind;
use super::connection::Peer;
use super::convert::application_in;
use super::http::REGISTRY;
use crate::access::{Need, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::{Error, Reason, Result};
use crate::identity::{Credentials, PeerCertificate};

/// What is not gRPC, and open to everybody: says no more than that the broker is there.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// What is not gRPC, and is for those who say who they are. The methods of the broker behind it ask
/// for each call what it needs.
const AUTHENTICATED: [&str; 4] = ["/v1/", "/metrics", "/openapi.json", REGISTRY];

/// Who makes a call.
///
/// # Errors
/// Those with the code UNAUTHENTICATED; `PERMISSION_DENIED` for a path without a row.
pub(super) async fn admit<B>(broker: &Broker, request: &Request<B>) -> Result<Caller> {
    let (path, headers) = (request.uri().path(), request.headers());
    let need = if is_preflight(request) { Some(Need::Open) } else { need_of(path) };
    let application = application_in(headers);
    if need == Some(Need::Open) {
        return Ok(Caller::unverified(application.unwrap_or_default()));
    }
    let credentials = Credentials {
        authorization: headers.get(AUTHORIZATION).map(HeaderValue::as_bytes),
        certificate: request.extensions().get::<PeerCertificate>(),
        application,
        takes_basic: path.starts_with(REGISTRY),
        is_in_process: request.extensions().get::<Peer>().is_none_or(|peer| peer.address.is_none()),
    };
    let refused = |caller: &Caller, error: Error| {
        broker.denied(caller, path, "", error.reason());
        error
    };
    let caller = broker
        .authenticate(credentials)
        .await
        .map_err(|error| refused(&Caller::unverified(application.unwrap_or_default()), error))?;
    // A broker that trusts everybody says of a call that it does not know that it does not know it.
    if need.is_none() && !broker.catalogue().trusts(&caller) {
        let error = Error::new(
            Reason::PermissionDenied,
            format!("nobody may call {path}: it stands in no row of the table of permissions"),
        );
        return Err(refused(&caller, error));
    }
    Ok(caller)
}

/// What a path needs; `None`: it is in no row.
fn need_of(path: &str) -> Option<Need> {
    if let Some(rpc) = Rpc::of_path(path) {
        return Some(rpc.row().need);
    }
    if OPEN.contains(&path) {
        return Some(Need::Open);
    }
    AUTHENTICATED.iter().any(|prefix| path.starts_with(prefix)).then_some(Need::Authenticated)
}

/// Whether a browser asks what a page may do. It sends nothing of the page and no credentials, and the
/// answer says nothing but what the settings allow.
fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        && grpc_kind(headers).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_row_needs_what_nobody_has() {
        assert_eq!(need_of("/grpc.health.v1.Health/Check"), Some(Need::Open));
        assert_eq!(need_of("/livez"), Some(Need::Open));
        assert_eq!(need_of("/livez/"), None);
        assert_eq!(need_of("/v1/products"), Some(Need::Authenticated));
        assert!(matches!(need_of("/meshlog.v1.AdminService/Backup"), Some(Need::AnyOf(_))));
        assert_eq!(need_of("/metrics/products"), Some(Need::Authenticated));
        assert_eq!(need_of("/schema-registry/subjects"), Some(Need::Authenticated));
        for odd in ["/", "", "/v1", "/meshlog.v1.AdminService/Nothing", "//v1/", "/livez?x"] {
            assert_eq!(need_of(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_a_question_of_a_browser_needs_no_credentials() {
        let request = |method: Method, headers: &[(&'static str, &str)]| {
            let mut request = Request::new(());
            *request.method_mut() = method;
            for (name, value) in headers {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
            request
        };
        let origin = ("origin", "https://portal.example");
        let asked = ("access-control-request-method", "POST");
        assert!(is_preflight(&request(Method::OPTIONS, &[origin, asked])));
        assert!(!is_preflight(&request(Method::POST, &[origin, asked])));
        assert!(!is_preflight(&request(Method::OPTIONS, &[origin])));
        assert!(!is_preflight(&request(Method::OPTIONS, &[asked])));
        let grpc = ("content-type", "application/grpc");
        assert!(
            !is_preflight(&request(Method::OPTIONS, &[origin, asked, grpc])),
            "it would be run"
        );
    }
}
