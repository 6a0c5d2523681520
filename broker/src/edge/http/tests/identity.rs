use std::net::{Ipv4Addr, SocketAddr};

use axum::body::Body;
use http::Request;
use meshlog_proto::v1;

use super::{Answer, Port};
use crate::config::{HttpConfig, MetricsConfig, QuotaConfig};
use crate::edge::connection::Peer;
use crate::fixtures::product;
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
async fn a_page_of_an_allowed_origin_can_read_why_it_was_refused() {
    let http = HttpConfig { allowed_origins: vec![ORIGIN.1.to_owned()], ..HttpConfig::default() };
    let port = Port::open_with(Config { http, ..Config::default() }).await;
    let key = key(&port).await;
    let cors = "access-control-allow-origin";
    let host = ("host", "localhost");
    let refused = remote(&port, "GET /v1/server", &[host, ORIGIN]).await;
    assert_eq!(refused.refused(), (401, "CREDENTIAL_MISSING".to_owned()));
    assert_eq!(refused.header(cors), ORIGIN.1);
    assert!(refused.header("access-control-expose-headers").contains("meshlog-reason"));
    let with_key = [host, ORIGIN, ("authorization", key.as_str())];
    let refused = remote(&port, "GET /nothing", &with_key).await;
    assert_eq!(refused.refused(), (403, "PERMISSION_DENIED".to_owned()));
    assert_eq!(refused.header(cors), ORIGIN.1);
    let web = [host, ORIGIN, ("content-type", "application/grpc-web+proto")];
    let refused = remote(&port, "POST /meshlog.v1.AdminService/GetServerInfo", &web).await;
    assert_eq!((refused.header("grpc-status"), refused.header(cors)), ("16", ORIGIN.1));

    let other = ("origin", "https://evil.example");
    let refused = remote(&port, "GET /v1/server", &[host, other]).await;
    assert_eq!(
        refused.refused(),
        (403, "ORIGIN_REFUSED".to_owned()),
        "not whether a key is missing"
    );
    assert_eq!(refused.header(cors), "");
    let own = remote(&port, "GET /v1/server", &[host]).await;
    assert_eq!(own.header(cors), "");
    assert_eq!(own.header("cross-origin-resource-policy"), "same-origin");
}

#[tokio::test]
async fn figures_of_products_are_for_those_who_may_see_them() {
    let metrics = MetricsConfig { per_product: true, ..MetricsConfig::default() };
    let port = Port::open_with(Config { metrics, ..Config::default() }).await;
    let catalogue = port.broker.catalogue();
    let caller = Caller::default();
    let request = product("hr.salaries", "one", v1::Classification::Restricted);
    catalogue.create_product(&caller, request).await.unwrap();
    let contacts = vec!["a@example.org".to_owned()];
    let team = v1::Team { name: "two".into(), contacts, ..Default::default() };
    let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
    catalogue.create_team(&caller, request).await.unwrap();
    let key = async |team: &str| {
        let key = v1::ApiKey { team: team.into(), admin: team.is_empty(), ..Default::default() };
        let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
        let made = catalogue.create_key(&caller, request).await.unwrap();
        format!("Bearer {}", made.secret)
    };
    let (admin, owner, stranger) = (key("").await, key("one").await, key("two").await);
    for key in [admin, owner] {
        let answer = remote(&port, "GET /metrics/products", &[("authorization", &key)]).await;
        let page = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(answer.status == 200 && page.contains("hr.salaries"), "{page}");
    }
    let answer = remote(&port, "GET /metrics/products", &[("authorization", &stranger)]).await;
    assert_eq!(answer.refused(), (403, "PERMISSION_DENIED".to_owned()));
    port.create("sandbox.seen", 1).await;
    let answer = remote(&port, "GET /metrics/products", &[("authorization", &stranger)]).await;
    let page = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(page.contains("sandbox.seen") && !page.contains("hr.salaries"), "{page}");
}

#[tokio::test]
async fn access_audit_and_lineage_are_there_over_http() {
    let port = Port::with_product("sandbox.a", 1).await;
    let json = [("content-type", "application/json")];
    let made = port.call("POST /v1/keys", &json, r#"{"key": {"admin": true}}"#).await.ok();
    let key = format!("Bearer {}", made["secret"].as_str().unwrap());
    let with_key = [("authorization", key.as_str())];
    let get = async |path: &str| remote(&port, &format!("GET {path}"), &with_key).await.ok();
    let me = get("/v1/whoami").await;
    assert_eq!((&me["admin"], &me["authentication_required"]), (&true.into(), &true.into()));
    let allowed = get("/v1/access?product=sandbox.a&permission=PERMISSION_CONSUME").await;
    assert_eq!(allowed["allowed"], true);
    assert_eq!(get("/v1/keys").await["keys"][0]["id"], made["key"]["id"]);
    get("/v1/lineage?product=sandbox.a").await;
    get("/v1/products/sandbox.a/impact").await;
    assert!(get("/v1/audit").await["records"].as_array().unwrap().len() > 1);
    assert!(get("/v1/audit/verification").await["records"].as_str().unwrap() != "0");
    assert_eq!(get("/v1/grants").await, serde_json::json!({}));
    assert_eq!(get("/v1/access-requests").await, serde_json::json!({}));
    let revoke = format!("POST /v1/keys/{}/revoke", made["key"]["id"].as_str().unwrap());
    remote(&port, &revoke, &with_key).await.ok();
    let refused = remote(&port, "GET /v1/whoami", &with_key).await;
    assert_eq!(refused.refused(), (401, "KEY_REVOKED".to_owned()));
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

#[tokio::test]
async fn clients_of_the_schema_registry_send_their_key_as_a_password() {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let port = Port::open().await;
    port.create("sandbox.a", 1).await;
    let bearer = key(&port).await;
    let key = bearer.strip_prefix("Bearer ").unwrap();
    let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("anybody:{key}")));
    let with_basic = [("authorization", basic.as_str())];
    let subjects = "GET /schema-registry/subjects";
    remote(&port, subjects, &with_basic).await.ok();
    remote(&port, subjects, &[("authorization", bearer.as_str())]).await.ok();
    let wrong = format!("Basic {}", BASE64_STANDARD.encode("anybody:password"));
    for (headers, code) in [(&[][..], 401), (&[("authorization", wrong.as_str())], 401)] {
        let answer = remote(&port, subjects, headers).await;
        assert_eq!(answer.status, code);
        let body = answer.json();
        assert_eq!(body["error_code"], 40101, "in the form that these clients read");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    let elsewhere = remote(&port, "GET /v1/products/sandbox.a", &with_basic).await;
    assert_eq!(elsewhere.refused(), (401, "CREDENTIAL_MALFORMED".to_owned()));
}
