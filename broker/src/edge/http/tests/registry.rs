use base64::{Engine as _, prelude::BASE64_STANDARD};
use meshlog_proto::v1::{self, SchemaFormat};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
use serde_json::{Value, json};

use super::{Answer, Port};
use crate::Caller;

const KIND: &str = "application/vnd.schemaregistry.v1+json";
const FLIGHT: &str =
    r#"{"type": "record", "name": "F", "fields": [{"name": "carrier", "type": "string"}]}"#;

async fn create(port: &Port, name: &str, format: SchemaFormat, text: &str) {
    create_with_key(port, name, format, text, None).await;
}

async fn create_with_key(
    port: &Port,
    name: &str,
    format: SchemaFormat,
    text: &str,
    key: Option<&str>,
) {
    let source = |text: &str| v1::SchemaSource {
        format: format.into(),
        text: text.to_owned(),
        ..Default::default()
    };
    let settings =
        v1::ProductSettings { framing: v1::Framing::Confluent.into(), ..Default::default() };
    let domain = name.split('.').next().unwrap();
    let is_free = domain == "sandbox";
    let product = v1::Product {
        name: name.to_owned(),
        settings: Some(settings),
        owner: if is_free { String::new() } else { "ops".to_owned() },
        description: "Flights".to_owned(),
        classification: v1::Classification::Internal.into(),
        ..Default::default()
    };
    let new_team = v1::Team {
        name: "ops".to_owned(),
        contacts: vec!["ops@example.org".to_owned()],
        ..Default::default()
    };
    let new_domain = v1::Domain {
        name: domain.to_owned(),
        owner: "ops".to_owned(),
        description: "Operations".to_owned(),
        ..Default::default()
    };
    let request = v1::CreateProductRequest {
        product: Some(product),
        new_domain: (!is_free).then_some(new_domain),
        new_team: (!is_free).then_some(new_team),
        value_schema: Some(source(text)),
        key_schema: key.map(source),
        ..Default::default()
    };
    port.broker.catalogue().create_product(&Caller::new("test"), request).await.unwrap();
}

async fn activate(port: &Port, name: &str) {
    let request = v1::ActivateProductRequest { name: name.to_owned(), ..Default::default() };
    port.broker.catalogue().activate_product(&Caller::new("test"), request).await.unwrap();
}

impl Answer {
    /// Status, code and message of a call that failed.
    #[track_caller]
    fn code(&self) -> (u16, u64, String) {
        assert_eq!(self.header("content-type"), KIND, "{self:?}");
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 2, "clients may refuse other members: {body}");
        let message = body["message"].as_str().unwrap().to_owned();
        (self.status.as_u16(), body["error_code"].as_u64().unwrap(), message)
    }
}

async fn send(port: &Port, call: &str, body: Value) -> Answer {
    port.call(&call.replace(' ', " /schema-registry"), &[("content-type", KIND)], body.to_string())
        .await
}

async fn get(port: &Port, path: &str) -> Answer {
    port.get(&format!("/schema-registry{path}")).await
}

