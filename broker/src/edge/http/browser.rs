//! What keeps pages of other sites away from a broker that the browser's user can reach.
//!
//! ```text
//! Host     an IP address, localhost, or one of `http.allowed_hosts`: a name that somebody else points
//!          at 127.0.0.1 (DNS rebinding) is none of these
//! Origin   none, the broker's own, or one of `http.allowed_origins`; else the call is refused before
//!          anything is done, whatever its method
//! CORS     answered for allowed origins only, without credentials; there are no cookies and no JSONP
//! ```
//!
//! A client of gRPC over HTTP/2 is no browser and names its server as it likes, so its Host is not
//! looked at; its Origin is, if it has one.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header};

use super::problem_at;
use crate::config::HttpConfig;
use crate::error::{Error, Reason, Result};

/// What a page of an allowed origin may send.
const REQUEST_HEADERS: &str = "authorization, content-type, accept, idempotency-key, last-event-id, \
     meshlog-application, meshlog-producer, meshlog-producer-epoch, meshlog-producer-sequence, \
     x-grpc-web, x-user-agent, grpc-timeout, ce-specversion, ce-id, ce-source, ce-type, ce-subject, \
     ce-time, ce-dataschema, ce-partitionkey, traceparent, tracestate";
/// What it may read.
const RESPONSE_HEADERS: &str = "meshlog-next, meshlog-reason, meshlog-applied, retry-after, \
     grpc-status, grpc-message, grpc-status-details-bin, ce-specversion, ce-id, ce-source, ce-type, \
     ce-subject, ce-time, ce-dataschema, ce-partitionkey";
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
/// A browser asks again after this long.
const MAX_AGE: &str = "600";

/// Refuses what a page of another site sends, and tells browsers what an allowed one may do.
pub(in crate::edge) async fn guard(
    State(config): State<Arc<HttpConfig>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let origin = match check(&config, &request) {
        Ok(origin) => origin,
        Err(error) => return marked(problem_at(request.uri().path(), &error), None),
    };
    let is_preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    match (&origin, is_preflight) {
        (Some(_), true) => marked(preflight(), origin),
        _ => marked(next.run(request).await, origin),
    }
}

/// A refusal that was made before the routes were asked, so that the page of an allowed origin can
/// read it; the page of any other learns nothing of it.
pub(in crate::edge) fn refusal<B>(
    config: &HttpConfig,
    request: &http::Request<B>,
    refusal: Response<Body>,
) -> Response<Body> {
    match check(config, request) {
        Ok(origin) => marked(refusal, origin),
        Err(error) => marked(problem_at(request.uri().path(), &error), None),
    }
}

/// The allowed origin of another site that it comes from, if it comes from one.
fn check<B>(config: &HttpConfig, request: &http::Request<B>) -> Result<Option<HeaderValue>> {
    let headers = request.headers();
    let host = host_of(request);
    if !is_native_grpc(request)
        && let Some(host) = &host
        && !is_host_allowed(config, host)
    {
        return Err(Error::new(
            Reason::HostRefused,
            format!(
                "the broker is not called `{host}`; use its IP address or localhost, or add the \
                 name to `allowed_hosts` under [broker.http] of the configuration file"
            ),
        )
        .with("host", host));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let text = origin.to_str().unwrap_or_default();
    let own = text.split_once("://").map(|(_, host)| host);
    if own.is_some() && own == host.as_ref().map(Authority::as_str) {
        return Ok(None);
    }
    if config.allowed_origins.iter().any(|allowed| allowed == text) {
        return Ok(Some(origin.clone()));
    }
    Err(Error::new(
        Reason::OriginRefused,
        format!(
            "pages of `{text}` may not use this broker; to let them, add it to `allowed_origins` \
             under [broker.http] of the configuration file"
        ),
    )
    .with("origin", text))
}

/// As HTTP/2 or HTTP/1.1 names the server. A browser always does.
fn host_of<B>(request: &http::Request<B>) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let host = request.headers().get(header::HOST)?;
    // A host that cannot be read is no host that is allowed.
    let unreadable = || Authority::from_static("unreadable.invalid");
    Some(Authority::try_from(host.as_bytes()).unwrap_or_else(|_| unreadable()))
}

fn is_native_grpc<B>(request: &http::Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.unwrap_or_default();
    request.version() == Version::HTTP_2
        && kind.starts_with(b"application/grpc")
        && !kind.starts_with(b"application/grpc-web")
}

fn is_host_allowed(config: &HttpConfig, host: &Authority) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || config.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let set = |headers: &mut HeaderMap, name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    set(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// Says what a browser may do with the answer.
fn marked(mut response: Response<Body>, origin: Option<HeaderValue>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    match origin {
        Some(origin) => {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let exposed = HeaderValue::from_static(RESPONSE_HEADERS);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            headers.append(header::VARY, HeaderValue::from_static("origin"));
            headers.insert(policy, HeaderValue::from_static("cross-origin"));
        }
        None => {
            headers.insert(policy, HeaderValue::from_static("same-origin"));
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        *request.version_mut() = version;
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    fn refusal(config: &HttpConfig, headers: &[(&str, &str)]) -> Option<Reason> {
        check(config, &request(Version::HTTP_11, headers)).err().map(|error| error.reason())
    }

    #[test]
    fn a_name_that_somebody_points_at_this_machine_is_refused() {
        let config =
            HttpConfig { allowed_hosts: vec!["log.example".into()], ..HttpConfig::default() };
        for host in [
            "localhost",
            "LOCALHOST:7420",
            "127.0.0.1:7420",
            "[::1]:7420",
            "10.1.2.3",
            "log.example:1",
        ] {
            assert_eq!(refusal(&config, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:7420", "127.0.0.1.evil.example", "a b"]
        {
            assert_eq!(refusal(&config, &[("host", host)]), Some(Reason::HostRefused), "{host}");
        }
        let grpc = [("host", "evil.example"), ("content-type", "application/grpc+proto")];
        assert!(check(&config, &request(Version::HTTP_2, &grpc)).is_ok());
        assert!(check(&config, &request(Version::HTTP_11, &grpc)).is_err());
        let web = [("host", "evil.example"), ("content-type", "application/grpc-web+proto")];
        assert!(check(&config, &request(Version::HTTP_2, &web)).is_err());
    }

    #[test]
    fn a_page_of_another_site_is_refused_unless_it_is_allowed() {
        let own = [("host", "localhost:7420"), ("origin", "http://localhost:7420")];
        let other = [("host", "localhost:7420"), ("origin", "http://localhost:8080")];
        let null = [("host", "localhost:7420"), ("origin", "null")];
        let config = HttpConfig::default();
        assert_eq!(refusal(&config, &own), None);
        assert_eq!(refusal(&config, &other), Some(Reason::OriginRefused));
        assert_eq!(refusal(&config, &null), Some(Reason::OriginRefused));
        let origins = vec!["http://localhost:8080".into()];
        let config = HttpConfig { allowed_origins: origins, ..HttpConfig::default() };
        assert_eq!(refusal(&config, &other), None);
        assert_eq!(refusal(&config, &null), Some(Reason::OriginRefused));
        let rebound = [("host", "evil.example"), ("origin", "http://evil.example")];
        assert_eq!(refusal(&config, &rebound), Some(Reason::HostRefused));
    }
}
