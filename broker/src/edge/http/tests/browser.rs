use super::Port;
use crate::Config;
use crate::config::HttpConfig;

const GRPC_WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
const ORIGIN: (&str, &str) = ("origin", "https://portal.example");
const HOST: (&str, &str) = ("host", "127.0.0.1:7420");

async fn allowing() -> Port {
    let origins = vec!["https://portal.example".to_owned()];
    let http = HttpConfig { allowed_origins: origins, ..HttpConfig::default() };
    let port = Port::open_with(Config { http, ..Config::default() }).await;
    port.create("sandbox.a", 1).await;
    port
}

#[tokio::test]
async fn a_page_of_another_site_does_nothing_and_reads_nothing() {
    let port = Port::with_product("sandbox.a", 1).await;
    let append = "POST /v1/products/sandbox.a/records";
    let records = "GET /v1/products/sandbox.a/records";
    for (call, kind) in [
        (append, ("content-type", "text/plain")),
        ("DELETE /v1/products/sandbox.a", ("accept", "*/*")),
        (records, ("accept", "text/event-stream")),
        ("POST /meshlog.v1.RecordService/Append", GRPC_WEB),
        ("OPTIONS /v1/products", ("access-control-request-method", "DELETE")),
    ] {
        let answer = port.call(call, &[HOST, ORIGIN, kind], "x").await;
        assert_eq!(answer.refused(), (403, "ORIGIN_REFUSED".to_owned()), "{call}");
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    let found = port.call(records, &[], "").await.ok();
    assert_eq!(found["records"].as_array().unwrap().len(), 0);
    // The broker's own pages are no other site.
    let own = [HOST, ("origin", "http://127.0.0.1:7420"), ("content-type", "text/plain")];
    port.call(append, &own, "x").await.ok();
}

#[tokio::test]
async fn an_allowed_page_is_told_what_it_may_do() {
    let port = allowing().await;
    let asks = [HOST, ORIGIN, ("access-control-request-method", "POST")];
    let preflight = port.call("OPTIONS /v1/products/sandbox.a/records", &asks, "").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), ORIGIN.1);
    assert!(preflight.header("access-control-allow-headers").contains("idempotency-key"));
    assert_eq!(preflight.header("access-control-allow-credentials"), "");
    assert_eq!(preflight.header("vary"), "origin");
    let append = [HOST, ORIGIN, ("content-type", "text/plain")];
    let answer = port.call("POST /v1/products/sandbox.a/records", &append, "x").await;
    answer.ok();
    assert_eq!(answer.header("access-control-allow-origin"), ORIGIN.1);
    assert!(answer.header("access-control-expose-headers").contains("grpc-status"));
    let another = [HOST, ("origin", "https://portal.example.evil.example")];
    assert_eq!(port.call("GET /v1/products", &another, "").await.refused().0, 403);
}

#[tokio::test]
async fn a_name_that_was_pointed_at_the_broker_is_refused() {
    let port = Port::open().await;
    let rebound = [("host", "evil.example:7420"), ("origin", "http://evil.example:7420")];
    for call in ["GET /v1/products", "POST /v1/products", "GET /livez", "GET /openapi.json"] {
        let answer = port.call(call, &rebound, "").await;
        assert_eq!(answer.refused(), (403, "HOST_REFUSED".to_owned()), "{call}");
    }
    let hosts = vec!["log.example".to_owned()];
    let http = HttpConfig { allowed_hosts: hosts, ..HttpConfig::default() };
    let port = Port::open_with(Config { http, ..Config::default() }).await;
    port.call("GET /v1/products", &[("host", "log.example")], "").await.ok();
}

#[tokio::test]
async fn no_answer_is_sniffed_and_none_sets_a_cookie() {
    let port = Port::open().await;
    for path in ["/v1/products", "/v2/none", "/v1/products?callback=steal"] {
        let answer = port.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cross-origin-resource-policy"), "same-origin");
        assert!(!answer.headers.contains_key("set-cookie"));
        assert!(!answer.body.starts_with(b"steal"), "no JSONP: {answer:?}");
    }
}
