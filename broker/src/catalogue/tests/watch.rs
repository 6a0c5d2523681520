//! Watching the catalogue, through the broker.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::Broker;
use crate::catalogue::ProductWatch;
use crate::catalogue::recent::MAX_CHANGES;

fn watch(broker: &Broker, domain: &str, after_revision: u64) -> ProductWatch {
    let request = v1::WatchProductsRequest {
        domain: domain.to_owned(),
        after_revision,
        heartbeat_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
    };
    broker.watch_products(&Caller::default(), request).unwrap()
}

async fn next(watch: &mut ProductWatch) -> v1::WatchProductsResponse {
    let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await;
    next.expect("a message in time").expect("the watch goes on").unwrap()
}

/// What a watcher knows: products by id, and the revision.
#[derive(Default)]
struct Known {
    products: BTreeMap<String, v1::Product>,
    revision: u64,
    resets: usize,
}

impl Known {
    fn take(&mut self, message: &v1::WatchProductsResponse) {
        if message.reset {
            self.products.clear();
            self.resets += 1;
        }
        for change in &message.changes {
            match &change.product {
                Some(product) => {
                    assert_eq!((&product.id, &product.name), (&change.product_id, &change.name));
                    self.products.insert(change.product_id.clone(), product.clone());
                }
                None => drop(self.products.remove(&change.product_id)),
            }
        }
        if message.revision > 0 {
            assert!(message.revision >= self.revision || message.complete);
            self.revision = message.revision;
        }
    }

    /// Reads until everything up to the newest revision has been told.
    async fn catch_up(&mut self, watch: &mut ProductWatch, catalogue: &Catalogue) {
        while self.revision < *catalogue.changes().borrow() {
            let message = next(watch).await;
            assert!(message.encoded_len() < (1 << 20) + 1024, "{}", message.encoded_len());
            self.take(&message);
        }
    }

    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.products.values().map(|product| product.name.as_str()).collect();
        names.sort_unstable();
        names
    }
}

fn listed(catalogue: &Catalogue, domain: &str) -> BTreeMap<String, v1::Product> {
    let (mut all, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let request =
            v1::ListProductsRequest { domain: domain.to_owned(), page_size: 1000, page_token };
        let page = catalogue.list_products(&Caller::default(), request).unwrap();
        all.extend(page.products.into_iter().map(|product| (product.id.clone(), product)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

#[tokio::test]
async fn a_watch_tells_all_products_then_every_change() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    created(catalogue, create("ops.a")).await;
    let mut watch = watch(&broker, "", 0);
    let first = next(&mut watch).await;
    assert!(first.reset && first.complete && first.revision > 0);
    let mut known = Known::default();
    known.take(&first);
    assert_eq!(known.products, listed(catalogue, ""));
    assert_eq!(known.names(), ["meshlog.audit", "ops.a"]);

    created(catalogue, create("ops.b")).await;
    lifecycle::activate(catalogue, "ops.a").await.unwrap();
    moving::move_to(catalogue, "ops.b", "ops.c").await.unwrap();
    delete(catalogue, "ops.a").await;
    known.catch_up(&mut watch, catalogue).await;
    assert_eq!(known.products, listed(catalogue, ""));
    assert_eq!((known.names(), known.resets), (vec!["meshlog.audit", "ops.c"], 1));
}

#[tokio::test]
async fn a_change_of_a_team_or_a_domain_tells_the_products_that_show_it() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    for name in ["ops.a", "ops.b", "air.c"] {
        created(catalogue, create(name)).await;
    }
    let mut watch = watch(&broker, "", 0);
    let mut known = Known::default();
    known.catch_up(&mut watch, catalogue).await;
    let contacts = vec!["#new".to_owned()];
    let team = v1::Team { name: "ops-team".to_owned(), contacts, ..Default::default() };
    let request = v1::UpdateTeamRequest { team: Some(team), ..Default::default() };
    catalogue.update_team(&caller(), request).await.unwrap();
    let told = next(&mut watch).await;
    assert_eq!(told.changes.len(), 3);
    known.take(&told);
    let tags = vec![vocabulary::tag("pii", None, "")];
    let domain = v1::Domain { name: "ops".to_owned(), tags, ..Default::default() };
    let request = v1::UpdateDomainRequest { domain: Some(domain), ..Default::default() };
    catalogue.update_domain(&caller(), request).await.unwrap();
    let told = next(&mut watch).await;
    assert_eq!(told.changes.len(), 2);
    known.take(&told);
    assert_eq!(known.products, listed(catalogue, ""));

    // A name that another product shows, and that goes.
    let inputs = vec!["ops.a".to_owned()];
    let sum = v1::Product { name: "air.c".to_owned(), inputs, ..Default::default() };
    update(catalogue, &["inputs"], sum).await.unwrap();
    known.catch_up(&mut watch, catalogue).await;
    moving::move_to(catalogue, "ops.a", "ops.z").await.unwrap();
    known.catch_up(&mut watch, catalogue).await;
    assert_eq!(known.products, listed(catalogue, ""));
    delete(catalogue, "ops.z").await;
    known.catch_up(&mut watch, catalogue).await;
    assert_eq!(known.products, listed(catalogue, ""));
}

#[tokio::test]
async fn a_watch_of_one_domain_is_told_of_what_comes_and_goes_there_and_of_nothing_else() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    for name in ["ops.a", "ops.b", "ops-2.x", "air.c"] {
        created(catalogue, create(name)).await;
    }
    let mut watch = watch(&broker, "ops", 0);
    let first = next(&mut watch).await;
    let mut known = Known::default();
    known.take(&first);
    assert_eq!(known.names(), ["ops.a", "ops.b"]);
    created(catalogue, create("air.d")).await;
    let id = get(catalogue, "ops.a").id;
    moving::move_to(catalogue, "ops.a", "air.a").await.unwrap();
    let left = next(&mut watch).await;
    assert_eq!(left.changes.len(), 1, "nothing of air.d");
    assert_eq!(
        (left.changes[0].product_id.as_str(), left.changes[0].product.as_ref()),
        (id.as_str(), None)
    );
    known.take(&left);
    moving::move_to(catalogue, "air.c", "ops.c").await.unwrap();
    known.take(&next(&mut watch).await);
    assert_eq!(known.products, listed(catalogue, "ops"));
    assert_eq!(known.names(), ["ops.b", "ops.c"]);
}

#[tokio::test]
async fn a_watch_resumes_where_an_earlier_one_ended_or_begins_anew() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    created(catalogue, create("ops.a")).await;
    let mut known = Known::default();
    known.catch_up(&mut watch(&broker, "", 0), catalogue).await;
    created(catalogue, create("ops.b")).await;
    delete(catalogue, "ops.a").await;
    let mut resumed = watch(&broker, "", known.revision);
    known.catch_up(&mut resumed, catalogue).await;
    assert_eq!(
        (known.products.clone(), known.resets),
        (listed(catalogue, ""), 1),
        "only the changes"
    );

    // The revision of another run of the broker is nothing to go on from.
    let other = Broker::in_memory().unwrap();
    for foreign in [known.revision, 7, u64::MAX] {
        let first = next(&mut watch(&other, "", foreign)).await;
        assert!(first.reset && first.complete, "{foreign}");
        assert_eq!(first.changes.len(), 1);
    }
}

