use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_proto::v1::{
    self, Classification, Enforcement, KeyRule, ProductSettings, SchemaFormat, SchemaSource, Tag,
};
use meshlog_storage::{BatchCodec, Components, NoObserver, Options, Storage};
use prost::Message as _;

use super::stored::{
    Chain, Counters, Key, StoredKey, StoredProduct, StoredProtection, StoredSchema, StoredVersion,
};
use super::*;
use crate::Caller;
use crate::schema::Broken;
use rebuilt::seen;

mod audit;
mod lifecycle;
mod limits;
mod moving;
mod previews;
mod product_facts;
mod rebuilt;
mod succeed;
mod teams_and_domains;
mod transfer;
mod vocabulary;
mod watch;

struct NoPayloads;

impl BatchCodec for NoPayloads {
    fn count(&self, _payload: &[u8]) -> meshlog_storage::Result<u32> {
        Ok(1)
    }

    fn keys(
        &self,
        _payload: &Bytes,
    ) -> meshlog_storage::Result<Vec<Option<meshlog_storage::RecordKey>>> {
        Ok(vec![None])
    }

    fn retain(&self, payload: &Bytes, _keep: &[u32]) -> meshlog_storage::Result<Bytes> {
        Ok(payload.clone())
    }
}

/// In memory, with nothing in it.
pub(super) fn storage() -> Storage {
    let parts = Components::in_memory(Arc::new(NoPayloads), Arc::new(NoObserver));
    Storage::open(Options::default(), parts).unwrap()
}

pub(super) fn catalogue() -> (Storage, Catalogue) {
    let storage = storage();
    let catalogue = Catalogue::open(&storage).unwrap();
    (storage, catalogue)
}

pub(super) fn team(name: &str) -> v1::CreateTeamRequest {
    let contacts = vec![format!("{name}@example.org")];
    let team = v1::Team { name: name.to_owned(), contacts, ..Default::default() };
    v1::CreateTeamRequest { team: Some(team), validate_only: false }
}

fn domain(name: &str, owner: &str) -> v1::CreateDomainRequest {
    let (name, owner) = (name.to_owned(), owner.to_owned());
    let domain = v1::Domain { name, owner, ..Default::default() };
    v1::CreateDomainRequest { domain: Some(domain), validate_only: false }
}

fn json_schema(text: &str) -> SchemaSource {
    SchemaSource {
        format: SchemaFormat::JsonSchema.into(),
        text: text.to_owned(),
        ..Default::default()
    }
}

fn avro(fields: &str) -> SchemaSource {
    SchemaSource {
        format: SchemaFormat::Avro.into(),
        text: format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#),
        ..Default::default()
    }
}

const FLIGHT: &str = r#"{
    "type": "object",
    "properties": {"carrier": {"type": "string"}, "number": {"type": "integer"}},
    "required": ["carrier"]
}"#;

/// A complete request with the owner, domain and team in it.
pub(super) fn create(name: &str) -> v1::CreateProductRequest {
    let product = v1::Product {
        name: name.to_owned(),
        owner: "ops-team".to_owned(),
        description: "Departures.".to_owned(),
        classification: Classification::Internal.into(),
        ..Default::default()
    };
    let contacts = vec!["ops@example.org".to_owned()];
    v1::CreateProductRequest {
        product: Some(product),
        value_schema: Some(json_schema(FLIGHT)),
        new_domain: Some(v1::Domain::default()),
        new_team: Some(v1::Team { contacts, ..Default::default() }),
        ..Default::default()
    }
}

fn with(name: &str, change: impl FnOnce(&mut v1::Product)) -> v1::CreateProductRequest {
    let mut request = create(name);
    change(request.product.as_mut().unwrap());
    request
}

fn caller() -> Caller {
    Caller::new("tests")
}

async fn created(catalogue: &Catalogue, request: v1::CreateProductRequest) -> v1::Product {
    catalogue.create_product(&caller(), request).await.unwrap().product.unwrap()
}

async fn refused(catalogue: &Catalogue, request: v1::CreateProductRequest) -> Error {
    catalogue.create_product(&caller(), request).await.unwrap_err()
}

/// With everything that only this call answers.
fn get_whole(catalogue: &Catalogue, name: &str) -> v1::Product {
    let request = v1::GetProductRequest { name: name.to_owned() };
    catalogue.get_product(&Caller::default(), request).unwrap().product.unwrap()
}

/// As changes answer it.
fn get(catalogue: &Catalogue, name: &str) -> v1::Product {
    let mut product = get_whole(catalogue, name);
    product.provenance.clear();
    product.r#use = None;
    let on_field = |tag: &v1::EffectiveTag| !tag.tag.as_ref().unwrap().field_path.is_empty();
    product.effective_tags.retain(|tag| !on_field(tag));
    product
}

async fn add_version(
    catalogue: &Catalogue,
    product: &str,
    schema: SchemaSource,
) -> Result<v1::SchemaVersion> {
    let product = product.to_owned();
    let request =
        v1::AddSchemaVersionRequest { product, value_schema: Some(schema), ..Default::default() };
    Ok(catalogue.add_schema_version(&caller(), request).await?.schema_version.unwrap())
}

