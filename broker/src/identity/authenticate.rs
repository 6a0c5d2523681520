//! Finding out who calls.

use std::collections::HashMap;
use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::certificate::PeerCertificate;
use super::error::{malformed, missing, unmapped};
use super::key::{self, PREFIX};
use super::known::Known;
use super::secret::Secret;
use super::session::{Proof, Session};
use crate::access::Role;
use crate::broker::Broker;
use crate::caller::Caller;
use crate::config::{IdentityConfig, MemberConfig};
use crate::error::{Error, Reason, Result};

/// Longest authorization that is looked at.
const MAX_AUTHORIZATION_BYTES: usize = 12 << 10;

/// What a call says about who makes it.
#[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "only the edge has calls"))]
#[derive(Clone, Copy, Default)]
pub(crate) struct Credentials<'a> {
    /// The header `authorization`.
    pub(crate) authorization: Option<&'a [u8]>,
    /// The names in the certificate of the client.
    pub(crate) certificate: Option<&'a PeerCertificate>,
    /// The name that the program gives itself.
    pub(crate) application: Option<&'a str>,
    /// Whether a key may also be the password of HTTP Basic, which is all that some clients can send.
    pub(crate) takes_basic: bool,
    /// Whether the call comes from this process.
    pub(crate) is_in_process: bool,
}

/// Whom the broker knows.
#[derive(Debug)]
pub(crate) struct Identity {
    known: Known,
    /// By name in a certificate: `dns:…` or `uri:…`.
    certificates: HashMap<String, Arc<Session>>,
    /// Those of certificates, each with the program that it named.
    by_application: Known,
    #[cfg(feature = "edge")]
    tokens: Option<super::token::Tokens>,
}

impl Identity {
    /// As the settings say.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for settings that cannot be meant.
    pub(crate) fn new(config: &IdentityConfig) -> Result<Self> {
        let mut certificates = HashMap::new();
        for (name, member) in &config.certificates {
            if !(name.starts_with("dns:") || name.starts_with("uri:")) {
                return Err(invalid(&format!(
                    "`[broker.identity.certificates]`: `{name}` must begin with `dns:` or `uri:`"
                )));
            }
            let session = session_of(&format!("certificate:{name}"), Proof::Certificate, member)?;
            certificates.insert(name.clone(), Arc::new(session));
        }
        Ok(Self {
            known: Known::default(),
            certificates,
            by_application: Known::default(),
            #[cfg(feature = "edge")]
            tokens: super::token::Tokens::new(&config.tokens)?,
        })
    }

    /// The issuer whose tokens are taken, if the settings name one.
    #[cfg(feature = "edge")]
    pub(crate) fn tokens(&self) -> Option<&super::token::Tokens> {
        self.tokens.as_ref()
    }

    /// A session of its own for each program that the caller of a certificate names: a grant may be for
    /// one of them.
    fn of_application(&self, session: &Arc<Session>, application: Option<&str>) -> Arc<Session> {
        if session.application.is_some() {
            return Arc::clone(session);
        }
        let hash = key::hash_of_caller(&session.principal, application);
        self.by_application.find(&hash).unwrap_or_else(|| {
            let own = Arc::new(session.undecided());
            self.by_application.put(hash, &own);
            own
        })
    }

    fn by_certificate(&self, certificate: &PeerCertificate) -> Option<&Arc<Session>> {
        if self.certificates.is_empty() {
            return None;
        }
        let dns = certificate.dns.iter().map(|name| format!("dns:{name}"));
        let uris = certificate.uris.iter().map(|name| format!("uri:{name}"));
        dns.chain(uris).find_map(|name| self.certificates.get(&name))
    }
}

/// Somebody of a team, as the settings say.
pub(super) fn session_of(principal: &str, proof: Proof, member: &MemberConfig) -> Result<Session> {
    let mut session = Session::new(principal, proof, Arc::from(&*member.team));
    session.application = (!member.application.is_empty()).then(|| Arc::from(&*member.application));
    match (member.role.as_str(), Role::from_text(&member.role)) {
        ("", _) => {}
        (_, Some(Role::Admin)) => session.is_admin = true,
        (_, Some(Role::Steward)) => session.role = Role::Steward.permissions(),
        (_, Some(role)) => session.limits.permissions = role.permissions(),
        (other, None) => {
            let roles: Vec<&str> = Role::ALL.iter().map(|role| role.text()).collect();
            return Err(invalid(&format!(
                "`[broker.identity]`: there is no role `{other}`; the roles are {}",
                roles.join(", ")
            )));
        }
    }
    if member.team.is_empty() && !session.is_admin {
        return Err(invalid(&format!("`[broker.identity]`: `{principal}` needs a team")));
    }
    Ok(session)
}

