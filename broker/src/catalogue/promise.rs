//! What a product promises to those who read and write it, and whether a new schema keeps it.
//!
//! ```text
//!  mode, versions ──► pairs ──can_read──► comparisons ──┐
//!                                                       ├─ decides? ──► kept, or broken with reasons
//!  RETAINED only: versions it does not read ──► in the log, current? ┘
//! ```
//!
//! `RETAINED` asks the log only about versions that the new schema does not read: if it reads all of
//! them, it reads whatever is there.

use std::collections::BTreeSet;
use std::sync::Arc;

use meshlog_proto::v1::{self, ComparisonDirection, ComparisonVerdict, Compatibility};

use super::create::check_key_rule;
use super::product::{ProductHandle, Version};
use super::{Catalogue, aside, invalid};
use crate::error::{Error, Reason, Result};
use crate::retained;
use crate::schema::{
    Comparison, Difference, Direction, Mode, Profile, Schema, Terms, TooComplex, Weight, can_read,
    keeps,
};

/// A schema that may become the next version.
#[derive(Clone, Debug)]
pub(crate) struct Proposal {
    pub(crate) value: Arc<Schema>,
    pub(crate) key: Option<Arc<Schema>>,
}

/// Which versions a proposal is compared with, and how.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// Instead of the product's own.
    pub(crate) mode: Option<Mode>,
    /// Instead of those that the mode asks for.
    pub(crate) versions: Vec<u32>,
    /// Every version.
    pub(crate) all: bool,
}

/// What came of comparing.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) mode: Mode,
    /// Newest version first.
    pub(crate) comparisons: Vec<v1::SchemaComparison>,
    /// Versions that the proposal does not read, and need not: none of their records is left.
    pub(crate) forgotten: Vec<u32>,
    /// What is worth knowing and refuses nothing.
    pub(crate) remarks: Vec<String>,
}

impl Judgement {
    /// Whether the promise is kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.broken().next().is_none()
    }

    /// Comparisons that break it.
    fn broken(&self) -> impl Iterator<Item = &v1::SchemaComparison> {
        let broken = |one: &&v1::SchemaComparison| {
            one.decides && one.verdict() != ComparisonVerdict::Compatible
        };
        self.comparisons.iter().filter(broken)
    }

    /// Why a proposal is refused.
    pub(crate) fn refusal(&self, product: &ProductHandle) -> Error {
        let name = &product.name;
        let command = succeed_command(name);
        let mode = mode_word(self.mode);
        let broken: Vec<&v1::SchemaComparison> = self.broken().collect();
        let mut sentences = Vec::new();
        for one in &broken {
            sentences.push(sentence(one, self.mode));
        }
        let differences = || broken.iter().flat_map(|one| &one.differences);
        let counterexample =
            broken.iter().map(|one| one.counterexample.as_str()).find(|text| !text.is_empty());
        let mut error = Error::new(
            Reason::SchemaIncompatible,
            format!(
                "the schema does not keep what `{name}` promises ({mode}): {}. Mend it as the hints say, \
                 or create a successor: `{command}`",
                sentences.join("; "),
            ),
        )
        .with("product", name)
        .with("mode", mode)
        .with("command", &command);
        if let Some(first) = broken.first() {
            error = error.with("schema_version", first.version);
        }
        if let Some(first) = differences().find(|one| one.weight() != v1::DifferenceWeight::Warning)
        {
            error = error.with("path", &first.path).with("rule", &first.rule);
        }
        if let Some(counterexample) = counterexample {
            error = error.with("counterexample", shown(counterexample));
        }
        for one in differences().filter(|one| one.weight() != v1::DifferenceWeight::Warning) {
            let field = match one.path.as_str() {
                "" => "value_schema".to_owned(),
                path => format!("value_schema {path}"),
            };
            error = error.with_violation(
                field,
                format!("was {}; is {} ({}): {}", one.old, one.new, one.rule, one.hint),
            );
        }
        error
    }
}