#[tokio::test]
async fn a_watcher_that_falls_behind_begins_anew_and_misses_nothing() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    for number in 0..40 {
        created(catalogue, create(&format!("ops.p{number}"))).await;
    }
    let mut slow = watch(&broker, "", 0);
    let mut known = Known::default();
    known.catch_up(&mut slow, catalogue).await;
    delete(catalogue, "ops.p7").await;
    // 39 products per change of their team.
    for round in 0..MAX_CHANGES / 39 + 2 {
        let contacts = vec![format!("#round-{round}")];
        let team = v1::Team { name: "ops-team".to_owned(), contacts, ..Default::default() };
        let request = v1::UpdateTeamRequest { team: Some(team), ..Default::default() };
        catalogue.update_team(&caller(), request).await.unwrap();
    }
    known.catch_up(&mut slow, catalogue).await;
    assert_eq!((known.products, known.resets), (listed(catalogue, ""), 2));
}

#[tokio::test]
async fn many_products_come_in_messages_of_a_megabyte_and_only_the_last_can_be_resumed_from() {
    let broker = Broker::in_memory().unwrap();
    let catalogue = broker.catalogue();
    for number in 0..60 {
        let docs = "d".repeat(60_000);
        created(catalogue, with(&format!("ops.p{number}"), |p| p.docs = docs)).await;
    }
    let mut watch = watch(&broker, "", 0);
    let mut known = Known::default();
    let mut messages = 0;
    loop {
        let message = next(&mut watch).await;
        messages += 1;
        assert!(message.encoded_len() < (1 << 20) + 1024);
        assert_eq!(message.reset, messages == 1);
        assert_eq!(message.revision > 0, message.complete);
        // What happens while the products are told is not lost.
        if messages == 2 {
            created(catalogue, create("aaa.early")).await;
            delete(catalogue, "ops.p0").await;
        }
        known.take(&message);
        if message.complete {
            break;
        }
    }
    assert!(messages >= 4, "{messages}");
    known.catch_up(&mut watch, catalogue).await;
    assert_eq!(known.products, listed(catalogue, ""));
}

#[tokio::test]
async fn an_idle_watch_beats_and_ends_when_the_broker_does() {
    let broker = Broker::in_memory().unwrap();
    let heartbeat = |millis: u64| v1::WatchProductsRequest {
        heartbeat_interval: Some(Duration::from_millis(millis).try_into().unwrap()),
        ..Default::default()
    };
    for bad in [999, 60_001] {
        let error = broker.watch_products(&Caller::default(), heartbeat(bad)).unwrap_err();
        assert_eq!(field(&error), (Reason::InvalidArgument, "heartbeat_interval"));
    }
    let mut watch = broker.watch_products(&Caller::default(), heartbeat(1_000)).unwrap();
    let first = next(&mut watch).await;
    let begun = std::time::Instant::now();
    let beat = next(&mut watch).await;
    assert!(begun.elapsed() >= Duration::from_millis(900));
    assert_eq!((beat.revision, beat.changes.len(), beat.reset), (first.revision, 0, false));
    broker.close().await.unwrap();
    let error = watch.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Reason::ShuttingDown);
    assert!(watch.next().await.is_none());
    assert_eq!(
        broker.watch_products(&Caller::default(), heartbeat(1_000)).unwrap_err().reason(),
        Reason::ShuttingDown
    );
}
