//! A build without the feature `cedar`: there are no policies, and settings that name some are refused.

use super::Catalogue;
use super::rights::Who;
use super::view::View;
use crate::access::{Permissions, Resource};
use crate::caller::Caller;
use crate::config::AccessConfig;
use crate::error::{Error, Reason, Result};

/// No policies.
#[derive(Default)]
pub(crate) struct Layer;

impl Layer {
    /// As the settings say, as long as they say nothing.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`: a broker that ignored policies would allow what they forbid.
    pub(crate) fn load(config: &AccessConfig) -> Result<Self> {
        match &config.policies {
            None => Ok(Self),
            Some(path) => Err(Error::new(
                Reason::InvalidArgument,
                format!(
                    "`policies` in `[broker.access]` names {}, and this build has no policies; build \
                     it with `--features cedar`, or take the setting out",
                    path.display()
                ),
            )),
        }
    }

    pub(super) fn is_there(&self) -> bool {
        false
    }
}

impl Catalogue {
    pub(crate) fn use_policies(&self, _policies: Layer) {}

    pub(crate) fn policy_notes(&self) -> Option<String> {
        None
    }

    pub(crate) fn refused_by_policy(
        &self,
        _caller: &Caller,
        _resource: Resource<'_>,
        _needed: Permissions,
    ) -> Option<Error> {
        None
    }

    pub(super) fn policies_said(&self, _caller: &Caller, _resource: Resource<'_>) -> Vec<String> {
        Vec::new()
    }
}

impl View {
    pub(super) fn left_by_policies(
        &self,
        _caller: &Caller,
        _resource: Resource<'_>,
        held: Permissions,
    ) -> Permissions {
        held
    }

    pub(super) fn left_to_team(
        &self,
        _who: &Who<'_>,
        _resource: Resource<'_>,
        held: Permissions,
        _reasons: &mut Vec<String>,
    ) -> Permissions {
        held
    }
}