/// One comparison as a sentence without its end.
fn sentence(one: &v1::SchemaComparison, _mode: Mode) -> String {
    let of = if one.is_key { "the key of version" } else { "version" };
    let breaking: Vec<&v1::SchemaDifference> =
        one.differences.iter().filter(|d| d.weight() != v1::DifferenceWeight::Warning).collect();
    let what = match one.direction() {
        ComparisonDirection::Forward => format!("{of} {} cannot read what it writes", one.version),
        _ => format!("it cannot read what {of} {} wrote ({})", one.version, one.reason),
    };
    let what = match one.verdict() {
        ComparisonVerdict::Unproven => what.replace("cannot read", "cannot be proved to read"),
        _ => what,
    };
    let Some(first) = breaking.first() else { return what };
    let place = if first.path.is_empty() { "the value" } else { first.path.as_str() };
    let more = match breaking.len() - 1 + one.omitted_differences as usize {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let example = match one.counterexample.as_str() {
        "" => String::new(),
        value => format!("; for instance {}", shown(value)),
    };
    format!(
        "{what}: {place} was {}, is {}, {} ({}){more}{example}",
        first.old, first.new, first.hint, first.rule
    )
}

fn shown(text: &str) -> String {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// The command that creates a successor.
pub(crate) fn succeed_command(product: &str) -> String {
    format!("meshlog product succeed {product} --schema FILE --reason TEXT")
}

fn mode_word(mode: Mode) -> &'static str {
    mode.setting().as_str_name().trim_start_matches("COMPATIBILITY_")
}

impl Catalogue {
    /// What a proposal would do to a product's promise.
    ///
    /// # Errors
    /// `SCHEMA_VERSION_UNKNOWN`, `SCHEMA_TOO_COMPLEX`, `INVALID_ARGUMENT` if the key rule cannot be kept;
    /// those of reading the log.
    pub(crate) async fn judge(
        &self,
        product: &Arc<ProductHandle>,
        proposal: &Proposal,
        question: &Question,
    ) -> Result<Judgement> {
        let (handle, proposed, asked) = (Arc::clone(product), proposal.clone(), question.clone());
        let mut judgement = aside(move || compare(&handle, &proposed, &asked)).await?;
        if judgement.mode == Mode::Retained {
            self.ask_the_log(product, &mut judgement).await?;
        }
        Ok(judgement)
    }

    /// Whether records are left of the versions that a proposal does not read.
    async fn ask_the_log(
        &self,
        product: &Arc<ProductHandle>,
        judgement: &mut Judgement,
    ) -> Result<()> {
        let current = product.current().number;
        let unread: BTreeSet<u32> = judgement.broken().map(|one| one.version).collect();
        let asked: Vec<(u32, u32)> = unread
            .iter()
            .filter(|number| **number != current)
            .filter_map(|number| product.version(*number).ok())
            .map(|version| (version.number, version.storage_id))
            .collect();
        if asked.is_empty() {
            return Ok(());
        }
        let ids = asked.iter().map(|(_, id)| *id).collect();
        let left = retained::schemas_left(&self.inner.storage, product, ids).await?;
        for (number, id) in asked {
            let is_left = left.of(id);
            for one in judgement.comparisons.iter_mut().filter(|one| one.version == number) {
                one.decides = is_left;
                one.reason = match (is_left, left.is_certain) {
                    (true, true) => "records of it are in the log",
                    (true, false) => {
                        "records of it may be in the log, which was too long to look through"
                    }
                    (false, _) => "no record of it is in the log",
                }
                .to_owned();
            }
            if !is_left {
                judgement.forgotten.push(number);
                judgement.remarks.push(format!(
                    "version {number} cannot be read with it, but no record of it is in the log; once this \
                     schema is added, version {number} takes no more appends"
                ));
            }
        }
        Ok(())
    }
}

fn compare(product: &ProductHandle, proposal: &Proposal, question: &Question) -> Result<Judgement> {
    if let Some(rule) = product.key_rule() {
        check_key_rule(rule, &proposal.value)?;
    }
    let settings = product.stored()?.product.and_then(|product| product.settings);
    let set = settings.and_then(|set| Compatibility::try_from(set.compatibility).ok());
    let mode = question.mode.or_else(|| set.and_then(Mode::of)).unwrap_or(Mode::Retained);
    let profile = settings.map(|set| set.protobuf_profile());
    let terms = Terms {
        profile: match profile {
            Some(v1::ProtobufProfile::Wire) => Profile::Wire,
            _ => Profile::WireJson,
        },
        writes_are_checked: product.is_enforced(),
    };
    let mut versions: Vec<&Version> = match (&question.versions[..], question.all) {
        ([], true) => product.versions().iter().collect(),
        ([], false) if mode.is_transitive() => product.versions().iter().collect(),
        ([], false) => vec![product.current()],
        (numbers, _) => {
            numbers.iter().map(|number| product.version(*number)).collect::<Result<_>>()?
        }
    };
    versions.retain(|version| !version.closed || !question.versions.is_empty() || question.all);
    versions.sort_by_key(|version| std::cmp::Reverse(version.number));
    versions.dedup_by_key(|version| version.number);
    let mut directions = mode.directions();
    if directions.is_empty() && (question.all || !question.versions.is_empty()) {
        directions = &[Direction::Backward];
    }
    let mut comparisons = Vec::new();
    for version in versions {
        for direction in directions {
            let reason = match version.number == product.current().number {
                true => "the current version",
                false => "an earlier version",
            };
            let decides = mode != Mode::None;
            let told = |comparison, is_key| {
                message(version.number, *direction, is_key, comparison, reason, decides)
            };
            let complex = |_: TooComplex| too_complex(product, version.number);
            let value =
                pair(&proposal.value, &version.value, *direction, terms).map_err(complex)?;
            comparisons.push(told(value, false));
            match (&proposal.key, &version.key) {
                (Some(new), Some(old)) => {
                    let key = pair(new, old, *direction, terms).map_err(complex)?;
                    comparisons.push(told(key, true));
                }
                (Some(new), None) => comparisons.push(told(key_added(new), true)),
                (None, _) => {}
            }
        }
    }
    Ok(Judgement { mode, comparisons, forgotten: Vec::new(), remarks: Vec::new() })
}

/// Both what can be read and, whoever reads, what the newer schema must keep.
fn pair(
    new: &Schema,
    old: &Schema,
    direction: Direction,
    terms: Terms,
) -> Result<Comparison, TooComplex> {
    let mut comparison = match direction {
        Direction::Backward => can_read(new, old, terms)?,
        Direction::Forward => {
            let mut forward = can_read(old, new, terms)?;
            // Told as old and new, whoever reads.
            for one in &mut forward.differences {
                std::mem::swap(&mut one.reader, &mut one.writer);
            }
            forward
        }
    };
    let kept = keeps(new, old, terms)?;
    comparison.omitted += kept.omitted;
    comparison.differences.extend(kept.differences);
    Ok(comparison)
}

fn key_added(new: &Schema) -> Comparison {
    Comparison {
        differences: vec![Difference {
            path: "key".to_owned(),
            rule: "KEY_SCHEMA_ADDED",
            reader: new.format().as_str_name().trim_start_matches("SCHEMA_FORMAT_").to_owned(),
            writer: "no key schema: keys were free".to_owned(),
            hint: "keys that were free cannot be promised a schema afterwards".to_owned(),
            weight: Weight::Breaking,
        }],
        ..Comparison::default()
    }
}

fn message(
    version: u32,
    direction: Direction,
    is_key: bool,
    comparison: Comparison,
    reason: &str,
    decides: bool,
) -> v1::SchemaComparison {
    let verdict = match (comparison.is_compatible(), comparison.is_breaking()) {
        (true, _) => ComparisonVerdict::Compatible,
        (false, true) => ComparisonVerdict::Breaking,
        (false, false) => ComparisonVerdict::Unproven,
    };
    let direction = match direction {
        Direction::Backward => ComparisonDirection::Backward,
        Direction::Forward => ComparisonDirection::Forward,
    };
    let difference = |one: Difference| v1::SchemaDifference {
        path: one.path,
        rule: one.rule.to_owned(),
        old: one.writer,
        new: one.reader,
        hint: one.hint,
        weight: match one.weight {
            Weight::Breaking => v1::DifferenceWeight::Breaking,
            Weight::Unproven => v1::DifferenceWeight::Unproven,
            Weight::Warning => v1::DifferenceWeight::Warning,
        }
        .into(),
    };
    v1::SchemaComparison {
        version,
        direction: direction.into(),
        is_key,
        verdict: verdict.into(),
        differences: comparison.differences.into_iter().map(difference).collect(),
        omitted_differences: u32::try_from(comparison.omitted).unwrap_or(u32::MAX),
        counterexample: comparison.counterexample.unwrap_or_default(),
        reason: reason.to_owned(),
        decides,
    }
}

fn too_complex(product: &ProductHandle, version: u32) -> Error {
    let error = Error::new(Reason::SchemaTooComplex, format!("{TooComplex}"));
    error.with("product", &product.name).with("schema_version", version)
}

/// The mode that a request names; `None`: the product's.
pub(crate) fn mode_asked(mode: i32) -> Result<Option<Mode>> {
    match Compatibility::try_from(mode) {
        Ok(mode) => Ok(Mode::of(mode)),
        Err(_) => Err(invalid(
            "mode",
            "use NONE, BACKWARD, FORWARD, FULL, the same with _TRANSITIVE, or RETAINED",
        )),
    }
}
