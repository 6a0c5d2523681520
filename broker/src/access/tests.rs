use std::time::Duration;

use meshlog_proto::v1::{self, access_scope::What};
use meshlog_proto::{server_v1, v1 as proto};
use prost::Message as _;

use crate::fixtures::product;
use crate::identity::{Credentials, PeerCertificate};
use crate::{Broker, Caller, Config, Reason};

fn trusted() -> Caller {
    Caller::default()
}

async fn calling(broker: &Broker, secret: &str) -> crate::Result<Caller> {
    let authorization = format!("Bearer {secret}");
    let authorization = Some(authorization.as_bytes());
    broker.authenticate(Credentials { authorization, ..Credentials::default() }).await
}

async fn anonymous(broker: &Broker) -> crate::Result<Caller> {
    broker.authenticate(Credentials::default()).await
}

fn key(team: &str, admin: bool) -> v1::CreateKeyRequest {
    let key = v1::ApiKey { team: team.to_owned(), admin, ..Default::default() };
    v1::CreateKeyRequest { key: Some(key), validate_only: false }
}

async fn secret(broker: &Broker, request: v1::CreateKeyRequest) -> (String, String) {
    let made = broker.catalogue().create_key(&trusted(), request).await.unwrap();
    (made.key.unwrap().id, made.secret)
}

/// Two teams, each with a product of its own, one of them restricted.
async fn broker() -> Broker {
    broker_with(Config::default()).await
}

async fn broker_with(config: Config) -> Broker {
    let broker = Broker::open(config).unwrap();
    for (name, owner, classification) in [
        ("ops.flights", "ops-team", proto::Classification::Internal),
        ("hr.salaries", "hr-team", proto::Classification::Restricted),
    ] {
        let request = product(name, owner, classification);
        broker.catalogue().create_product(&trusted(), request).await.unwrap();
    }
    for team in ["readers", "stewards"] {
        let contacts = vec!["b@example.org".to_owned()];
        let team = v1::Team { name: team.to_owned(), contacts, ..Default::default() };
        let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
        broker.catalogue().create_team(&trusted(), request).await.unwrap();
    }
    broker
}

fn append(product: &str) -> server_v1::AppendRequest {
    let value = Some(bytes::Bytes::from_static(b"x"));
    let record = v1::Record { value, ..Default::default() };
    let batch = v1::RecordBatch { records: vec![record] }.encode_to_vec();
    server_v1::AppendRequest {
        product: product.to_owned(),
        batch: vec![batch.into()],
        ..Default::default()
    }
}

