//! What a restart rebuilds is what was there.

use std::path::Path;

use meshlog_storage::StreamId;
use meshlog_storage::disk::{Disk, SimulatedDisk};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::vocabulary::{tag, tag_key};
use super::*;

/// Everything that can be seen of a catalogue.
pub(super) fn seen(catalogue: &Catalogue) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let teams = catalogue.list_teams(&Caller::default(), v1::ListTeamsRequest::default()).unwrap();
    seen.insert("teams".to_owned(), format!("{teams:?}"));
    let domains =
        catalogue.list_domains(&Caller::default(), v1::ListDomainsRequest::default()).unwrap();
    seen.insert("domains".to_owned(), format!("{domains:?}"));
    let keys =
        catalogue.list_tag_keys(&Caller::default(), v1::ListTagKeysRequest::default()).unwrap();
    seen.insert("tag keys".to_owned(), format!("{keys:?}"));
    let products = catalogue
        .list_products(&Caller::default(), v1::ListProductsRequest::default())
        .unwrap()
        .products;
    for product in products {
        let versions = v1::ListSchemaVersionsRequest { product: product.name.clone() };
        let versions = catalogue.list_schema_versions(&Caller::default(), versions).unwrap();
        let handle = catalogue.resolve(&product.name, &product.id).unwrap();
        let ids: Vec<_> = (1..=product.schema_version)
            .map(|number| handle.schema(number).unwrap())
            .map(|schema| {
                (
                    schema.storage_id,
                    catalogue.schema_of(schema.storage_id),
                    schema.validator().is_some(),
                )
            })
            .collect();
        for alias in &product.aliases {
            assert_eq!(catalogue.resolve(alias, &product.id).unwrap().id, handle.id);
        }
        let whole = get_whole(catalogue, &product.name);
        let policies = limits::policies(&catalogue.inner.storage, catalogue, &product.name);
        let said = settings::policy(product.settings.as_ref());
        assert!(policies.iter().all(|policy| *policy == said), "{policies:?} {said:?}");
        let rest = (
            &handle,
            handle.minimum_durability,
            handle.check_appendable().is_ok(),
            catalogue.notices(&handle, "other"),
            ids,
            policies,
        );
        seen.insert(product.name.clone(), format!("{product:?} {whole:?} {versions:?} {rest:?}"));
    }
    let view = catalogue.inner.view.read();
    seen.insert("counters".to_owned(), format!("{:?} {}", view.counters, view.versions.len()));
    seen.insert("schemas".to_owned(), format!("{:?}", view.schema_uses()));
    seen.insert("indexes".to_owned(), view.indexes());
    seen
}

