//! For whom somebody with a token works, by its claims.

use std::sync::Arc;

use meshlog_storage::Timestamp;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::access::{Permissions, Role};
use crate::caller::Caller;
use crate::config::{MemberConfig, TokenConfig};
use crate::error::Result;
use crate::identity::authenticate::session_of as session_of_member;
use crate::identity::error::{malformed, unmapped};
use crate::identity::session::{Proof, Session};

/// Longest subject: it names the caller in the audit log.
const SUBJECT_MAX: usize = 256;

type Claims = Map<String, Value>;

/// Refuses settings that no token could be mapped by.
pub(super) fn check(config: &TokenConfig) -> Result<()> {
    let proof = || Proof::Token(CancellationToken::new());
    let members = config.members.iter();
    members
        .map(|(name, member)| session_of_member(&format!("token:{name}"), proof(), member))
        .try_for_each(|made| made.map(drop))
}

/// Who has a verified token.
pub(super) fn session_of(
    config: &TokenConfig,
    claims: &Claims,
    taken_back: &CancellationToken,
    ends: Timestamp,
) -> Result<Session> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let is_name = |text: &str| {
        !(text.is_empty() || text.len() > SUBJECT_MAX || text.chars().any(char::is_control))
    };
    if !is_name(subject) {
        return Err(malformed("`sub` of the token is no name of at most 256 bytes"));
    }
    let (principal, proof) = (format!("token:{subject}"), Proof::Token(taken_back.clone()));
    let mut session = match member(config, claims) {
        Some(member) => session_of_member(&principal, proof, member)?,
        None => {
            let team = texts(claims, &config.team_claim).next().unwrap_or_default();
            let mut session = Session::new(principal, proof, Arc::from(team));
            take_roles(config, claims, &mut session)?;
            if team.is_empty() && !session.is_admin {
                return Err(unmapped(&nobody(config)));
            }
            session
        }
    };
    let application = texts(claims, &config.application_claim).next();
    if let (None, Some(application)) = (&session.application, application) {
        if application.len() > Caller::MAX_APPLICATION_BYTES || !is_name(application) {
            let claim = &config.application_claim;
            return Err(unmapped(&format!("`{claim}` of its token is no name of a program")));
        }
        session.application = Some(Arc::from(application));
    }
    session.ends = Some(ends);
    Ok(session)
}

/// The first member of the settings that the token names.
fn member<'a>(config: &'a TokenConfig, claims: &Claims) -> Option<&'a MemberConfig> {
    let named: Vec<&str> = texts(claims, &config.member_claim).collect();
    let found = config.members.iter().find(|(name, _)| named.contains(&name.as_str()));
    found.map(|(_, member)| member)
}

/// With a claim for roles, who has none of them may not simply do everything that its team may.
fn take_roles(config: &TokenConfig, claims: &Claims, session: &mut Session) -> Result<()> {
    if config.role_claim.is_empty() {
        return Ok(());
    }
    let roles: Vec<Role> = texts(claims, &config.role_claim).filter_map(Role::from_text).collect();
    if roles.is_empty() {
        let what = format!("`{}` of its token names no role", config.role_claim);
        return Err(unmapped(&what));
    }
    session.is_admin = roles.contains(&Role::Admin);
    if roles.contains(&Role::Steward) {
        session.role = Role::Steward.permissions();
    }
    if roles.iter().any(|role| !matches!(role, Role::Admin | Role::Steward)) {
        let all = roles.iter().map(|role| role.permissions());
        session.limits.permissions = all.fold(Permissions::NONE, Permissions::with);
    }
    Ok(())
}

fn nobody(config: &TokenConfig) -> String {
    let (team, member) = (&config.team_claim, &config.member_claim);
    match (team.is_empty(), config.members.is_empty()) {
        (true, _) => format!("`{member}` of its token names none of the members in the settings"),
        (false, true) => format!("its token has no `{team}`, which would name its team"),
        (false, false) => format!(
            "its token has no `{team}`, and its `{member}` names none of the members in the settings"
        ),
    }
}

