//! README.md and docs/quickstart.md: every command they print runs, and what they show is what
//! comes out.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::harness::{MESHLOG, Outcome, Process, command, root, run};

/// The two commands that build and test Meshlog itself.
const CARGO: [&str; 2] = ["cargo run --release -- quickstart", "cargo test --workspace"];

pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The fenced blocks of a Markdown file, in order.
pub(crate) fn blocks(file: &str) -> Vec<Block> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) if !inside => {
                inside = true;
                blocks.push(Block { language: language.to_owned(), text: String::new() });
            }
            Some(_) => inside = false,
            None if inside => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!inside && !blocks.is_empty(), "{file}");
    blocks
}

/// A checkout as a reader has it after the release build.
struct Checkout {
    home: tempfile::TempDir,
    directory: PathBuf,
    serving: Option<Process>,
    address: String,
}

impl Checkout {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("meshlog");
        std::fs::create_dir_all(directory.join("target/release")).unwrap();
        let link = |from: &Path, to: &str| {
            std::os::unix::fs::symlink(from, directory.join(to)).unwrap();
        };
        link(Path::new(MESHLOG), "target/release/meshlog");
        link(&root().join("examples"), "examples");
        link(&root().join("tests"), "tests");
        // Readers have the usual port for themselves; tests do not.
        let config = home.path().join(".config/meshlog");
        std::fs::create_dir_all(&config).unwrap();
        // They also have a minute, tests have not.
        let settings =
            "[serve]\nlisten = \"127.0.0.1:0\"\n[broker.lineage]\ninterval = \"500ms\"\n";
        std::fs::write(config.join("config.toml"), settings).unwrap();
        Self { home, directory, serving: None, address: String::new() }
    }

    /// `meshlog serve` in a terminal of its own.
    fn serve(&mut self) {
        let mut serve = command(self.home.path());
        serve.arg("serve").current_dir(&self.directory);
        let mut serve = Process::start(serve);
        self.address = serve.line().strip_prefix("listening on ").unwrap().to_owned();
        self.serving = Some(serve);
    }

    fn run(&self, text: &str) -> Outcome {
        let mut shell = Command::new("bash");
        let path = std::env::var("PATH").unwrap();
        shell
            .args(["-c", &format!("set -euo pipefail\n{text}")])
            .current_dir(&self.directory)
            .env("PATH", format!("{}:{path}", self.directory.join("target/release").display()))
            .env("HOME", self.home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .env("MESHLOG_SERVER", &self.address)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        run(shell, "")
    }
}

/// Runs every block of shell, and compares blocks of text with the end of the output before them.
fn follow(file: &str, mut checkout: Checkout) -> usize {
    let mut ran = 0;
    let mut output = String::new();
    for block in blocks(file) {
        match block.language.as_str() {
            "sh" => {
                let text: String = block
                    .text
                    .lines()
                    .filter(|line| !CARGO.contains(line))
                    .map(|line| format!("{line}\n"))
                    .collect();
                if text.trim() == "meshlog serve" {
                    checkout.serve();
                } else if !text.is_empty() {
                    let outcome = checkout.run(&text);
                    assert_eq!(outcome.code, 0, "{file}:\n{text}\n{outcome:#?}");
                    output = outcome.stdout;
                }
                ran += 1;
            }
            // Compiled and run by testing/tests/guide.rs, and what it needs.
            "rust" | "toml" => {}
            // Run by tests/tests/tools/registry.rs.
            "python" if file.ends_with("schema-registry.md") => {}
            "text" | "mermaid" => {
                assert!(output.ends_with(&block.text), "{file}: {output}\n{}", block.text)
            }
            other => panic!("{file}: a block of {other:?} that nobody checks"),
        }
    }
    ran
}

#[test]
fn the_readme_can_be_pasted() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    CARGO.iter().for_each(|command| assert!(text.contains(command), "{command}"));
    assert!(follow("README.md", Checkout::new()) >= 6);
}