fn read(product: &str) -> v1::ReadRequest {
    v1::ReadRequest { product: product.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn until_the_first_key_everybody_may_do_everything_and_then_never_again() {
    let broker = broker().await;
    let open = anonymous(&broker).await.unwrap();
    assert_eq!(&*open.principal, "unverified:unknown");
    broker.append(&open, append("ops.flights")).await.unwrap();

    let refused = broker.catalogue().create_key(&open, key("ops-team", false)).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::StateInvalid, "the first key is an administrator's");
    let (id, admin) = secret(&broker, key("", true)).await;

    assert_eq!(anonymous(&broker).await.unwrap_err().reason(), Reason::CredentialMissing);
    let late = broker.append(&open, append("ops.flights")).await.unwrap_err();
    assert_eq!(late.reason(), Reason::CredentialMissing, "who came in before is asked too");
    let who = calling(&broker, &admin).await.unwrap();
    broker.append(&who, append("ops.flights")).await.unwrap();

    let revoke = v1::RevokeKeyRequest { id };
    broker.catalogue().revoke_key(&who, revoke).await.unwrap();
    assert_eq!(calling(&broker, &admin).await.unwrap_err().reason(), Reason::KeyRevoked);
    assert_eq!(anonymous(&broker).await.unwrap_err().reason(), Reason::CredentialMissing);
    broker.append(&trusted(), append("ops.flights")).await.unwrap();
}

#[tokio::test]
async fn a_team_may_do_with_its_own_what_others_may_not() {
    let broker = broker().await;
    secret(&broker, key("", true)).await;
    let owner = calling(&broker, &secret(&broker, key("ops-team", false)).await.1).await.unwrap();
    let reader = calling(&broker, &secret(&broker, key("readers", false)).await.1).await.unwrap();
    assert_eq!(reader.team.as_deref(), Some("readers"));

    broker.append(&owner, append("ops.flights")).await.unwrap();
    broker.read(&owner, read("ops.flights")).await.unwrap();
    for denied in [
        broker.append(&reader, append("ops.flights")).await.unwrap_err(),
        broker.read(&reader, read("ops.flights")).await.unwrap_err(),
    ] {
        assert_eq!(denied.reason(), Reason::PermissionDenied);
        let text = denied.to_string();
        assert!(text.contains("meshlog product request-access ops.flights"), "{text}");
    }
    let get = |name: &str| v1::GetProductRequest { name: name.to_owned() };
    broker.catalogue().get_product(&reader, get("ops.flights")).unwrap();

    // What is restricted is answered as what does not exist.
    let hidden = broker.catalogue().get_product(&reader, get("hr.salaries")).unwrap_err();
    let absent = broker.catalogue().get_product(&reader, get("hr.nothing")).unwrap_err();
    assert_eq!(hidden.to_string(), absent.to_string().replace("nothing", "salaries"));
    let read = broker.read(&reader, read("hr.salaries")).await.unwrap_err();
    assert_eq!(read.reason(), Reason::ProductNotFound);
    let list = broker.catalogue().list_products(&reader, Default::default()).unwrap().products;
    let names: Vec<&str> = list.iter().map(|product| product.name.as_str()).collect();
    assert_eq!(names, ["ops.flights"], "neither what is restricted nor the audit log");
    let query = v1::SearchProductsRequest { query: "tests".to_owned(), ..Default::default() };
    let found = broker.catalogue().search_products(&reader, query).await.unwrap();
    assert_eq!((found.hits.len(), found.total), (1, 1), "it is not counted either");
}

#[tokio::test]
async fn an_approved_request_is_a_grant_until_it_is_taken_back() {
    let broker = broker().await;
    secret(&broker, key("", true)).await;
    let owner = calling(&broker, &secret(&broker, key("ops-team", false)).await.1).await.unwrap();
    let reader = calling(&broker, &secret(&broker, key("readers", false)).await.1).await.unwrap();
    let catalogue = broker.catalogue();
    broker.append(&owner, append("ops.flights")).await.unwrap();

    let ask = v1::RequestAccessRequest {
        product: "ops.flights".to_owned(),
        purpose: "the night report".to_owned(),
        ..Default::default()
    };
    let asked = catalogue.request_access(&reader, ask).await.unwrap().request.unwrap();
    let approve = v1::ApproveAccessRequest { id: asked.id.clone(), ..Default::default() };
    let own = catalogue.approve_access(&reader, approve.clone()).await.unwrap_err();
    assert_eq!(own.reason(), Reason::PermissionDenied, "nobody approves what it asks for");
    let seen = catalogue.list_access_requests(&owner, Default::default()).unwrap().requests;
    assert_eq!(seen.len(), 1);
    let approved = catalogue.approve_access(&owner, approve.clone()).await.unwrap();
    let again = catalogue.approve_access(&owner, approve).await.unwrap_err();
    assert_eq!(again.reason(), Reason::StateInvalid);

    assert_eq!(broker.read(&reader, read("ops.flights")).await.unwrap().batches.len(), 1);
    let still = broker.append(&reader, append("ops.flights")).await.unwrap_err();
    assert_eq!(still.reason(), Reason::PermissionDenied, "it was granted to read");

    let follow = v1::SubscribeRequest { product: "ops.flights".to_owned(), ..Default::default() };
    let mut stream = broker.subscribe(&reader, follow).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let (ended, _) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                if let Err(error) = stream.next().await.unwrap() {
                    return error;
                }
            }
        }),
        async {
            let id = approved.grant.unwrap().id;
            catalogue.revoke_grant(&owner, v1::RevokeGrantRequest { id }).await.unwrap();
        }
    );
    assert_eq!(ended.unwrap().reason(), Reason::PermissionDenied, "also the open stream ends");
    let after = broker.read(&reader, read("ops.flights")).await.unwrap_err();
    assert_eq!(after.reason(), Reason::PermissionDenied);
}

