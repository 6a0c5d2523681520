//! SIGSTOP and SIGCONT, and SIGTERM, under load.

use std::time::Duration;

use rustix::process::Signal;

use crate::ledger::Ledger;
use crate::load::{Load, check, create, runtime};
use crate::server::{Start, pause, scratch, verify};
use crate::{Outcome, Plan};

const DRAIN_MAX: Duration = Duration::from_secs(10);

pub(crate) fn under_load(_plan: &Plan) -> Outcome {
    let runtime = runtime();
    let _inside = runtime.enter();
    let home = scratch("pause");
    let data = home.join("data");
    let start = Start { data: &data, home: &home, under: Vec::new() };
    let mut ledger = Ledger::new(2);
    let server = start.listening().unwrap();
    create(&runtime, &server.channel(), &ledger);

    let load = Load::start(&runtime, &server.channel(), &mut ledger);
    for _ in 0..3 {
        pause(Duration::from_millis(100));
        server.signal(Signal::STOP);
        pause(Duration::from_millis(400));
        server.signal(Signal::CONT);
    }
    let before = load.acknowledged.load(std::sync::atomic::Ordering::Relaxed);
    pause(Duration::from_millis(200));
    let after = load.acknowledged.load(std::sync::atomic::Ordering::Relaxed);
    assert!(after > before, "no append is acknowledged after SIGCONT");
    load.finish(&runtime, &mut ledger);
    check(&runtime, &server.channel(), &ledger);

    let mut slowest = Duration::ZERO;
    let mut server = Some(server);
    for _ in 0..3 {
        let running = server.take().unwrap_or_else(|| start.listening().unwrap());
        let load = Load::start(&runtime, &running.channel(), &mut ledger);
        pause(Duration::from_millis(200));
        let (took, code) = running.terminate();
        load.finish(&runtime, &mut ledger);
        assert_eq!(code, Some(0), "SIGTERM under load ends it cleanly");
        assert!(took <= DRAIN_MAX, "draining took {took:?}");
        slowest = slowest.max(took);
        verify(&data).unwrap();
        let log = std::fs::read_to_string(home.join("stderr")).unwrap();
        assert!(!log.contains("never acknowledged"), "a clean stop leaves nothing torn: {log}");
    }
    let running = start.listening().unwrap();
    let counted = check(&runtime, &running.channel(), &ledger);
    Outcome::Passed(format!(
        "3 pauses, 3 ends by SIGTERM within {slowest:?}; {} acknowledged appends all there",
        counted.acknowledged
    ))
}
