//! `meshlog schema check`: whether a schema could be the next version of a product.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use clap_complete::ArgValueCompleter;
use futures_util::StreamExt as _;
use meshlog_client::{
    Catalog,
    proto::{
        self, AddSchemaVersionRequest, CheckCompatibilityRequest, CompatibilityResult,
        SchemaComparison, SchemaDifference,
    },
};
use serde::Serialize;

use super::read_file;
use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::{Format, Out, OutputArgs, Paint, Row},
    product::Compatibility,
    settings::ServerArgs,
    words,
};

/// What a schema is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Against {
    /// Every record that can still be read.
    Retained,
    /// Every version.
    All,
    /// One version.
    Version(u32),
}

impl FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "retained" => Ok(Self::Retained),
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::Version)
                .map_err(|_| "write retained, all, or the number of a version".to_owned()),
        }
    }
}

/// Arguments of `schema check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// A .json file (JSON Schema), .avsc (Avro) or .proto (Protobuf)
    #[arg(long, value_name = "FILE")]
    schema: PathBuf,
    /// What to compare it with: every record that can still be read too, every version, or one version
    /// [default: the versions that the mode asks for]
    #[arg(long, value_name = "retained|all|N")]
    against: Option<Against>,
    /// Judge by this mode [default: the product's]
    #[arg(long)]
    mode: Option<Compatibility>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Check {
    /// Runs the command. A schema that would be refused ends it with the code of a rejection.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let mode = self.mode.map_or(proto::Compatibility::Unspecified, Into::into);
        let request = CheckCompatibilityRequest {
            product: self.product.clone(),
            value_schema: Some(read_file(&self.schema)?),
            mode: mode.into(),
            versions: match self.against {
                Some(Against::Version(number)) => vec![number],
                _ => Vec::new(),
            },
            all_versions: self.against == Some(Against::All),
            retained_records: self.against == Some(Against::Retained),
            ..CheckCompatibilityRequest::default()
        };
        let catalog = self.server.connect().await?.catalog();
        let result = ask(&catalog, request).await?;
        let file = self.schema.display().to_string();
        let command = result.succeed_command.replace("--schema FILE", &format!("--schema {file}"));
        show(&result, self.output.output, out)?;
        if result.compatible {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Rejected,
            format!(
                "{file} cannot be the next version of {}; mend it as the hints say, or create a \
                 successor: `{command}`",
                self.product
            ),
        ))
    }
}

/// Asks, and shows how far it is where somebody looks.
async fn ask(catalog: &Catalog, request: CheckCompatibilityRequest) -> Result<CompatibilityResult> {
    let bar = crate::progress::records("tried");
    let mut messages = catalog.check_compatibility(request).await?;
    while let Some(message) = messages.next().await {
        let message = message?;
        if let Some(progress) = message.progress {
            bar.set_length(progress.total);
            bar.set_position(progress.records);
        }
        if let Some(result) = message.result {
            bar.finish_and_clear();
            return Ok(result);
        }
    }
    bar.finish_and_clear();
    Err(Failure::new(Exit::Error, "the broker ended the check without a result; try again"))
}

/// What adding a version came to; if the broker found it incompatible, every difference first.
pub(super) async fn explained<T>(
    catalog: &Catalog,
    request: &AddSchemaVersionRequest,
    format: Format,
    added: Result<T>,
    out: &mut Out,
) -> Result<T> {
    let Err(failure) = &added else { return added };
    if failure.reason() == Some("SCHEMA_INCOMPATIBLE") {
        let request = CheckCompatibilityRequest {
            product: request.product.clone(),
            value_schema: request.value_schema.clone(),
            key_schema: request.key_schema.clone(),
            ..CheckCompatibilityRequest::default()
        };
        // The refusal is what counts, also where it cannot be explained any more.
        if let Ok(result) = ask(catalog, request).await {
            show(&result, format, out)?;
        }
    }
    added
}

fn show(result: &CompatibilityResult, format: Format, out: &mut Out) -> Result<()> {
    let view = View::from(result);
    match format {
        Format::Json | Format::Yaml => return out.one(format, &view),
        Format::Jsonl => return out.list(format, &view.rows()),
        Format::Name => {
            return view.rows().iter().try_for_each(|row| out.line(&row.path));
        }
        Format::Table | Format::Wide => {}
    }
    for comparison in &view.comparisons {
        let paint = match (comparison.decides, comparison.verdict.as_str()) {
            (_, "compatible") => Paint::Green,
            (true, _) => Paint::Red,
            (false, _) => Paint::Yellow,
        };
        out.paint(paint, &comparison.headline())?;
        for one in &comparison.differences {
            out.line(format_args!("  {}", one.place()))?;
            out.line(format_args!("      old   {}", one.old))?;
            out.line(format_args!("      new   {}", one.new))?;
            out.line(format_args!("      rule  {}", one.rule_and_weight()))?;
            out.line(format_args!("      hint  {}", one.hint))?;
        }
        if comparison.omitted_differences > 0 {
            out.line(format_args!("  and {} more", comparison.omitted_differences))?;
        }
        if let Some(value) = &comparison.counterexample {
            out.line(format_args!("  counterexample  {value}"))?;
        }
    }
    if let Some(run) = &view.dry_run {
        let text = format!(
            "{} of {} would fail",
            words::count(run.failed),
            words::counted(run.records, "retained record"),
        );
        out.paint(if run.failed == 0 { Paint::Green } else { Paint::Red }, &text)?;
        for one in &run.failures {
            let place =
                if one.path.is_empty() { String::new() } else { format!(" at {}", one.path) };
            out.line(format_args!(
                "  partition {} offset {} (version {}){place}: expected {}, found {}",
                one.partition, one.offset, one.schema_version, one.expected, one.found
            ))?;
        }
    }
    view.remarks.iter().for_each(|remark| out.note(remark));
    let mode = &view.mode;
    match view.compatible {
        true => out.paint(Paint::Green, &format!("compatible ({mode})")),
        false => out.paint(Paint::Red, &format!("not compatible ({mode})")),
    }
}