/// Numbers stand for names: of teams, domains, products, tags. Many steps make no sense where they
/// come; those are refused.
#[derive(Clone, Debug)]
enum Step {
    Team(u8),
    UpdateTeam(u8),
    DeleteTeam(u8),
    Domain(u8, u8),
    UpdateDomain(u8, u8, Option<u8>),
    DeleteDomain(u8),
    TagKey(u8, u8),
    UpdateTagKey(u8, u8),
    DeleteTagKey(u8),
    Create { name: u8, team: u8, schema: u8, partitions: u8, whole: bool, input: Option<u8> },
    Version { name: u8, schema: u8 },
    Update { name: u8, tag: Option<u8>, synced: bool, keep_aliases: bool, keep: u8 },
    Activate(u8),
    Deprecate(u8, Option<u8>),
    Retire(u8),
    Move(u8, u8),
    Transfer(u8, u8),
    Accept(u8, u8),
    Cancel(u8),
    Succeed { name: u8, schema: Option<u8>, to: Option<u8> },
    Delete(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    use proptest::option::of;
    let (team, domain, product, key) = (|| 0_u8..3, || 0_u8..3, || 0_u8..8, || 0_u8..3);
    let create = (product(), team(), 0_u8..4, 0_u8..4, any::<bool>(), of(product())).prop_map(
        |(name, team, schema, partitions, whole, input)| Step::Create {
            name,
            team,
            schema,
            partitions,
            whole,
            input,
        },
    );
    let update = (product(), of(key()), any::<bool>(), any::<bool>(), 0_u8..4).prop_map(
        |(name, tag, synced, keep_aliases, keep)| Step::Update {
            name,
            tag,
            synced,
            keep_aliases,
            keep,
        },
    );
    let succeed = (product(), of(0_u8..4), of(product()))
        .prop_map(|(name, schema, to)| Step::Succeed { name, schema, to });
    prop_oneof![
        2 => (0_u8..5).prop_map(Step::Team),
        1 => team().prop_map(Step::UpdateTeam),
        1 => (0_u8..5).prop_map(Step::DeleteTeam),
        2 => (domain(), team()).prop_map(|(domain, team)| Step::Domain(domain, team)),
        1 => (domain(), team(), of(key())).prop_map(|(a, b, c)| Step::UpdateDomain(a, b, c)),
        1 => domain().prop_map(Step::DeleteDomain),
        2 => (key(), team()).prop_map(|(key, team)| Step::TagKey(key, team)),
        1 => (key(), 0_u8..3).prop_map(|(key, kind)| Step::UpdateTagKey(key, kind)),
        1 => key().prop_map(Step::DeleteTagKey),
        8 => create,
        2 => (product(), 0_u8..4).prop_map(|(name, schema)| Step::Version { name, schema }),
        3 => update,
        2 => product().prop_map(Step::Activate),
        2 => (product(), of(product())).prop_map(|(name, to)| Step::Deprecate(name, to)),
        1 => product().prop_map(Step::Retire),
        3 => (product(), product()).prop_map(|(name, to)| Step::Move(name, to)),
        2 => (product(), team()).prop_map(|(name, team)| Step::Transfer(name, team)),
        2 => (product(), team()).prop_map(|(name, team)| Step::Accept(name, team)),
        1 => product().prop_map(Step::Cancel),
        2 => succeed,
        2 => product().prop_map(Step::Delete),
    ]
}

fn product_name(number: u8) -> String {
    match number {
        6 => "sandbox.p".to_owned(),
        number => format!("d{}.p{}", number % 3, number / 3),
    }
}

/// Settings with some limit, or none.
fn some_limits(number: u8) -> ProductSettings {
    let age = |seconds| prost_types::Duration { seconds, nanos: 0 };
    let none = ProductSettings::default();
    match number {
        0 => none,
        1 => ProductSettings { retention_age: Some(age(3600)), retention_count: 9, ..none },
        2 => ProductSettings { retention_bytes: 1 << 40, ..none },
        _ => {
            let compaction = v1::Compaction { tombstone_min_age: Some(age(7)) };
            ProductSettings { compaction: Some(compaction), ..none }
        }
    }
}

fn some_tag(number: u8) -> Tag {
    match number {
        0 => tag("k0", None, ""),
        1 => tag("k1", Some("7"), "carrier"),
        _ => tag("pii", None, "carrier"),
    }
}

/// Refusals are part of the game; whether one was due is what the other tests ask.
async fn take(catalogue: &Catalogue, step: &Step) -> Result<()> {
    let author = caller();
    let team_name = |number: u8| format!("t{number}");
    let domain_name = |number: u8| format!("d{number}");
    let key_name = |number: u8| format!("k{number}");
    match *step {
        Step::Team(number) => {
            catalogue.create_team(&author, team(&team_name(number))).await.map(drop)
        }
        Step::UpdateTeam(number) => {
            let contacts = vec![format!("#{number}"), "x".to_owned()];
            let team = v1::Team { name: team_name(number), contacts, ..Default::default() };
            let request = v1::UpdateTeamRequest { team: Some(team), ..Default::default() };
            catalogue.update_team(&author, request).await.map(drop)
        }
        Step::DeleteTeam(number) => {
            let request = v1::DeleteTeamRequest { name: team_name(number), ..Default::default() };
            catalogue.delete_team(&author, request).await.map(drop)
        }
        Step::Domain(number, team) => {
            let request = domain(&domain_name(number), &team_name(team));
            catalogue.create_domain(&author, request).await.map(drop)
        }
        Step::UpdateDomain(number, team, tag) => {
            let domain = v1::Domain {
                name: domain_name(number),
                owner: team_name(team),
                tags: tag
                    .map(|number| Tag { field_path: String::new(), ..some_tag(number) })
                    .into_iter()
                    .collect(),
                ..Default::default()
            };
            let request = v1::UpdateDomainRequest {
                domain: Some(domain),
                update_mask: Some(mask(&["owner", "tags"])),
                validate_only: false,
            };
            catalogue.update_domain(&author, request).await.map(drop)
        }
        Step::DeleteDomain(number) => {
            let request =
                v1::DeleteDomainRequest { name: domain_name(number), ..Default::default() };
            catalogue.delete_domain(&author, request).await.map(drop)
        }
        Step::TagKey(number, team) => {
            let value_type = match number {
                1 => v1::TagValueType::Number,
                _ => v1::TagValueType::None,
            };
            let key = v1::TagKey {
                owner: team_name(team),
                ..tag_key(&key_name(number), value_type, &[])
            };
            vocabulary::create_key(catalogue, key).await.map(drop)
        }
        Step::UpdateTagKey(number, kind) => {
            let (value_type, allowed): (_, &[&str]) = match kind {
                0 => (v1::TagValueType::String, &[]),
                1 => (v1::TagValueType::Enum, &["7"]),
                _ => (v1::TagValueType::None, &[]),
            };
            let request = v1::UpdateTagKeyRequest {
                tag_key: Some(tag_key(&key_name(number), value_type, allowed)),
                update_mask: Some(mask(&["value_type", "allowed_values"])),
                validate_only: false,
            };
            catalogue.update_tag_key(&author, request).await.map(drop)
        }
        Step::DeleteTagKey(number) => {
            let request = v1::DeleteTagKeyRequest { name: key_name(number), ..Default::default() };
            catalogue.delete_tag_key(&author, request).await.map(drop)
        }
        Step::Create { name, team, schema, partitions, whole, input } => {
            let mut request = with(&product_name(name), |product| {
                product.owner = team_name(team);
                product.partitions = partitions.into();
                product.inputs = input.map(product_name).into_iter().collect();
            });
            request.value_schema = Some(some_schema(schema));
            if schema == 2 {
                request.key_schema = Some(json_schema("{}"));
            }
            if !whole || name == 6 {
                (request.new_domain, request.new_team) = (None, None);
            }
            catalogue.create_product(&author, request).await.map(drop)
        }
        Step::Version { name, schema } => {
            let before = get_version(catalogue, &product_name(name));
            let version = add_version(catalogue, &product_name(name), some_schema(schema)).await?;
            // The schema that is there already is not a change.
            match before == Some(version.version) {
                true => Err(Error::new(Reason::InvalidArgument, "nothing was changed")),
                false => Ok(()),
            }
        }
        Step::Update { name, tag, synced, keep_aliases, keep } => {
            let minimum_durability =
                if synced { v1::Durability::Synced } else { v1::Durability::Unspecified };
            let product = v1::Product {
                name: product_name(name),
                tags: tag.map(some_tag).into_iter().collect(),
                settings: Some(ProductSettings {
                    minimum_durability: minimum_durability.into(),
                    ..some_limits(keep)
                }),
                ..Default::default()
            };
            let paths: &[&str] = match keep_aliases {
                true => &["tags", "settings"],
                false => &["tags", "settings", "aliases"],
            };
            update(catalogue, paths, product).await.map(drop)
        }
        Step::Activate(name) => lifecycle::activate(catalogue, &product_name(name)).await.map(drop),
        Step::Deprecate(name, to) => {
            let request = v1::DeprecateProductRequest {
                successor: to.map(product_name).unwrap_or_default(),
                ..lifecycle::deprecation(&product_name(name))
            };
            lifecycle::deprecate(catalogue, request).await.map(drop)
        }
        Step::Retire(name) => {
            lifecycle::retire(catalogue, &product_name(name), false).await.map(drop)
        }
        Step::Move(name, to) => {
            moving::move_to(catalogue, &product_name(name), &product_name(to)).await.map(drop)
        }
        Step::Transfer(name, team) => {
            transfer::transfer(catalogue, &product_name(name), &team_name(team)).await.map(drop)
        }
        Step::Accept(name, team) => {
            transfer::accept(catalogue, &product_name(name), &team_name(team)).await.map(drop)
        }
        Step::Cancel(name) => {
            let name = product_name(name);
            let request = v1::CancelProductTransferRequest { name, ..Default::default() };
            catalogue.cancel_product_transfer(&author, request).await.map(drop)
        }
        Step::Succeed { name, schema, to } => {
            let request = v1::SucceedProductRequest {
                name: product_name(name),
                value_schema: schema.map(some_schema),
                reason: "Better.".to_owned(),
                successor: to
                    .map(|to| v1::Product { name: product_name(to), ..Default::default() }),
                ..Default::default()
            };
            catalogue.succeed_product(&author, request).await.map(drop)
        }
        Step::Delete(name) => {
            let name = product_name(name);
            let request = v1::DeleteProductRequest { name, ..Default::default() };
            catalogue.delete_product(&author, request).await.map(drop)
        }
    }
}

fn get_version(catalogue: &Catalogue, name: &str) -> Option<u32> {
    catalogue.resolve(name, "").ok().map(|handle| handle.current().number)
}

/// No two products lead to one another as successors.
fn has_no_circle(catalogue: &Catalogue) -> bool {
    let view = catalogue.inner.view.read();
    view.products.values().all(|handle| {
        let mut at = Some(handle);
        let steps = std::iter::from_fn(|| {
            at = at.and_then(|at| at.successor()).and_then(|id| view.product_of(id));
            at
        });
        steps.take(100).count() < 100
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_catalogue_that_is_opened_again_is_the_same(steps in prop::collection::vec(steps(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (storage, catalogue) = catalogue();
            let mut numbers = BTreeMap::new();
            let mut streams: BTreeMap<StreamId, String> = BTreeMap::new();
            let mut changes = 0;
            for step in &steps {
                let before = storage.state();
                match take(&catalogue, step).await {
                    Ok(()) => changes += 1,
                    Err(error) => {
                        prop_assert_ne!(error.reason(), Reason::Internal, "{}", error);
                        prop_assert_eq!(&storage.state(), &before, "a refused change changed something");
                    }
                }
                let view = catalogue.inner.view.read();
                for handle in view.products.values() {
                    let id = numbers.entry(handle.number).or_insert_with(|| handle.id.clone());
                    prop_assert_eq!(&*id, &handle.id, "a number was given twice");
                    for stream in &handle.streams {
                        let id = streams.entry(*stream).or_insert_with(|| handle.id.to_string());
                        prop_assert_eq!(id.as_str(), &*handle.id, "a stream belongs to two products");
                    }
                }
            }
            prop_assert_eq!(audit::records(&storage, &catalogue).len(), changes, "one record per change");
            prop_assert!(has_no_circle(&catalogue));
            let reopened = Catalogue::open(&storage).unwrap();
            prop_assert_eq!(seen(&reopened), seen(&catalogue));
            let uses = catalogue.inner.view.read().schema_uses();
            prop_assert!(uses.values().all(|uses| *uses > 0), "a schema that nothing uses is kept");
            let kept = storage.state().iter().filter(|(key, _)| matches!(Key::parse(key), Some(Key::Schema(_)))).count();
            prop_assert_eq!(kept, uses.len());
            Ok(())
        })?;
    }
}

fn storage_on(disk: &Arc<SimulatedDisk>) -> Storage {
    let parts = Components::on_disk(Arc::new(NoPayloads), Arc::new(NoObserver));
    let parts = Components { disk: disk.clone(), ..parts };
    let options = Options { directory: "/simulated".into(), ..Default::default() };
    Storage::open(options, parts).unwrap()
}

/// Several hundred changes, of which the checkpoints are lost: the journal alone says it all.
#[tokio::test]
async fn the_journal_alone_rebuilds_the_catalogue() {
    let steps = prop::collection::vec(steps(), 800);
    let steps = steps.new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let disk = Arc::new(SimulatedDisk::new(256 << 20));
    let storage = storage_on(&disk);
    let catalogue = Catalogue::open(&storage).unwrap();
    let mut done = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        if take(&catalogue, step).await.is_ok() {
            let kind = format!("{step:?}").split(['(', ' ']).next().unwrap().to_owned();
            *done.entry(kind).or_insert(0) += 1;
        }
        if number == 400 {
            storage.checkpoint();
        }
    }
    assert_eq!(done.len(), 21, "every kind of change succeeds at least once: {done:?}");
    let (before, records) = (seen(&catalogue), audit::records(&storage, &catalogue));
    assert_eq!(records.len(), done.values().sum::<usize>());
    storage.close().unwrap();
    drop(catalogue);
    drop(storage);

    let directory = Path::new("/simulated");
    let mut lost = 0;
    for name in disk.list(directory).unwrap() {
        if name.starts_with("checkpoint-") {
            disk.remove(&directory.join(name)).unwrap();
            lost += 1;
        }
    }
    assert!(lost > 0);
    let storage = storage_on(&disk);
    let catalogue = Catalogue::open(&storage).unwrap();
    assert_eq!(seen(&catalogue), before);
    assert_eq!(audit::records(&storage, &catalogue), records);
    storage.close().unwrap();
}

#[tokio::test]
async fn creating_many_products_takes_the_same_time_for_each() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.first")).await;
    let mut halves = Vec::new();
    for half in 0..2 {
        let begun = std::time::Instant::now();
        for number in 0..1_000 {
            created(&catalogue, create(&format!("ops.p{half}-{number}"))).await;
        }
        halves.push(begun.elapsed());
    }
    let whole: std::time::Duration = halves.iter().sum();
    assert!(whole.as_secs() < 10, "{halves:?}");
    assert!(halves[1] < halves[0] * 3 + std::time::Duration::from_millis(500), "{halves:?}");
}
