//! The rules of one product at one moment, compiled, with what they made of records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use meshlog_proto::v1;

use super::budget::{Budget, Stop};
use super::{Expression, MAX_MESSAGE_BYTES, MAX_REQUEST_STEPS, MAX_RULES, MAX_STEPS, Source};
use crate::schema::{Broken, Rejection, shown};

/// What rules made of records, since the broker started.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    checked: AtomicU64,
    failed: AtomicU64,
    over_budget: AtomicU64,
}

/// What one rule makes of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// With what came of it instead.
    Failed(String),
    OverBudget,
}

/// Rules that are evaluated.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    all: Box<[Rule]>,
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    message: Box<str>,
    version: u32,
    expression: Result<Expression, String>,
    counts: Arc<Counts>,
}

impl Rules {
    /// Compiles those that are not disabled. One that cannot be evaluated, because another version of
    /// the broker took it, is met by no record.
    pub(crate) fn new(rules: &[v1::Rule], counts: impl Fn(&v1::Rule) -> Arc<Counts>) -> Self {
        let rule = |rule: &v1::Rule| Rule {
            name: rule.name.as_str().into(),
            message: rule.message.as_str().into(),
            version: rule.version,
            expression: Expression::parse(&rule.expression),
            counts: counts(rule),
        };
        Self { all: rules.iter().filter(|rule| !rule.disabled).map(rule).collect() }
    }

    pub(crate) fn all(&self) -> &[Rule] {
        &self.all
    }

    /// Whether a record meets all of them; counts it. `spent` are the steps of the records of the
    /// request before it.
    pub(crate) fn check(
        &self,
        key: Option<&[u8]>,
        value: Option<Source<'_>>,
        spent: &AtomicU64,
    ) -> Result<(), Rejection> {
        for rule in &self.all {
            let (verdict, steps) = rule.verdict(key, value, spent.load(Relaxed));
            spent.fetch_add(steps, Relaxed);
            rule.counts.checked.fetch_add(1, Relaxed);
            if verdict == Verdict::Met {
                continue;
            }
            rule.counts.failed.fetch_add(1, Relaxed);
            if verdict == Verdict::OverBudget {
                rule.counts.over_budget.fetch_add(1, Relaxed);
            }
            return Err(rule.rejection(verdict));
        }
        Ok(())
    }
}

impl Rule {
    /// What it makes of a record, and the steps it took; `None`: a value too large to be decoded.
    pub(crate) fn verdict(
        &self,
        key: Option<&[u8]>,
        value: Option<Source<'_>>,
        spent: u64,
    ) -> (Verdict, u64) {
        let expression = match &self.expression {
            Ok(expression) => expression,
            Err(fault) => return (Verdict::Failed(fault.clone()), 0),
        };
        let Some(value) = value else { return (Verdict::OverBudget, 0) };
        let mut budget = Budget::of(MAX_STEPS.min(MAX_REQUEST_STEPS.saturating_sub(spent)));
        let verdict = match expression.is_met(key, value, &mut budget) {
            Ok(true) => Verdict::Met,
            Ok(false) => Verdict::Failed("a value for which the rule is false".to_owned()),
            Err(Stop::Fault(fault)) => Verdict::Failed(fault.into_owned()),
            Err(Stop::OverBudget) => Verdict::OverBudget,
        };
        (verdict, budget.spent())
    }

    #[cold]
    fn rejection(&self, verdict: Verdict) -> Rejection {
        let path = format!("rules[{}]", self.name);
        let expected = match &*self.message {
            "" => format!("what version {} of the rule says", self.version),
            message => message.to_owned(),
        };
        let (found, broken) = match verdict {
            Verdict::OverBudget => (
                format!(
                    "a value for which the rule takes more than {MAX_STEPS} steps, or its request too many"
                ),
                Broken::RuleBudget,
            ),
            Verdict::Failed(found) => (found, Broken::Rule),
            Verdict::Met => (String::new(), Broken::Rule),
        };
        Rejection { path, expected, found: shown(&found), broken }
    }

    /// Why it cannot be evaluated.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.expression.as_ref().err().map(String::as_str)
    }

    /// Adds what it made of records.
    pub(crate) fn tell(&self, status: &mut v1::RuleStatus) {
        status.checked = self.counts.checked.load(Relaxed);
        status.failed = self.counts.failed.load(Relaxed);
        status.over_budget = self.counts.over_budget.load(Relaxed);
        status.fault = self.fault().unwrap_or_default().to_owned();
    }
}

/// Whether rules may be those of a product, but for what they say of its fields.
///
/// # Errors
/// The path of the field that is wrong, and a sentence.
pub(crate) fn check_names(rules: &[v1::Rule]) -> Result<(), (String, String)> {
    if rules.len() > MAX_RULES {
        return Err(("rules".to_owned(), format!("at most {MAX_RULES}, not {}", rules.len())));
    }
    for (at, rule) in rules.iter().enumerate() {
        let wrong = |field: &str, what: String| Err((format!("rules[{at}].{field}"), what));
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = rule.name.as_bytes();
        if bytes.len() > 63
            || !bytes.first().copied().is_some_and(is_name)
            || !bytes.iter().all(|byte| is_name(*byte) || *byte == b'-')
        {
            let what = "at most 63 of `[a-z0-9-]`, starting with a letter or digit";
            return wrong("name", what.to_owned());
        }
        if rules[..at].iter().any(|other| other.name == rule.name) {
            return wrong("name", format!("there are two rules `{}`", rule.name));
        }
        if rule.message.len() > MAX_MESSAGE_BYTES {
            return wrong("message", format!("at most {MAX_MESSAGE_BYTES} bytes"));
        }
    }
    Ok(())
}
