use serde_json::{Value, json};

use super::Port;

#[tokio::test]
async fn a_product_lives_its_life_over_http() {
    let port = Port::open().await;
    let created = port
        .send(
            "POST /v1/products",
            json!({
                "product": {"name": "ops.flights", "owner": "ops", "description": "Departures",
                    "classification": "CLASSIFICATION_INTERNAL"},
                "value_schema": {"format": "SCHEMA_FORMAT_OPAQUE", "media_type": "application/json", "reason": "a test"},
                "new_domain": {"name": "ops", "owner": "ops"},
                "new_team": {"name": "ops", "contacts": ["ops@x.example"]},
            }),
        )
        .await
        .ok();
    let etag = created["product"]["etag"].as_str().unwrap().to_owned();
    assert_eq!(created["product"]["state"], "PRODUCT_STATE_DRAFT");

    let path = "/v1/products/ops.flights";
    assert_eq!(port.get(path).await.ok()["product"]["owner"], "ops");
    let change = json!({"product": {"docs": "# Flights", "etag": etag}, "updateMask": "docs"});
    let changed = port.send(&format!("PATCH {path}"), change.clone()).await.ok();
    assert_eq!(changed["product"]["docs"], "# Flights");
    let stale = port.send(&format!("PATCH {path}"), change).await;
    assert_eq!(stale.refused(), (409, "ETAG_MISMATCH".to_owned()));

    assert_eq!(
        port.get("/v1/search?q=departures").await.ok()["hits"][0]["product"]["name"],
        "ops.flights"
    );
    assert_eq!(
        port.get("/v1/products?domain=ops&page_size=1").await.ok()["products"][0]["name"],
        "ops.flights"
    );
    assert_eq!(port.get("/v1/domains/ops").await.ok()["domain"]["owner"], "ops");
    let teams = port.get("/v1/teams").await.ok();
    let mut teams = teams["teams"].as_array().unwrap().iter();
    assert!(teams.any(|team| team["name"] == "ops"));
    let schema = json!({"value_schema": {"format": "SCHEMA_FORMAT_JSON_SCHEMA", "text": "{\"type\":\"object\"}"}});
    let added = port.send(&format!("POST {path}/schemas"), schema).await.ok();
    assert_eq!(added["schema_version"]["version"], 2);
    assert_eq!(port.get(&format!("{path}/schemas/1")).await.ok()["schema_version"]["version"], 1);
    assert_eq!(
        port.get(&format!("{path}/schemas")).await.ok()["schema_versions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );

    let rejected = port
        .call(
            &format!("POST {path}/records"),
            &[("content-type", "application/x-ndjson")],
            "{}\n7\n",
        )
        .await;
    assert_eq!(rejected.refused(), (400, "SCHEMA_REJECTED".to_owned()));
    assert_eq!(rejected.json()["violations"].as_array().unwrap().len(), 1);

    assert_eq!(
        port.send(&format!("POST {path}/activate"), json!({})).await.ok()["product"]["state"],
        "PRODUCT_STATE_ACTIVE"
    );
    let deprecated =
        port.send(&format!("POST {path}/deprecate"), json!({"reason": "over"})).await.ok();
    assert_eq!(deprecated["product"]["deprecation_reason"], "over");
    port.call(&format!("POST {path}/retire?force"), &[], "").await.ok();
    port.call(&format!("DELETE {path}?validate_only=true"), &[], "").await.ok();
    port.call(&format!("DELETE {path}?force=true"), &[], "").await.ok();
    assert_eq!(port.get(path).await.refused(), (404, "PRODUCT_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn who_changes_something_is_named_as_in_grpc() {
    let port = Port::with_product("sandbox.a", 1).await;
    let headers = [("content-type", "application/json"), ("meshlog-application", "portal")];
    let change = json!({"product": {"description": "x"}}).to_string();
    let changed = port.call("PATCH /v1/products/sandbox.a", &headers, change).await.ok();
    assert_eq!(changed["product"]["updated_by"], "unverified:portal");
}

#[tokio::test]
async fn numbers_of_64_bits_are_strings_and_cursors_are_kept() {
    let port = Port::with_product("sandbox.a", 1).await;
    let ndjson = [("content-type", "application/x-ndjson")];
    port.call("POST /v1/products/sandbox.a/records", &ndjson, "1\n2\n").await.ok();
    let offsets = port.get("/v1/products/sandbox.a/offsets").await.ok();
    assert_eq!(offsets["partitions"][0]["durable_end"], "2");
    let cursor = "/v1/cursors/billing/sandbox.a";
    let commit = json!({"positions": [{"offset": "1"}]});
    assert_eq!(port.send(&format!("POST {cursor}"), commit).await.ok()["cursor"]["lag"], "1");
    assert_eq!(port.get(cursor).await.ok()["cursor"]["positions"][0]["offset"], "1");
    assert_eq!(
        port.get("/v1/cursors?product=sandbox.a").await.ok()["cursors"][0]["name"],
        "billing"
    );
    assert_eq!(port.get("/v1/server").await.ok()["limits"]["max_read_wait"], "60s");
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_by_what_is_wrong_with_it() {
    let port = Port::open().await;
    let json = [("content-type", "application/json")];
    for (call, headers, body, status, words) in [
        ("POST /v1/products", &json[..], "{", 400, "not JSON"),
        ("POST /v1/products", &json, "[]", 400, "must be a JSON object"),
        ("POST /v1/products", &json, r#"{"colour":1}"#, 400, "colour"),
        ("POST /v1/products", &[], "{}", 415, "application/json"),
        ("GET /v1/products?colour=red", &[], "", 400, "`colour`"),
        ("GET /v1/products?page_size=many", &[], "", 400, "ListProductsRequest"),
        (
            "PATCH /v1/products/ops.a",
            &json,
            r#"{"product":{"name":"ops.b"}}"#,
            400,
            "`product.name`",
        ),
        ("GET /v1/search?q=colour:red", &[], "", 400, "colour"),
    ] {
        let answer = port.call(call, headers, body).await;
        assert_eq!(answer.refused().0, status, "{call} {body}");
        let detail: Value = answer.json()["detail"].clone();
        assert!(detail.as_str().unwrap().contains(words), "{detail}");
    }
}
