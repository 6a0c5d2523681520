//! `meshlog rule`: what records of a product must meet beside its schema.

use std::io::{BufRead as _, BufReader};

use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use meshlog_client::{
    Catalog,
    proto::{
        ListRulesRequest, Product, Record, Rule, RuleStatus, RuleTest, TestRulesRequest,
        UpdateProductRequest,
    },
};
use serde::Serialize;

use crate::{
    change::{Change, ChangeArgs},
    completion,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words::Mask,
};

/// Say what records must meet beside the schema, and test it.
#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Add a rule to a product, or change the one of this name
    ///
    /// What becomes of a record that does not meet it is what becomes of one that does not conform
    /// to the schema: see `meshlog product update --enforcement` and `--on-fail`.
    #[command(before_help = "Examples:
  meshlog rule add ops.flights delay --expression 'value.delay < 1440' \\
    --message 'A delay is less than a day'
  meshlog rule add ops.flights delay --expression 'value.delay < 720' --dry-run")]
    Add(Add),
    /// List the rules of a product, each with what it made of records since the broker started
    #[command(before_help = "Examples:
  meshlog rule list ops.flights
  meshlog rule list ops.flights -o wide")]
    List(List),
    /// Say what rules would make of records, without appending or counting any
    ///
    /// The exit code is 7 if there is a record that does not meet them.
    #[command(before_help = "Examples:
  meshlog rule test ops.flights
  meshlog rule test ops.flights delay --max 1000
  meshlog rule test ops.flights --expression 'value.delay < 720' -o json
  meshlog rule test ops.flights --file records.jsonl")]
    Test(Test),
    /// Remove a rule from a product
    #[command(before_help = "Examples:
  meshlog rule remove ops.flights delay
  meshlog rule remove ops.flights delay --dry-run")]
    Remove(Remove),
}

/// A product that is changed.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Name of the rule
    name: String,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `rule add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    target: Target,
    /// In CEL, over `value` and `key`; true for good records
    #[arg(long, value_name = "CEL")]
    expression: String,
    /// What to tell a person whose record does not meet it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    message: String,
    /// Keep it without evaluating it
    #[arg(long)]
    disabled: bool,
}

/// Arguments of `rule list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `rule test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// `<domain>.<name>` of the product
    #[arg(add = ArgValueCompleter::new(completion::products))]
    product: String,
    /// Name of a rule [default: all that are not disabled]
    #[arg(conflicts_with = "expression")]
    name: Option<String>,
    /// This expression instead, which need not be of any rule
    #[arg(long, value_name = "CEL")]
    expression: Option<String>,
    /// Records of a file, one JSON value a line, or of standard input with `-` [default: the newest
    /// of the product]
    #[arg(long, value_name = "FILE", conflicts_with = "max")]
    file: Option<String>,
    /// So many of the newest records, at most 1,000
    #[arg(long, value_name = "N", default_value_t = 100)]
    max: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `rule remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    target: Target,
}

/// Most records of one test.
const MAX_RECORDS: usize = 1_000;

impl RuleCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Add(args) => {
                let rule = Rule {
                    name: args.target.name.clone(),
                    expression: args.expression,
                    message: args.message,
                    disabled: args.disabled,
                    version: 0,
                };
                args.target
                    .change(out, |product| {
                        product.rules.retain(|one| one.name != rule.name);
                        product.rules.push(rule);
                        Ok(())
                    })
                    .await
            }
            Self::Remove(args) => {
                let name = args.target.name.clone();
                args.target
                    .change(out, |product| {
                        let before = product.rules.len();
                        product.rules.retain(|one| one.name != name);
                        match product.rules.len() < before {
                            true => Ok(()),
                            false => Err(Failure::new(
                                Exit::NotFound,
                                format!("{} has no rule `{name}`", product.name),
                            )),
                        }
                    })
                    .await
            }
            Self::List(args) => {
                let catalog = args.server.connect().await?.catalog();
                let request = ListRulesRequest { product: args.product };
                let rules = catalog.list_rules(request).await?.rules;
                let views: Vec<View> = rules.into_iter().map(View::from).collect();
                out.list(args.output.output, &views)
            }
            Self::Test(args) => args.run(out).await,
        }
    }
}

impl Target {
    async fn change(
        self,
        out: &mut Out,
        change: impl FnOnce(&mut Product) -> Result<()>,
    ) -> Result<()> {
        let catalog: Catalog = self.server.connect().await?.catalog();
        let before = catalog.get_product(self.product.as_str()).await?;
        let mut product = before.clone();
        product.etag = self.change.etag(&before.etag);
        change(&mut product)?;
        let mut mask = Mask::default();
        mask.add("rules");
        let request = UpdateProductRequest {
            product: Some(product),
            update_mask: Some(mask.done()),
            validate_only: self.change.dry_run,
        };
        let after = catalog.update_product(request).await?;
        let of = |product: &Product| {
            product.rules.iter().find(|rule| rule.name == self.name).map(RuleView::from)
        };
        let (before, after) = (of(&before), of(&after));
        let dry_run = self.change.dry_run;
        Change { dry_run, before: before.as_ref(), after: after.as_ref() }
            .show(self.output.output, out)
    }
}

