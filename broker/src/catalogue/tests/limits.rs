//! How long records stay: said by the product, kept by every partition.

use std::time::Duration;

use meshlog_storage::Policy;

use super::*;

const DAY: i64 = 86_400;

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// What the engine keeps of each partition.
pub(super) fn policies(storage: &Storage, catalogue: &Catalogue, name: &str) -> Vec<Policy> {
    let handle = catalogue.resolve(name, "").unwrap();
    let policy = |stream: &meshlog_storage::StreamId| {
        let (sender, receiver) = std::sync::mpsc::channel();
        storage.explain(*stream, move |explanation| sender.send(explanation).unwrap());
        receiver.recv().unwrap().unwrap().policy
    };
    handle.streams.iter().map(policy).collect()
}

fn limited(name: &str, settings: ProductSettings) -> v1::Product {
    v1::Product { name: name.to_owned(), settings: Some(settings), ..Default::default() }
}

fn sandbox(name: &str, settings: Option<ProductSettings>) -> v1::CreateProductRequest {
    let product = v1::Product { name: name.to_owned(), settings, ..Default::default() };
    v1::CreateProductRequest { product: Some(product), ..Default::default() }
}

#[tokio::test]
async fn limits_reach_every_partition_in_the_entry_that_sets_them() {
    let (storage, catalogue) = catalogue();
    let request = with("ops.flights", |product| {
        product.partitions = 3;
        product.settings =
            Some(ProductSettings { retention_age: seconds(7 * DAY), ..Default::default() });
    });
    let entries = storage.stats().entries;
    let created = created(&catalogue, request).await;
    assert_eq!(storage.stats().entries, entries + 1);
    let week = Policy { max_age: Some(Duration::from_secs(7 * 86_400)), ..Policy::default() };
    assert_eq!(policies(&storage, &catalogue, "ops.flights"), [week; 3]);
    assert_eq!(created.effective_settings.unwrap().retention_age, seconds(7 * DAY));

    let more = ProductSettings {
        retention_bytes: 10 << 30,
        retention_count: 1_000_000,
        compaction: Some(v1::Compaction::default()),
        ..Default::default()
    };
    let paths = ["settings.retention_bytes", "settings.retention_count", "settings.compaction"];
    let updated = update(&catalogue, &paths, limited("ops.flights", more)).await.unwrap();
    assert_eq!(storage.stats().entries, entries + 2);
    let compact = meshlog_storage::Compaction { tombstone_min_age: Duration::from_secs(86_400) };
    let all = Policy {
        max_bytes: Some(10 << 30),
        max_count: Some(1_000_000),
        compact: Some(compact),
        ..week
    };
    assert_eq!(policies(&storage, &catalogue, "ops.flights"), [all; 3]);
    assert_eq!(updated.settings.unwrap().compaction, Some(v1::Compaction::default()));
    let effective = updated.effective_settings.unwrap();
    assert_eq!(effective.compaction.unwrap().tombstone_min_age, seconds(DAY));

    let nothing = limited("ops.flights", ProductSettings::default());
    update(&catalogue, &["settings"], nothing).await.unwrap();
    assert_eq!(policies(&storage, &catalogue, "ops.flights"), [Policy::default(); 3]);
    let (_, told) = audit::records(&storage, &catalogue).pop().unwrap();
    let changes = told["changes"].as_array().unwrap();
    let before =
        |path: &str| changes.iter().find(|one| one["path"] == path).unwrap()["before"].clone();
    assert_eq!(before("settings.retention_age"), "604800s");
    assert_eq!(before("settings.retention_bytes"), (10_u64 << 30).to_string());
    assert_eq!(before("settings.compaction"), true);
}

#[tokio::test]
async fn a_preview_of_a_limit_sets_none() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let settings = ProductSettings { retention_count: 5, ..Default::default() };
    let request = v1::UpdateProductRequest {
        product: Some(limited("ops.flights", settings)),
        update_mask: Some(mask(&["settings.retention_count"])),
        validate_only: true,
    };
    let preview = catalogue.update_product(&caller(), request).await.unwrap().product.unwrap();
    assert_eq!(preview.settings.unwrap().retention_count, 5);
    assert_eq!(policies(&storage, &catalogue, "ops.flights"), [Policy::default()]);
}