fn mask(paths: &[&str]) -> prost_types::FieldMask {
    prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }
}

async fn update(
    catalogue: &Catalogue,
    paths: &[&str],
    product: v1::Product,
) -> Result<v1::Product> {
    let request = v1::UpdateProductRequest {
        product: Some(product),
        update_mask: Some(mask(paths)),
        validate_only: false,
    };
    Ok(catalogue.update_product(&caller(), request).await?.product.unwrap())
}

async fn delete(catalogue: &Catalogue, name: &str) {
    let request = v1::DeleteProductRequest { name: name.to_owned(), ..Default::default() };
    catalogue.delete_product(&caller(), request).await.unwrap();
}

fn field(error: &Error) -> (Reason, &str) {
    (error.reason(), error.metadata().get("field").map(String::as_str).unwrap_or_default())
}

#[tokio::test]
async fn a_product_its_domain_and_its_team_are_created_in_one_entry() {
    let (storage, catalogue) = catalogue();
    let before = storage.stats().entries;
    let product = created(&catalogue, create("ops.flights")).await;
    assert_eq!(storage.stats().entries, before + 1);

    assert_eq!(product.id.len(), 26);
    assert_eq!(product.contacts, ["ops@example.org"]);
    assert_eq!((product.schema_version, product.partitions), (1, 1));
    assert_eq!(product.state(), v1::ProductState::Draft);
    assert_eq!(product.created_by, "unverified:tests");
    assert!(product.settings.is_none());
    let effective = product.effective_settings.unwrap();
    assert_eq!(effective.enforcement(), Enforcement::Enforce);
    assert_eq!(effective.minimum_durability(), v1::Durability::Written);
    assert_eq!(get(&catalogue, "ops.flights"), product, "read back as answered");

    let domain = v1::GetDomainRequest { name: "ops".to_owned() };
    assert_eq!(
        catalogue.get_domain(&Caller::default(), domain).unwrap().domain.unwrap().owner,
        "ops-team"
    );
    let handle = catalogue.resolve("ops.flights", &product.id).unwrap();
    assert_eq!((handle.number, handle.streams.len()), (1, 1));
    storage.bounds(handle.streams[0]).unwrap();
    assert_eq!(handle.minimum_durability, None);
}

