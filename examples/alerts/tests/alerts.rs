//! The application against a real broker in the same process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

#[path = "alerts/quickstart.rs"]
mod quickstart;

use std::time::Duration;

use alerts::{ALERTS, Alert, Alerts, FLIGHTS};
use meshlog_client::Record;
use meshlog_testing::{TestBroker, TestBrokerBuilder, product};

async fn broker(builder: TestBrokerBuilder) -> TestBroker {
    let broker = builder.start().await;
    let schema = include_str!("../../flights/schemas/flights.json");
    let flights = product(FLIGHTS).owner("flight-operations").partitions(3).json_schema(schema);
    broker.create(flights).await;
    broker
}

/// Flight `number`, delayed by as many minutes.
fn flight(number: i64) -> Record {
    let flight = serde_json::json!({
        "year": 2013, "month": 1, "day": 1, "dep_time": 517, "sched_dep_time": 515,
        "dep_delay": number, "arr_time": null, "sched_arr_time": 819, "arr_delay": null,
        "carrier": "UA", "flight": number, "tailnum": null, "origin": "EWR", "dest": "IAH",
        "air_time": null, "distance": 1400, "hour": 5, "minute": 15,
        "time_hour": "2013-01-01T10:00:00Z"
    });
    Record::new(flight.to_string()).key(format!("N{number}"))
}

/// The minutes of all alerts in the log.
async fn told(broker: &TestBroker) -> Vec<i64> {
    let values = broker.values(ALERTS).await;
    values.iter().map(|value| serde_json::from_str::<Alert>(value).unwrap().minutes).collect()
}

async fn next(alerts: &mut Alerts) -> i64 {
    let next = tokio::time::timeout(Duration::from_secs(20), alerts.next()).await;
    next.expect("an alert comes").unwrap().unwrap().minutes
}

#[tokio::test]
async fn late_flights_are_told_under_their_number_and_others_are_not() {
    let broker = broker(TestBroker::builder()).await;
    broker.append(FLIGHTS, [flight(60), flight(61), flight(1)]).await;
    let mut alerts = Alerts::resume(&broker.client().await).await.unwrap();
    assert_eq!(next(&mut alerts).await, 61);
    broker.append(FLIGHTS, [flight(90)]).await;
    assert_eq!(next(&mut alerts).await, 90);
    let keys: Vec<_> = broker.records(ALERTS).await.into_iter().map(|r| r.record.key).collect();
    assert_eq!(keys, [Some("UA61".into()), Some("UA90".into())]);
}

#[tokio::test]
async fn cut_connections_and_killed_applications_repeat_and_lose_nothing() {
    let broker = broker(TestBroker::builder().port()).await;
    let late: Vec<i64> = (100..160).collect();
    for minutes in &late {
        broker.append(FLIGHTS, [flight(*minutes), flight(1)]).await;
    }
    for _ in 0..6 {
        let client = broker.client().await;
        let running = tokio::spawn(async move {
            let mut alerts = Alerts::resume(&client).await.unwrap();
            while let Ok(Some(_)) = alerts.next().await {}
        });
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(7)).await;
            broker.network().cut();
        }
        // Wherever it is, in the middle of an append or not; or it has ended with `OFFSET_MISMATCH`.
        running.abort();
        let _ = running.await;
    }
    while told(&broker).await.len() < late.len() {
        let mut alerts = Alerts::resume(&broker.client().await).await.unwrap();
        // The last append of a killed one may still arrive, and be in the log before this one's.
        while let Ok(told) = tokio::time::timeout(Duration::from_secs(1), alerts.next()).await {
            if let Err(refused) = told {
                assert_eq!(refused.reason(), "OFFSET_MISMATCH", "{refused}");
                break;
            }
        }
    }
    let mut found = told(&broker).await;
    found.sort_unstable();
    assert_eq!(found, late);
}

#[tokio::test]
async fn of_two_that_run_at_once_one_ends_and_no_alert_is_told_twice() {
    let broker = broker(TestBroker::builder()).await;
    let client = broker.client().await;
    let mut one = Alerts::resume(&client).await.unwrap();
    let mut two = Alerts::resume(&client).await.unwrap();
    broker.append(FLIGHTS, [flight(70)]).await;
    assert_eq!(next(&mut one).await, 70);
    let refused = two.next().await.unwrap_err();
    assert_eq!(refused.reason(), "OFFSET_MISMATCH", "{refused}");
    assert_eq!(told(&broker).await, [70]);
}

#[tokio::test]
async fn a_slow_and_then_failing_disk_delays_alerts_and_repeats_none() {
    let broker = broker(TestBroker::builder().on_simulated_disk()).await;
    let mut alerts = Alerts::resume(&broker.client().await).await.unwrap();
    broker.append(FLIGHTS, [flight(70), flight(80), flight(90)]).await;
    broker.disk().delay_syncs(Duration::from_millis(100));
    let mut found = vec![next(&mut alerts).await];
    broker.disk().delay_syncs(Duration::ZERO);

    broker.disk().fail_next_sync();
    let telling = tokio::spawn(async move { (next(&mut alerts).await, alerts) });
    // The journal refuses everything now, until somebody has looked at the disk and restarts.
    while broker.broker().server_info().storage.unwrap().appends_refused.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    broker.crash().await;
    let (second, mut alerts) = telling.await.unwrap();
    found.extend([second, next(&mut alerts).await]);
    assert_eq!(found, told(&broker).await);
    found.sort_unstable();
    assert_eq!(found, [70, 80, 90]);
}