#[tokio::test]
async fn a_key_of_a_deleted_team_is_dead_also_when_the_name_comes_back() {
    let broker = broker().await;
    secret(&broker, key("", true)).await;
    let (_, text) = secret(&broker, key("readers", false)).await;
    calling(&broker, &text).await.unwrap();
    let delete = v1::DeleteTeamRequest { name: "readers".to_owned(), ..Default::default() };
    broker.catalogue().delete_team(&trusted(), delete).await.unwrap();
    assert_eq!(calling(&broker, &text).await.unwrap_err().reason(), Reason::KeyRevoked);
    let contacts = vec!["c@example.org".to_owned()];
    let team = v1::Team { name: "readers".to_owned(), contacts, ..Default::default() };
    let create = v1::CreateTeamRequest { team: Some(team), validate_only: false };
    broker.catalogue().create_team(&trusted(), create).await.unwrap();
    assert_eq!(calling(&broker, &text).await.unwrap_err().reason(), Reason::KeyRevoked);
}

#[tokio::test]
async fn a_limited_key_can_do_no_more_and_make_no_stronger_one() {
    let broker = broker().await;
    secret(&broker, key("", true)).await;
    let mut limited = key("ops-team", false);
    limited.key.as_mut().unwrap().permissions =
        vec![v1::Permission::Consume.into(), v1::Permission::Manage.into()];
    let limited = calling(&broker, &secret(&broker, limited).await.1).await.unwrap();
    broker.read(&limited, read("ops.flights")).await.unwrap();
    let denied = broker.append(&limited, append("ops.flights")).await.unwrap_err();
    assert_eq!(denied.reason(), Reason::PermissionDenied);
    let stronger = broker.catalogue().create_key(&limited, key("ops-team", false)).await;
    assert_eq!(stronger.unwrap_err().reason(), Reason::InvalidArgument);
    let admin = broker.catalogue().create_key(&limited, key("", true)).await;
    assert_eq!(admin.unwrap_err().reason(), Reason::PermissionDenied);
    let other = broker.catalogue().create_key(&limited, key("readers", false)).await;
    assert_eq!(other.unwrap_err().reason(), Reason::PermissionDenied);

    let mut local = key("ops-team", false);
    local.key.as_mut().unwrap().domains = vec!["hr".to_owned()];
    let local = calling(&broker, &secret(&broker, local).await.1).await.unwrap();
    let denied = broker.read(&local, read("ops.flights")).await.unwrap_err();
    assert_eq!(denied.reason(), Reason::PermissionDenied);
}

#[tokio::test]
async fn a_steward_keeps_order_and_reads_the_audit_log_and_no_records() {
    let broker = broker().await;
    secret(&broker, key("", true)).await;
    let steward = calling(&broker, &secret(&broker, key("stewards", false)).await.1).await.unwrap();
    let denied = broker.list_audit(&steward, Default::default()).await.unwrap_err();
    assert_eq!(denied.reason(), Reason::PermissionDenied);
    let grant = v1::Grant {
        team: "stewards".to_owned(),
        permissions: vec![v1::Permission::Govern.into(), v1::Permission::Discover.into()],
        scope: Some(v1::AccessScope { what: Some(What::Everything(true)), ..Default::default() }),
        ..Default::default()
    };
    let request = v1::CreateGrantRequest { grant: Some(grant), validate_only: false };
    broker.catalogue().create_grant(&trusted(), request).await.unwrap();
    broker.list_audit(&steward, Default::default()).await.unwrap();
    broker.read(&steward, read("meshlog.audit")).await.unwrap();
    let denied = broker.read(&steward, read("hr.salaries")).await.unwrap_err();
    assert_eq!(denied.reason(), Reason::PermissionDenied, "it may see that it exists");
}

