use std::path::Path;
use std::time::Duration;

use meshlog_proto::v1;
use tokio_util::task::AbortOnDropHandle;

use super::{Case, Expected, Policies, watch};
use crate::fixtures::product;
use crate::identity::Credentials;
use crate::{Broker, Caller, Config, Reason};

const NO_SECRETS: &str = r#"
@id("no-secrets")
forbid (principal, action == Meshlog::Action::"consume", resource)
when { resource.tags.contains("secret") && principal.team != resource.owner };
"#;

fn write(directory: &Path, file: &str, text: &str) {
    // As a deployment does it: never half of a file.
    let temporary = directory.join("new");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, directory.join(file)).unwrap();
}

fn load(files: &[(&str, &str)]) -> crate::Result<Policies> {
    let directory = tempfile::tempdir().unwrap();
    files.iter().for_each(|(file, text)| write(directory.path(), file, text));
    Policies::load(directory.path())
}

fn case(json: serde_json::Value) -> Case {
    serde_json::from_value(json).unwrap()
}

fn asked(team: &str, tags: &[&str], expected: &str) -> Case {
    case(serde_json::json!({
        "principal": {"team": team},
        "action": "consume",
        "product": {"name": "ops.flights", "owner": "ops", "tags": tags},
        "expected": expected,
    }))
}

#[test]
fn a_forbid_takes_away_what_it_matches_and_nothing_else() {
    let policies = load(&[("a.cedar", NO_SECRETS), ("notes.txt", "not a policy")]).unwrap();
    assert_eq!(policies.count(), 1);
    let decided = |team: &str, tags: &[&str]| {
        let outcome = policies.try_case(&asked(team, tags, "deny")).unwrap();
        (outcome.decided, outcome.policies.join(","), outcome.is_expected)
    };
    assert_eq!(decided("hr", &["secret"]), (Expected::Deny, "no-secrets".to_owned(), true));
    assert_eq!(decided("hr", &[]), (Expected::Allow, String::new(), false));
    assert_eq!(decided("ops", &["secret"]), (Expected::Allow, String::new(), false));
}

#[test]
fn with_a_permit_only_what_is_permitted_stays() {
    let permit = r#"permit (principal in Meshlog::Team::"ops", action, resource);"#;
    let policies = load(&[("a.cedar", NO_SECRETS), ("b.cedar", permit)]).unwrap();
    let decided = |team: &str, tags: &[&str]| {
        let outcome = policies.try_case(&asked(team, tags, "allow")).unwrap();
        (outcome.decided, outcome.policies.join(","))
    };
    assert_eq!(decided("ops", &["secret"]), (Expected::Allow, "b:1".to_owned()));
    assert_eq!(decided("hr", &[]), (Expected::Deny, String::new()), "none permits it");
    assert_eq!(decided("hr", &["secret"]), (Expected::Deny, "no-secrets".to_owned()));
}

#[test]
fn what_decided_can_be_expected_by_name() {
    let policies = load(&[("a.cedar", NO_SECRETS)]).unwrap();
    let mut case = asked("hr", &["secret"], "deny");
    case.policy = Some("no-secrets".to_owned());
    assert!(policies.try_case(&case).unwrap().is_expected);
    case.policy = Some("other".to_owned());
    assert!(!policies.try_case(&case).unwrap().is_expected);
    for (action, product) in [("discover", true), ("consume", false), ("read", true)] {
        let mut odd = asked("hr", &[], "allow");
        odd.action = action.to_owned();
        odd.product = odd.product.filter(|_| product);
        assert_eq!(policies.try_case(&odd).unwrap_err().reason(), Reason::InvalidArgument);
    }
}