#[tokio::test]
async fn a_missing_field_is_named_with_the_command_that_mends_it() {
    let (storage, catalogue) = catalogue();
    let before = storage.state();
    for (change, name, option) in [
        (
            (|r| r.product.as_mut().unwrap().owner.clear()) as fn(&mut v1::CreateProductRequest),
            "owner",
            "--owner TEAM",
        ),
        (
            |r| r.product.as_mut().unwrap().description = " ".to_owned(),
            "description",
            "--description TEXT",
        ),
        (
            |r| r.product.as_mut().unwrap().classification = 0,
            "classification",
            "--classification public|",
        ),
        (|r| r.value_schema = None, "schema", "--schema FILE"),
    ] {
        let mut request = create("ops.flights");
        request.new_team = None;
        change(&mut request);
        let error = refused(&catalogue, request).await;
        assert_eq!(field(&error), (Reason::FieldMissing, name));
        assert!(error.to_string().contains("meshlog product create ops.flights"), "{error}");
        assert!(error.to_string().contains(option), "{error}");
        assert_eq!(error.violations().len(), 1);
    }
    let bare = v1::CreateProductRequest {
        product: Some(v1::Product { name: "ops.x".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let error = refused(&catalogue, bare).await;
    assert_eq!(error.metadata()["missing"], "owner,description,classification,schema");
    assert!(error.to_string().contains("meshlog team create TEAM --contact MAIL"), "{error}");
    assert_eq!(error.violations().len(), 4);
    assert_eq!(storage.state(), before, "nothing is half done");
}

#[tokio::test]
async fn a_bad_request_is_refused_by_reason_and_field() {
    let (storage, catalogue) = catalogue();
    let before = storage.state();
    let key = |field: &str| Some(KeyRule { field: field.to_owned() });
    let settings = |enforcement: i32, minimum_durability: i32| {
        Some(ProductSettings { enforcement, minimum_durability, ..Default::default() })
    };
    let tag = |key: &str, path: &str| Tag {
        key: key.to_owned(),
        value: None,
        field_path: path.to_owned(),
    };
    let cases: Vec<(v1::CreateProductRequest, Reason, &str)> = vec![
        (Default::default(), Reason::InvalidArgument, "product"),
        (with("ops.a", |p| p.partitions = 1025), Reason::InvalidArgument, "product.partitions"),
        (
            with("ops.a", |p| p.classification = 99),
            Reason::InvalidArgument,
            "product.classification",
        ),
        (with("ops.a", |p| p.docs = "d".repeat(65_537)), Reason::InvalidArgument, "product.docs"),
        (with("ops.a", |p| p.key = key("number")), Reason::InvalidArgument, "product.key"),
        (with("ops.a", |p| p.key = key("nothing")), Reason::InvalidArgument, "product.key"),
        (
            with("ops.a", |p| p.settings = settings(9, 0)),
            Reason::InvalidArgument,
            "settings.enforcement",
        ),
        (
            with("ops.a", |p| p.settings = settings(0, 3)),
            Reason::InvalidArgument,
            "settings.minimum_durability",
        ),
        (with("ops.a", |p| p.tags = vec![tag("Bad Key", "")]), Reason::InvalidArgument, "tags.key"),
        (
            with("ops.a", |p| p.tags = vec![tag("pii", "nothing")]),
            Reason::InvalidArgument,
            "tags.field_path",
        ),
        (with("ops.a", |p| p.tags = vec![tag("pii", ""); 2]), Reason::InvalidArgument, "tags"),
        (
            v1::CreateProductRequest { value_schema: Some(json_schema("{")), ..create("ops.a") },
            Reason::SchemaMalformed,
            "value_schema",
        ),
        (
            v1::CreateProductRequest { key_schema: Some(json_schema("7")), ..create("ops.a") },
            Reason::SchemaMalformed,
            "key_schema",
        ),
        (
            v1::CreateProductRequest {
                new_domain: Some(v1::Domain { name: "other".to_owned(), ..Default::default() }),
                ..create("ops.a")
            },
            Reason::InvalidArgument,
            "new_domain.name",
        ),
        (
            v1::CreateProductRequest {
                new_team: Some(v1::Team {
                    name: "strangers".to_owned(),
                    contacts: vec!["x".to_owned()],
                    ..Default::default()
                }),
                ..create("ops.a")
            },
            Reason::InvalidArgument,
            "new_team.name",
        ),
        (
            v1::CreateProductRequest { new_team: Some(v1::Team::default()), ..create("ops.a") },
            Reason::FieldMissing,
            "contacts",
        ),
        (create("ops/flights"), Reason::NameInvalid, ""),
        (create("meshlog.a"), Reason::NameReserved, ""),
        (
            v1::CreateProductRequest { new_domain: None, ..create("ops.a") },
            Reason::DomainNotFound,
            "",
        ),
        (v1::CreateProductRequest { new_team: None, ..create("ops.a") }, Reason::TeamNotFound, ""),
        (with("ops.a", |p| p.owner = "sandbox".to_owned()), Reason::NameReserved, ""),
    ];
    for (request, reason, name) in cases {
        let error = refused(&catalogue, request).await;
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    assert_eq!(storage.state(), before, "nothing is half done");
}

#[tokio::test]
async fn a_schema_error_says_where_it_is() {
    let (_, catalogue) = catalogue();
    let schema = json_schema("{\"type\": \"object\",\n\"properties\": 7}");
    let request = v1::CreateProductRequest { value_schema: Some(schema), ..create("ops.a") };
    let error = refused(&catalogue, request).await;
    assert_eq!(error.reason(), Reason::SchemaMalformed);
    assert_eq!(error.metadata()["at"], "/properties");
    assert!(error.to_string().contains("at /properties"), "{error}");
}

#[tokio::test]
async fn what_exists_is_not_created_again() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let error = refused(&catalogue, create("ops.flights")).await;
    assert_eq!(error.reason(), Reason::ProductExists);
    assert_eq!(error.metadata()["product"], "ops.flights");
    let error = catalogue.create_team(&caller(), team("ops-team")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["team"].as_str()),
        (Reason::TeamExists, "ops-team")
    );
    let error = catalogue.create_domain(&caller(), domain("ops", "ops-team")).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["domain"].as_str()),
        (Reason::DomainExists, "ops")
    );

    let mut second = create("ops.others");
    second.new_team.as_mut().unwrap().contacts = vec!["ignored@example.org".to_owned()];
    assert_eq!(created(&catalogue, second).await.contacts, ["ops@example.org"], "the team stays");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_by_reason_and_name() {
    let (_, catalogue) = catalogue();
    let name = "nobody".to_owned();
    let error = catalogue
        .get_team(&Caller::default(), v1::GetTeamRequest { name: name.clone() })
        .unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["team"].as_str()),
        (Reason::TeamNotFound, "nobody")
    );
    assert!(error.to_string().contains("meshlog team create nobody --contact MAIL"), "{error}");
    let error =
        catalogue.get_domain(&Caller::default(), v1::GetDomainRequest { name }).unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["domain"].as_str()),
        (Reason::DomainNotFound, "nobody")
    );
    let error = catalogue.create_domain(&caller(), domain("ops", "nobody")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::TeamNotFound);
    let error = catalogue.create_domain(&caller(), domain("ops", "")).await.unwrap_err();
    assert_eq!(field(&error), (Reason::FieldMissing, "owner"));
    let error = catalogue.resolve("ops.flights", "").unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["product"].as_str()),
        (Reason::ProductNotFound, "ops.flights")
    );
    let error = add_version(&catalogue, "ops.flights", json_schema("{}")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProductNotFound);
}