fn invalid(what: &str) -> Error {
    Error::new(Reason::InvalidArgument, what)
}

impl Broker {
    /// Who calls.
    ///
    /// # Errors
    /// Those with the code UNAUTHENTICATED in `docs/errors.md`.
    #[cfg_attr(not(feature = "edge"), expect(dead_code, reason = "only the edge has calls"))]
    pub(crate) async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Caller> {
        let application = credentials.application;
        if let Some(authorization) = credentials.authorization {
            let password = match credentials.takes_basic {
                true => basic(authorization)?,
                false => None,
            };
            let text = match &password {
                Some(password) => password.reveal(),
                None => bearer(authorization)?,
            };
            let session = match text.starts_with(PREFIX) {
                true => self.by_key(text, application)?,
                false => self.by_token(text, application).await?,
            };
            return Ok(Caller::proven(&session, application));
        }
        if let Some(certificate) = credentials.certificate {
            let identity = self.identity();
            if let Some(session) = identity.by_certificate(certificate) {
                let session = identity.of_application(session, application);
                let caller = Caller::proven(&session, application);
                self.catalogue().check_caller(&caller)?;
                return Ok(caller);
            }
            if self.catalogue().is_protected() && !credentials.is_in_process {
                return Err(unmapped("no name in its certificate stands in the settings"));
            }
        }
        if credentials.is_in_process {
            return Ok(application.map_or_else(Caller::default, Caller::new));
        }
        match self.catalogue().is_protected() {
            true => Err(missing()),
            false => Ok(Caller::unverified(application.unwrap_or_default())),
        }
    }

    /// Who has sent this header `authorization` (`Bearer …`): for programs that embed the broker and
    /// answer others themselves.
    ///
    /// # Errors
    /// Those with the code UNAUTHENTICATED in `docs/errors.md`, and `KEY_SET_UNAVAILABLE`.
    #[cfg(feature = "edge")]
    pub async fn caller_with(
        &self,
        authorization: &[u8],
        application: Option<&str>,
    ) -> Result<Caller> {
        let authorization = Some(authorization);
        self.authenticate(Credentials { authorization, application, ..Credentials::default() })
            .await
    }

    /// Somebody with a key. The second call with a key costs a hash, a look-up and a look at a number.
    fn by_key(&self, text: &str, application: Option<&str>) -> Result<Arc<Session>> {
        let hash = key::hash_of_caller(text, application);
        if let Some(session) = self.remembered(&hash)? {
            return Ok(session);
        }
        let session = Arc::new(self.catalogue().session_of_key(text)?);
        self.identity().known.put(hash, &session);
        Ok(session)
    }

    /// Somebody who called before, if the proof is still one.
    fn remembered(&self, hash: &key::KeyHash) -> Result<Option<Arc<Session>>> {
        let Some(session) = self.identity().known.find(hash) else { return Ok(None) };
        let catalogue = self.catalogue();
        let epoch = catalogue.epoch();
        let is_over = session.ends.is_some_and(|ends| catalogue.now() >= ends);
        if is_over || !session.was_checked_in(epoch) {
            if let Err(error) = catalogue.check_caller(&Caller::proven(&session, None)) {
                self.identity().known.forget(hash);
                return Err(error);
            }
            session.checked_in(epoch);
        }
        Ok(Some(session))
    }

    /// Somebody with a token of the issuer in the settings; the second call costs as little as one with
    /// a key.
    #[cfg(feature = "edge")]
    async fn by_token(&self, text: &str, application: Option<&str>) -> Result<Arc<Session>> {
        let Some(tokens) = self.identity().tokens() else {
            let what = "it is not a key, and the broker has no issuer of tokens in its settings";
            return Err(malformed(what));
        };
        let hash = key::hash_of_caller(text, application);
        if let Some(session) = self.remembered(&hash)? {
            return Ok(session);
        }
        let now = self.catalogue().now();
        let session = Arc::new(tokens.session_of(text, now).await?);
        self.catalogue().check_caller(&Caller::proven(&session, None))?;
        self.identity().known.put(hash, &session);
        Ok(session)
    }

    /// Without the edge there is nothing that could read the keys of an issuer.
    #[cfg(not(feature = "edge"))]
    async fn by_token(&self, _text: &str, _application: Option<&str>) -> Result<Arc<Session>> {
        Err(malformed("it is not a key, and this build reads no tokens"))
    }
}