#[test]
fn policies_that_cannot_be_meant_are_refused_with_what_is_wrong() {
    for (text, said) in [
        ("forbid (principal, action, resource", "unexpected"),
        // Neither the action nor the fact exists.
        (r#"forbid (principal, action == Meshlog::Action::"eat", resource);"#, "eat"),
        (
            r#"forbid (principal, action == Meshlog::Action::"consume", resource)
               when { resource.colour == "red" };"#,
            "colour",
        ),
        (
            r#"forbid (principal, action == Meshlog::Action::"consume", resource)
               when { resource.tags == 7 };"#,
            "Set<String>",
        ),
        ("forbid (principal == ?principal, action, resource);", "template"),
        (
            r#"@id("x") forbid (principal, action, resource) when { principal.admin };
               @id("x") forbid (principal, action, resource) when { principal.admin };"#,
            "two policies `x`",
        ),
    ] {
        let error = load(&[("wrong.cedar", text)]).unwrap_err();
        assert_eq!(error.reason(), Reason::InvalidArgument);
        let text = error.to_string();
        assert!(text.contains(said), "{said}: {text}");
    }
    let error = load(&[]).unwrap_err().to_string();
    assert!(error.contains("no file in it ends in .cedar"), "{error}");
    let large = format!("{}{NO_SECRETS}", "// long\n".repeat(200_000));
    let error = load(&[("large.cedar", &large)]).unwrap_err().to_string();
    assert!(error.contains("bytes"), "{error}");
    Policies::load(Path::new("/nowhere/at/all")).unwrap_err();
    let many = |count: usize| {
        (0..count).map(|_| "forbid (principal, action, resource) when { principal.admin };\n")
    };
    let error = load(&[("many.cedar", &many(1_001).collect::<String>())]).unwrap_err().to_string();
    assert!(error.contains("more than 1000"), "{error}");
    assert_eq!(load(&[("none.cedar", "// none yet\n")]).unwrap().count(), 0);
}

/// A broker with policies, in which everybody says who it is.
struct Guarded {
    broker: Broker,
    policies: tempfile::TempDir,
    _watch: AbortOnDropHandle<()>,
}

impl Guarded {
    async fn start(policy: &str) -> Self {
        let policies = tempfile::tempdir().unwrap();
        write(policies.path(), "a.cedar", policy);
        let mut config = Config::default();
        config.access.policies = Some(policies.path().to_owned());
        let broker = Broker::open(config).unwrap();
        let request = product("ops.flights", "ops", v1::Classification::Internal);
        broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
        let watching = AbortOnDropHandle::new(tokio::spawn(watch(broker.clone())));
        let guarded = Self { broker, policies, _watch: watching };
        guarded.key("", true).await;
        guarded
    }

    async fn key(&self, team: &str, admin: bool) -> Caller {
        let key = v1::ApiKey { team: team.to_owned(), admin, ..Default::default() };
        let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
        let made = self.broker.catalogue().create_key(&Caller::default(), request).await.unwrap();
        let authorization = format!("Bearer {}", made.secret);
        let authorization = Some(authorization.as_bytes());
        let credentials = Credentials { authorization, ..Credentials::default() };
        self.broker.authenticate(credentials).await.unwrap()
    }

    async fn read(&self, caller: &Caller) -> crate::Result<()> {
        let request = v1::ReadRequest { product: "ops.flights".to_owned(), ..Default::default() };
        self.broker.read(caller, request).await.map(drop)
    }

    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let looked = async {
            while !is_so().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), looked).await.expect(what);
    }

    fn notes(&self) -> String {
        self.broker.server_info().storage.unwrap().notes.join("\n")
    }
}

const NOT_BY_KEYS: &str = r#"
@id("not-by-keys")
forbid (principal, action == Meshlog::Action::"consume", resource)
when { principal.proof == "key" && resource.domain == "ops" };
"#;