#[tokio::test]
async fn the_sandbox_fills_everything_in() {
    let (_, catalogue) = catalogue();
    let request = v1::CreateProductRequest {
        product: Some(v1::Product { name: "sandbox.try".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let product = created(&catalogue, request).await;
    assert_eq!(product.owner, "sandbox");
    assert_eq!(product.classification(), Classification::Internal);
    assert!(product.description.contains("unverified:tests"));
    assert_eq!(product.effective_settings.unwrap().enforcement(), Enforcement::Off);
    let request = v1::GetSchemaVersionRequest { product: "sandbox.try".to_owned(), version: 0 };
    let version =
        catalogue.get_schema_version(&Caller::default(), request).unwrap().schema_version.unwrap();
    let value = version.value.unwrap();
    assert_eq!(
        (value.format(), value.media_type.as_str()),
        (SchemaFormat::Opaque, "application/json")
    );
    assert!(catalogue.resolve("sandbox.try", "").unwrap().schema(0).unwrap().validator().is_none());

    let sandbox = v1::GetDomainRequest { name: "sandbox".to_owned() };
    assert_eq!(
        catalogue.get_domain(&Caller::default(), sandbox).unwrap().domain.unwrap().owner,
        "sandbox"
    );
    let teams =
        catalogue.list_teams(&Caller::default(), v1::ListTeamsRequest::default()).unwrap().teams;
    assert_eq!(teams.iter().map(|team| &*team.name).collect::<Vec<_>>(), ["meshlog", "sandbox"]);
    let error = catalogue.create_team(&caller(), team("sandbox")).await.unwrap_err();
    assert_eq!(error.reason(), Reason::NameReserved);
}

#[tokio::test]
async fn validate_only_checks_everything_and_changes_nothing() {
    let (storage, catalogue) = catalogue();
    let before = storage.stats().entries;
    let dry = v1::CreateProductRequest { validate_only: true, ..create("ops.flights") };
    let preview = created(&catalogue, dry.clone()).await;
    assert_eq!((preview.id.as_str(), preview.etag.as_str()), ("", ""));
    assert_eq!(preview.contacts, ["ops@example.org"]);
    let dry_team = v1::CreateTeamRequest { validate_only: true, ..team("ops") };
    catalogue.create_team(&caller(), dry_team).await.unwrap();
    assert_eq!(storage.stats().entries, before);

    let product = created(&catalogue, create("ops.flights")).await;
    assert_eq!(refused(&catalogue, dry).await.reason(), Reason::ProductExists);
    let entries = storage.stats().entries;
    let dry = v1::UpdateProductRequest {
        product: Some(v1::Product { docs: "new".to_owned(), ..product.clone() }),
        update_mask: None,
        validate_only: true,
    };
    assert_eq!(
        catalogue.update_product(&caller(), dry).await.unwrap().product.unwrap().docs,
        "new"
    );
    let dry = v1::AddSchemaVersionRequest {
        product: product.name.clone(),
        value_schema: Some(json_schema("{}")),
        validate_only: true,
        ..Default::default()
    };
    let version = catalogue.add_schema_version(&caller(), dry).await.unwrap().schema_version;
    assert_eq!(version.unwrap().version, 2);
    let dry = v1::DeleteProductRequest {
        name: product.name.clone(),
        validate_only: true,
        ..Default::default()
    };
    catalogue.delete_product(&caller(), dry).await.unwrap();
    assert_eq!(storage.stats().entries, entries);
    assert_eq!(get(&catalogue, "ops.flights"), product);
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_the_etag() {
    let (_, catalogue) = catalogue();
    let before = created(&catalogue, create("ops.flights")).await;
    let tags = vec![Tag { key: "pii".to_owned(), value: None, field_path: "carrier".to_owned() }];
    let asked = v1::Product {
        description: "ignored".to_owned(),
        docs: "# Flights".to_owned(),
        tags: tags.clone(),
        settings: Some(ProductSettings {
            enforcement: Enforcement::Off.into(),
            minimum_durability: v1::Durability::Synced.into(),
            ..Default::default()
        }),
        ..before.clone()
    };
    let after = update(&catalogue, &["docs", "tags", "settings"], asked).await.unwrap();
    assert_ne!(after.etag, before.etag);
    assert_eq!((after.description.as_str(), after.docs.as_str()), ("Departures.", "# Flights"));
    assert_eq!(after.tags, tags);
    assert_eq!(get(&catalogue, "ops.flights"), after);
    let handle = catalogue.resolve("ops.flights", "").unwrap();
    assert_eq!(handle.minimum_durability, Some(meshlog_storage::Durability::Synced));
    assert!(handle.schema(0).unwrap().validator().is_none(), "enforcement is off");

    let stale = v1::Product { etag: before.etag, ..after.clone() };
    let error = update(&catalogue, &["docs"], stale).await.unwrap_err();
    assert_eq!((error.reason(), &error.metadata()["etag"]), (Reason::EtagMismatch, &after.etag));
    let empty = v1::Product { name: after.name.clone(), ..Default::default() };
    for (path, reason, name) in [
        ("owner", Reason::InvalidArgument, "update_mask"),
        ("description", Reason::FieldMissing, "description"),
        ("classification", Reason::FieldMissing, "classification"),
        ("partitions", Reason::InvalidArgument, "update_mask"),
    ] {
        let error = update(&catalogue, &[path], empty.clone()).await.unwrap_err();
        assert_eq!(field(&error), (reason, name));
    }
    let stranger = v1::Product { owner: "nobody".to_owned(), ..empty.clone() };
    for paths in [&["owner"] as &[&str], &[]] {
        let error = update(&catalogue, paths, stranger.clone()).await.unwrap_err();
        assert_eq!(field(&error), (Reason::InvalidArgument, "update_mask"));
        assert!(error.to_string().contains("meshlog product transfer ops.flights"), "{error}");
    }
    let nothing = v1::UpdateProductRequest { product: Some(empty), ..Default::default() };
    let error = catalogue.update_product(&caller(), nothing).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "update_mask"));
    assert_eq!(get(&catalogue, "ops.flights"), after);
}

#[tokio::test]
async fn a_deleted_product_leaves_nothing_and_its_name_starts_anew() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.stays")).await;
    let kept = storage.state();
    let mut request = with("ops.flights", |p| p.partitions = 3);
    request.value_schema = Some(json_schema("{\"title\": \"own\"}"));
    let old = created(&catalogue, request.clone()).await;
    let old_handle = catalogue.resolve("ops.flights", "").unwrap();
    let old_id = old_handle.schema(0).unwrap().storage_id;
    assert_eq!(catalogue.schema_of(old_id), Some(1));

    let wrong = v1::DeleteProductRequest {
        name: old.name.clone(),
        etag: "x".to_owned(),
        ..Default::default()
    };
    let error = catalogue.delete_product(&caller(), wrong).await.unwrap_err();
    assert_eq!((error.reason(), &error.metadata()["etag"]), (Reason::EtagMismatch, &old.etag));
    delete(&catalogue, "ops.flights").await;
    assert_eq!(catalogue.resolve("ops.flights", "").unwrap_err().reason(), Reason::ProductNotFound);
    assert_eq!(catalogue.schema_of(old_id), None);
    for stream in &old_handle.streams {
        storage.bounds(*stream).unwrap_err();
    }
    let keys =
        |state: &[(Bytes, Bytes)]| state.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&storage.state()), keys(&kept), "only the team, the domain and the other one");

    let new = created(&catalogue, request).await;
    let new_handle = catalogue.resolve("ops.flights", &new.id).unwrap();
    assert_ne!(new.id, old.id);
    assert_ne!(new.etag, old.etag);
    assert!(new_handle.number > old_handle.number);
    assert!(new_handle.schema(0).unwrap().storage_id > old_id);
    assert!(old_handle.streams.iter().all(|stream| !new_handle.streams.contains(stream)));
    let error = catalogue.resolve("ops.flights", &old.id).unwrap_err();
    assert_eq!(
        (error.reason(), &error.metadata()["product_id"]),
        (Reason::ProductRecreated, &new.id)
    );
    let pinned =
        v1::DeleteProductRequest { name: new.name, product_id: old.id, ..Default::default() };
    let error = catalogue.delete_product(&caller(), pinned).await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProductRecreated);
}

