//! Who calls.

use std::sync::Arc;

use crate::access::Permissions;
use crate::identity::{Proof, Session};

/// Who makes a call: a principal, the team it works for and the program it uses. Without
/// authentication the name of the program is taken on trust, and what it does is recorded under a
/// principal that says so.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who is answerable: `unverified:<application>` unless somebody proved who it is.
    pub principal: Arc<str>,
    /// The team it works for; none if that was not proved.
    pub team: Option<Arc<str>>,
    /// The name of the program, as it gave it; at most [`Caller::MAX_APPLICATION_BYTES`].
    pub application: Arc<str>,
    /// Why it may do what it may do.
    pub(crate) authority: Authority,
}

/// Where the rights of a caller come from.
#[derive(Clone, Debug)]
pub(crate) enum Authority {
    /// It is part of this process: all rights.
    Trusted,
    /// It did not say who it is: all rights while there are no keys, and none afterwards.
    Open,
    /// It proved who it is.
    Proven(Arc<Session>),
}

impl Caller {
    /// Longest name of an application; a longer one is cut.
    pub const MAX_APPLICATION_BYTES: usize = 128;

    /// The application of a caller that names none.
    pub const ANONYMOUS: &'static str = "unknown";

    /// A caller inside this process, which may do everything. No more is known of it than the name of
    /// its application.
    #[must_use]
    pub fn new(application: &str) -> Self {
        let application = Self::application_of(application);
        Self {
            principal: format!("unverified:{application}").into(),
            team: None,
            application,
            authority: Authority::Trusted,
        }
    }

    fn application_of(application: &str) -> Arc<str> {
        let mut end = application.len().min(Self::MAX_APPLICATION_BYTES);
        while !application.is_char_boundary(end) {
            end -= 1;
        }
        let name = application[..end].trim();
        Arc::from(if name.is_empty() { Self::ANONYMOUS } else { name })
    }

    /// Whether it may do everything without being asked who it is.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        matches!(self.authority, Authority::Trusted)
    }

    /// A caller that did not say who it is.
    #[must_use]
    pub(crate) fn unverified(application: &str) -> Self {
        Self { authority: Authority::Open, ..Self::new(application) }
    }

    /// A caller that proved who it is. Its key says which program it is, or it says so itself.
    #[must_use]
    pub(crate) fn proven(session: &Arc<Session>, application: Option<&str>) -> Self {
        let team = (!session.team.is_empty()).then(|| Arc::clone(&session.team));
        let application = match &session.application {
            Some(application) => Arc::clone(application),
            None => Self::application_of(application.unwrap_or_default()),
        };
        let principal = Arc::clone(&session.principal);
        Self { principal, team, application, authority: Authority::Proven(Arc::clone(session)) }
    }

    /// Whether it did not say who it is.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.authority, Authority::Open)
    }

    /// Whether its proof ends by itself.
    pub(crate) fn has_end(&self) -> bool {
        matches!(&self.authority, Authority::Proven(session) if session.ends.is_some())
    }

    /// Whether it proved who it is with this key.
    pub(crate) fn has_key(&self, id: &str) -> bool {
        matches!(&self.authority, Authority::Proven(session)
            if matches!(&session.proof, Proof::Key(own) if **own == *id))
    }

    /// What its proof takes from the permissions of its team, as sentences.
    pub(crate) fn limits_said(&self) -> Vec<String> {
        let Authority::Proven(session) = &self.authority else {
            return vec!["nobody is asked who it is: everything is allowed".to_owned()];
        };
        let mut said = Vec::new();
        if session.is_admin {
            said.push("an administrator's key: everything is allowed".to_owned());
        }
        if !session.role.is_empty() {
            said.push(format!("its role in the settings: {}", session.role));
        }
        if session.limits.permissions != Permissions::ALL {
            said.push(format!("the key is limited to {}", session.limits.permissions));
        }
        if session.limits.is_local() {
            said.push("the key is limited to some products or domains".to_owned());
        }
        said
    }

    /// Who is recorded as the author of a change.
    #[must_use]
    pub fn principal(&self) -> String {
        self.principal.to_string()
    }
}

/// Who it is; what it may do is not looked at.
impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        (&self.principal, &self.team, &self.application)
            == (&other.principal, &other.team, &other.application)
    }
}

impl Eq for Caller {}

impl Default for Caller {
    fn default() -> Self {
        Self::new(Self::ANONYMOUS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_a_name_is_recorded_as_unknown() {
        assert_eq!(Caller::new("  ").principal(), "unverified:unknown");
        assert_eq!(Caller::new("billing").principal(), "unverified:billing");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = "é".repeat(100);
        assert_eq!(Caller::new(&name).application.len(), 128);
        let odd = format!("a{name}");
        assert_eq!(Caller::new(&odd).application.len(), 127);
    }
}
