//! Breaking successors.

use super::vocabulary::tag;
use super::*;

fn succession(name: &str) -> v1::SucceedProductRequest {
    v1::SucceedProductRequest {
        name: name.to_owned(),
        reason: "Numbers are text now.".to_owned(),
        ..Default::default()
    }
}

async fn succeed(
    catalogue: &Catalogue,
    request: v1::SucceedProductRequest,
) -> Result<(v1::Product, v1::Product)> {
    let response = catalogue.succeed_product(&caller(), request).await?;
    Ok((response.product.unwrap(), response.successor.unwrap()))
}

#[tokio::test]
async fn a_successor_takes_over_what_still_fits_and_the_old_one_points_to_it() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.source")).await;
    let request = with("ops.flights", |p| {
        p.partitions = 3;
        p.docs = "# Flights".to_owned();
        p.kind = v1::ProductKind::Aggregate.into();
        p.inputs = vec!["ops.source".to_owned()];
        p.key = Some(KeyRule { field: "carrier".to_owned() });
        p.tags =
            vec![tag("pii", None, ""), tag("pii", None, "carrier"), tag("pii", None, "number")];
        p.settings = Some(ProductSettings {
            enforcement: Enforcement::Enforce.into(),
            minimum_durability: v1::Durability::Synced.into(),
            retention_count: 1_000,
            ..Default::default()
        });
    });
    created(&catalogue, request).await;
    lifecycle::activate(&catalogue, "ops.flights").await.unwrap();
    let entries = storage.stats().entries;
    let schema = r#"{"type": "object", "properties": {"carrier": {"type": "string"}}}"#;
    let request = v1::SucceedProductRequest {
        value_schema: Some(json_schema(schema)),
        ..succession("ops.flights")
    };
    let (old, new) = succeed(&catalogue, request).await.unwrap();
    assert_eq!(storage.stats().entries, entries + 1, "one entry");
    assert_eq!(
        (old.state(), old.successor.as_str()),
        (v1::ProductState::Deprecated, "ops.flights-v2")
    );
    assert_eq!(old.deprecation_reason, "Numbers are text now.");
    assert_eq!((new.name.as_str(), new.state()), ("ops.flights-v2", v1::ProductState::Draft));
    assert_eq!(
        (new.partitions, new.docs.as_str(), new.owner.as_str()),
        (3, "# Flights", "ops-team")
    );
    assert_eq!(
        (new.kind(), new.inputs.as_slice()),
        (v1::ProductKind::Aggregate, &["ops.source".to_owned()][..])
    );
    assert_eq!(new.tags, [tag("pii", None, ""), tag("pii", None, "carrier")]);
    assert_eq!(new.key, None, "the key is not required by the new schema");
    assert_eq!(new.settings, old.settings);
    assert_eq!(get(&catalogue, "ops.flights"), old);
    assert_eq!(get(&catalogue, "ops.flights-v2"), new);
    assert_ne!(new.id, old.id);

    // The next one counts on; a name that is taken is passed over; other formats fit as far as they do.
    created(&catalogue, create("ops.flights-v3")).await;
    let request = v1::SucceedProductRequest {
        value_schema: Some(some_schema(3)),
        ..succession("ops.flights-v2")
    };
    let (old, new) = succeed(&catalogue, request).await.unwrap();
    assert_eq!((old.successor.as_str(), new.name.as_str()), ("ops.flights-v4", "ops.flights-v4"));
    let settings = new.settings.unwrap();
    assert_eq!((settings.enforcement, settings.minimum_durability()), (0, v1::Durability::Synced));
}

#[tokio::test]
async fn what_the_request_says_wins_over_what_the_old_product_says() {
    let (_, catalogue) = catalogue();
    created(&catalogue, with("ops.a", |p| p.key = Some(KeyRule { field: "carrier".to_owned() })))
        .await;
    created(&catalogue, create("air.x")).await;
    let successor = v1::Product {
        name: "air.a".to_owned(),
        description: "Better.".to_owned(),
        partitions: 2,
        ..Default::default()
    };
    let request = v1::SucceedProductRequest { successor: Some(successor), ..succession("ops.a") };
    let (_, new) = succeed(&catalogue, request).await.unwrap();
    assert_eq!(
        (new.name.as_str(), new.description.as_str(), new.partitions),
        ("air.a", "Better.", 2)
    );
    assert_eq!(new.key.unwrap().field, "carrier", "the schema is the same");
    assert_eq!(new.schema_version, 1);
}

#[tokio::test]
async fn a_bad_succession_changes_nothing() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    created(&catalogue, create("ops.old")).await;
    lifecycle::deprecate(&catalogue, lifecycle::deprecation("ops.old")).await.unwrap();
    let before = storage.state();
    let request = |change: fn(&mut v1::SucceedProductRequest)| {
        let mut request = succession("ops.a");
        change(&mut request);
        request
    };
    for (request, reason, name) in [
        (request(|r| r.reason.clear()), Reason::FieldMissing, "reason"),
        (request(|r| r.name = "ops.none".to_owned()), Reason::ProductNotFound, ""),
        (request(|r| r.name = "ops.old".to_owned()), Reason::StateInvalid, ""),
        (request(|r| r.name = "meshlog.audit".to_owned()), Reason::ProductReadOnly, ""),
        (request(|r| r.etag = "0".to_owned()), Reason::EtagMismatch, ""),
        (
            request(|r| r.value_schema = Some(json_schema("{"))),
            Reason::SchemaMalformed,
            "value_schema",
        ),
        (
            request(|r| r.successor.get_or_insert_default().name = "ops.old".to_owned()),
            Reason::ProductExists,
            "",
        ),
        (
            request(|r| r.successor.get_or_insert_default().name = "ops.a".to_owned()),
            Reason::ProductExists,
            "",
        ),
        (
            request(|r| r.successor.get_or_insert_default().owner = "nobody".to_owned()),
            Reason::TeamNotFound,
            "",
        ),
        (
            request(|r| r.sunset_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 })),
            Reason::InvalidArgument,
            "sunset_time",
        ),
    ] {
        let error = succeed(&catalogue, request).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    assert_eq!(storage.state(), before);
}
