//! Carrying a plan out, and saying exactly how far that went.

use meshlog_client::Catalog;
use serde::Serialize;

use super::plan::{Action, Plan};
use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Paint},
    words,
};

/// A plan as programs get it.
#[derive(Serialize)]
struct View<'a> {
    create: usize,
    change: usize,
    delete: usize,
    same: usize,
    steps: Vec<StepView<'a>>,
    problems: Vec<&'a str>,
    remarks: &'a [String],
}

#[derive(Serialize)]
struct StepView<'a> {
    action: Action,
    kind: &'a str,
    name: &'a str,
    changes: Vec<String>,
    remarks: &'a [String],
}

impl Plan {
    /// Shows it: a line for each thing, below it a line for each value that differs.
    pub(super) fn show(&self, output: OutputArgs, out: &mut Out) -> Result<()> {
        if !output.output.is_for_people() {
            return out.one(output.output, &self.view());
        }
        for step in &self.steps {
            let title = format!("{} {}", step.action.sign(), step.title());
            match step.action {
                Action::Create => out.paint(Paint::Green, &title)?,
                Action::Change => out.paint(Paint::Yellow, &title)?,
                Action::Delete => out.paint(Paint::Red, &title)?,
                Action::Same => out.line(title)?,
            }
            for line in &step.lines {
                out.paint(line.paint(), &format!("    {line}"))?;
            }
            for remark in &step.remarks {
                out.line(format_args!("    ({remark})"))?;
            }
        }
        for remark in &self.remarks {
            out.note(remark);
        }
        out.line(format_args!(
            "{} to create, {} to change, {} to delete, {} the same",
            self.count(Action::Create),
            self.count(Action::Change),
            self.count(Action::Delete),
            self.count(Action::Same),
        ))
    }

    fn view(&self) -> View<'_> {
        View {
            create: self.count(Action::Create),
            change: self.count(Action::Change),
            delete: self.count(Action::Delete),
            same: self.count(Action::Same),
            steps: self
                .steps
                .iter()
                .map(|step| StepView {
                    action: step.action,
                    kind: step.kind,
                    name: &step.name,
                    changes: step.lines.iter().map(ToString::to_string).collect(),
                    remarks: &step.remarks,
                })
                .collect(),
            problems: self.problems.iter().map(|problem| &*problem.text).collect(),
            remarks: &self.remarks,
        }
    }

    /// Refuses a plan that cannot be carried out, with everything that stands against it.
    pub(super) fn refuse_problems(&self) -> Result<()> {
        let Some(first) = self.problems.first() else { return Ok(()) };
        let texts: Vec<&str> = self.problems.iter().map(|problem| &*problem.text).collect();
        let text = match texts.as_slice() {
            [one] => format!("{one}\nnothing was changed"),
            all => format!(
                "{} stand against it:\n  {}\nnothing was changed",
                words::counted(all.len() as u64, "problem"),
                all.join("\n  ")
            ),
        };
        Err(Failure::new(first.exit, text))
    }

    /// Makes all the changes, in order. The first that fails ends it.
    pub(super) async fn run(self, catalog: &Catalog, out: &mut Out) -> Result<()> {
        let mut etags = self.etags;
        let deletes = |action: Action| action == Action::Delete;
        let mut rounds = Vec::new();
        for step in self.steps.iter().filter(|step| !deletes(step.action)) {
            rounds.push((step, &step.work));
        }
        for step in self.steps.iter().filter(|step| !step.late.is_empty()) {
            rounds.push((step, &step.late));
        }
        for step in self.steps.iter().filter(|step| deletes(step.action)) {
            rounds.push((step, &step.work));
        }
        let mut done: Vec<String> = Vec::new();
        let mut failed: Option<(String, Failure)> = None;
        let mut left: Vec<String> = Vec::new();
        for (step, work) in rounds.into_iter().filter(|(_, work)| !work.is_empty()) {
            if failed.is_some() {
                left.push(step.title());
                continue;
            }
            for (at, one) in work.iter().enumerate() {
                if let Err(failure) = one.run(catalog, &mut etags).await {
                    let part = match at {
                        0 => step.title(),
                        _ => format!("{} (a part of it is done)", step.title()),
                    };
                    failed = Some((part, failure));
                    break;
                }
            }
            if failed.is_none() && !done.contains(&step.title()) {
                done.push(step.title());
            }
        }
        let Some((title, failure)) = failed else {
            out.note(format_args!("applied {}", words::counted(done.len() as u64, "change")));
            return Ok(());
        };
        let list = |names: &[String]| match names {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        out.note(format_args!("applied: {}", list(&done)));
        out.note(format_args!("not applied: {}", list(&left)));
        let exit = match failure.exit() {
            Exit::Ok => Exit::Error,
            exit => exit,
        };
        let next = "run the same command again when that is mended; what is done stays done";
        Err(Failure::new(exit, format!("{title}: {failure}\n{next}")))
    }
}