/// The texts of a claim, which is one text or a list. Its name may lead into objects: `realm.roles`.
fn texts<'a>(claims: &'a Claims, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    let value = match (name, claims.get(name)) {
        ("", _) => None,
        (_, Some(value)) => Some(value),
        (name, None) => {
            let mut parts = name.split('.');
            let first = parts.next().and_then(|first| claims.get(first));
            first.and_then(|first| parts.try_fold(first, |value, part| value.get(part)))
        }
    };
    let listed = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    value.and_then(Value::as_str).into_iter().chain(listed.iter().filter_map(Value::as_str))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::Permission;
    use crate::error::Reason;

    fn session(config: &TokenConfig, claims: Value) -> Result<Session> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        session_of(config, &claims, &CancellationToken::new(), Timestamp(1))
    }

    #[test]
    fn a_claim_names_the_team_and_another_the_application() {
        let config = TokenConfig::default();
        let who = session(&config, json!({"sub": "ann", "team": "ops", "azp": "loader"})).unwrap();
        assert_eq!((&*who.principal, &*who.team), ("token:ann", "ops"));
        assert_eq!(who.application.as_deref(), Some("loader"));
        assert_eq!((who.ends, who.is_admin), (Some(Timestamp(1)), false));
        assert_eq!(who.limits.permissions, Permissions::ALL);
        for (claims, reason) in [
            (json!({"sub": "ann"}), Reason::CredentialUnmapped),
            (json!({"sub": "ann", "team": 7}), Reason::CredentialUnmapped),
            (
                json!({"sub": "ann", "team": "ops", "azp": "x".repeat(200)}),
                Reason::CredentialUnmapped,
            ),
            (json!({"sub": "", "team": "ops"}), Reason::CredentialMalformed),
            (json!({"sub": "a\nb", "team": "ops"}), Reason::CredentialMalformed),
            (json!({"team": "ops"}), Reason::CredentialMalformed),
        ] {
            assert_eq!(session(&config, claims.clone()).unwrap_err().reason(), reason, "{claims}");
        }
    }

    #[test]
    fn a_role_is_taken_only_from_the_claim_that_the_settings_name() {
        let claims = json!({"sub": "ann", "team": "ops", "role": "admin"});
        assert!(!session(&TokenConfig::default(), claims.clone()).unwrap().is_admin);
        let config = TokenConfig { role_claim: "role".to_owned(), ..TokenConfig::default() };
        assert!(session(&config, claims).unwrap().is_admin);
        let of = |roles: Value| session(&config, json!({"sub": "a", "team": "t", "role": roles}));
        let both = of(json!(["offline_access", "consumer", "producer"])).unwrap();
        let may =
            Permissions::of(&[Permission::Discover, Permission::Consume, Permission::Produce]);
        assert_eq!(both.limits.permissions, may);
        let steward = of(json!(["steward", "consumer"])).unwrap();
        assert!(steward.limits.permissions.has_all(Role::Steward.permissions()));
        assert_eq!(steward.role, Role::Steward.permissions());
        for none in [json!([]), json!("king"), Value::Null] {
            assert_eq!(of(none).unwrap_err().reason(), Reason::CredentialUnmapped);
        }
    }

    #[test]
    fn a_group_of_the_issuer_can_be_a_member() {
        let mut config = TokenConfig {
            team_claim: String::new(),
            member_claim: "realm.groups".to_owned(),
            ..TokenConfig::default()
        };
        let member = MemberConfig {
            team: "data".to_owned(),
            application: String::new(),
            role: "steward".to_owned(),
        };
        config.members.insert("grp-7".to_owned(), member);
        let of = |groups: Value| {
            session(&config, json!({"sub": "a", "team": "ops", "realm": {"groups": groups}}))
        };
        let who = of(json!(["grp-1", "grp-7"])).unwrap();
        assert_eq!((&*who.team, who.role), ("data", Role::Steward.permissions()));
        assert_eq!(of(json!(["grp-1"])).unwrap_err().reason(), Reason::CredentialUnmapped);
    }
}
