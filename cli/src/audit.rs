//! `meshlog audit`: who changed what, who was refused, and whether the log of it is whole.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use meshlog_broker::audit::{Break, Link, Walk};
use meshlog_client::proto::{AuditRecord, ListAuditRequest, VerifyAuditRequest};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Who changed what, who was refused, and whether the log of it is whole.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List changes and refused calls, oldest first
    #[command(before_help = "Examples:
  meshlog audit list --since 2027-01-31
  meshlog audit list --kind denial --principal key:billing
  meshlog audit list -o jsonl > audit.jsonl")]
    List(List),
    /// Check that nothing in the audit log was changed, taken out or put in
    ///
    /// Prints the newest place of the chain. Keep it somewhere else: with --head a later check
    /// proves that the log still leads through it.
    #[command(before_help = "Examples:
  meshlog audit verify
  meshlog audit verify --head 12:9f86d081884c7d659a2feaa0c55ad015
  meshlog audit verify --file audit.jsonl")]
    Verify(Verify),
}

/// Arguments of `audit list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only of this principal
    #[arg(long)]
    principal: Option<String>,
    /// Only of this call, for instance update_product
    #[arg(long, value_name = "CALL")]
    action: Option<String>,
    /// Only of this kind: product, domain, team, tag_key, broker, denial, authentication and so on
    #[arg(long)]
    kind: Option<String>,
    /// Only about what has this name
    #[arg(long)]
    name: Option<String>,
    /// Only from this time on: a day, or a time in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = words::parse_time)]
    since: Option<Timestamp>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = words::parse_time)]
    until: Option<Timestamp>,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A head that an earlier check printed: the log must lead through it
    #[arg(long, value_name = "SEQUENCE:HASH")]
    head: Option<String>,
    /// Check what `audit list -o jsonl` wrote, without a broker
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "context"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl AuditCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::List(args) => list(args, out).await,
            Self::Verify(args) => verify(args, out).await,
        }
    }
}

async fn list(args: List, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut request = ListAuditRequest {
        principal: args.principal.unwrap_or_default(),
        action: args.action.unwrap_or_default(),
        kind: args.kind.unwrap_or_default(),
        name: args.name.unwrap_or_default(),
        since_time: args.since.map(words::to_wire),
        until_time: args.until.map(words::to_wire),
        page_size: limit.min(1_000) as u32,
        page_token: String::new(),
    };
    let mut found = Vec::new();
    while found.len() < limit {
        let page = catalog.list_audit(request.clone()).await?;
        let views = page.records.into_iter().map(View::new).collect::<Result<Vec<View>>>()?;
        found.extend(views);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    found.truncate(limit);
    out.list(args.output.output, &found)
}

/// A record, as the program shows it and reads it back.
#[derive(Deserialize, Serialize)]
struct View {
    offset: u64,
    hash: String,
    /// Byte for byte as it is stored.
    record: Box<RawValue>,
    #[serde(skip)]
    shown: Shown,
}

#[derive(Default)]
struct Shown {
    time: Option<Timestamp>,
    principal: String,
    action: String,
    about: String,
    application: String,
    sequence: u64,
}

impl View {
    fn new(record: AuditRecord) -> Result<Self> {
        let raw = RawValue::from_string(record.json).map_err(|error| {
            let offset = record.offset;
            let what = format!("the record at offset {offset} is no JSON: {error}");
            Failure::new(Exit::Corruption, format!("{what}; run `meshlog audit verify`"))
        })?;
        let about = match record.name.as_str() {
            "" => record.kind,
            name => format!("{}/{name}", record.kind),
        };
        Ok(Self {
            offset: record.offset,
            hash: record.hash,
            record: raw,
            shown: Shown {
                time: words::time(record.time),
                principal: record.principal,
                action: record.action,
                about,
                application: record.application,
                sequence: record.sequence,
            },
        })
    }
}

impl Row for View {
    const PLURAL: &'static str = "records";
    const HEADER: &'static [&'static str] = &["TIME", "PRINCIPAL", "ACTION", "ABOUT"];
    const WIDE: &'static [&'static str] = &["APPLICATION", "OFFSET", "SEQUENCE", "HASH"];

    fn cells(&self) -> Vec<String> {
        let shown = &self.shown;
        vec![
            words::when(shown.time),
            shown.principal.clone(),
            shown.action.clone(),
            shown.about.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        let shown = &self.shown;
        vec![
            shown.application.clone(),
            self.offset.to_string(),
            shown.sequence.to_string(),
            self.hash.clone(),
        ]
    }

    fn name(&self) -> String {
        self.shown.about.clone()
    }
}

