//! `kill -9` at random moments: under load, and while the next start recovers.

use crate::ledger::{Counted, Ledger};
use crate::load::{Load, check, create, runtime};
use crate::random::Random;
use crate::server::{Start, pause, scratch, verify};
use crate::{Outcome, Plan};

/// Cycles on one directory, before a new one is begun.
const CYCLES_EACH: u64 = 10;

pub(crate) fn under_load(plan: &Plan) -> Outcome {
    let mut random = Random::new(plan.seed);
    let runtime = runtime();
    let _inside = runtime.enter();
    let (mut counted, mut in_recovery) = (Counted::default(), 0);
    let mut done = 0;
    while done < plan.cycles {
        let home = scratch("kill");
        let data = home.join("data");
        let start = Start { data: &data, home: &home, under: Vec::new() };
        let mut ledger = Ledger::new(3);
        let server = start.listening().unwrap();
        create(&runtime, &server.channel(), &ledger);
        let mut server = Some(server);
        let cycles = CYCLES_EACH.min(plan.cycles - done);
        for cycle in 0..cycles {
            let running = server.take().unwrap_or_else(|| start.listening().unwrap());
            counted += check_last(cycle, &runtime, &running, &ledger);
            let load = Load::start(&runtime, &running.channel(), &mut ledger);
            pause(random.millis(500));
            running.kill();
            load.finish(&runtime, &mut ledger);
            for _ in 0..random.below(3) {
                start.killed_after(random.millis(120));
                in_recovery += 1;
            }
            if let Err(words) = verify(&data) {
                panic!("cycle {}: a kill is not damage:\n{words}", done + cycle);
            }
        }
        let running = start.listening().unwrap();
        counted += check(&runtime, &running.channel(), &ledger);
        // Everything that is in doubt is sent again, and is there once.
        let load = Load::start(&runtime, &running.channel(), &mut ledger);
        load.finish(&runtime, &mut ledger);
        check(&runtime, &running.channel(), &ledger);
        done += cycles;
    }
    Outcome::Passed(format!(
        "{done} kills under load, {in_recovery} in start-up; {} acknowledged appends all there in \
         order, {} in doubt of which {} there once",
        counted.acknowledged, counted.in_doubt, counted.in_doubt_there
    ))
}

/// What the cycle before left; the ledger grows, so only the last check of a directory counts.
fn check_last(
    cycle: u64,
    runtime: &tokio::runtime::Runtime,
    server: &crate::server::Server,
    ledger: &Ledger,
) -> Counted {
    if cycle == 0 {
        return Counted::default();
    }
    let found = check(runtime, &server.channel(), ledger);
    Counted { acknowledged: 0, ..found }
}
