use std::net::{Ipv4Addr, SocketAddr};

use axum::body::Body;
use http::Request;
use meshlog_proto::v1;

use super::{Answer, Port};
use crate::config::{HttpConfig, QuotaConfig};
use crate::edge::connection::Peer;
use crate::{Caller, Config};

const ORIGIN: (&str, &str) = ("origin", "https://portal.example");

async fn key(port: &Port) -> String {
    let key = v1::ApiKey { admin: true, ..Default::default() };
    let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
    let made = port.broker.catalogue().create_key(&Caller::default(), request).await.unwrap();
    format!("Bearer {}", made.secret)
}

/// A call over a socket: nobody is trusted for being part of the process.
async fn remote(port: &Port, call: &str, headers: &[(&str, &str)]) -> Answer {
    let (method, path) = call.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let address = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
    request.extensions_mut().insert(Peer { address, certificate: None });
    let response = port.calls.clone().answer(std::sync::Arc::default(), request).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}

#[tokio::test]
async fn with_a_key_in_the_broker_only_health_and_preflights_need_none() {
    let http = HttpConfig { allowed_origins: vec![ORIGIN.1.to_owned()], ..HttpConfig::default() };
    let port = Port::open_with(Config { http, ..Config::default() }).await;
    port.create("sandbox.a", 1).await;
    remote(&port, "GET /v1/products/sandbox.a", &[]).await.ok();
    let key = key(&port).await;

    for path in ["/livez", "/readyz"] {
        remote(&port, &format!("GET {path}"), &[]).await.ok();
    }
    let asks = [ORIGIN, ("access-control-request-method", "POST")];
    let preflight = remote(&port, "OPTIONS /v1/products/sandbox.a/records", &asks).await;
    assert_eq!(preflight.status, 204);

    let tail = [("accept", "text/event-stream")];
    for (call, headers) in [
        ("GET /v1/products/sandbox.a", &[][..]),
        ("GET /v1/products/sandbox.a/records", &[]),
        ("GET /v1/products/sandbox.a/records", &tail),
        ("POST /v1/products/sandbox.a/records", &[]),
        ("GET /v1/server", &[]),
        ("GET /metrics", &[]),
        ("GET /openapi.json", &[]),
        ("GET /nothing", &[]),
    ] {
        let answer = remote(&port, call, headers).await;
        assert_eq!(answer.refused(), (401, "CREDENTIAL_MISSING".to_owned()), "{call}");
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{call}");
    }
    let health = [("content-type", "application/grpc")];
    let info = remote(&port, "POST /meshlog.v1.AdminService/GetServerInfo", &health).await;
    assert_eq!(info.header("grpc-status"), "16");

    let with_key = [("authorization", key.as_str())];
    remote(&port, "GET /v1/products/sandbox.a", &with_key).await.ok();
    let nothing = remote(&port, "GET /nothing", &with_key).await;
    assert_eq!(nothing.refused(), (403, "PERMISSION_DENIED".to_owned()));
}

#[tokio::test]
async fn a_quota_is_of_whoever_proved_who_it_is_and_not_of_the_name_it_gives() {
    let quotas = QuotaConfig { requests_per_second: 1, ..QuotaConfig::default() };
    let port = Port::open_with(Config { quotas, ..Config::default() }).await;
    let (one, other) = (key(&port).await, key(&port).await);
    let mut last = None;
    for number in 0..40 {
        let name = format!("program-{number}");
        let headers = [("authorization", one.as_str()), ("meshlog-application", name.as_str())];
        last = Some(remote(&port, "GET /v1/server", &headers).await);
    }
    assert_eq!(last.unwrap().refused(), (429, "QUOTA_EXCEEDED".to_owned()));
    remote(&port, "GET /v1/server", &[("authorization", &other)]).await.ok();
}