#[test]
fn the_quickstart_can_be_pasted() {
    let mut checkout = Checkout::new();
    checkout.serve();
    assert!(follow("docs/quickstart.md", checkout) >= 7);
}

/// Follows a page with a fresh broker.
fn follow_page(file: &str) {
    let mut checkout = Checkout::new();
    checkout.serve();
    assert!(follow(file, checkout) >= 1);
}

#[test]
fn the_page_about_testing_can_be_pasted() {
    follow_page("docs/testing.md");
}

#[test]
fn the_page_about_concepts_can_be_pasted() {
    follow_page("docs/concepts.md");
}

#[test]
fn the_pages_of_the_guide_can_be_pasted() {
    for page in [
        "publish-a-product",
        "find-a-product",
        "check-records",
        "schema-registry",
        "change-a-schema",
        "http",
        "keep-and-delete",
        "move-and-end",
        "when-the-disk-is-full",
        "recover",
        "back-up",
        "protect-a-broker",
        "serve-other-machines",
        "audit",
        "watch-a-broker",
        "install",
    ] {
        follow_page(&format!("docs/guide/{page}.md"));
    }
}

/// Its graph is drawn from the traffic that its commands make.
#[test]
fn the_page_about_lineage_can_be_pasted_and_draws_what_happened() {
    follow_page("docs/guide/lineage.md");
}

#[test]
fn the_page_about_settings_can_be_pasted() {
    follow_page("docs/configuration.md");
}

#[test]
fn the_page_about_cursors_can_be_pasted() {
    follow_page("docs/cursors.md");
}

#[test]
fn the_configuration_in_the_manual_is_one() {
    let config = blocks("docs/cli.md").into_iter().find(|block| block.language == "toml").unwrap();
    let checkout = Checkout::new();
    std::fs::write(checkout.home.path().join(".config/meshlog/config.toml"), config.text).unwrap();
    let outcome = checkout.run("unset MESHLOG_SERVER; meshlog product list --server 127.0.0.1:1");
    outcome.fails(6, &["127.0.0.1:1"]);
    let shown = checkout.run("unset MESHLOG_SERVER; meshlog config show").ok();
    assert!(shown.contains("127.0.0.1:7421") && shown.contains("context lab"), "{shown}");
    // A flag leaves the file unread; without it the file must be right.
    let outcome = checkout.run("unset MESHLOG_SERVER; meshlog product list");
    assert!(!outcome.stderr.contains("config.toml"), "{outcome:?}");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let files = [
        "README.md",
        "docs/concepts.md",
        "docs/guide/README.md",
        "docs/guide/audit.md",
        "docs/guide/tokens.md",
        "docs/guide/policies.md",
        "docs/guide/install.md",
        "docs/guide/watch-a-broker.md",
        "docs/metrics.md",
        "docs/guide/back-up.md",
        "docs/guide/change-a-schema.md",
        "docs/guide/check-records.md",
        "docs/guide/find-a-product.md",
        "docs/guide/http.md",
        "docs/durability.md",
        "docs/guide/keep-a-position.md",
        "docs/guide/keep-and-delete.md",
        "docs/guide/lineage.md",
        "docs/guide/move-and-end.md",
        "docs/guide/publish-a-product.md",
        "docs/guide/read-a-product.md",
        "docs/guide/recover.md",
        "docs/guide/protect-a-broker.md",
        "docs/guide/serve-other-machines.md",
        "docs/security.md",
        "docs/guide/when-the-disk-is-full.md",
        "docs/quickstart.md",
        "docs/cli.md",
        "docs/configuration.md",
        "docs/cursors.md",
        "docs/testing.md",
        "examples/alerts/README.md",
        "examples/flights/README.md",
    ];
    for file in files {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let directory = root().join(file).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !link.starts_with("http") {
                let path = link.split('#').next().unwrap();
                assert!(directory.join(path).exists(), "{file}: {link}");
            }
        }
    }
}