#[tokio::test]
async fn the_sandbox_keeps_a_week_unless_more_is_asked_for() {
    let (storage, catalogue) = catalogue();
    let week = created(&catalogue, sandbox("sandbox.a", None)).await;
    assert_eq!(week.settings.unwrap().retention_age, seconds(7 * DAY));
    assert_eq!(policies(&storage, &catalogue, "sandbox.a")[0].max_age, Some(settings::SANDBOX_AGE));
    let provenance = get_whole(&catalogue, "sandbox.a").provenance;
    let age = provenance.iter().find(|one| one.path == "settings.retention_age").unwrap();
    assert_eq!(age.kind(), v1::ProvenanceKind::Inferred);

    let none = ProductSettings { retention_age: seconds(0), ..Default::default() };
    let for_ever = created(&catalogue, sandbox("sandbox.b", Some(none))).await;
    assert_eq!(for_ever.effective_settings.unwrap().retention_age, None);
    assert_eq!(policies(&storage, &catalogue, "sandbox.b"), [Policy::default()]);

    // An update fills nothing in: what it takes away is gone.
    let nothing = limited("sandbox.a", ProductSettings::default());
    update(&catalogue, &["settings.retention_age"], nothing).await.unwrap();
    assert_eq!(policies(&storage, &catalogue, "sandbox.a"), [Policy::default()]);
    let docs =
        v1::Product { name: "sandbox.a".to_owned(), docs: "x".to_owned(), ..Default::default() };
    update(&catalogue, &["docs"], docs).await.unwrap();
    assert_eq!(policies(&storage, &catalogue, "sandbox.a"), [Policy::default()]);
}

#[tokio::test]
async fn out_of_the_sandbox_only_the_limit_that_somebody_said_comes_along() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.first")).await;
    for (name, said) in [("sandbox.a", false), ("sandbox.b", true)] {
        let mut request = sandbox(name, None);
        request.value_schema = Some(json_schema("{}"));
        let product = request.product.as_mut().unwrap();
        product.description = "Said.".to_owned();
        product.owner = "ops-team".to_owned();
        product.classification = Classification::Internal.into();
        created(&catalogue, request).await;
        if said {
            let age = ProductSettings { retention_age: seconds(7 * DAY), ..Default::default() };
            update(&catalogue, &["settings.retention_age"], limited(name, age)).await.unwrap();
        }
    }
    let moved = moving::move_to(&catalogue, "sandbox.a", "ops.a").await.unwrap();
    assert_eq!(moved.effective_settings.unwrap().retention_age, None);
    assert_eq!(policies(&storage, &catalogue, "ops.a"), [Policy::default()]);
    moving::move_to(&catalogue, "sandbox.b", "ops.b").await.unwrap();
    assert_eq!(policies(&storage, &catalogue, "ops.b")[0].max_age, Some(settings::SANDBOX_AGE));
    // A move back takes nothing away.
    moving::move_to(&catalogue, "ops.a", "sandbox.c").await.unwrap();
    assert_eq!(policies(&storage, &catalogue, "sandbox.c"), [Policy::default()]);
}

#[tokio::test]
async fn a_successor_keeps_as_long_as_the_product() {
    let (storage, catalogue) = catalogue();
    let request = with("ops.flights", |product| {
        product.partitions = 2;
        product.settings = Some(ProductSettings { retention_count: 9, ..Default::default() });
    });
    created(&catalogue, request).await;
    let request = v1::SucceedProductRequest {
        name: "ops.flights".to_owned(),
        reason: "Better.".to_owned(),
        ..Default::default()
    };
    catalogue.succeed_product(&caller(), request).await.unwrap();
    let nine = Policy { max_count: Some(9), ..Policy::default() };
    assert_eq!(policies(&storage, &catalogue, "ops.flights-v2"), [nine; 2]);
}

#[tokio::test]
async fn a_limit_out_of_bounds_is_refused_by_its_field() {
    let (storage, catalogue) = catalogue();
    let before = storage.state();
    let none = ProductSettings::default();
    let tombstones = |age| Some(v1::Compaction { tombstone_min_age: age });
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let short = Some(prost_types::Duration { seconds: 0, nanos: 999_999_999 });
    for (settings, path) in [
        (ProductSettings { retention_age: negative, ..none }, "settings.retention_age"),
        (ProductSettings { retention_age: short, ..none }, "settings.retention_age"),
        (
            ProductSettings { retention_age: seconds(36_500 * DAY + 1), ..none },
            "settings.retention_age",
        ),
        (ProductSettings { retention_bytes: 1 << 63, ..none }, "settings.retention_bytes"),
        (ProductSettings { retention_count: u64::MAX, ..none }, "settings.retention_count"),
        (
            ProductSettings { compaction: tombstones(negative), ..none },
            "settings.compaction.tombstone_min_age",
        ),
    ] {
        let request = with("ops.a", |product| product.settings = Some(settings));
        let error = refused(&catalogue, request).await;
        assert_eq!(field(&error), (Reason::InvalidArgument, path));
    }
    assert_eq!(storage.state(), before);
    let most = ProductSettings {
        retention_age: seconds(36_500 * DAY),
        retention_bytes: (1 << 63) - 1,
        compaction: tombstones(seconds(0)),
        ..none
    };
    created(&catalogue, with("ops.a", |product| product.settings = Some(most))).await;
    let error = update(&catalogue, &["settings.retention"], limited("ops.a", none)).await;
    assert_eq!(field(&error.unwrap_err()), (Reason::InvalidArgument, "update_mask"));
}