#[tokio::test]
async fn what_a_policy_forbids_is_refused_by_its_name_audited_and_explained() {
    let guarded = Guarded::start(NOT_BY_KEYS).await;
    let admin = guarded.key("", true).await;
    let owner = guarded.key("ops", false).await;
    for caller in [&owner, &admin] {
        let refused = guarded.read(caller).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::PermissionDenied);
        let text = refused.to_string();
        assert!(text.contains("the policy `not-by-keys` forbids consume"), "{text}");
    }
    // What is not forbidden goes on, and so does who is not asked.
    let get = v1::GetProductRequest { name: "ops.flights".to_owned() };
    guarded.broker.catalogue().get_product(&owner, get).unwrap();
    guarded.read(&Caller::default()).await.unwrap();

    let ask = |team: &str| v1::CheckAccessRequest {
        permission: v1::Permission::Consume.into(),
        product: "ops.flights".to_owned(),
        team: team.to_owned(),
        ..Default::default()
    };
    let answer = guarded.broker.catalogue().check_access(&owner, ask("")).unwrap();
    assert!(!answer.allowed, "{answer:?}");
    let reasons = answer.reasons.join("\n");
    assert!(reasons.contains("the policy `not-by-keys` forbids consume"), "{reasons}");
    let asked = guarded.broker.catalogue().check_access(&Caller::default(), ask("ops")).unwrap();
    assert!(asked.allowed, "the policy is about keys, not about teams: {asked:?}");

    guarded.broker.catalogue().write_denials(true).await;
    let query = v1::ListAuditRequest { page_size: 1_000, ..Default::default() };
    let audited = guarded.broker.list_audit(&Caller::default(), query).await.unwrap().records;
    assert!(audited.iter().any(|record| record.json.contains("PERMISSION_DENIED")));
}

#[tokio::test]
async fn new_policies_count_without_a_restart_also_on_open_streams_and_wrong_ones_change_nothing() {
    let guarded = Guarded::start("// none yet\n").await;
    let owner = guarded.key("ops", false).await;
    guarded.read(&owner).await.unwrap();
    let request = v1::SubscribeRequest { product: "ops.flights".to_owned(), ..Default::default() };
    let mut stream = guarded.broker.subscribe(&owner, request).await.unwrap();

    write(guarded.policies.path(), "a.cedar", "forbid (principal, action, nothing");
    guarded.until("it is said", async || guarded.notes().contains("a.cedar")).await;
    let notes = guarded.notes();
    assert!(notes.contains("those before still are"), "{notes}");
    guarded.read(&owner).await.unwrap();

    write(guarded.policies.path(), "a.cedar", NOT_BY_KEYS);
    let ended = async {
        loop {
            if let Err(error) = stream.next().await.unwrap() {
                return error;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    assert_eq!(ended.reason(), Reason::PermissionDenied);
    guarded.read(&owner).await.unwrap_err();
    assert!(!guarded.notes().contains("a.cedar"), "good ones end the complaint");

    std::fs::remove_file(guarded.policies.path().join("a.cedar")).unwrap();
    guarded.until("it is said", async || guarded.notes().contains("no file in it")).await;
    guarded.read(&owner).await.unwrap_err();
    write(guarded.policies.path(), "b.cedar", "// none any more\n");
    guarded.until("they are gone", async || guarded.read(&owner).await.is_ok()).await;
}

#[tokio::test]
async fn a_product_that_changes_is_decided_about_anew() {
    let policy = r#"@id("no-restricted")
        forbid (principal, action == Meshlog::Action::"produce", resource)
        when { resource.classification == "restricted" };"#;
    let guarded = Guarded::start(policy).await;
    let owner = guarded.key("ops", false).await;
    let catalogue = guarded.broker.catalogue();
    let product = catalogue.resolve("ops.flights", "").unwrap();
    let may = |product: &crate::catalogue::ProductHandle| {
        let about = crate::access::Resource::Product(product);
        catalogue.allows(&owner, crate::access::Rpc::Append, about)
    };
    assert!(may(&product));
    let get = v1::GetProductRequest { name: "ops.flights".to_owned() };
    let mut changed = catalogue.get_product(&owner, get).unwrap().product.unwrap();
    changed.classification = v1::Classification::Restricted.into();
    let request = v1::UpdateProductRequest {
        product: Some(changed),
        update_mask: Some(prost_types::FieldMask { paths: vec!["classification".to_owned()] }),
        ..Default::default()
    };
    catalogue.update_product(&Caller::default(), request).await.unwrap();
    let product = catalogue.resolve("ops.flights", "").unwrap();
    assert!(!may(&product));
}

#[test]
fn a_start_with_wrong_policies_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a.cedar", "forbid everything");
    let mut config = Config::default();
    config.access.policies = Some(directory.path().to_owned());
    let refused = Broker::open(config).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument);
    assert!(refused.to_string().contains("a.cedar"), "{refused}");
}
