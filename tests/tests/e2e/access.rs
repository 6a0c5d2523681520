//! Every call of the contract, made by everybody there is, with a client that knows nothing but the
//! wire: who may is written here once more, apart from the broker's own table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshlog_broker::Caller;
use meshlog_proto::v1;
use meshlog_tests::{TestBroker, failure, product};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::json;
use tonic::Code;

use crate::raw::Raw;

/// The calls of the contract, each with who may make it: `X` one of another team, `C` with a grant to
/// consume, `P` with one to produce, `O` of the owner's team, `S` a steward, `A` an administrator.
/// `{key}`, `{request}` and `{grant}` stand for ids of new ones on the owner's product. What changes
/// something is only asked for, or cannot be done for another reason than who asks.
#[rustfmt::skip]
const CALLS: &[(&str, &str, &str)] = &[
    ("RecordService/Append", "PO A", r#"{"product":"ops.a","batch":{"records":[{"value":"eA=="}]}}"#),
    ("RecordService/AppendStream", "PO A", r#"{"requestId":"1","append":{"product":"ops.a","batch":{"records":[{"value":"eA=="}]}}}"#),
    ("RecordService/Read", "C O A", r#"{"product":"ops.a"}"#),
    ("RecordService/Subscribe", "C O A", r#"{"product":"ops.a","stopAtEnd":true}"#),
    ("RecordService/ListQuarantined", "C O A", r#"{"product":"ops.a"}"#),
    ("RecordService/RedriveQuarantined", "O A", r#"{"product":"ops.a"}"#),
    ("RecordService/ListOffsets", "CPO A", r#"{"product":"ops.a"}"#),

    ("CatalogService/CreateDomain", "SA", r#"{"domain":{"name":"new","owner":"ops-team"},"validateOnly":true}"#),
    ("CatalogService/GetDomain", "XCPOSA", r#"{"name":"ops"}"#),
    ("CatalogService/ListDomains", "XCPOSA", "{}"),
    ("CatalogService/UpdateDomain", "OSA", r#"{"domain":{"name":"ops","description":"New."},"updateMask":"description","validateOnly":true}"#),
    ("CatalogService/DeleteDomain", "OSA", r#"{"name":"ops","validateOnly":true}"#),
    ("CatalogService/CreateTeam", "SA", r#"{"team":{"name":"new","contacts":["a@example.org"]},"validateOnly":true}"#),
    ("CatalogService/GetTeam", "XCPOSA", r#"{"name":"ops-team"}"#),
    ("CatalogService/ListTeams", "XCPOSA", "{}"),
    ("CatalogService/UpdateTeam", "OSA", r#"{"team":{"name":"ops-team","description":"New."},"updateMask":"description","validateOnly":true}"#),
    ("CatalogService/DeleteTeam", "SA", r#"{"name":"ops-team","validateOnly":true}"#),
    ("CatalogService/CreateTagKey", "SA", r#"{"tagKey":{"name":"new","description":"New.","owner":"ops-team"},"validateOnly":true}"#),
    ("CatalogService/GetTagKey", "XCPOSA", r#"{"name":"unit"}"#),
    ("CatalogService/ListTagKeys", "XCPOSA", "{}"),
    ("CatalogService/UpdateTagKey", "OSA", r#"{"tagKey":{"name":"unit","description":"New."},"updateMask":"description","validateOnly":true}"#),
    ("CatalogService/DeleteTagKey", "OSA", r#"{"name":"unit","validateOnly":true}"#),
    ("CatalogService/CreateProduct", "O A", r#"{"product":{"name":"ops.b","owner":"ops-team"},"validateOnly":true}"#),
    ("CatalogService/GetProduct", "XCPOSA", r#"{"name":"ops.a"}"#),
    ("CatalogService/ListProducts", "XCPOSA", "{}"),
    ("CatalogService/UpdateProduct", "OSA", r#"{"product":{"name":"ops.a","description":"New."},"updateMask":"description","validateOnly":true}"#),
    ("CatalogService/DeleteProduct", "O A", r#"{"name":"ops.a","validateOnly":true}"#),
    ("CatalogService/SearchProducts", "XCPOSA", r#"{"query":"a"}"#),
    ("CatalogService/WatchProducts", "XCPOSA", "{}"),
    ("CatalogService/ActivateProduct", "O A", r#"{"name":"ops.a","validateOnly":true}"#),
    ("CatalogService/DeprecateProduct", "O A", r#"{"name":"ops.a","reason":"Old.","validateOnly":true}"#),
    ("CatalogService/RetireProduct", "O A", r#"{"name":"ops.a","validateOnly":true}"#),
    ("CatalogService/MoveProduct", "O A", r#"{"name":"ops.a","newName":"ops.c","validateOnly":true}"#),
    ("CatalogService/TransferProduct", "O A", r#"{"name":"ops.a","newOwner":"readers","validateOnly":true}"#),
    ("CatalogService/AcceptProductTransfer", "O A", r#"{"name":"ops.a","newOwner":"ops-team","validateOnly":true}"#),
    ("CatalogService/CancelProductTransfer", "O A", r#"{"name":"ops.a","validateOnly":true}"#),
    ("CatalogService/SucceedProduct", "O A", r#"{"name":"ops.a","successor":{"name":"ops.d"},"validateOnly":true}"#),
    ("CatalogService/ListRules", "XCPOSA", r#"{"product":"ops.a"}"#),
    (
        "CatalogService/TestRules",
        "XCPOSA",
        r#"{"product":"ops.a","expression":"true","records":[{"value":"e30="}]}"#,
    ),
    ("CatalogService/SampleProduct", "C O A", r#"{"product":"ops.a"}"#),

    ("SchemaService/AddSchemaVersion", "O A", r#"{"product":"ops.a","validateOnly":true}"#),
    ("SchemaService/GetSchemaVersion", "XCPOSA", r#"{"product":"ops.a","version":1}"#),
    ("SchemaService/ListSchemaVersions", "XCPOSA", r#"{"product":"ops.a"}"#),
    ("SchemaService/CheckCompatibility", "XCPOSA", r#"{"product":"ops.a"}"#),

    ("SubscriptionService/CommitOffsets", "C O A", r#"{"cursor":"one","product":"ops.a","positions":[{"partition":0,"offset":"0"}]}"#),
    ("SubscriptionService/GetOffsets", "C O A", r#"{"cursor":"one","product":"ops.a"}"#),
    ("SubscriptionService/ListCursors", "XCPOSA", "{}"),
    ("SubscriptionService/DeleteCursor", "C O A", r#"{"cursor":"one","product":"ops.a"}"#),

    ("LineageService/GetLineage", "XCPOSA", r#"{"product":"ops.a"}"#),
    ("LineageService/GetImpact", "XCPOSA", r#"{"product":"ops.a"}"#),

    ("AdminService/GetServerInfo", "XCPOSA", "{}"),
    ("AdminService/Backup", "A", "{}"),
    ("AdminService/TrimProduct", "O A", r#"{"product":"ops.a","beforeOffsets":{},"validateOnly":true}"#),
    ("AdminService/EraseDeletedRecords", "A", r#"{"product":"ops.a"}"#),
    ("AdminService/ExplainRetention", "CPO A", r#"{"product":"ops.a"}"#),

    ("GovernanceService/WhoAmI", "XCPOSA", "{}"),
    ("GovernanceService/CreateKey", "O A", r#"{"key":{"team":"ops-team"},"validateOnly":true}"#),
    ("GovernanceService/ListKeys", "XCPOSA", "{}"),
    ("GovernanceService/RevokeKey", "O A", r#"{"id":"{key}"}"#),
    ("GovernanceService/RequestAccess", "XCPOSA", r#"{"product":"ops.a","permissions":["PERMISSION_SCHEMA"],"purpose":"To see.","validateOnly":true}"#),
    ("GovernanceService/ListAccessRequests", "XCPOSA", "{}"),
    ("GovernanceService/ApproveAccess", "O A", r#"{"id":"{request}"}"#),
    ("GovernanceService/DenyAccess", "O A", r#"{"id":"{request}","reason":"No."}"#),
    ("GovernanceService/CreateGrant", "O A", r#"{"grant":{"team":"others","permissions":["PERMISSION_CONSUME"],"scope":{"product":"ops.a"},"purpose":"To see."},"validateOnly":true}"#),
    ("GovernanceService/ListGrants", "XCPOSA", "{}"),
    ("GovernanceService/RevokeGrant", "O A", r#"{"id":"{grant}"}"#),
    ("GovernanceService/CheckAccess", "XCPOSA", r#"{"permission":"PERMISSION_CONSUME","product":"ops.a"}"#),
    ("GovernanceService/ListAudit", "SA", "{}"),
    ("GovernanceService/VerifyAudit", "SA", "{}"),
];

/// A broker with the product `ops.a` of `ops-team`, and somebody in each role.
struct Mesh {
    broker: TestBroker,
    raw: Raw,
    /// The secret of each letter of [`CALLS`].
    keys: BTreeMap<char, String>,
    revoked: String,
    asked: AtomicU32,
}

impl Mesh {
    async fn start() -> Self {
        let broker = TestBroker::start().await;
        broker.create(product("ops.a").owner("ops-team")).await;
        let catalogue = broker.broker().catalogue().clone();
        let inside = Caller::default();
        for name in ["readers", "writers", "stewards", "strangers", "others"] {
            let contacts = vec![format!("{name}@example.org")];
            let team = v1::Team { name: name.to_owned(), contacts, ..Default::default() };
            let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
            catalogue.create_team(&inside, request).await.unwrap();
        }
        let unit = v1::TagKey {
            name: "unit".to_owned(),
            description: "Of a number.".to_owned(),
            owner: "ops-team".to_owned(),
            value_type: v1::TagValueType::String.into(),
            ..Default::default()
        };
        let request = v1::CreateTagKeyRequest { tag_key: Some(unit), validate_only: false };
        catalogue.create_tag_key(&inside, request).await.unwrap();
        let raw = Raw::new(broker.channel());
        let keys = BTreeMap::new();
        let mut mesh = Self { broker, raw, keys, revoked: String::new(), asked: AtomicU32::new(0) };
        for (letter, team) in [
            ('A', ""),
            ('X', "strangers"),
            ('C', "readers"),
            ('P', "writers"),
            ('O', "ops-team"),
            ('S', "stewards"),
        ] {
            let (_, secret) = mesh.key(team).await;
            mesh.keys.insert(letter, secret);
        }
        let everywhere = v1::access_scope::What::Everything(true);
        let ops_a = || v1::access_scope::What::Product("ops.a".to_owned());
        mesh.grant("readers", v1::Permission::Consume, ops_a()).await;
        mesh.grant("writers", v1::Permission::Produce, ops_a()).await;
        mesh.grant("stewards", v1::Permission::Govern, everywhere).await;
        let (id, secret) = mesh.key("ops-team").await;
        catalogue.revoke_key(&inside, v1::RevokeKeyRequest { id }).await.unwrap();
        mesh.revoked = secret;
        mesh
    }

    /// A new key's id and secret; an administrator's without a team.
    async fn key(&self, team: &str) -> (String, String) {
        let key =
            v1::ApiKey { team: team.to_owned(), admin: team.is_empty(), ..Default::default() };
        let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
        let made = self.broker.broker().catalogue().create_key(&Caller::default(), request).await;
        let made = made.unwrap();
        (made.key.unwrap().id, made.secret)
    }

    async fn grant(
        &self,
        team: &str,
        permission: v1::Permission,
        what: v1::access_scope::What,
    ) -> String {
        let grant = v1::Grant {
            team: team.to_owned(),
            permissions: vec![permission.into()],
            scope: Some(v1::AccessScope { what: Some(what), product_id: String::new() }),
            purpose: "To see.".to_owned(),
            ..Default::default()
        };
        let request = v1::CreateGrantRequest { grant: Some(grant), validate_only: false };
        let made = self.broker.broker().catalogue().create_grant(&Caller::default(), request).await;
        made.unwrap().grant.unwrap().id
    }

    /// A new request of a team that nobody here is of.
    async fn request(&self) -> String {
        let (_, secret) = self.key("others").await;
        // One team has one open request for one application.
        let application = format!("app-{}", self.asked.fetch_add(1, Ordering::Relaxed));
        let request = json!({"product": "ops.a", "permissions": ["PERMISSION_SCHEMA"],
            "purpose": "To see.", "application": application});
        let method = method("GovernanceService/RequestAccess");
        let answer = self.raw.call(&method, &request.to_string(), Some(&secret)).await.unwrap();
        let answer = v1::RequestAccessResponse::decode(&answer.unwrap()[..]).unwrap();
        answer.request.unwrap().id
    }

    /// The outcome of a call: `None` if it was not refused because of who makes it.
    async fn refusal(&self, call: &str, request: &str, secret: Option<&str>) -> Option<Code> {
        let mut request = request.to_owned();
        if request.contains("{key}") {
            request = request.replace("{key}", &self.key("ops-team").await.0);
        }
        if request.contains("{request}") {
            request = request.replace("{request}", &self.request().await);
        }
        if request.contains("{grant}") {
            let what = v1::access_scope::What::Product("ops.a".to_owned());
            let grant = self.grant("others", v1::Permission::Consume, what).await;
            request = request.replace("{grant}", &grant);
        }
        let method = method(call);
        let status = match self.raw.call(&method, &request, secret).await {
            Ok(answer) => return failed_inside(&method, answer.as_deref()),
            Err(status) => status,
        };
        let failure = failure(&status);
        match failure.code {
            Code::Unauthenticated | Code::PermissionDenied => Some(failure.code),
            // The one before has deleted it.
            Code::NotFound if failure.reason == "CURSOR_NOT_FOUND" => None,
            // These say nothing about whether it was allowed.
            Code::NotFound | Code::Unknown | Code::Internal | Code::Unimplemented => {
                panic!("{call} with {request}: {failure:?}")
            }
            _ => None,
        }
    }
}

/// An append of a stream is refused in the stream.
fn failed_inside(method: &MethodDescriptor, answer: Option<&[u8]>) -> Option<Code> {
    if method.name() != "AppendStream" {
        return None;
    }
    let answer = v1::AppendStreamResponse::decode(answer.unwrap()).unwrap();
    match answer.results.into_iter().next()?.outcome? {
        v1::append_result::Outcome::Appended(_) => None,
        v1::append_result::Outcome::Error(status) => Some(status.code.into()),
    }
}

fn pool() -> &'static DescriptorPool {
    static POOL: std::sync::LazyLock<DescriptorPool> = std::sync::LazyLock::new(|| {
        DescriptorPool::decode(meshlog_proto::FILE_DESCRIPTOR_SET).unwrap()
    });
    &POOL
}

fn method(call: &str) -> MethodDescriptor {
    let (service, name) = call.split_once('/').unwrap();
    let service = pool().get_service_by_name(&format!("meshlog.v1.{service}")).unwrap();
    service.methods().find(|method| method.name() == name).unwrap()
}

#[test]
fn every_call_of_the_contract_is_walked() {
    let mut calls: Vec<String> = Vec::new();
    for service in pool().services() {
        calls.extend(
            service.methods().map(|method| format!("{}/{}", service.name(), method.name())),
        );
    }
    let mut walked: Vec<String> = CALLS.iter().map(|(call, ..)| (*call).to_owned()).collect();
    calls.sort_unstable();
    walked.sort_unstable();
    assert_eq!(walked, calls);
    for (call, _, request) in CALLS {
        let mut json = serde_json::Deserializer::from_str(request);
        DynamicMessage::deserialize(method(call).input(), &mut json).unwrap_or_else(|error| {
            panic!("{call}: {error}");
        });
    }
}

#[tokio::test]
async fn each_role_may_make_the_calls_that_it_needs_and_no_other() {
    let mesh = Mesh::start().await;
    let mut wrong = Vec::new();
    for (call, may, request) in CALLS {
        for (letter, secret) in &mesh.keys {
            let refused = mesh.refusal(call, request, Some(secret)).await;
            let expected = if may.contains(*letter) { None } else { Some(Code::PermissionDenied) };
            if refused != expected {
                wrong.push(format!("{call} as {letter}: {refused:?}, expected {expected:?}"));
            }
        }
        for (who, secret) in [
            ("nobody", None),
            ("one with a revoked key", Some(mesh.revoked.as_str())),
            ("one with an invented key", Some("mlk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
            ("one with a token of nobody", Some("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.")),
        ] {
            let refused = mesh.refusal(call, request, secret).await;
            if refused != Some(Code::Unauthenticated) {
                wrong.push(format!("{call} as {who}: {refused:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_key_for_less_than_its_team_may_do_is_good_for_less() {
    let mesh = Mesh::start().await;
    let key = v1::ApiKey {
        team: "ops-team".to_owned(),
        permissions: vec![v1::Permission::Produce.into()],
        products: vec!["ops.a".to_owned()],
        ..Default::default()
    };
    let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
    let catalogue = mesh.broker.broker().catalogue().clone();
    let made = catalogue.create_key(&Caller::default(), request).await.unwrap();
    let mut wrong = Vec::new();
    for (call, may, request) in CALLS {
        let refused = mesh.refusal(call, request, Some(&made.secret)).await;
        // It is as one who may produce, whatever else its team may.
        if refused.is_none() != may.contains('P') {
            wrong.push(format!("{call}: {refused:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_revoked_key_and_a_grant_taken_back_end_open_streams_within_a_second() {
    let mesh = Mesh::start().await;
    let catalogue = mesh.broker.broker().catalogue().clone();
    let what = v1::access_scope::What::Product("ops.a".to_owned());
    let grant = mesh.grant("others", v1::Permission::Consume, what.clone()).await;
    mesh.grant("others", v1::Permission::Produce, what).await;
    let (granted, revoked) = (mesh.key("others").await, mesh.key("ops-team").await);
    let subscribe = method("RecordService/Subscribe");
    let append = method("RecordService/AppendStream");
    let watch = method("CatalogService/WatchProducts");
    let mut of_grant =
        mesh.raw.open(&subscribe, r#"{"product":"ops.a"}"#, Some(&granted.1)).await.unwrap();
    let mut of_key =
        mesh.raw.open(&subscribe, r#"{"product":"ops.a"}"#, Some(&revoked.1)).await.unwrap();
    let mut watching = mesh.raw.open(&watch, "{}", Some(&revoked.1)).await.unwrap();
    let first =
        r#"{"requestId":"1","append":{"product":"ops.a","batch":{"records":[{"value":"eA=="}]}}}"#;
    let mut appending = mesh.raw.open(&append, first, Some(&revoked.1)).await.unwrap();
    for stream in [&mut of_grant, &mut of_key, &mut watching, &mut appending] {
        stream.message().await.unwrap().unwrap();
    }

    let inside = Caller::default();
    let since = std::time::Instant::now();
    catalogue.revoke_grant(&inside, v1::RevokeGrantRequest { id: grant }).await.unwrap();
    catalogue.revoke_key(&inside, v1::RevokeKeyRequest { id: revoked.0 }).await.unwrap();
    for (stream, reason) in [
        (&mut of_grant, "PERMISSION_DENIED"),
        (&mut of_key, "KEY_REVOKED"),
        (&mut watching, "KEY_REVOKED"),
        (&mut appending, "KEY_REVOKED"),
    ] {
        let ended = loop {
            match tokio::time::timeout(Duration::from_secs(10), stream.message()).await.unwrap() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word, instead of {reason}"),
                Err(status) => break status,
            }
        };
        assert_eq!(failure(&ended).reason, reason, "{ended:?}");
    }
    // A second is promised; a test beside others on two cores gets a little more.
    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_refused_call_is_in_the_audit_log_and_names_no_secret() {
    let mesh = Mesh::start().await;
    let stranger = mesh.keys[&'X'].clone();
    let read = CALLS.iter().find(|(call, ..)| *call == "RecordService/Read").unwrap();
    for _ in 0..50 {
        assert_eq!(
            mesh.refusal(read.0, read.2, Some(&stranger)).await,
            Some(Code::PermissionDenied)
        );
    }
    let audit = method("GovernanceService/ListAudit");
    let admin = mesh.keys[&'A'].as_str();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let denied = loop {
        let answer =
            mesh.raw.call(&audit, r#"{"pageSize":1000}"#, Some(admin)).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains(&stranger) && !text.contains(admin), "a secret");
        let answer = v1::ListAuditResponse::decode(&answer[..]).unwrap();
        let denied: Vec<_> =
            answer.records.into_iter().filter(|record| record.action.ends_with("/Read")).collect();
        if !denied.is_empty() {
            break denied;
        }
        assert!(std::time::Instant::now() < deadline, "no record of it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // A few at once; the others are counted, and told of by the minute.
    assert!(denied.len() <= 5, "{denied:?}");
}