/// The password of HTTP Basic, whoever the user says to be; `None`: the header is of another kind.
fn basic(authorization: &[u8]) -> Result<Option<Secret>> {
    let Some((scheme, rest)) = authorization.split_at_checked(6) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Ok(None);
    }
    if authorization.len() > MAX_AUTHORIZATION_BYTES {
        return Err(malformed("it is too long"));
    }
    let none = || malformed("`Basic` must be followed by a user and a key in base64: `USER:KEY`");
    let both = BASE64_STANDARD.decode(rest.trim_ascii()).map_err(|_| none())?;
    let both = Secret::from(String::from_utf8(both).map_err(|_| none())?);
    let password = both.reveal().split_once(':').map(|(_, password)| password.to_owned());
    let password = password.filter(|password| !password.is_empty());
    password.map(|password| Some(Secret::from(password))).ok_or_else(none)
}

/// What stands behind `Bearer`.
fn bearer(authorization: &[u8]) -> Result<&str> {
    if authorization.len() > MAX_AUTHORIZATION_BYTES {
        return Err(malformed("it is too long"));
    }
    let text = std::str::from_utf8(authorization).map_err(|_| malformed("it is not text"))?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    match scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
        true => Ok(rest),
        false => Err(malformed("it must be `Bearer` and a key or a token")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Permission, Permissions};

    #[test]
    fn an_authorization_is_a_bearer_s() {
        assert_eq!(bearer(b"Bearer abc").unwrap(), "abc");
        assert_eq!(bearer(b"bearer  abc ").unwrap(), "abc");
        for odd in [&b""[..], b"Bearer", b"Bearer ", b"Basic abc", b"\xff\xfe", &[b'a'; 20_000]] {
            assert_eq!(bearer(odd).unwrap_err().reason(), Reason::CredentialMalformed);
        }
    }

    #[test]
    fn the_password_of_basic_is_the_key() {
        let of = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        let found = |header: &str| {
            basic(header.as_bytes()).map(|found| found.map(|found| found.reveal().to_owned()))
        };
        assert_eq!(found(&of("anybody:mlk_a_b")).unwrap().as_deref(), Some("mlk_a_b"));
        assert_eq!(found(&of(":a:b")).unwrap().as_deref(), Some("a:b"));
        assert_eq!(found("Bearer mlk_a_b").unwrap(), None);
        assert_eq!(found("").unwrap(), None);
        for odd in [of("no password"), of("empty:"), "Basic ?".to_owned(), "Basic ".to_owned()] {
            assert_eq!(found(&odd).unwrap_err().reason(), Reason::CredentialMalformed, "{odd}");
        }
    }

    #[test]
    fn only_the_exact_name_of_a_certificate_counts() {
        let mut config = IdentityConfig::default();
        let member = MemberConfig { team: "ops".to_owned(), ..MemberConfig::default() };
        config.certificates.insert("dns:billing.example.org".to_owned(), member);
        let identity = Identity::new(&config).unwrap();
        let named = |dns: &str, uri: &str| PeerCertificate {
            dns: vec![dns.to_owned()],
            uris: vec![uri.to_owned()],
        };
        assert!(identity.by_certificate(&named("billing.example.org", "")).is_some());
        for (dns, uri) in [
            ("Billing.example.org", ""),
            ("a.billing.example.org", ""),
            ("*.example.org", ""),
            ("billing.example.org\0.evil", ""),
            ("", "billing.example.org"),
        ] {
            assert!(identity.by_certificate(&named(dns, uri)).is_none(), "{dns:?} {uri:?}");
        }
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        for (name, team, role) in
            [("billing.example.org", "ops", ""), ("dns:a", "", ""), ("dns:a", "ops", "king")]
        {
            let mut config = IdentityConfig::default();
            let member = MemberConfig {
                team: team.to_owned(),
                role: role.to_owned(),
                ..MemberConfig::default()
            };
            config.certificates.insert(name.to_owned(), member);
            assert_eq!(Identity::new(&config).unwrap_err().reason(), Reason::InvalidArgument);
        }
        let admin = MemberConfig { role: "admin".to_owned(), ..MemberConfig::default() };
        assert!(session_of("certificate:x", Proof::Certificate, &admin).unwrap().is_admin);
        let steward = MemberConfig {
            team: "data".to_owned(),
            role: "steward".to_owned(),
            ..MemberConfig::default()
        };
        let steward = session_of("certificate:x", Proof::Certificate, &steward).unwrap();
        assert!(steward.role.has_any(Permissions::of(&[Permission::Govern])));
    }
}
