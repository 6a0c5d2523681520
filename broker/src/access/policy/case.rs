//! What policies are expected to decide, tried without a broker.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::entities::ProductFacts;
use super::{About, Asked, Decided, Policies};
use crate::access::Permission;
use crate::error::{Error, Reason, Result};

/// One expectation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it is for, for whoever reads that it failed.
    #[serde(default)]
    pub name: String,
    /// Who asks.
    pub principal: CasePrincipal,
    /// The permission: consume, produce, schema, manage, govern or admin.
    pub action: String,
    /// On which product. Absent: on the broker as a whole.
    pub product: Option<CaseProduct>,
    /// What comes out.
    pub expected: Expected,
    /// A policy that must be among those that decide.
    pub policy: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CasePrincipal {
    /// `key:ID`, `token:SUBJECT` or `certificate:NAME`.
    #[serde(default = "somebody")]
    pub id: String,
    /// Its team.
    pub team: String,
    /// The program.
    #[serde(default)]
    pub application: String,
    /// Whether the table lets it do everything.
    #[serde(default)]
    pub admin: bool,
}

fn somebody() -> String {
    "key:somebody".to_owned()
}

/// A product that there need not be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseProduct {
    /// `domain.name`.
    pub name: String,
    /// The team that owns it.
    #[serde(default)]
    pub owner: String,
    /// public, internal, confidential or restricted.
    #[serde(default = "internal")]
    pub classification: String,
    /// draft, active, deprecated or retired.
    #[serde(default = "active")]
    pub state: String,
    /// Of it or of its domain: `key`, `key=value`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Of its fields.
    #[serde(default)]
    pub field_tags: Vec<String>,
}

fn internal() -> String {
    "internal".to_owned()
}

fn active() -> String {
    "active".to_owned()
}

/// What policies decide about something that the table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// It stays allowed.
    Allow,
    /// A policy forbids it, or there are policies that permit and none of them permits it.
    Deny,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The decision.
    pub decided: Expected,
    /// The policies that decided; none if no policy has anything to say.
    pub policies: Vec<String>,
    /// Whether that is what was expected.
    pub is_expected: bool,
}

impl Policies {
    /// Tries one case.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a case that cannot be asked.
    pub fn try_case(&self, case: &Case) -> Result<Outcome> {
        let permission = Permission::from_text(&case.action);
        let asked = Asked {
            principal: &case.principal.id,
            team: &case.principal.team,
            application: &case.principal.application,
            admin: case.principal.admin,
        };
        fn all(names: &[String]) -> Vec<&str> {
            names.iter().map(String::as_str).collect()
        }
        let about = match &case.product {
            None => About::broker(),
            Some(product) => About::product(&ProductFacts {
                name: &product.name,
                owner: &product.owner,
                classification: &product.classification,
                state: &product.state,
                tags: all(&product.tags),
                field_tags: all(&product.field_tags),
            }),
        };
        let permission = permission.filter(|permission| about.action(*permission).is_some());
        let permission = permission.ok_or_else(|| {
            let actions = match case.product {
                Some(_) => "consume, produce, schema, manage, govern and admin",
                None => "govern and admin; for others name a product",
            };
            Error::new(
                Reason::InvalidArgument,
                format!("policies are not asked about `{}`, but about {actions}", case.action),
            )
        })?;
        let Decided { is_allowed, policies } = self.decided(&asked, &about, permission);
        let decided = if is_allowed { Expected::Allow } else { Expected::Deny };
        let is_named = case.policy.as_ref().is_none_or(|policy| policies.contains(policy));
        Ok(Outcome { decided, policies, is_expected: decided == case.expected && is_named })
    }
}