#[tokio::test]
async fn a_schema_is_registered_found_and_read_by_its_id() {
    let port = Port::open().await;
    create(&port, "sandbox.a", SchemaFormat::Avro, FLIGHT).await;
    assert_eq!(
        get(&port, "/subjects?subjectPrefix=sandbox.").await.ok(),
        json!(["sandbox.a-value"])
    );
    assert_eq!(get(&port, "/subjects/sandbox.a-value/versions").await.ok(), json!([1]));

    // Layout does not count, and the schema that is there has its id.
    let laid_out = FLIGHT.replace(": ", " :\n");
    let body = json!({"schema": laid_out, "references": [], "metadata": null, "id": -1});
    let first =
        send(&port, "POST /subjects/sandbox.a-value/versions?normalize=False", body.clone());
    let first = first.await.ok();
    let found = send(&port, "POST /subjects/sandbox.a-value?deleted=true", body).await.ok();
    assert_eq!(found["id"], first["id"]);
    assert_eq!((&found["version"], &found["subject"]), (&json!(1), &json!("sandbox.a-value")));
    assert_eq!(found["schema"], FLIGHT);

    let more = FLIGHT.replace("]}", r#", {"name": "delay", "type": "int", "default": 0}]}"#);
    let body = json!({"schema": more, "schemaType": "AVRO"});
    let missing = send(&port, "POST /subjects/sandbox.a-value", body.clone()).await;
    assert_eq!(missing.code().1, 40403);
    let second = send(&port, "POST /subjects/sandbox.a-value/versions", body).await.ok();
    assert_ne!(first["id"], second["id"]);
    let old = send(&port, "POST /subjects/sandbox.a-value/versions", json!({"schema": FLIGHT}));
    assert_eq!(old.await.ok()["id"], first["id"], "the older producer goes on");
    assert_eq!(get(&port, "/subjects/sandbox.a-value/versions").await.ok(), json!([1, 2]));

    let latest = get(&port, "/subjects/sandbox.a-value/versions/latest").await.ok();
    assert_eq!((&latest["version"], &latest["id"]), (&json!(2), &second["id"]));
    assert_eq!(latest["schema"], more);
    assert!(latest.get("schemaType").is_none(), "as ever for Avro");
    let text = get(&port, "/subjects/sandbox.a-value/versions/1/schema").await;
    assert_eq!(text.body, FLIGHT);
    let id = second["id"].as_u64().unwrap();
    let by_id = get(&port, &format!("/schemas/ids/{id}?subject=sandbox.a-value")).await.ok();
    assert_eq!(by_id, json!({"schema": more}));
    assert_eq!(get(&port, &format!("/schemas/ids/{id}/schema")).await.body, more.as_bytes());
    let versions = get(&port, &format!("/schemas/ids/{id}/versions")).await.ok();
    assert_eq!(versions, json!([{"subject": "sandbox.a-value", "version": 2}]));
    let subjects = get(&port, &format!("/schemas/ids/{id}/subjects")).await.ok();
    assert_eq!(subjects, json!(["sandbox.a-value"]));
    assert_eq!(get(&port, "/schemas/types").await.ok(), json!(["JSON", "PROTOBUF", "AVRO"]));
    assert_eq!(get(&port, "/").await.ok(), json!({}));
    assert_eq!(get(&port, "").await.ok(), json!({}));

    let accept = [("accept", "application/json")];
    let plain = port.call("GET /schema-registry/mode", &accept, "").await;
    assert_eq!(plain.header("content-type"), "application/json");
    assert_eq!(plain.ok(), json!({"mode": "READWRITE"}));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_codes_of_confluent() {
    let port = Port::open().await;
    create(&port, "sandbox.a", SchemaFormat::Avro, FLIGHT).await;
    port.create("sandbox.free", 1).await;
    let body = || json!({"schema": FLIGHT});

    let unknown = send(&port, "POST /subjects/ops.new-value/versions", body()).await;
    let (status, code, message) = unknown.code();
    assert_eq!((status, code), (404, 40401));
    assert!(message.contains("`meshlog product create ops.new --owner"), "{message}");
    assert_eq!(unknown.header("meshlog-reason"), "PRODUCT_NOT_FOUND");
    let no_subject = send(&port, "POST /subjects/F/versions", body()).await.code();
    assert_eq!(no_subject.1, 40401);
    assert!(no_subject.2.contains("DOMAIN.NAME-value"), "{}", no_subject.2);
    for (path, code) in [
        ("/subjects/sandbox.a-key/versions", 40401),
        ("/subjects/sandbox.free-value/versions/latest", 40401),
        ("/subjects/sandbox.a-value/versions/7", 40402),
        ("/subjects/sandbox.a-value/versions/0", 42202),
        ("/subjects/sandbox.a-value/versions/one", 42202),
        ("/schemas/ids/99999", 40403),
        ("/schemas/ids/none", 40403),
        ("/config/ops.new-value", 40401),
        ("/nothing", 404),
    ] {
        assert_eq!(get(&port, path).await.code().1, code, "{path}");
    }
    for (body, code) in [
        (json!({"schema": "{"}), 42201),
        (json!({"schema": "{}", "schemaType": "XML"}), 42201),
        (json!({"schema": FLIGHT, "ruleSet": {"domainRules": []}}), 42201),
        (json!([]), 422),
    ] {
        let call = "POST /subjects/sandbox.a-value/versions";
        assert_eq!(send(&port, call, body.clone()).await.code().1, code, "{body}");
    }
    let form = port.call("POST /schema-registry/subjects/sandbox.a-value", &[], "a=b").await;
    assert_eq!(form.code().1, 415);
    let deleted = send(&port, "DELETE /subjects/sandbox.a-value", json!({})).await;
    assert_eq!(deleted.code().1, 405);
}

#[tokio::test]
async fn a_schema_that_breaks_the_promise_is_refused_with_every_reason() {
    let port = Port::open().await;
    create(&port, "ops.a", SchemaFormat::Avro, FLIGHT).await;
    activate(&port, "ops.a").await;
    let broken = r#"{"type": "record", "name": "F", "fields":
        [{"name": "carrier", "type": "int"}, {"name": "delay", "type": "int"}]}"#;
    let body = || json!({"schema": broken});
    let refused = send(&port, "POST /subjects/ops.a-value/versions", body()).await;
    let (status, code, message) = refused.code();
    assert_eq!((status, code), (409, 409));
    for word in ["carrier", "delay", "AVRO_", "meshlog product succeed ops.a"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    let call = "POST /compatibility/subjects/ops.a-value/versions/latest";
    let checked = send(&port, &format!("{call}?verbose=True"), body()).await.ok();
    assert_eq!(checked["is_compatible"], false);
    let messages = checked["messages"].to_string();
    assert!(messages.contains("carrier") && messages.contains("delay"), "{messages}");
    let good = FLIGHT.replace("]}", r#", {"name": "delay", "type": "int", "default": 0}]}"#);
    let all = "POST /compatibility/subjects/ops.a-value/versions";
    for call in [call, all] {
        let checked = send(&port, call, json!({"schema": good})).await.ok();
        assert_eq!(checked, json!({"is_compatible": true}));
    }

    let config = get(&port, "/config/ops.a-value").await;
    assert_eq!(config.header("meshlog-compatibility"), "RETAINED");
    assert_eq!(config.ok(), json!({"compatibilityLevel": "BACKWARD_TRANSITIVE"}));
    let set = send(&port, "PUT /config/ops.a-value", json!({"compatibility": "NONE"})).await;
    assert_eq!(set.ok(), json!({"compatibility": "NONE"}));
    let config = get(&port, "/config/ops.a-value").await.ok();
    assert_eq!(config, json!({"compatibilityLevel": "NONE"}));
    send(&port, "POST /subjects/ops.a-value/versions", body()).await.ok();
    let unknown = send(&port, "PUT /config/ops.a-value", json!({"compatibility": "SOME"}));
    assert_eq!(unknown.await.code().1, 42203);
    let other = json!({"compatibility": "FULL", "compatibilityGroup": "x"});
    assert_eq!(send(&port, "PUT /config/ops.a-value", other).await.code().1, 422);
}

#[tokio::test]
async fn keys_have_a_subject_of_their_own_and_share_the_id_of_their_version() {
    let port = Port::open().await;
    let key = r#""string""#;
    create_with_key(&port, "sandbox.a", SchemaFormat::Avro, FLIGHT, Some(key)).await;
    let subjects = get(&port, "/subjects?subjectPrefix=sandbox.").await.ok();
    assert_eq!(subjects, json!(["sandbox.a-key", "sandbox.a-value"]));
    let page = get(&port, "/subjects?subjectPrefix=sandbox.&offset=1&limit=1").await.ok();
    assert_eq!(page, json!(["sandbox.a-value"]));
    let of_key = get(&port, "/subjects/sandbox.a-key/versions/1").await.ok();
    assert_eq!(of_key["schema"], key);
    let id = of_key["id"].as_u64().unwrap();
    let by_id = get(&port, &format!("/schemas/ids/{id}?subject=sandbox.a-key")).await.ok();
    assert_eq!(by_id["schema"], key);
    assert_eq!(get(&port, &format!("/schemas/ids/{id}")).await.ok()["schema"], FLIGHT);
    let new = json!({"schema": r#""long""#});
    send(&port, "POST /subjects/sandbox.a-key/versions", new).await.ok();
    assert_eq!(get(&port, "/subjects/sandbox.a-value/versions/2/schema").await.body, FLIGHT);
}

#[tokio::test]
async fn a_compiled_protobuf_file_becomes_text_and_compiled_again() {
    let field = |name: &str, number, kind: Type, type_name: &str| FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: (!type_name.is_empty()).then(|| type_name.to_owned()),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("flight.proto".to_owned()),
        package: Some("ops".to_owned()),
        syntax: Some("proto3".to_owned()),
        dependency: vec!["google/protobuf/timestamp.proto".to_owned()],
        message_type: vec![
            DescriptorProto {
                name: Some("Flight".to_owned()),
                field: vec![
                    field("carrier", 1, Type::String, ""),
                    field("at", 2, Type::Message, ".google.protobuf.Timestamp"),
                ],
                ..Default::default()
            },
            DescriptorProto { name: Some("Other".to_owned()), ..Default::default() },
        ],
        ..Default::default()
    };
    let text = "// By hand.\nsyntax = \"proto3\";\npackage ops;\n\
        import \"google/protobuf/timestamp.proto\";\n\
        message Flight {\n  string carrier = 1;\n  google.protobuf.Timestamp at = 2;\n}\n";
    let port = Port::open().await;
    create(&port, "sandbox.a", SchemaFormat::Protobuf, text).await;
    let mut alone = file.clone();
    alone.message_type.pop();
    let compiled = |file: &FileDescriptorProto| json!({"schema": BASE64_STANDARD.encode(file.encode_to_vec()), "schemaType": "PROTOBUF"});
    let found = send(&port, "POST /subjects/sandbox.a-value", compiled(&alone)).await.ok();
    assert_eq!(found["schema"], text, "the text of a person stays");
    send(&port, "POST /subjects/sandbox.a-value/versions", compiled(&file)).await.ok();
    let latest = get(&port, "/subjects/sandbox.a-value/versions/latest").await.ok();
    assert_eq!(latest["version"], 2);
    let text = latest["schema"].as_str().unwrap();
    assert!(text.contains("  google.protobuf.Timestamp at = 2;\n"), "{text}");
    let latest = get(&port, "/subjects/sandbox.a-value/versions/latest?format=serialized").await;
    let bytes = BASE64_STANDARD.decode(latest.ok()["schema"].as_str().unwrap()).unwrap();
    let again = FileDescriptorProto::decode(&*bytes).unwrap();
    assert_eq!(again.message_type.len(), 2);
    assert_eq!(again.message_type[0].field[1].type_name(), ".google.protobuf.Timestamp");
}