#[derive(Serialize)]
struct View {
    compatible: bool,
    mode: String,
    comparisons: Vec<ComparisonView>,
    dry_run: Option<RunView>,
    succeed_command: Option<String>,
    remarks: Vec<String>,
}

#[derive(Serialize)]
struct ComparisonView {
    version: u32,
    direction: String,
    is_key: bool,
    verdict: String,
    decides: bool,
    reason: String,
    differences: Vec<DifferenceView>,
    omitted_differences: u32,
    counterexample: Option<String>,
}

#[derive(Clone, Serialize)]
struct DifferenceView {
    version: u32,
    path: String,
    rule: String,
    weight: String,
    old: String,
    new: String,
    hint: String,
}

#[derive(Serialize)]
struct RunView {
    records: u64,
    failed: u64,
    tombstones: u64,
    failures: Vec<FailureView>,
}

#[derive(Serialize)]
struct FailureView {
    partition: u32,
    offset: u64,
    schema_version: u32,
    path: String,
    expected: String,
    found: String,
}

impl View {
    fn rows(&self) -> Vec<DifferenceView> {
        self.comparisons.iter().flat_map(|one| one.differences.iter().cloned()).collect()
    }
}

impl From<&CompatibilityResult> for View {
    fn from(result: &CompatibilityResult) -> Self {
        let word = |name: &str, prefix: &str| words::word(name, prefix).replace('_', "-");
        Self {
            compatible: result.compatible,
            mode: word(result.mode().as_str_name(), "COMPATIBILITY_"),
            comparisons: result.comparisons.iter().map(ComparisonView::from).collect(),
            dry_run: result.dry_run.as_ref().map(|run| RunView {
                records: run.records,
                failed: run.failed,
                tombstones: run.tombstones,
                failures: run
                    .failures
                    .iter()
                    .map(|one| FailureView {
                        partition: one.partition,
                        offset: one.offset,
                        schema_version: one.schema_version,
                        path: one.path.clone(),
                        expected: one.expected.clone(),
                        found: one.found.clone(),
                    })
                    .collect(),
            }),
            succeed_command: (!result.succeed_command.is_empty())
                .then(|| result.succeed_command.clone()),
            remarks: result.remarks.clone(),
        }
    }
}

impl From<&SchemaComparison> for ComparisonView {
    fn from(one: &SchemaComparison) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            version: one.version,
            direction: words::word(one.direction().as_str_name(), "COMPARISON_DIRECTION_"),
            is_key: one.is_key,
            verdict: words::word(one.verdict().as_str_name(), "COMPARISON_VERDICT_"),
            decides: one.decides,
            reason: one.reason.clone(),
            differences: one
                .differences
                .iter()
                .map(|difference| DifferenceView::new(one.version, difference))
                .collect(),
            omitted_differences: one.omitted_differences,
            counterexample: text(&one.counterexample),
        }
    }
}

impl ComparisonView {
    fn headline(&self) -> String {
        let of = if self.is_key { "key of version" } else { "version" };
        let what = match self.direction.as_str() {
            "forward" => format!("{of} {} reads what it writes", self.version),
            _ => format!("it reads what {of} {} wrote", self.version),
        };
        let aside = if self.decides { "" } else { ", decides nothing" };
        format!("{what}: {} ({}{aside})", self.verdict, self.reason)
    }
}

impl DifferenceView {
    fn new(version: u32, one: &SchemaDifference) -> Self {
        Self {
            version,
            path: one.path.clone(),
            rule: one.rule.clone(),
            weight: words::word(one.weight().as_str_name(), "DIFFERENCE_WEIGHT_"),
            old: one.old.clone(),
            new: one.new.clone(),
            hint: one.hint.clone(),
        }
    }

    fn place(&self) -> &str {
        if self.path.is_empty() { "(the value)" } else { &self.path }
    }

    fn rule_and_weight(&self) -> String {
        match self.weight.as_str() {
            "breaking" => self.rule.clone(),
            weight => format!("{} ({weight})", self.rule),
        }
    }
}

impl Row for DifferenceView {
    const PLURAL: &'static str = "differences";
    const HEADER: &'static [&'static str] = &["VERSION", "PATH", "RULE", "OLD", "NEW"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.version.to_string(),
            self.place().to_owned(),
            self.rule.clone(),
            self.old.clone(),
            self.new.clone(),
        ]
    }
}
