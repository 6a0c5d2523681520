//! What policies see of the catalogue, and what they take away.

use std::sync::Arc;

use meshlog_proto::v1::{Classification, ProductState};

use super::Catalogue;
use super::product::ProductHandle;
use super::rights::{Who, tag_names};
use super::view::View;
use crate::access::policy::{About, Asked, Decided, Policies, ProductFacts};
use crate::access::{Permission, Permissions, Resource};
use crate::caller::{Authority, Caller};
use crate::config::AccessConfig;
use crate::error::{Error, Reason, Result};

/// The policies in use.
#[derive(Default)]
pub(crate) struct Layer {
    policies: Option<Arc<Policies>>,
    /// Why newer ones are not in use.
    problem: Option<String>,
}

impl Layer {
    /// Those that the settings name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, with the file, the policy and what is wrong with it.
    pub(crate) fn load(config: &AccessConfig) -> Result<Self> {
        let policies = config.policies.as_deref().map(Policies::load).transpose()?;
        Ok(Self::from(policies))
    }

    /// Whether there are any.
    pub(super) fn is_there(&self) -> bool {
        self.policies.is_some()
    }
}

impl From<Option<Policies>> for Layer {
    fn from(policies: Option<Policies>) -> Self {
        Self { policies: policies.map(Arc::new), problem: None }
    }
}

impl Catalogue {
    /// From now on these policies take away.
    pub(crate) fn use_policies(&self, layer: Layer) {
        self.inner.view.write().rights.policies = layer;
        self.decide_anew();
    }

    /// There are newer policies, which cannot be used.
    pub(crate) fn keep_policies(&self, problem: String) {
        self.inner.view.write().rights.policies.problem = Some(problem);
    }

    /// Why the newest policies are not in use.
    pub(crate) fn policy_notes(&self) -> Option<String> {
        let problem = self.inner.view.read().rights.policies.problem.clone()?;
        Some(format!("the new policies are not in use, those before still are: {problem}"))
    }

    /// The refusal of what the table allows and policies do not.
    pub(crate) fn refused_by_policy(
        &self,
        caller: &Caller,
        resource: Resource<'_>,
        needed: Permissions,
    ) -> Option<Error> {
        let asked = asked(caller)?;
        let view = self.inner.view.read();
        let by_table = view.held_by_table(caller, resource, self.inner.storage.now());
        let mut decided = view.decided(&asked, resource, by_table.within(needed)).into_iter();
        let (permission, decided) = decided.find(|(_, decided)| !decided.is_allowed)?;
        drop(view);
        let (permission, principal) = (permission.text(), &caller.principal);
        let error = Error::new(
            Reason::PermissionDenied,
            format!(
                "{} to {principal} on {resource}; ask an administrator about it",
                said(permission, &decided)
            ),
        );
        let error = error.with("principal", principal).with("permission", permission);
        Some(error.with("policy", decided.policies.join(", ")))
    }

    /// What policies say about what the table gives to a caller, as sentences.
    pub(super) fn policies_said(&self, caller: &Caller, resource: Resource<'_>) -> Vec<String> {
        let Some(asked) = asked(caller) else { return Vec::new() };
        let view = self.inner.view.read();
        let by_table = view.held_by_table(caller, resource, self.inner.storage.now());
        view.said(&asked, resource, by_table)
    }
}

impl View {
    /// What policies leave of the permissions of a caller.
    pub(super) fn left_by_policies(
        &self,
        caller: &Caller,
        resource: Resource<'_>,
        held: Permissions,
    ) -> Permissions {
        let (Some(policies), Some(asked)) = (&self.rights.policies.policies, asked(caller)) else {
            return held;
        };
        match held.is_empty() {
            true => held,
            false => policies.left(&asked, &self.about(resource), held),
        }
    }