#[tokio::test]
async fn what_proves_nothing_is_refused_with_a_reason() {
    let broker = broker().await;
    let (_, admin) = secret(&broker, key("", true)).await;
    let mut wrong = admin.clone();
    wrong.replace_range(wrong.len() - 1.., if admin.ends_with('A') { "B" } else { "A" });
    for (text, reason) in [
        (wrong.as_str(), Reason::KeyUnknown),
        ("mlk_", Reason::CredentialMalformed),
        ("mlk_short_x", Reason::CredentialMalformed),
        (&format!("mlk_{}_{}", "0".repeat(26), "a".repeat(43)), Reason::KeyUnknown),
        (&"x".repeat(20_000), Reason::CredentialMalformed),
    ] {
        assert_eq!(calling(&broker, text).await.unwrap_err().reason(), reason, "{text:.40}");
    }
    let stranger = PeerCertificate { dns: vec!["a.example.org".to_owned()], ..Default::default() };
    let credentials = Credentials { certificate: Some(&stranger), ..Credentials::default() };
    let unmapped = broker.authenticate(credentials).await.unwrap_err();
    assert_eq!(unmapped.reason(), Reason::CredentialUnmapped);
}

/// What was decided about one program of a team was taken for its others too, as long as they used
/// the same key.
#[tokio::test]
async fn a_grant_to_one_application_is_for_it_alone_also_with_a_shared_proof() {
    let mut config = Config::default();
    let member = crate::config::MemberConfig { team: "readers".to_owned(), ..Default::default() };
    config.identity.certificates.insert("dns:readers.example.org".to_owned(), member);
    let broker = broker_with(config).await;
    secret(&broker, key("", true)).await;
    let (_, text) = secret(&broker, key("readers", false)).await;
    let authorization = format!("Bearer {text}");
    let grant = v1::Grant {
        team: "readers".to_owned(),
        application: "report".to_owned(),
        permissions: vec![v1::Permission::Consume.into()],
        scope: Some(v1::AccessScope {
            what: Some(What::Product("ops.flights".to_owned())),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = v1::CreateGrantRequest { grant: Some(grant), validate_only: false };
    broker.catalogue().create_grant(&trusted(), request).await.unwrap();
    let certificate =
        PeerCertificate { dns: vec!["readers.example.org".to_owned()], ..Default::default() };
    for authorization in [Some(authorization.as_bytes()), None] {
        let certificate = authorization.is_none().then_some(&certificate);
        for (application, may) in [("other", false), ("report", true), ("other", false)] {
            let application = Some(application);
            let credentials =
                Credentials { authorization, certificate, application, ..Credentials::default() };
            let caller = broker.authenticate(credentials).await.unwrap();
            let read = broker.read(&caller, read("ops.flights")).await;
            assert_eq!(read.is_ok(), may, "{application:?}");
        }
    }
}

#[tokio::test]
async fn a_name_in_a_certificate_is_a_caller() {
    let mut config = Config::default();
    let member = crate::config::MemberConfig {
        team: "readers".to_owned(),
        application: "report".to_owned(),
        ..Default::default()
    };
    config.identity.certificates.insert("uri:spiffe://mesh/report".to_owned(), member);
    let broker = Broker::open(config).unwrap();
    let certificate =
        PeerCertificate { uris: vec!["spiffe://mesh/report".to_owned()], ..Default::default() };
    let credentials = Credentials { certificate: Some(&certificate), ..Credentials::default() };
    let absent = broker.authenticate(credentials).await.unwrap_err();
    assert_eq!(absent.reason(), Reason::CredentialUnmapped, "the team does not exist");
    let contacts = vec!["c@example.org".to_owned()];
    let team = v1::Team { name: "readers".to_owned(), contacts, ..Default::default() };
    let create = v1::CreateTeamRequest { team: Some(team), validate_only: false };
    broker.catalogue().create_team(&trusted(), create).await.unwrap();
    let caller = broker.authenticate(credentials).await.unwrap();
    assert_eq!(&*caller.principal, "certificate:uri:spiffe://mesh/report");
    assert_eq!((&*caller.application, caller.team.as_deref()), ("report", Some("readers")));
}
