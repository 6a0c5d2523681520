//! A question as Cedar has it: who asks, and about what.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use super::uid;
use crate::access::Permission;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// `key:ID`, `token:SUBJECT`, `certificate:NAME`, or `team:NAME` of a team that is only asked
    /// about.
    pub(crate) principal: &'a str,
    /// Empty: none.
    pub(crate) team: &'a str,
    pub(crate) application: &'a str,
    pub(crate) admin: bool,
}

impl Asked<'_> {
    pub(super) fn uid(&self) -> EntityUid {
        uid("Principal", self.principal)
    }

    fn entity(&self) -> Option<Entity> {
        let proof = self.principal.split(':').next().unwrap_or_default();
        let facts = HashMap::from([
            ("team".to_owned(), text(self.team)),
            ("application".to_owned(), text(self.application)),
            ("proof".to_owned(), text(proof)),
            ("admin".to_owned(), RestrictedExpression::new_bool(self.admin)),
        ]);
        let teams = [self.team].into_iter().filter(|team| !team.is_empty());
        let teams: HashSet<EntityUid> = teams.map(|team| uid("Team", team)).collect();
        Entity::new(self.uid(), facts, teams).ok()
    }
}

/// What it is about.
#[derive(Clone, Debug)]
pub(crate) struct About {
    kind: Kind,
    uid: EntityUid,
    /// A domain that it is in.
    within: Option<EntityUid>,
    facts: HashMap<String, RestrictedExpression>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Broker,
    Domain,
    Team,
    TagKey,
    Product,
}

/// What policies see of a product.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) owner: &'a str,
    pub(crate) classification: &'a str,
    pub(crate) state: &'a str,
    pub(crate) tags: Vec<&'a str>,
    pub(crate) field_tags: Vec<&'a str>,
}

impl About {
    /// The broker as a whole.
    pub(crate) fn broker() -> Self {
        Self::plain(Kind::Broker, "Broker", "")
    }

    /// A team.
    pub(crate) fn team(name: &str) -> Self {
        Self::plain(Kind::Team, "Team", name)
    }

    /// A domain.
    pub(crate) fn domain(name: &str, owner: &str) -> Self {
        Self::plain(Kind::Domain, "Domain", name).with("owner", text(owner))
    }

    /// A key of the tag vocabulary.
    pub(crate) fn tag_key(name: &str, owner: &str) -> Self {
        Self::plain(Kind::TagKey, "TagKey", name).with("owner", text(owner))
    }

    /// A product.
    pub(crate) fn product(of: &ProductFacts<'_>) -> Self {
        let domain = of.name.split('.').next().unwrap_or_default();
        let set =
            |names: &[&str]| RestrictedExpression::new_set(names.iter().map(|name| text(name)));
        let about = Self::plain(Kind::Product, "Product", of.name)
            .with("domain", text(domain))
            .with("owner", text(of.owner))
            .with("classification", text(of.classification))
            .with("state", text(of.state))
            .with("tags", set(&of.tags))
            .with("field_tags", set(&of.field_tags));
        Self { within: Some(uid("Domain", domain)), ..about }
    }

    fn plain(kind: Kind, named: &str, id: &str) -> Self {
        Self { kind, uid: uid(named, id), within: None, facts: HashMap::new() }
    }

    fn with(mut self, name: &str, value: RestrictedExpression) -> Self {
        self.facts.insert(name.to_owned(), value);
        self
    }

    pub(super) fn uid(&self) -> &EntityUid {
        &self.uid
    }

    /// The action that a permission is; none where policies are not asked, as the schema says.
    pub(super) fn action(&self, permission: Permission) -> Option<EntityUid> {
        let is_asked = match permission {
            Permission::Discover => false,
            Permission::Consume | Permission::Produce | Permission::Schema => {
                self.kind == Kind::Product
            }
            Permission::Manage => self.kind != Kind::Broker,
            Permission::Govern | Permission::Admin => true,
        };
        is_asked.then(|| uid("Action", permission.text()))
    }

    fn entity(&self) -> Option<Entity> {
        Entity::new(self.uid.clone(), self.facts.clone(), self.within.iter().cloned().collect())
            .ok()
    }
}

/// Both, so that policies can look into them. There is nothing in them that could not be said.
pub(super) fn of(asked: &Asked<'_>, about: &About) -> Option<Entities> {
    Entities::from_entities([asked.entity()?, about.entity()?], None).ok()
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}
