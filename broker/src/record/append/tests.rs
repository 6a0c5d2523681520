use bytes::Bytes;

use super::*;
use crate::config::{ByteSize, Config};

async fn broker_with_product(config: Config) -> Broker {
    let broker = Broker::open(config).unwrap();
    let request = v1::CreateProductRequest {
        product: Some(v1::Product { name: "sandbox.a".to_owned(), ..v1::Product::default() }),
        ..v1::CreateProductRequest::default()
    };
    broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
    broker
}

fn one_record() -> server_v1::AppendRequest {
    let record = v1::Record { value: Some(Bytes::from_static(b"{}")), ..v1::Record::default() };
    let batch = v1::RecordBatch { records: vec![record] }.encode_to_vec();
    server_v1::AppendRequest {
        product: "sandbox.a".to_owned(),
        batch: vec![batch.into()],
        ..server_v1::AppendRequest::default()
    }
}

#[test]
fn a_product_strengthens_what_a_request_asks_for_and_never_weakens_it() {
    let written = v1::Durability::Written.into();
    let synced = v1::Durability::Synced.into();
    assert_eq!(durability_of(0, None).unwrap(), Durability::Synced);
    assert_eq!(durability_of(written, None).unwrap(), Durability::Written);
    assert_eq!(durability_of(written, Some(Durability::Synced)).unwrap(), Durability::Synced);
    assert_eq!(durability_of(synced, Some(Durability::Written)).unwrap(), Durability::Synced);
    assert!(durability_of(99, None).is_err());
}

#[tokio::test]
async fn an_append_without_room_is_told_when_to_come_back_and_leaves_nothing() {
    let mut config = Config::default();
    config.storage.in_flight = ByteSize(1_000);
    config.appends.admission_wait = "20ms".parse().unwrap();
    let broker = broker_with_product(config).await;
    let all = broker.storage().admit(77, 1_000, drop).expect("all the room there is");
    let refused = broker.append(&Caller::default(), one_record()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::Overloaded);
    assert_eq!(refused.applied(), Applied::No);
    assert!(refused.metadata().contains_key("retry_after_ms"));
    drop(all);
    let appended = broker.append(&Caller::default(), one_record()).await.unwrap();
    assert_eq!(appended.ranges[0].first_offset, 0, "the refused one is not there");
}

#[tokio::test]
async fn an_append_that_waits_for_room_gets_it_when_it_comes_back() {
    let mut config = Config::default();
    config.storage.in_flight = ByteSize(1_000);
    let broker = broker_with_product(config).await;
    let all = broker.storage().admit(77, 1_000, drop).expect("all the room there is");
    let caller = Caller::default();
    let (appended, ()) = tokio::join!(broker.append(&caller, one_record()), async {
        tokio::task::yield_now().await;
        drop(all);
    });
    appended.unwrap();
}

#[tokio::test]
async fn an_append_given_up_while_it_waits_leaves_nothing_and_no_room_is_lost() {
    let mut config = Config::default();
    config.storage.in_flight = ByteSize(1_000);
    let broker = broker_with_product(config).await;
    let caller = Caller::default();
    let all = broker.storage().admit(77, 1_000, drop).expect("all the room there is");
    let given_up = tokio::time::timeout(
        std::time::Duration::from_millis(10),
        broker.append(&caller, one_record()),
    );
    assert!(given_up.await.is_err());
    drop(all);
    let appended = broker.append(&caller, one_record()).await.unwrap();
    assert_eq!(appended.ranges[0].first_offset, 0);
}