    /// What policies leave to anybody of a team.
    pub(super) fn left_to_team(
        &self,
        who: &Who<'_>,
        resource: Resource<'_>,
        held: Permissions,
        reasons: &mut Vec<String>,
    ) -> Permissions {
        let Some(policies) = &self.rights.policies.policies else { return held };
        let principal = format!("team:{}", who.team);
        let (team, application) = (who.team, who.application);
        let asked = Asked { principal: &principal, team, application, admin: false };
        reasons.extend(self.said(&asked, resource, held));
        policies.left(&asked, &self.about(resource), held)
    }

    fn said(&self, asked: &Asked<'_>, resource: Resource<'_>, held: Permissions) -> Vec<String> {
        let decided = self.decided(asked, resource, held).into_iter();
        let by_a_policy =
            decided.filter(|(_, decided)| !(decided.is_allowed && decided.policies.is_empty()));
        by_a_policy.map(|(permission, decided)| said(permission.text(), &decided)).collect()
    }

    /// What policies decide about each of these permissions.
    fn decided(
        &self,
        asked: &Asked<'_>,
        resource: Resource<'_>,
        held: Permissions,
    ) -> Vec<(Permission, Decided)> {
        let Some(policies) = &self.rights.policies.policies else { return Vec::new() };
        let about = self.about(resource);
        held.iter().map(|one| (one, policies.decided(asked, &about, one))).collect()
    }

    fn about(&self, resource: Resource<'_>) -> About {
        match resource {
            Resource::Broker => About::broker(),
            Resource::Team(name) => About::team(name),
            Resource::Domain(name) => {
                About::domain(name, self.domains.get(name).map_or("", |domain| &domain.owner))
            }
            Resource::TagKey(name) => {
                About::tag_key(name, self.tag_keys.get(name).map_or("", |key| &key.owner))
            }
            Resource::Product(product) => self.about_product(product),
        }
    }

    fn about_product(&self, handle: &ProductHandle) -> About {
        // One that cannot be read is as secret as can be.
        let product = handle.stored().ok().and_then(|stored| stored.product).unwrap_or_default();
        let domain = handle.name.split('.').next().unwrap_or_default();
        let inherited = self.domains.get(domain).map(|domain| domain.tags.as_slice());
        let tags: Vec<Box<str>> =
            tag_names(inherited.unwrap_or_default()).chain(tag_names(&product.tags)).collect();
        let mut on_fields = product.tags.clone();
        on_fields.retain(|tag| !tag.field_path.is_empty());
        on_fields.iter_mut().for_each(|tag| tag.field_path.clear());
        let field_tags: Vec<Box<str>> = tag_names(&on_fields).collect();
        About::product(&ProductFacts {
            name: &handle.name,
            owner: handle.owner(),
            classification: match product.classification() {
                Classification::Public => "public",
                Classification::Internal => "internal",
                Classification::Confidential => "confidential",
                Classification::Restricted | Classification::Unspecified => "restricted",
            },
            state: match handle.state() {
                ProductState::Draft | ProductState::Unspecified => "draft",
                ProductState::Active => "active",
                ProductState::Deprecated => "deprecated",
                ProductState::Retired => "retired",
            },
            tags: tags.iter().map(|tag| &**tag).collect(),
            field_tags: field_tags.iter().map(|tag| &**tag).collect(),
        })
    }
}

/// What was decided, and by which policies.
fn said(permission: &str, decided: &Decided) -> String {
    let policies = decided.policies.join("`, `");
    match (decided.is_allowed, decided.policies.is_empty()) {
        (true, _) => format!("the policy `{policies}` permits {permission}"),
        (false, true) => format!("no policy permits {permission}"),
        (false, false) => format!("the policy `{policies}` forbids {permission}"),
    }
}

/// A caller as policies see it; none for one that is not asked who it is.
fn asked(caller: &Caller) -> Option<Asked<'_>> {
    let Authority::Proven(session) = &caller.authority else { return None };
    Some(Asked {
        principal: &caller.principal,
        team: &session.team,
        application: &caller.application,
        admin: session.is_admin,
    })
}