#[tokio::test]
async fn schema_versions_are_counted_and_the_same_schema_adds_none() {
    let (storage, catalogue) = catalogue();
    let before = created(&catalogue, create("ops.flights")).await;
    let entries = storage.stats().entries;
    let again =
        add_version(&catalogue, "ops.flights", json_schema(&FLIGHT.replace('\n', " "))).await;
    assert_eq!(again.unwrap().version, 1);
    assert_eq!(storage.stats().entries, entries, "nothing was written");

    let second =
        add_version(&catalogue, "ops.flights", json_schema("{\"type\":\"array\"}")).await.unwrap();
    assert_eq!((second.version, second.created_by.as_str()), (2, "unverified:tests"));
    let after = get(&catalogue, "ops.flights");
    assert_eq!(after.schema_version, 2);
    assert_ne!(after.etag, before.etag);
    let stale = v1::AddSchemaVersionRequest {
        product: "ops.flights".to_owned(),
        value_schema: Some(json_schema("{}")),
        etag: before.etag,
        ..Default::default()
    };
    let error = catalogue.add_schema_version(&caller(), stale).await.unwrap_err();
    assert_eq!(error.reason(), Reason::EtagMismatch);

    let handle = catalogue.resolve("ops.flights", "").unwrap();
    let (first, current) = (handle.schema(1).unwrap(), handle.schema(0).unwrap());
    assert_eq!((first.version, current.version), (1, 2));
    assert_eq!(catalogue.schema_of(first.storage_id), Some(1));
    assert_eq!(catalogue.schema_of(current.storage_id), Some(2));
    first.validator().unwrap().check(None, Some(br#"{"carrier":"UA"}"#)).unwrap();
    current.validator().unwrap().check(None, Some(br#"{"carrier":"UA"}"#)).unwrap_err();
    let error = handle.schema(3).unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaVersionUnknown);
    assert_eq!(error.metadata()["current_version"], "2");

    let all = v1::ListSchemaVersionsRequest { product: "ops.flights".to_owned() };
    let all = catalogue.list_schema_versions(&Caller::default(), all).unwrap().schema_versions;
    assert_eq!(all.iter().map(|version| version.version).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(all[0].fields[0].path, "carrier");
    assert_eq!(all[1].value_fingerprint, second.value_fingerprint);
}

#[tokio::test]
async fn an_append_must_say_which_of_several_avro_versions_it_uses() {
    let (_, catalogue) = catalogue();
    let field = r#"{"name":"a","type":"int"}"#;
    let request = v1::CreateProductRequest { value_schema: Some(avro(field)), ..create("ops.a") };
    let product = created(&catalogue, request).await;
    assert_eq!(product.effective_settings.unwrap().enforcement(), Enforcement::Enforce);
    assert_eq!(catalogue.resolve("ops.a", "").unwrap().schema(0).unwrap().version, 1);
    add_version(&catalogue, "ops.a", avro(r#"{"name":"a","type":"int","default":1}"#))
        .await
        .unwrap();
    let handle = catalogue.resolve("ops.a", "").unwrap();
    let error = handle.schema(0).unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaVersionRequired);
    assert_eq!(error.metadata()["current_version"], "2");
    assert!(handle.schema(1).unwrap().validator().is_some());

    let enforce = with("ops.b", |p| {
        p.settings = Some(ProductSettings {
            enforcement: Enforcement::Enforce.into(),
            ..Default::default()
        });
    });
    let opaque = SchemaSource {
        format: SchemaFormat::Opaque.into(),
        media_type: "text/plain".to_owned(),
        reason: "Free text.".to_owned(),
        ..SchemaSource::default()
    };
    let request = v1::CreateProductRequest { value_schema: Some(opaque), ..enforce };
    assert_eq!(refused(&catalogue, request).await.reason(), Reason::InvalidArgument);
}

#[tokio::test]
async fn a_key_rule_holds_for_every_record_and_every_later_schema() {
    let (_, catalogue) = catalogue();
    let rule = |p: &mut v1::Product| {
        p.key = Some(KeyRule { field: "carrier".to_owned() });
        let compaction = Some(v1::Compaction::default());
        p.settings = Some(ProductSettings { compaction, ..Default::default() });
    };
    created(&catalogue, with("ops.flights", rule)).await;
    let handle = catalogue.resolve("ops.flights", "").unwrap();
    let schema = handle.schema(0).unwrap();
    let validator = schema.validator().unwrap();
    validator.check(Some(b"UA"), Some(br#"{"carrier":"UA"}"#)).unwrap();
    validator.check(Some(b"UA"), None).unwrap();
    let broken = |value: &[u8]| validator.check(Some(b"AA"), Some(value)).unwrap_err().broken;
    assert_eq!(broken(br#"{"carrier":"UA"}"#), Broken::Key);
    assert_eq!(broken(b"{}"), Broken::Schema);
    let error = add_version(&catalogue, "ops.flights", json_schema("{}")).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "product.key"));
    let error = add_version(&catalogue, "ops.flights", avro("")).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "product.key"));
}

#[tokio::test]
async fn lists_come_in_pages_by_name() {
    let (_, catalogue) = catalogue();
    for name in ["ops.c", "ops.a", "ops.b", "ops-2.a", "opt.a"] {
        created(&catalogue, create(name)).await;
    }
    let list = |domain: &str, page_size, page_token: &str| v1::ListProductsRequest {
        domain: domain.to_owned(),
        page_size,
        page_token: page_token.to_owned(),
    };
    let names = |response: &v1::ListProductsResponse| {
        response.products.iter().map(|product| product.name.clone()).collect::<Vec<_>>()
    };
    let first = catalogue.list_products(&Caller::default(), list("ops", 2, "")).unwrap();
    assert_eq!(names(&first), ["ops.a", "ops.b"]);
    let second = catalogue
        .list_products(&Caller::default(), list("ops", 2, &first.next_page_token))
        .unwrap();
    assert_eq!(names(&second), ["ops.c"]);
    assert_eq!(second.next_page_token, "");
    let all = catalogue.list_products(&Caller::default(), list("", 0, "")).unwrap();
    assert_eq!(names(&all), ["meshlog.audit", "ops-2.a", "ops.a", "ops.b", "ops.c", "opt.a"]);
    assert_eq!(all.products[1].contacts, ["ops@example.org"]);
    for (domain, token) in
        [("", first.next_page_token.as_str()), ("ops", "zz"), ("ops", "é"), ("ops", "0")]
    {
        let error =
            catalogue.list_products(&Caller::default(), list(domain, 2, token)).unwrap_err();
        assert_eq!(field(&error), (Reason::InvalidArgument, "page_token"));
    }
    let mut token = String::new();
    let mut found = Vec::new();
    loop {
        let request = v1::ListDomainsRequest { page_size: 1, page_token: token };
        let response = catalogue.list_domains(&Caller::default(), request).unwrap();
        found.extend(response.domains.into_iter().map(|domain| domain.name));
        token = response.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, ["meshlog", "ops", "ops-2", "opt", "sandbox"]);
}

#[tokio::test]
async fn applications_keep_their_numbers_and_odd_names_are_unknown() {
    let (storage, catalogue) = catalogue();
    let before = storage.stats().entries;
    assert_eq!(catalogue.application_id("billing").await.unwrap(), 1);
    assert_eq!(catalogue.application_id("search/v2").await.unwrap(), 2);
    assert_eq!(catalogue.application_id("billing").await.unwrap(), 1);
    for odd in ["", "two words", "ü", "a\n", &"x".repeat(129)] {
        assert_eq!(catalogue.application_id(odd).await.unwrap(), 0, "{odd}");
    }
    assert_eq!(storage.stats().entries, before + 2);
    let reopened = Catalogue::open(&storage).unwrap();
    assert_eq!(reopened.application_name(2).as_deref(), Some("search/v2"));
    assert_eq!(reopened.application_id("billing").await.unwrap(), 1);
    assert_eq!(reopened.application_id("new").await.unwrap(), 3);
    assert_eq!(reopened.application_name(0), None);
    assert_eq!(reopened.application_name(99), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_that_create_the_same_product_one_succeeds() {
    let (_, catalogue) = catalogue();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let catalogue = catalogue.clone();
            tokio::spawn(async move {
                let product = catalogue.create_product(&caller(), create("ops.flights")).await;
                (product.is_ok(), catalogue.application_id("same").await.unwrap())
            })
        })
        .collect();
    let mut succeeded = 0;
    for task in tasks {
        let (created, application) = task.await.unwrap();
        succeeded += u32::from(created);
        assert_eq!(application, 1);
    }
    assert_eq!(succeeded, 1);
}

#[tokio::test]
async fn a_damaged_entry_is_named_and_not_guessed_at() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    for (key, value) in storage.state() {
        let Some(Key::Product(_) | Key::Schema(_) | Key::Team(_)) = Key::parse(&key) else {
            continue;
        };
        let set = |value| meshlog_storage::Entry {
            controls: vec![meshlog_storage::Control::SetState {
                key: key.clone(),
                value: Some(value),
            }],
            ..Default::default()
        };
        storage.append_and_wait(set(Bytes::from_static(b"\xff\xff"))).unwrap();
        let error = Catalogue::open(&storage).unwrap_err();
        assert_eq!(error.reason(), Reason::DataLoss);
        assert_eq!(error.metadata()["key"].as_bytes(), &key[..]);
        storage.append_and_wait(set(value)).unwrap();
    }
    Catalogue::open(&storage).unwrap();
}

/// As it was before there was an audit log.
#[tokio::test]
async fn a_catalogue_of_an_earlier_version_gets_an_audit_log_and_stays_as_it_was() {
    let (storage, catalogue) = catalogue();
    let before = created(&catalogue, create("ops.flights")).await;
    let log = catalogue.resolve("meshlog.audit", "").unwrap();
    let schema = log.current().value.digest().to_string();
    let gone = [Key::Product(&log.id), Key::Schema(&schema)];
    let mut controls = vec![meshlog_storage::Control::DeleteStream(log.streams[0])];
    controls.extend(
        gone.map(|key| meshlog_storage::Control::SetState { key: key.bytes(), value: None }),
    );
    storage.append_and_wait(meshlog_storage::Entry { controls, ..Default::default() }).unwrap();

    let catalogue = Catalogue::open(&storage).unwrap();
    assert_eq!(get(&catalogue, "ops.flights"), before);
    let new = catalogue.resolve("meshlog.audit", "").unwrap();
    assert_ne!((&new.id, &new.streams), (&log.id, &log.streams));
    assert_eq!(storage.bounds(new.streams[0]).unwrap().durable_end, meshlog_storage::Offset(0));
    delete(&catalogue, "ops.flights").await;
    assert_eq!(storage.bounds(new.streams[0]).unwrap().durable_end, meshlog_storage::Offset(1));
    let created = created(&catalogue, create("ops.flights")).await;
    assert!(catalogue.resolve("ops.flights", &created.id).unwrap().number > 1);
}

#[test]
fn the_format_is_the_same_for_ever() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let counters = Counters { products: 1, schema_versions: 2, changes: 300 };
    assert_eq!(hex(&counters.encode_to_vec()), "0801100218ac02");
    let chain = Chain { sequence: 3, hash: Bytes::from_static(&[0xCD; 32]), first_offset: 9 };
    assert_eq!(hex(&chain.encode_to_vec()), format!("08031220{}1809", "cd".repeat(32)));
    let schema = StoredSchema {
        fingerprint: Bytes::from_static(&[0xAB; 32]),
        source: Bytes::from_static(b"s"),
    };
    assert_eq!(hex(&schema.encode_to_vec()), format!("0a20{}120173", "ab".repeat(32)));
    let version = StoredVersion {
        version: 1,
        storage_id: 7,
        value: Bytes::from_static(&[1; 32]),
        key: Bytes::from_static(&[2; 32]),
        create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 2 }),
        created_by: "me".to_owned(),
        closed: false,
    };
    let version_hex =
        format!("080110071a20{}2220{}2a040801100232026d65", "01".repeat(32), "02".repeat(32));
    assert_eq!(hex(&version.encode_to_vec()), version_hex);
    let tag_key = v1::TagKey {
        name: "k".to_owned(),
        owner: "t".to_owned(),
        value_type: v1::TagValueType::Enum.into(),
        allowed_values: vec!["a".to_owned()],
        etag: "2".to_owned(),
        updated_by: "me".to_owned(),
        ..Default::default()
    };
    assert_eq!(hex(&tag_key.encode_to_vec()), "0a016b1a017420022a016132013252026d65");
    let domain = v1::Domain {
        name: "d".to_owned(),
        tags: vec![Tag { key: "k".to_owned(), value: Some("a".to_owned()), ..Default::default() }],
        updated_by: "me".to_owned(),
        ..Default::default()
    };
    assert_eq!(hex(&domain.encode_to_vec()), "0a01643a060a016b1201614a026d65");
    let late = v1::Product {
        inputs: vec!["i".to_owned()],
        successor: "s".to_owned(),
        provenance: vec![v1::Provenance {
            path: "owner".to_owned(),
            kind: v1::ProvenanceKind::Inferred.into(),
            principal: "me".to_owned(),
            time: None,
        }],
        aliases: vec!["a.old".to_owned()],
        deprecation_reason: "r".to_owned(),
        pending_transfer: Some(v1::PendingTransfer {
            new_owner: "t".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    assert_eq!(
        hex(&late.encode_to_vec()),
        "920101699a010173b2010d0a056f776e657210021a026d65e20105612e6f6c64f2010172fa01030a0174"
    );
    let with_rules = v1::Product {
        rules: vec![v1::Rule {
            name: "r".to_owned(),
            expression: "value.a > 0".to_owned(),
            message: "m".to_owned(),
            version: 3,
            ..Default::default()
        }],
        rules_version: 4,
        ..Default::default()
    };
    assert_eq!(
        hex(&with_rules.encode_to_vec()),
        "9202150a0172120b76616c75652e61203e20301a016d2803980204"
    );
    let product = StoredProduct {
        quarantine: None,
        product: Some(v1::Product { name: "a.b".to_owned(), ..Default::default() }),
        number: 5,
        streams: vec![8, 9],
        versions: vec![version],
    };
    let product_hex = format!("0a050a03612e6210051a0208092252{version_hex}");
    assert_eq!(hex(&product.encode_to_vec()), product_hex);
    for (key, text) in [
        (Key::ApiKey("01j"), "key/01j"),
        (Key::Grant("01j"), "grant/01j"),
        (Key::AccessRequest("01j"), "access-request/01j"),
        (Key::Protection, "access/protection"),
        (Key::Counters, "counter/catalogue"),
        (Key::Team("t"), "team/t"),
        (Key::Domain("d"), "domain/d"),
        (Key::TagKey("unit"), "tag-key/unit"),
        (Key::Schema("0f"), "schema/0f"),
        (Key::Product("01ARZ3NDEKTSV4RRFFQ69G5FAV"), "product/01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        (Key::Application(12), "application/12"),
        (Key::Chain, "audit/chain"),
    ] {
        assert_eq!(key.bytes(), text);
        assert_eq!(Key::parse(text.as_bytes()), Some(key));
    }
    assert_eq!(Key::parse(b"cursor/x"), None);
}

#[test]
fn the_format_of_who_may_do_what_is_the_same_for_ever() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (consume, produce) = (v1::Permission::Consume, v1::Permission::Produce);
    let time = Some(prost_types::Timestamp { seconds: 1, nanos: 2 });
    let key = v1::ApiKey {
        id: "i".to_owned(),
        team: "t".to_owned(),
        application: "a".to_owned(),
        permissions: vec![consume.into(), produce.into()],
        products: vec!["n".to_owned()],
        expire_time: time,
        product_ids: vec!["p".to_owned()],
        ..Default::default()
    };
    let key_hex = "0a01691201741a0161320202033a016e4a0408011002720170";
    assert_eq!(hex(&key.encode_to_vec()), key_hex);
    let stored = StoredKey { key: Some(key), hash: Bytes::from_static(&[0xEF; 32]) };
    assert_eq!(hex(&stored.encode_to_vec()), format!("0a19{key_hex}1220{}", "ef".repeat(32)));
    assert_eq!(hex(&StoredProtection { since: time }.encode_to_vec()), "0a0408011002");
    let grant = v1::Grant {
        id: "i".to_owned(),
        team: "*".to_owned(),
        permissions: vec![consume.into()],
        scope: Some(v1::AccessScope {
            what: Some(v1::access_scope::What::Product("d.n".to_owned())),
            product_id: "p".to_owned(),
        }),
        purpose: "w".to_owned(),
        request_id: "r".to_owned(),
        created_by: "m".to_owned(),
        ..Default::default()
    };
    let grant_hex = "0a016912012a2201022a080a03642e6e2a017032017742017252016d";
    assert_eq!(hex(&grant.encode_to_vec()), grant_hex);
    let request = v1::AccessRequest {
        id: "i".to_owned(),
        product_id: "p".to_owned(),
        team: "t".to_owned(),
        permissions: vec![consume.into()],
        purpose: "w".to_owned(),
        state: v1::AccessRequestState::Approved.into(),
        grant_id: "g".to_owned(),
        ..Default::default()
    };
    assert_eq!(hex(&request.encode_to_vec()), "0a01691a01702201743201023a01774002720167");
}

fn some_schema(number: u8) -> SchemaSource {
    match number {
        0 => json_schema(FLIGHT),
        1 => json_schema("{\"title\": \"other\"}"),
        2 => avro(r#"{"name":"a","type":"int"}"#),
        _ => SchemaSource {
            format: SchemaFormat::Opaque.into(),
            media_type: "text/plain".to_owned(),
            reason: "text".to_owned(),
            ..Default::default()
        },
    }
}
