//! What is particular about each language, and the two things every language does.

use std::process::Command;

use crate::broker::Broker;
use crate::document::Page;
use crate::process::{Limit, run, shell};
use crate::proxy::Proxy;
use crate::report::Cell;
use crate::scenarios::Scenario;
use crate::workshop::Workshop;

/// A language with a page in `docs/clients`, a folder in `examples` and a program in `tests/languages`.
pub(crate) struct Language {
    /// As its page and its folder are called.
    pub(crate) name: &'static str,
    /// Programs that answer to these commands, or the language is skipped.
    toolchain: &'static [&'static [&'static str]],
    /// How to get them.
    advice: &'static str,
    /// Where the program of the scenarios, `tests/languages/<name>`, lies in the copy of the example, whose packages and
    /// stubs it shares; empty for beside it.
    place: &'static str,
    /// Builds it, after the page's own commands; empty if that is not needed.
    build: &'static str,
    /// Runs it; the arguments follow.
    run: &'static str,
    /// Its page calls `protoc`, which many machines do not have.
    needs_protoc: bool,
}

pub(crate) const LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        toolchain: &[&["python3", "-m", "venv", "--help"]],
        advice: "install Python 3.10 or newer with its venv module",
        place: "",
        build: "",
        run: ".venv/bin/python conformance.py",
        needs_protoc: false,
    },
    Language {
        name: "go",
        toolchain: &[&["go", "version"]],
        advice: "install Go 1.26 or newer (https://go.dev/dl)",
        place: "conformance",
        build: "go build -o bin/ ./conformance",
        run: "bin/conformance",
        needs_protoc: true,
    },
    Language {
        name: "typescript",
        toolchain: &[&["node", "--version"], &["npm", "--version"]],
        advice: "install Node.js 20 or newer with npm (https://nodejs.org)",
        place: "",
        build: "npx tsc",
        run: "node dist/conformance.js",
        needs_protoc: false,
    },
    Language {
        name: "java",
        toolchain: &[&["javac", "-version"], &["mvn", "--version"]],
        advice: "install a JDK 17 or newer and Maven 3.8 or newer",
        place: "",
        build: "mvn -B -q dependency:build-classpath -Dmdep.outputFile=target/classpath \
                && javac -d target/conformance -cp target/classes:$(cat target/classpath) Conformance.java Support.java",
        run: "java -cp target/conformance:target/classes:$(cat target/classpath) Conformance",
        needs_protoc: false,
    },
];

impl Language {
    /// Installs, generates and builds, as its page says, unless that was done with the same files before.
    pub(crate) fn prepare(&self, workshop: &Workshop) -> Result<(), Cell> {
        for command in self.toolchain {
            let (tool, arguments) = (command[0], &command[1..]);
            let answer = Command::new(tool).args(arguments).output();
            if !answer.is_ok_and(|output| output.status.success()) {
                return Err(workshop.skip(format!(
                    "`{}` does not run; {}",
                    command.join(" "),
                    self.advice
                )));
            }
        }
        let bench = workshop.bench(self.name, self.place)?;
        if bench.is_ready() {
            return Ok(());
        }
        let page = Page::read(self.name).map_err(Cell::Failed)?;
        let path = match self.needs_protoc {
            true => workshop.path_with_protoc()?,
            false => workshop.path(),
        };
        for commands in page.commands_before_serving().chain([self.build.to_owned()]) {
            run(shell(&commands, &bench.folder, &path), Limit::Installing).map_err(Cell::Failed)?;
        }
        bench.mark_ready().map_err(Cell::Failed)
    }

    /// One cell per scenario, in their order.
    pub(crate) fn run_scenarios(&self, workshop: &Workshop, scenarios: &[Scenario]) -> Vec<Cell> {
        let output = (|| {
            let broker = Broker::start(workshop)?;
            let proxy = Proxy::start(broker.address())?;
            let arguments = [
                workshop.scenarios().display().to_string(),
                broker.address().to_owned(),
                proxy.address(),
            ];
            let command = format!("{} {}", self.run, arguments.join(" "));
            let folder = workshop.folder_of(self.name);
            run(shell(&command, &folder, &workshop.path()), Limit::Running)
        })();
        let (printed, ended) = match output {
            Ok(printed) => (printed, "it ended without a line for this scenario".to_owned()),
            // A program with a failed scenario fails too; what it printed is in the text.
            Err(why) => (why.clone(), why),
        };
        let line_of = |scenario: &Scenario| {
            printed.lines().find_map(|line| match line.strip_prefix("ok ") {
                Some(name) => (name == scenario.name).then_some(Cell::Ok),
                None => {
                    let why = line.strip_prefix("FAILED ")?.strip_prefix(&*scenario.name)?;
                    Some(Cell::Failed(why.trim_start_matches(": ").to_owned()))
                }
            })
        };
        scenarios
            .iter()
            .map(|one| line_of(one).unwrap_or_else(|| Cell::Failed(ended.clone())))
            .collect()
    }

    /// Whether its page prints the example as it is, and its commands do what it says.
    pub(crate) fn follow_its_page(&self, workshop: &Workshop) -> Cell {
        Cell::of(Page::read(self.name).and_then(|page| {
            page.prints_the_example()?;
            page.follow(workshop, &workshop.folder_of(self.name))
        }))
    }
}
