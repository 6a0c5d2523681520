//! Policies in the language Cedar, after the table.
//!
//! ```text
//! table: what the caller holds ─► policies: each permission that they do not allow is taken away ─► held
//! ```
//!
//! - Policies only take away, so a mistake in one gives nothing to anybody. A `forbid` takes away what it
//!   matches. While there is no `permit`, everything else stays; with one, only what some `permit`
//!   matches. A policy that cannot be evaluated forbids.
//! - They are checked against `schema.cedarschema` before any of them counts. A set that does not pass
//!   refuses the start; later it leaves the set before in use.
//! - What was decided is remembered with the rest of the decision, so a policy costs nothing on the way
//!   of a call that was made before.

mod case;
mod entities;
mod files;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, EntityUid, Policy,
    PolicyId, PolicySet, Request, Schema, ValidationMode, Validator,
};

use super::permission::{Permission, Permissions};
use crate::error::{Error, Reason, Result};

pub use case::{Case, CasePrincipal, CaseProduct, Expected, Outcome};
pub(crate) use entities::{About, Asked, ProductFacts};
pub(crate) use watch::watch;

/// Most policies of a broker.
const POLICIES_MAX: usize = 1_000;

/// What policies can speak about, in the schema language of Cedar.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The id of what stands for the table where no policy permits; no policy of a file can have it.
const TABLE: &str = "";

static CHECKED_BY: LazyLock<Validator> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("a test reads the schema");
    Validator::new(schema)
});

/// A set of policies that was found to be right.
pub struct Policies {
    set: PolicySet,
    count: usize,
    authorizer: Authorizer,
}

/// What policies say about one permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// Whether it stays.
    pub(crate) is_allowed: bool,
    /// The ids of those that decided; none if no policy has anything to say.
    pub(crate) policies: Vec<String>,
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policies").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl Policies {
    /// Those in a file, or in the files `*.cedar` of a directory.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, with the file, the policy and what is wrong with it.
    pub fn load(path: &Path) -> Result<Self> {
        let mut all = PolicySet::new();
        let mut found = HashMap::new();
        for (file, text) in files::read(path)? {
            let wrong = |why: &dyn fmt::Display| {
                invalid(&format!("{}: {why}", file.display())).with("file", file.display())
            };
            let parsed: PolicySet = text.parse().map_err(|error| wrong(&said(&error)))?;
            if parsed.templates().next().is_some() {
                return Err(wrong(&"it has a template; nothing here could fill it in"));
            }
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let mut policies: Vec<&Policy> = parsed.policies().collect();
            policies.sort_by_key(|policy| number_of(policy.id()));
            for (at, policy) in policies.into_iter().enumerate() {
                let id = match policy.annotation("id") {
                    Some(id) if !id.is_empty() => id.to_owned(),
                    _ => format!("{stem}:{}", at + 1),
                };
                let added = all.add(policy.new_id(PolicyId::new(&id)));
                added.map_err(|_| wrong(&format!("there are two policies `{id}`")))?;
                found.insert(id, file.clone());
                if found.len() > POLICIES_MAX {
                    return Err(wrong(&format!("there are more than {POLICIES_MAX} policies")));
                }
            }
        }
        Self::checked(all, &found)
    }

    /// These, each of a file.
    fn checked(mut set: PolicySet, found: &HashMap<String, PathBuf>) -> Result<Self> {
        let result = CHECKED_BY.validate(&set, ValidationMode::Strict);
        let wrong = result.validation_errors().map(|error| {
            let id: &str = error.policy_id().as_ref();
            let file = found.get(id).map_or_else(String::new, |file| file.display().to_string());
            format!("{file}: {}", said(error))
        });
        let wrong: Vec<String> = wrong.collect();
        if !wrong.is_empty() {
            return Err(invalid(&wrong.join("; ")));
        }
        for warning in result.validation_warnings() {
            tracing::warn!(%warning, "a policy may not mean what it says");
        }
        let count = set.num_of_policies();
        if !set.policies().any(|policy| policy.effect() == Effect::Permit) {
            // The table has permitted what the policies are asked about.
            let text = "permit(principal, action, resource);";
            let table = Policy::parse(Some(PolicyId::new(TABLE)), text);
            let table = table.map_err(|error| invalid(&said(&error)))?;
            set.add(table).map_err(|error| invalid(&said(&error)))?;
        }
        Ok(Self { set, count, authorizer: Authorizer::new() })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// What is left of permissions.
    pub(crate) fn left(&self, asked: &Asked<'_>, about: &About, held: Permissions) -> Permissions {
        let entities = entities::of(asked, about);
        let decide = |permission| self.decide(asked, about, entities.as_ref(), permission);
        let gone = held.iter().filter(|permission| !decide(*permission).is_allowed);
        held.without(Permissions::of(&gone.collect::<Vec<_>>()))
    }

    /// What they say about one permission.
    pub(crate) fn decided(
        &self,
        asked: &Asked<'_>,
        about: &About,
        permission: Permission,
    ) -> Decided {
        self.decide(asked, about, entities::of(asked, about).as_ref(), permission)
    }

    fn decide(
        &self,
        asked: &Asked<'_>,
        about: &About,
        entities: Option<&Entities>,
        permission: Permission,
    ) -> Decided {
        let Some(action) = about.action(permission) else {
            return Decided { is_allowed: true, policies: Vec::new() };
        };
        // Without a schema there is nothing that a request could break.
        let request =
            Request::new(asked.uid(), action, about.uid().clone(), Context::empty(), None);
        let (Ok(request), Some(entities)) = (request, entities) else {
            return Decided { is_allowed: false, policies: Vec::new() };
        };
        let response = self.authorizer.is_authorized(&request, &self.set, entities);
        let diagnostics = response.diagnostics();
        let broken = diagnostics.errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        let mut policies: Vec<String> = broken.map(ToString::to_string).collect();
        let is_allowed = policies.is_empty() && response.decision() == Decision::Allow;
        if is_allowed || response.decision() == Decision::Deny {
            policies.extend(diagnostics.reason().map(ToString::to_string));
        }
        policies.retain(|id| id != TABLE);
        policies.sort();
        Decided { is_allowed, policies }
    }
}

/// `policy7` is the eighth of its file.
fn number_of(id: &PolicyId) -> usize {
    let text: &str = id.as_ref();
    text.trim_start_matches("policy").parse().unwrap_or_default()
}

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind = format!("Meshlog::{kind}").parse().expect("the names of our kinds are names");
    EntityUid::from_type_name_and_id(kind, cedar_policy::EntityId::new(id))
}

/// An error of Cedar with all that it says, in one line.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(crate) fn invalid(what: &str) -> Error {
    Error::new(Reason::InvalidArgument, format!("the policies cannot be used: {what}"))
}
