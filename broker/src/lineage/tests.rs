use std::sync::Arc;

use super::*;
use crate::Caller;

fn caller(name: &str) -> Caller {
    Caller::new(name)
}

fn who(name: &str) -> Who {
    Who::from(&caller(name))
}

fn names(traffic: &Traffic, direction: Direction) -> Vec<String> {
    traffic.flows(direction).iter().map(|flow| flow.who.application.to_string()).collect()
}

#[test]
fn an_application_is_live_while_it_follows_and_after_it_read() {
    let traffic = Arc::new(Traffic::default());
    let mut follower = traffic.open(&caller("follower"));
    traffic.delivered(&caller("batch"), 1, 3, 30);
    follower.delivered(1, 4, 40);
    assert_eq!(traffic.records_read(), 7);
    let live = traffic.live_readers();
    let names: Vec<_> =
        live.iter().map(|one| (one.application.as_str(), one.open_subscriptions)).collect();
    assert_eq!(names, [("batch", 0), ("follower", 1)]);
    assert_eq!(traffic.live_reader_count(), 2);
    drop(follower);
    assert_eq!(traffic.live_readers()[1].open_subscriptions, 0, "it read within 24 hours");
    drop(traffic.open(&caller("never-read")));
    assert_eq!(traffic.live_readers().len(), 2, "opening alone is no use");
}

#[test]
fn a_hundred_applications_are_remembered_and_open_ones_are_never_forgotten() {
    let traffic = Arc::new(Traffic::default());
    let mut open: Vec<OpenReader> =
        (0..60).map(|n| traffic.open(&caller(&format!("open-{n}")))).collect();
    open.iter_mut().for_each(|reader| reader.delivered(1, 1, 0));
    for n in 0..200 {
        traffic.delivered(&caller(&format!("once-{n}")), 1, 1, 5);
    }
    let live = traffic.live_readers();
    assert_eq!(live.len(), MAX_APPLICATIONS + 1, "and the others");
    assert_eq!(live.iter().filter(|one| one.open_subscriptions == 1).count(), 60);
    assert!(live.iter().any(|one| one.application == "once-199"), "the newest stays");
    assert_eq!(traffic.records_read(), 260, "what is forgotten still counts");
    let others = traffic.flows(Direction::Read).into_iter().find(|flow| flow.who == Who::others());
    assert_eq!(others.unwrap().total.records, 160);
    let more: Vec<OpenReader> =
        (0..500).map(|n| traffic.open(&caller(&format!("more-{n}")))).collect();
    let open_now = traffic.live_readers().iter().map(|one| one.open_subscriptions).sum::<u32>();
    assert_eq!(open_now, 560, "none is left out of the guard");
    drop((open, more));
    assert!(traffic.live_readers().iter().all(|one| one.open_subscriptions == 0));
}

#[test]
fn the_index_knows_exactly_the_edges_there_are() {
    let index = Arc::new(Index::default());
    let (a, b) = (Traffic::new("A", &index), Traffic::new("B", &index));
    a.delivered(&caller("job"), 1, 1, 0);
    b.appended(&caller("job"), 1, 1, 0);
    let touched = index.touched(&who("job"));
    assert!(touched.reads.contains("A") && touched.appends.contains("B"));
    for n in 0..200 {
        a.delivered(&caller(&format!("once-{n}")), 1, 1, 0);
    }
    assert!(!names(&a, Direction::Read).contains(&"job".to_owned()));
    assert!(index.touched(&who("job")).reads.is_empty(), "forgotten there too");
    assert!(index.touched(&Who::others()).reads.contains("A"));
    a.forget();
    b.forget();
    assert!(index.named("job").is_empty() && index.named(OTHERS).is_empty());
}

#[test]
fn teams_are_apart_and_versions_beyond_the_eight_newest_are_counted_together() {
    let traffic = Traffic::default();
    let ops = Caller { team: Some(Arc::from("ops")), ..caller("job") };
    for version in 1..=12 {
        traffic.appended(&caller("job"), version, 10, 1);
    }
    traffic.appended(&ops, 3, 1, 1);
    traffic.appended(&caller("job"), 2, 100, 1);
    let flows = traffic.flows(Direction::Append);
    assert_eq!(flows.len(), 2);
    let versions: Vec<_> =
        flows[0].versions.iter().map(|(version, count)| (*version, count.records)).collect();
    let apart: Vec<_> = (5..=12).rev().map(|version| (version, 10)).collect();
    assert_eq!(versions[..8], apart);
    assert_eq!(versions[8..], [(0, 140)]);
    assert_eq!(flows[1].who, Who::from(&ops));
    assert_eq!(flows[1].versions[0].0, 3);
}

#[test]
fn a_counter_that_somebody_holds_is_not_taken_away_from_under_it() {
    let traffic = Traffic::default();
    let held = traffic.counter(Direction::Append, &caller("slow"), 1);
    for n in 0..300 {
        traffic.appended(&caller(&format!("fast-{n}")), 1, 1, 0);
    }
    held.add(7, 0, now());
    drop(held);
    assert_eq!(traffic.records_appended(), 307);
    assert!(names(&traffic, Direction::Append).contains(&"slow".to_owned()));
}

#[test]
fn counting_from_many_threads_loses_nothing() {
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        for n in 0..4 {
            let traffic = &traffic;
            scope.spawn(move || {
                for round in 0..2_000_u32 {
                    traffic.appended(
                        &caller(&format!("app-{}", (n + round) % 150)),
                        round % 12,
                        1,
                        2,
                    );
                }
            });
        }
    });
    assert_eq!(traffic.records_appended(), 8_000);
    assert!(names(&traffic, Direction::Append).len() <= MAX_APPLICATIONS + 1);
}

#[test]
fn what_the_log_has_and_no_edge_counts_was_appended_by_nobody_known() {
    let traffic = Traffic::default();
    traffic.appended(&caller("job"), 1, 5, 0);
    traffic.complete(5);
    assert_eq!(names(&traffic, Direction::Append), ["job"]);
    traffic.complete(8);
    assert_eq!(names(&traffic, Direction::Append), [NOT_COUNTED, "job"]);
    assert_eq!(traffic.records_appended(), 8);
    traffic.complete(3);
    assert_eq!(traffic.records_appended(), 8, "never less");
}

#[test]
fn what_was_stored_is_the_same_graph_again() {
    let index = Arc::new(Index::default());
    let before = Traffic::new("A", &index);
    for n in 0..130 {
        let team = (n % 2 == 0).then(|| Arc::from("ops"));
        let caller = Caller { team, ..caller(&format!("job-{n}")) };
        before.appended(&caller, n % 11, 3, 30);
        before.delivered(&caller, 1 + n % 5, 2, 20);
    }
    let again = Arc::new(Index::default());
    let after = Traffic::new("A", &again);
    after.restore(before.snapshot());
    for direction in [Direction::Append, Direction::Read] {
        assert_eq!(after.flows(direction), before.flows(direction));
    }
    for flow in before.flows(Direction::Read) {
        assert_eq!(again.touched(&flow.who), index.touched(&flow.who));
    }
}
