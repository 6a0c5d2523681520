//! Programs in other languages, with nothing but generated stubs and their language's gRPC library, do with the real
//! binary what `languages/scenarios.json` says and must see what it expects. The same languages follow their page of
//! `docs/clients`: what it prints is what `examples/` holds, and its commands are run as a reader would type them.
//!
//! Not a libtest: a language whose toolchain is missing is skipped loudly; with `MESHLOG_REQUIRE=all` that is a failure,
//! and packages may be installed (below the target folder). `cargo test --workspace --test languages -- go java` runs
//! these two only.

#![allow(clippy::print_stdout, reason = "the report is this program's output")]

#[path = "languages/broker.rs"]
mod broker;
#[path = "languages/document.rs"]
mod document;
#[path = "languages/files.rs"]
mod files;
#[path = "languages/language.rs"]
mod language;
#[path = "languages/plugin.rs"]
mod plugin;
#[path = "languages/process.rs"]
mod process;
#[path = "languages/proxy.rs"]
mod proxy;
#[path = "languages/report.rs"]
mod report;
#[path = "languages/scenarios.rs"]
mod scenarios;
#[path = "languages/workshop.rs"]
mod workshop;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use language::LANGUAGES;
use report::{Cell, Report};
use workshop::Workshop;

/// Jobs that run at the same time: they wait more than they compute, and more of them would fail for want of time.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            println!("FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prepares everybody at once, because installing mostly waits; then runs a few at a time, because some of it is timed.
fn run() -> Result<Report, String> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|one| one == name);
    let languages: Vec<_> = LANGUAGES.iter().filter(|language| is_asked(language.name)).collect();
    let with_plugin = is_asked(plugin::NAME);

    let scenarios = scenarios::read()?;
    let report = Mutex::new(Report::new(&scenarios, &languages, with_plugin));
    if languages.is_empty() && !with_plugin {
        return report.into_inner().map_err(|error| error.to_string());
    }
    let workshop = Workshop::open()?;
    let begun = Instant::now();
    let ready: Mutex<Vec<Job>> = Mutex::default();
    let (report_ref, ready_ref, workshop_ref) = (&report, &ready, &workshop);
    std::thread::scope(|scope| {
        for language in &languages {
            scope.spawn(move || match language.prepare(workshop_ref) {
                Ok(()) => push(ready_ref, Job::Language(language)),
                Err(cell) => note(report_ref, |report| report.whole_language(language.name, &cell)),
            });
        }
        if with_plugin {
            scope.spawn(move || match plugin::prepare(workshop_ref) {
                Ok(()) => push(ready_ref, Job::Plugin),
                Err(cell) => note(report_ref, |report| report.plugin(cell)),
            });
        }
    });
    let prepared = begun.elapsed();
    let scenarios = &scenarios;
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(move || {
                while let Some(job) = pop(ready_ref) {
                    match job {
                        Job::Language(language) => {
                            let cells = language.run_scenarios(workshop_ref, scenarios);
                            let page = language.follow_its_page(workshop_ref);
                            note(report_ref, |report| {
                                report.scenarios(language.name, cells);
                                report.page(language.name, page);
                            });
                        }
                        Job::Plugin => {
                            let cell = Cell::of(plugin::run_tests(workshop_ref));
                            note(report_ref, |report| report.plugin(cell));
                        }
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().map_err(|error| error.to_string())?;
    report.check(
        "the service config of docs/clients is the one of the scenarios",
        Cell::of(document::service_config(scenarios)),
    );
    report.check("no lock file names a registry", Cell::of(files::locks_name_no_registry()));
    report.took(prepared, begun.elapsed());
    Ok(report)
}

/// What is ready to run.
enum Job {
    Language(&'static language::Language),
    Plugin,
}

fn push(jobs: &Mutex<Vec<Job>>, job: Job) {
    if let Ok(mut jobs) = jobs.lock() {
        jobs.push(job);
    }
}

fn pop(jobs: &Mutex<Vec<Job>>) -> Option<Job> {
    jobs.lock().ok()?.pop()
}

fn note(report: &Mutex<Report>, change: impl FnOnce(&mut Report)) {
    if let Ok(mut report) = report.lock() {
        change(&mut report);
    }
}