impl Test {
    async fn run(self, out: &mut Out) -> Result<()> {
        let records = self.file.as_deref().map(read_records).transpose()?;
        if records.as_ref().is_some_and(Vec::is_empty) {
            return Err(Failure::usage("there is no record to test"));
        }
        let request = TestRulesRequest {
            product: self.product,
            name: self.name.unwrap_or_default(),
            expression: self.expression.unwrap_or_default(),
            records: records.unwrap_or_default(),
            max_records: self.max,
            schema_version: 0,
        };
        let catalog = self.server.connect().await?.catalog();
        let tested = catalog.test_rules(request).await?;
        let failed = tested.rules.iter().any(|rule| rule.failed > 0);
        let views: Vec<TestView> =
            tested.rules.into_iter().map(|rule| TestView::new(rule, tested.records)).collect();
        out.list(self.output.output, &views)?;
        if tested.passed_over > 0 {
            out.note(format!(
                "{} passed over: without a value, or not of the schema",
                crate::words::counted(tested.passed_over.into(), "record")
            ));
        }
        match failed {
            true => Err(Failure::new(Exit::Rejected, "there are records that do not meet them")),
            false => Ok(()),
        }
    }
}

/// One value a line.
fn read_records(file: &str) -> Result<Vec<Record>> {
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("{file} cannot be read: {error}"));
    let reader: Box<dyn std::io::BufRead> = match file {
        "-" => Box::new(std::io::stdin().lock()),
        file => Box::new(BufReader::new(std::fs::File::open(file).map_err(unreadable)?)),
    };
    let mut records = Vec::new();
    for line in reader.lines() {
        let line = line.map_err(unreadable)?;
        if line.trim().is_empty() {
            continue;
        }
        if records.len() == MAX_RECORDS {
            return Err(Failure::usage(format!("{file} has more than {MAX_RECORDS} records")));
        }
        records.push(Record { value: Some(line.into_bytes().into()), ..Record::default() });
    }
    Ok(records)
}

/// A rule, as changes show it.
#[derive(Serialize)]
struct RuleView {
    name: String,
    version: u32,
    expression: String,
    message: String,
    disabled: bool,
}

impl From<&Rule> for RuleView {
    fn from(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            version: rule.version,
            expression: rule.expression.clone(),
            message: rule.message.clone(),
            disabled: rule.disabled,
        }
    }
}

/// A rule, with what it made of records.
#[derive(Serialize)]
struct View {
    name: String,
    version: u32,
    expression: String,
    message: String,
    disabled: bool,
    checked: u64,
    failed: u64,
    over_budget: u64,
    fault: String,
}

impl From<RuleStatus> for View {
    fn from(status: RuleStatus) -> Self {
        let rule = status.rule.unwrap_or_default();
        Self {
            name: rule.name,
            version: rule.version,
            expression: rule.expression,
            message: rule.message,
            disabled: rule.disabled,
            checked: status.checked,
            failed: status.failed,
            over_budget: status.over_budget,
            fault: status.fault,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "rules";
    const HEADER: &'static [&'static str] = &["NAME", "EXPRESSION", "CHECKED", "FAILED"];
    const WIDE: &'static [&'static str] = &["OVER BUDGET", "VERSION", "DISABLED", "MESSAGE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.expression.clone(),
            self.checked.to_string(),
            self.failed.to_string(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![
            self.over_budget.to_string(),
            self.version.to_string(),
            if self.disabled { "yes" } else { "no" }.to_owned(),
            self.message.clone(),
        ]
    }
}

/// What a rule would make of records.
#[derive(Serialize)]
struct TestView {
    name: String,
    records: u32,
    failed: u32,
    over_budget: u32,
    most_steps: u32,
    failures: Vec<FailureView>,
}

#[derive(Serialize)]
struct FailureView {
    record: u32,
    partition: u32,
    offset: u64,
    found: String,
}

impl TestView {
    fn new(test: RuleTest, records: u32) -> Self {
        let failures = test.failures.into_iter().map(|one| FailureView {
            record: one.record,
            partition: one.partition,
            offset: one.offset,
            found: one.found,
        });
        Self {
            name: if test.name.is_empty() { "(expression)".to_owned() } else { test.name },
            records,
            failed: test.failed,
            over_budget: test.over_budget,
            most_steps: test.most_steps,
            failures: failures.collect(),
        }
    }
}

impl Row for TestView {
    const PLURAL: &'static str = "rules";
    const HEADER: &'static [&'static str] = &["RULE", "RECORDS", "FAILED", "FIRST FAILURE"];
    const WIDE: &'static [&'static str] = &["OVER BUDGET", "MOST STEPS"];

    fn cells(&self) -> Vec<String> {
        let first = self.failures.first().map(|one| one.found.clone()).unwrap_or_default();
        vec![self.name.clone(), self.records.to_string(), self.failed.to_string(), first]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.over_budget.to_string(), self.most_steps.to_string()]
    }
}
