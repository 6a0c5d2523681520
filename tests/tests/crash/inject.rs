//! The n-th call of the shipped binary fails or kills it, for n over a whole run: `strace` does it,
//! the binary is as it is.

use std::process::Command;

use meshlog_proto::v1::record_service_client::RecordServiceClient;

use crate::ledger::Ledger;
use crate::load::{append_once, check, create, runtime};
use crate::server::{Start, scratch, verify};
use crate::{Outcome, Plan};

/// Appends of one run.
const APPENDS: usize = 200;

struct Fault {
    call: &'static str,
    what: &'static str,
    /// Steps over the calls of the run.
    steps: u64,
}

const FAULTS: &[Fault] = &[
    Fault { call: "fdatasync", what: "error=EIO", steps: 6 },
    Fault { call: "pwrite64", what: "error=EIO", steps: 6 },
    Fault { call: "pwrite64", what: "error=ENOSPC", steps: 6 },
    Fault { call: "fdatasync", what: "signal=KILL", steps: 6 },
];

pub(crate) fn at_every_step(plan: &Plan) -> Outcome {
    if let Err(why) = strace(plan.may_install) {
        return Outcome::Skipped(why);
    }
    let (mut hits, mut runs) = (0, 0);
    for fault in FAULTS {
        let steps = if plan.cycles > 20 { fault.steps * 4 } else { fault.steps };
        for step in 0..steps {
            // Some calls prepare files; more than there are appends are never made.
            let n = 1 + step * APPENDS as u64 / steps + (plan.seed + step) % 5;
            runs += 1;
            hits += u64::from(one(fault, n));
        }
    }
    assert!(hits * 2 > runs, "{hits} of {runs} runs met their fault: the sweep tests nothing");
    Outcome::Passed(format!("{hits} of {runs} runs met their fault and kept the rules"))
}

/// One run; whether the fault came.
fn one(fault: &Fault, n: u64) -> bool {
    let context = format!("{}:{}:when={n}", fault.call, fault.what);
    let runtime = runtime();
    let _inside = runtime.enter();
    let home = scratch("inject");
    let data = home.join("data");
    let plain = Start { data: &data, home: &home, under: Vec::new() };
    let mut ledger = Ledger::new(1);
    let server = plain.listening().unwrap();
    create(&runtime, &server.channel(), &ledger);
    server.terminate();

    let arguments = [
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={}", fault.call),
        "-e",
        &format!("inject={context}"),
    ];
    let under = arguments.map(str::to_owned).to_vec();
    let Ok(mut server) = (Start { data: &data, home: &home, under }).listening() else {
        // It fell on the start, which must then be refused with a sentence, not half done.
        verify(&data).unwrap_or_else(|words| panic!("{context}: {words}"));
        let server = plain.listening().unwrap_or_else(|words| panic!("{context}: {words}"));
        check(&runtime, &server.channel(), &ledger);
        return true;
    };
    let mut client = RecordServiceClient::new(server.channel());
    let mut refused = None;
    for _ in 0..APPENDS {
        let writer = &mut ledger.writers[0];
        if let Err(refusal) = runtime.block_on(append_once(&mut client, writer)) {
            refused = Some(refusal);
            break;
        }
    }
    if let Some(refusal) = &refused {
        match (refusal.reason.as_str(), refusal.applied.as_str()) {
            ("JOURNAL_FAILED", "unknown") if !fault.what.starts_with("signal") => {
                // Fail-stop: later appends are refused and not applied; reads go on.
                let other = &mut ledger.writers[2];
                let later = runtime.block_on(append_once(&mut client, other)).unwrap_err();
                assert_eq!(
                    (&later.reason[..], &later.applied[..]),
                    ("JOURNAL_FAILED", "no"),
                    "{context}"
                );
                check(&runtime, &server.channel(), &ledger);
            }
            ("JOURNAL_FAILED" | "DISK_FULL", "no") if !fault.what.starts_with("signal") => {
                check(&runtime, &server.channel(), &ledger);
            }
            _ if refusal.is_silence() && fault.what.starts_with("signal") => {}
            other => panic!("{context}: an append is refused with {other:?}"),
        }
    }
    let was_hit = refused.is_some() || server.has_ended();
    server.kill();
    if let Err(words) = verify(&data) {
        panic!("{context}: a failed call is not damage:\n{words}");
    }
    let server = plain.listening().unwrap_or_else(|words| panic!("{context}: {words}"));
    check(&runtime, &server.channel(), &ledger);
    // What was in doubt is appended once.
    let mut client = RecordServiceClient::new(server.channel());
    runtime.block_on(append_once(&mut client, &mut ledger.writers[0])).unwrap();
    check(&runtime, &server.channel(), &ledger);
    was_hit
}

fn strace(may_install: bool) -> Result<(), String> {
    let works = || {
        let probe = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
        probe.is_ok_and(|status| status.success())
    };
    if works() {
        return Ok(());
    }
    if may_install {
        let _ = Command::new("apt-get").args(["install", "-y", "strace"]).output();
        if works() {
            return Ok(());
        }
    }
    Err("strace is not there or may not trace; `apt-get install strace` as root".into())
}