/// The outcome of a check.
#[derive(Serialize)]
struct Outcome {
    holds: bool,
    records: u64,
    #[serde(skip_serializing_if = "is_zero")]
    records_before_the_chain: u64,
    anchor: String,
    head: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken_at_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

async fn verify(args: Verify, out: &mut Out) -> Result<()> {
    let outcome = match &args.file {
        Some(path) => verify_file(path, args.head.as_deref())?,
        None => {
            let catalog = args.server.connect().await?.catalog();
            let noted_head = args.head.unwrap_or_default();
            let found = catalog.verify_audit(VerifyAuditRequest { noted_head }).await?;
            Outcome {
                holds: found.broken.is_none(),
                records: found.records,
                records_before_the_chain: found.records_before,
                anchor: found.anchor,
                head: found.head,
                broken_at_offset: found.broken.as_ref().map(|broken| broken.offset),
                broken: found.broken.map(|broken| broken.what),
            }
        }
    };
    out.one(args.output.output, &outcome)?;
    match (outcome.broken, outcome.broken_at_offset) {
        (Some(what), Some(offset)) => Err(Failure::new(
            Exit::Corruption,
            format!("the audit log does not hold at offset {offset}: {what}"),
        )),
        _ => Ok(()),
    }
}

/// Checks lines of `audit list -o jsonl`, all records of a range.
fn verify_file(path: &Path, head: Option<&str>) -> Result<Outcome> {
    let unusable = |what: &dyn std::fmt::Display| {
        Failure::usage(format!(
            "{}: {what}; write it with `meshlog audit list -o jsonl`, without filters",
            path.display()
        ))
    };
    let noted = match head {
        Some(text) => Some(Link::from_text(text).ok_or_else(|| {
            Failure::usage("--head: write it as a check printed it, SEQUENCE:HASH")
        })?),
        None => None,
    };
    let text = std::fs::read_to_string(path).map_err(|error| unusable(&error))?;
    let mut walk = Walk::through(noted);
    let (mut records, mut before, mut end, mut head) = (0, 0, 0, Link::start());
    let mut broken = None;
    for line in text.lines() {
        let view: View = serde_json::from_str(line).map_err(|error| unusable(&error))?;
        end = view.offset + 1;
        // What a broker without a chain wrote can only stand before the chain.
        if records == 0 && view.hash.is_empty() {
            before += 1;
            continue;
        }
        let value = view.record.get().as_bytes();
        match walk.step(view.offset, value, Some(view.hash.as_str())) {
            Ok(link) => (records, head) = (records + 1, link),
            Err(wrong) => {
                broken = Some(wrong);
                break;
            }
        }
    }
    let finished = match broken {
        Some(wrong) => Err(wrong),
        None => walk.finish(end, None),
    };
    let (anchor, broken) = match finished {
        Ok(walked) => (walked.anchor.to_string(), None),
        Err(wrong) => (String::new(), Some(wrong)),
    };
    Ok(Outcome {
        holds: broken.is_none(),
        records,
        records_before_the_chain: before,
        anchor,
        head: head.to_string(),
        broken_at_offset: broken.as_ref().map(|broken: &Break| broken.offset),
        broken: broken.map(|broken| broken.what),
    })
}
