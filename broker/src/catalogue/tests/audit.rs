//! Every change leaves one record, in the entry of the change.

use meshlog_storage::{Offset, ReadRequest};
use serde_json::Value;

use super::super::audit;
use super::vocabulary::{create_key, tag, tag_key};
use super::*;

/// Key and value of every record of the audit log.
pub(super) fn records(storage: &Storage, catalogue: &Catalogue) -> Vec<(String, Value)> {
    let handle = catalogue.resolve(audit::PRODUCT, "").unwrap();
    let stream = handle.streams[0];
    let end = storage.bounds(stream).unwrap().durable_end;
    let (mut from, mut records) = (Offset(0), Vec::new());
    while from < end {
        let request = ReadRequest { stream, from, max_bytes: 1 << 20, hint: None };
        let (sender, receiver) = std::sync::mpsc::channel();
        let late = sender.clone();
        if let Some(now) = storage.read(request, move |slice| late.send(slice).unwrap()) {
            sender.send(now).unwrap();
        }
        for batch in receiver.recv().unwrap().unwrap().batches {
            from = batch.end();
            let decoded = v1::RecordBatch::decode(batch.payload).unwrap();
            for record in decoded.records {
                assert!(record.event_time_unix_nano > 0);
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                let value = record.value.unwrap();
                assert!(value.len() <= 64 << 10);
                records.push((key, serde_json::from_slice(&value).unwrap()));
            }
        }
    }
    records
}

/// The record that the last change left.
fn last(storage: &Storage, catalogue: &Catalogue) -> (String, Value) {
    records(storage, catalogue).pop().unwrap()
}

#[tokio::test]
async fn the_first_open_creates_the_audit_log_and_later_ones_nothing() {
    let (storage, catalogue) = catalogue();
    assert_eq!(storage.stats().entries, 1, "one entry");
    let state = storage.state();
    let product = get(&catalogue, "meshlog.audit");
    assert_eq!(product.state(), v1::ProductState::Active);
    assert_eq!(product.classification(), Classification::Restricted);
    assert_eq!((product.owner.as_str(), product.partitions), ("meshlog", 1));
    assert_eq!(product.contacts, ["whoever runs this broker"]);
    for _ in 0..2 {
        let reopened = Catalogue::open(&storage).unwrap();
        assert_eq!(storage.state(), state);
        assert_eq!(get(&reopened, "meshlog.audit"), product);
    }
    assert_eq!(catalogue.product_count(), 0);
}

#[tokio::test]
async fn a_record_says_who_changed_what_from_what_to_what() {
    let (storage, catalogue) = catalogue();
    let product = created(&catalogue, create("ops.flights")).await;
    let (key, value) = last(&storage, &catalogue);
    assert_eq!(key, "product/ops.flights");
    assert_eq!(value["action"], "create_product");
    assert_eq!(value["kind"], "product");
    assert_eq!(value["id"], product.id);
    assert_eq!(value["principal"], "unverified:tests");
    assert_eq!(value["application"], "tests");
    assert!(value.get("etag_before").is_none());
    assert_eq!(value["etag_after"], product.etag);
    let paths: Vec<&str> = value["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["path"].as_str().unwrap())
        .collect();
    assert!(
        paths.contains(&"new_team.contacts") && paths.contains(&"new_domain.owner"),
        "{paths:?}"
    );
    assert!(paths.contains(&"owner") && paths.contains(&"classification"), "{paths:?}");

    let asked = v1::Product {
        name: "ops.flights".to_owned(),
        description: "All departures.".to_owned(),
        tags: vec![tag("pii", None, "carrier")],
        ..Default::default()
    };
    let after = update(&catalogue, &["description", "tags"], asked).await.unwrap();
    let (_, value) = last(&storage, &catalogue);
    assert_eq!(
        (&value["etag_before"], &value["etag_after"]),
        (&product.etag.into(), &after.etag.into())
    );
    assert_eq!(
        value["changes"],
        serde_json::json!([
            {"path": "description", "before": "Departures.", "after": "All departures."},
            {"path": "tags[pii@carrier]", "after": true},
        ])
    );
    delete(&catalogue, "ops.flights").await;
    let (key, value) = last(&storage, &catalogue);
    assert_eq!((key.as_str(), &value["action"]), ("product/ops.flights", &"delete_product".into()));
    assert!(value.get("etag_after").is_none());
    assert!(value["changes"].as_array().unwrap().iter().all(|one| one.get("after").is_none()));
}

#[tokio::test]
async fn every_record_conforms_to_the_schema_of_the_audit_log() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    created(&catalogue, create("ops.others")).await;
    catalogue.create_team(&caller(), team("new")).await.unwrap();
    catalogue.create_domain(&caller(), domain("new", "new")).await.unwrap();
    create_key(&catalogue, tag_key("unit", v1::TagValueType::Enum, &["m"])).await.unwrap();
    add_version(&catalogue, "ops.flights", json_schema("{}")).await.unwrap();
    transfer::transfer(&catalogue, "ops.flights", "new").await.unwrap();
    transfer::accept(&catalogue, "ops.flights", "new").await.unwrap();
    moving::move_to(&catalogue, "ops.flights", "new.flights").await.unwrap();
    lifecycle::activate(&catalogue, "new.flights").await.unwrap();
    let request = v1::SucceedProductRequest {
        name: "new.flights".to_owned(),
        reason: "New.".to_owned(),
        sunset_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    catalogue.succeed_product(&caller(), request).await.unwrap();
    lifecycle::retire(&catalogue, "new.flights", true).await.unwrap();
    let docs = v1::Product {
        name: "ops.others".to_owned(),
        docs: "é".repeat(32_000),
        ..Default::default()
    };
    update(&catalogue, &["docs"], docs).await.unwrap();
    delete(&catalogue, "ops.others").await;

    let records = records(&storage, &catalogue);
    assert_eq!(records.len(), 14, "one per change");
    let product = catalogue.resolve("meshlog.audit", "").unwrap();
    let schema = product.schema(0).unwrap();
    let check = schema.validator().expect("its own schema is enforced");
    check.check(None, Some(br#"{"time": "now"}"#)).unwrap_err();
    for (key, value) in &records {
        let text = value.to_string();
        check
            .check(None, Some(text.as_bytes()))
            .unwrap_or_else(|why| panic!("{key}: {why:?} {text}"));
        let name =
            format!("{}/{}", value["kind"].as_str().unwrap(), value["name"].as_str().unwrap());
        assert_eq!(*key, name);
    }
    let actions: Vec<&str> =
        records.iter().map(|(_, value)| value["action"].as_str().unwrap()).collect();
    assert_eq!(
        &actions[2..],
        [
            "create_team",
            "create_domain",
            "create_tag_key",
            "add_schema_version",
            "transfer_product",
            "accept_product_transfer",
            "move_product",
            "activate_product",
            "succeed_product",
            "retire_product",
            "update_product",
            "delete_product",
        ]
    );
}
