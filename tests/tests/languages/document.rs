//! The pages of `docs/clients`.

use std::path::{Path, PathBuf};

use crate::broker::Broker;
use crate::files::root;
use crate::process::{Limit, Running, run, shell};
use crate::scenarios::Scenario;
use crate::workshop::Workshop;

/// Files of these endings are programs: a page prints every one of its example.
const PROGRAMS: [&str; 4] = ["py", "go", "ts", "java"];

/// The command that a reader types into another terminal.
const SERVE: &str = "meshlog serve\n";

struct Block {
    language: String,
    text: String,
}

/// One page and its fenced blocks.
pub(crate) struct Page {
    path: PathBuf,
    example: PathBuf,
    blocks: Vec<Block>,
}

impl Page {
    pub(crate) fn read(name: &str) -> Result<Self, String> {
        let path = root().join("docs/clients").join(format!("{name}.md"));
        Ok(Self { blocks: blocks(&path)?, path, example: root().join("examples").join(name) })
    }

    /// What installs, generates and builds.
    pub(crate) fn commands_before_serving(&self) -> impl Iterator<Item = String> {
        let before = self.blocks.iter().take_while(|block| block.text != SERVE);
        before.filter(|block| block.language == "sh").map(|block| block.text.clone())
    }

    /// Every program of the example is printed, and every block of code is a file of the example.
    pub(crate) fn prints_the_example(&self) -> Result<(), String> {
        let mut files = Vec::new();
        files_below(&self.example, &mut files)?;
        let (mut printed, mut programs) = (0, 0);
        for file in &files {
            if file.extension().is_some_and(|ending| PROGRAMS.iter().any(|one| ending == *one)) {
                programs += 1;
                let text = read(file)?;
                if !self.blocks.iter().any(|block| block.text == text) {
                    return Err(format!(
                        "{} does not print {} as it is",
                        self.path.display(),
                        file.display()
                    ));
                }
            }
        }
        for block in &self.blocks {
            if !["sh", "text"].contains(&block.language.as_str()) {
                printed += 1;
                if !files.iter().any(|file| read(file).is_ok_and(|text| text == block.text)) {
                    return Err(format!(
                        "{} prints a block of {} that is no file of {}:\n{}",
                        self.path.display(),
                        block.language,
                        self.example.display(),
                        block.text
                    ));
                }
            }
        }
        match programs {
            2.. if printed >= programs => Ok(()),
            _ => Err(format!(
                "{} prints {printed} files of {programs} programs",
                self.path.display()
            )),
        }
    }

    /// Runs what comes after `meshlog serve`, against a broker. A block of text is what the commands before it print.
    /// The last one goes on; it must do so also after the broker was restarted.
    pub(crate) fn follow(&self, workshop: &Workshop, folder: &Path) -> Result<(), String> {
        let mut broker = Broker::start(workshop)?;
        let served: Vec<_> =
            self.blocks.iter().skip_while(|block| block.text != SERVE).skip(1).collect();
        let command = |block: &Block, broker: &Broker| {
            let mut command = shell(&block.text, folder, &workshop.path());
            command.env("MESHLOG_SERVER", broker.address());
            command
        };
        let shown: Vec<_> = served
            .windows(2)
            .filter(|pair| (pair[0].language.as_str(), pair[1].language.as_str()) == ("sh", "text"))
            .map(|pair| (pair[0], &*pair[1].text))
            .collect();
        let [(produce, produced), (consume, consumed)] = shown[..] else {
            return Err(format!("{} should show the output of two commands", self.path.display()));
        };
        let mut producing = Running::start(command(produce, &broker))?;
        producing.wait(Limit::Running, Some(produced))?;
        producing.wait(Limit::Running, None)?;
        let mut consuming = Running::start(command(consume, &broker))?;
        consuming.wait(Limit::Running, Some(consumed))?;
        if !consuming.is_running() {
            return Err(format!(
                "{}: {:?} should go on until Ctrl-C",
                self.path.display(),
                consume.text
            ));
        }
        broker.restart(workshop)?;
        run(command(produce, &broker), Limit::Running)?;
        // Each line begins with its offset: the second three follow the first without a gap and without a repetition.
        let again = consumed.replace("0 ", "3 ").replace("1 ", "4 ").replace("2 ", "5 ");
        consuming.wait(Limit::Running, Some(&again))?;
        let printed = consuming.printed();
        match printed == format!("{consumed}{again}") {
            true => Ok(()),
            false => Err(format!(
                "{}: over a restart {:?} printed\n{printed}",
                self.path.display(),
                consume.text
            )),
        }
    }
}

/// The service config that `docs/clients/README.md` recommends is the one that a scenario tries in every language.
pub(crate) fn service_config(scenarios: &[Scenario]) -> Result<(), String> {
    let page = root().join("docs/clients/README.md");
    let printed = blocks(&page)?.into_iter().find(|block| block.language == "json");
    let printed = printed.ok_or_else(|| format!("{} prints no service config", page.display()))?;
    let printed: serde_json::Value = serde_json::from_str(&printed.text)
        .map_err(|error| format!("{}: {error}", page.display()))?;
    match scenarios.iter().any(|scenario| scenario.given["service_config"] == printed) {
        true => Ok(()),
        false => Err(format!("{} prints a service config that no scenario tries", page.display())),
    }
}

fn blocks(path: &Path) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for line in read(path)?.lines() {
        match (line.strip_prefix("```"), blocks.last_mut()) {
            (Some(language), _) if !inside => {
                inside = true;
                blocks.push(Block { language: language.to_owned(), text: String::new() });
            }
            (Some(_), _) => inside = false,
            (None, Some(block)) if inside => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, _) => {}
        }
    }
    Ok(blocks)
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    crate::files::walk(folder, &mut |file| files.push(file.to_owned()))
}

fn read(path: &Path) -> Result<String, String> {
    crate::files::read(path)
}
