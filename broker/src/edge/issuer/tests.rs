//! Signed tokens, and an issuer that answers over HTTP as the test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use meshlog_proto::v1;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING as P256, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Span, TokenConfig};
use crate::edge::gate::admit;
use crate::edge::issuer::watch;
use crate::fixtures::product;
use crate::{Broker, Caller, Config, Reason, Result};

/// Made for these tests with openssl, because `ring` makes no keys of this kind.
const RSA: &[u8] = include_bytes!("rsa-for-tests.pk8");

/// A key of the issuer, under a name.
struct Key {
    id: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Elliptic(EcdsaKeyPair),
    Edwards(Ed25519KeyPair),
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn rsa(id: &str) -> Self {
        Self { id: id.to_owned(), pair: Pair::Rsa(RsaKeyPair::from_pkcs8(RSA).unwrap()) }
    }

    fn elliptic(id: &str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&P256, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&P256, made.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), pair: Pair::Elliptic(pair) }
    }

    fn edwards(id: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
        Self { id: id.to_owned(), pair: Pair::Edwards(pair) }
    }

    /// As the issuer publishes it.
    fn published(&self) -> Value {
        let mut key = match &self.pair {
            Pair::Rsa(pair) => {
                let parts = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({"kty": "RSA", "n": base64(parts.n), "e": base64(parts.e)})
            }
            Pair::Elliptic(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)})
            }
            Pair::Edwards(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64(pair.public_key())})
            }
        };
        key["kid"] = json!(self.id);
        key["use"] = json!("sig");
        key
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Elliptic(_) => "ES256",
            Pair::Edwards(_) => "EdDSA",
        }
    }

    fn token(&self, claims: &Value) -> String {
        self.signed(&json!({"alg": self.algorithm(), "kid": self.id}), claims)
    }

    /// A token with this header, whatever it says.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match header["alg"] == "PS256" {
                    true => pair.sign(&RSA_PSS_SHA256, &random, message.as_bytes(), &mut signature),
                    false => {
                        pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature)
                    }
                }
                .unwrap();
                signature
            }
            Pair::Elliptic(pair) => {
                pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
            }
            Pair::Edwards(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", base64(signature))
    }
}

/// What an issuer answers at each path, and how often it was asked for keys.
#[derive(Default)]
struct Answers {
    pages: Mutex<BTreeMap<String, (u16, String)>>,
    asked: AtomicUsize,
}

/// An issuer on this machine, until it is dropped.
struct Issuer {
    name: String,
    answers: Arc<Answers>,
    serving: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let name = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::<Answers>::default();
        let shared = Arc::clone(&answers);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        let serving = Mutex::new(Some(AbortOnDropHandle::new(serving)));
        let issuer = Self { name, answers, serving };
        let uri = format!("{}/keys", issuer.name);
        issuer.says("/.well-known/openid-configuration", 200, {
            json!({"issuer": issuer.name, "jwks_uri": uri}).to_string()
        });
        issuer.publishes(keys);
        issuer
    }

    fn says(&self, path: &str, status: u16, body: String) {
        self.answers.pages.lock().insert(path.to_owned(), (status, body));
    }

    fn publishes(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
        self.says("/keys", 200, json!({ "keys": keys }).to_string());
    }

    fn asked(&self) -> usize {
        self.answers.asked.load(Ordering::SeqCst)
    }

    fn claims(&self) -> Value {
        json!({"iss": self.name, "aud": ["other", "meshlog"], "sub": "ann", "team": "ops",
            "azp": "loader", "exp": in_seconds(600)})
    }

    fn settings(&self) -> TokenConfig {
        TokenConfig {
            issuer: self.name.clone(),
            audience: "meshlog".to_owned(),
            min_refresh: Span(Duration::from_millis(50)),
            leeway: Span::seconds(0),
            ..TokenConfig::default()
        }
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, answers: Arc<Answers>) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::new());
    stream.read_line(&mut first).await.unwrap();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    if path == "/keys" {
        answers.asked.fetch_add(1, Ordering::SeqCst);
    }
    let page = answers.pages.lock().get(path).cloned();
    let (status, body) = page.unwrap_or((404, String::new()));
    let answer = format!(
        "HTTP/1.1 {status} X\r\nlocation: /keys\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    // The broker hangs up on what is too long.
    drop(stream.write_all(answer.as_bytes()).await);
    drop(stream.shutdown().await);
}

fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn with(claims: &Value, name: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    claims[name] = value;
    claims
}

/// A broker that takes tokens, with the team `ops` and a key, so that everybody says who it is.
struct Guarded {
    broker: Broker,
    _watch: AbortOnDropHandle<()>,
}

impl Guarded {
    async fn start(tokens: TokenConfig) -> Self {
        let mut config = Config::default();
        config.identity.tokens = tokens;
        let broker = Broker::open(config).unwrap();
        team(&broker, "ops").await;
        let key = v1::ApiKey { admin: true, ..Default::default() };
        let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
        broker.catalogue().create_key(&Caller::default(), request).await.unwrap();
        let watching = AbortOnDropHandle::new(tokio::spawn(watch(broker.clone())));
        Self { broker, _watch: watching }
    }

    async fn call(&self, token: &str) -> Result<Caller> {
        self.call_as("", token).await
    }

    /// A call of a program that names itself.
    async fn call_as(&self, application: &str, token: &str) -> Result<Caller> {
        let mut request = Request::builder()
            .uri("/meshlog.v1.CatalogService/ListProducts")
            .header("authorization", format!("Bearer {token}"));
        if !application.is_empty() {
            request = request.header("meshlog-application", application);
        }
        admit(&self.broker, &request.body(()).unwrap()).await
    }

    async fn refusal(&self, token: &str) -> Reason {
        self.call(token).await.unwrap_err().reason()
    }

    /// Calls until the answer is this refusal.
    async fn until_refused(&self, token: &str, reason: Reason) {
        let refused = async {
            while !self.call(token).await.is_err_and(|error| error.reason() == reason) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    }

    async fn product(&self) {
        // The team is there.
        let request = v1::CreateProductRequest {
            new_team: None,
            ..product("ops.flights", "ops", v1::Classification::Internal)
        };
        self.broker.catalogue().create_product(&Caller::default(), request).await.unwrap();
    }

    /// Why a stream of this caller ends, sooner or later.
    async fn end_of_stream(&self, caller: &Caller) -> Reason {
        let request =
            v1::SubscribeRequest { product: "ops.flights".to_owned(), ..Default::default() };
        let mut stream = self.broker.subscribe(caller, request).await.unwrap();
        let ended = async {
            loop {
                if let Err(error) = stream.next().await.unwrap() {
                    return error.reason();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap()
    }
}

async fn team(broker: &Broker, name: &str) {
    let contacts = vec!["a@example.org".to_owned()];
    let team = v1::Team { name: name.to_owned(), contacts, ..Default::default() };
    let request = v1::CreateTeamRequest { team: Some(team), validate_only: false };
    broker.catalogue().create_team(&Caller::default(), request).await.unwrap();
}

#[tokio::test]
async fn a_token_signed_in_any_way_that_is_allowed_is_a_caller() {
    let keys = [Key::rsa("r"), Key::elliptic("e"), Key::edwards("d")];
    let issuer = Issuer::start(&keys.each_ref()).await;
    let broker = Guarded::start(issuer.settings()).await;
    let claims = issuer.claims();
    let probabilistic = keys[0].signed(&json!({"alg": "PS256", "kid": "r"}), &claims);
    let tokens = keys.iter().map(|key| key.token(&claims)).chain([probabilistic]);
    for token in tokens {
        let caller = broker.call(&token).await.unwrap();
        assert_eq!((&*caller.principal, &*caller.application), ("token:ann", "loader"));
        assert_eq!(caller.team.as_deref(), Some("ops"));
    }
    // The only key of its kind needs no name.
    broker.call(&keys[1].signed(&json!({"alg": "ES256"}), &claims)).await.unwrap();
    let narrow = TokenConfig { algorithms: vec!["ES256".to_owned()], ..issuer.settings() };
    let narrow = Guarded::start(narrow).await;
    narrow.call(&keys[1].token(&claims)).await.unwrap();
    assert_eq!(narrow.refusal(&keys[0].token(&claims)).await, Reason::TokenAlgorithm);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_by_its_reason_and_audited() {
    let (rsa, elliptic) = (Key::rsa("r"), Key::elliptic("e"));
    let issuer = Issuer::start(&[&rsa, &elliptic]).await;
    let broker = Guarded::start(issuer.settings()).await;
    let claims = issuer.claims();
    let good = rsa.token(&claims);
    broker.call(&good).await.unwrap();

    // Whoever takes the public key for a shared secret takes this.
    let public = rsa.published().to_string();
    let message =
        format!("{}.{}", base64(r#"{"alg":"HS256","kid":"r"}"#), base64(claims.to_string()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public.as_bytes());
    let shared = format!("{message}.{}", base64(ring::hmac::sign(&secret, message.as_bytes())));
    let unsigned = |alg: &str| {
        format!("{}.{}.", base64(json!({"alg": alg}).to_string()), base64(claims.to_string()))
    };
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other_claims = base64(with(&claims, "team", json!("hr")).to_string());
    let forged = format!("{}.{other_claims}.{signature}", good.split('.').next().unwrap());
    let stranger = Key::elliptic("e");

    let wrong: Vec<(&str, String, Reason)> = vec![
        ("expired", rsa.token(&with(&claims, "exp", json!(in_seconds(-5)))), Reason::TokenExpired),
        ("early", rsa.token(&with(&claims, "nbf", json!(in_seconds(60)))), Reason::TokenExpired),
        ("audience", rsa.token(&with(&claims, "aud", json!("else"))), Reason::TokenAudience),
        ("none", rsa.token(&with(&claims, "aud", Value::Null)), Reason::TokenAudience),
        ("issuer", rsa.token(&with(&claims, "iss", json!("http://x"))), Reason::TokenIssuer),
        ("no issuer", rsa.token(&with(&claims, "iss", Value::Null)), Reason::TokenIssuer),
        ("alg=none", format!("{}x", unsigned("none")), Reason::TokenAlgorithm),
        ("alg=None", format!("{}x", unsigned("None")), Reason::TokenAlgorithm),
        ("not signed", unsigned("none"), Reason::CredentialMalformed),
        ("shared secret", shared, Reason::TokenAlgorithm),
        (
            "a key of another kind",
            rsa.signed(&json!({"alg": "RS256", "kid": "e"}), &claims),
            Reason::TokenKeyUnknown,
        ),
        (
            "unknown key",
            rsa.signed(&json!({"alg": "RS256", "kid": "x"}), &claims),
            Reason::TokenKeyUnknown,
        ),
        ("other claims", forged, Reason::TokenSignature),
        ("somebody else's key", stranger.token(&claims), Reason::TokenSignature),
        ("cut", format!("{head}.{}", &signature[..signature.len() - 2]), Reason::TokenSignature),
        (
            "extension",
            rsa.signed(&json!({"alg": "RS256", "kid": "r", "crit": ["x"]}), &claims),
            Reason::CredentialMalformed,
        ),
        ("no end", rsa.token(&with(&claims, "exp", Value::Null)), Reason::CredentialMalformed),
        ("odd end", rsa.token(&with(&claims, "exp", json!("soon"))), Reason::CredentialMalformed),
        ("nobody", rsa.token(&with(&claims, "sub", Value::Null)), Reason::CredentialMalformed),
        (
            "huge",
            rsa.token(&with(&claims, "x", json!("x".repeat(12_000)))),
            Reason::CredentialMalformed,
        ),
        ("one part", "eyJhbGciOiJSUzI1NiJ9".to_owned(), Reason::CredentialMalformed),
        ("encrypted", "a.b.c.d.e".to_owned(), Reason::CredentialMalformed),
        ("no text", "=.=.=".to_owned(), Reason::CredentialMalformed),
        ("no team", rsa.token(&with(&claims, "team", Value::Null)), Reason::CredentialUnmapped),
        (
            "unknown team",
            rsa.token(&with(&claims, "team", json!("hr"))),
            Reason::CredentialUnmapped,
        ),
    ];
    for (what, token, reason) in &wrong {
        // Of one program only the first few refused calls get a record each.
        let refused = broker.call_as(what, token).await.unwrap_err();
        assert_eq!(refused.reason(), *reason, "{what}: {refused}");
    }
    broker.call(&good).await.unwrap();

    broker.broker.catalogue().write_denials(true).await;
    let query = v1::ListAuditRequest { page_size: 1_000, ..Default::default() };
    let audited = broker.broker.list_audit(&Caller::default(), query).await.unwrap().records;
    let said: String = audited.iter().map(|record| record.json.as_str()).collect();
    for reason in wrong.iter().map(|(_, _, reason)| reason.text()) {
        assert!(said.contains(reason), "{reason} is not in the audit log: {said}");
    }
    assert!(!said.contains(signature), "no token is");
}

#[tokio::test]
async fn no_token_is_too_odd_to_be_refused() {
    let key = Key::rsa("r");
    let issuer = Issuer::start(&[&key]).await;
    let broker = Guarded::start(issuer.settings()).await;
    let good = key.token(&issuer.claims());
    broker.call(&good).await.unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last character of a part has bits that count for nothing, which are refused too.
        broker.call(&changed).await.unwrap_err();
        broker.call(&good[..at]).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_one_taken_back_ends_its_tokens_and_streams() {
    let (old, new) = (Key::elliptic("1"), Key::elliptic("2"));
    let issuer = Issuer::start(&[&old]).await;
    let broker = Guarded::start(issuer.settings()).await;
    broker.product().await;
    let (first, second) = (old.token(&issuer.claims()), new.token(&issuer.claims()));
    let caller = broker.call(&first).await.unwrap();
    assert_eq!(broker.refusal(&second).await, Reason::TokenKeyUnknown);

    issuer.publishes(&[&old, &new]);
    tokio::time::sleep(Duration::from_millis(60)).await;
    broker.call(&second).await.unwrap();
    broker.call(&first).await.unwrap();

    issuer.publishes(&[&new]);
    let ((), ended) = tokio::join!(
        async {
            let unknown = Key::elliptic("3").token(&issuer.claims());
            tokio::time::sleep(Duration::from_millis(60)).await;
            assert_eq!(broker.refusal(&unknown).await, Reason::TokenKeyUnknown);
        },
        broker.end_of_stream(&caller),
    );
    assert_eq!(ended, Reason::TokenKeyUnknown);
    assert_eq!(broker.refusal(&first).await, Reason::TokenKeyUnknown, "it was remembered");
    broker.call(&second).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_unknown_keys_is_no_flood_of_requests() {
    let key = Key::edwards("d");
    let issuer = Issuer::start(&[&key]).await;
    let settings = TokenConfig { min_refresh: Span::seconds(3600), ..issuer.settings() };
    let broker = Arc::new(Guarded::start(settings).await);
    broker.call(&key.token(&issuer.claims())).await.unwrap();
    let before = issuer.asked();
    for number in 0..500 {
        let header = json!({"alg": "EdDSA", "kid": format!("x{number}")});
        let token = key.signed(&header, &issuer.claims());
        assert_eq!(broker.refusal(&token).await, Reason::TokenKeyUnknown);
    }
    assert_eq!(issuer.asked(), before);

    // Where the pause is short, calls at the same time share one request.
    let broker = Arc::new(Guarded::start(issuer.settings()).await);
    broker.call(&key.token(&issuer.claims())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let (before, began) = (issuer.asked(), std::time::Instant::now());
    let calls = (0..200).map(|number| {
        let header = json!({"alg": "EdDSA", "kid": format!("y{number}")});
        let token = key.signed(&header, &issuer.claims());
        let broker = Arc::clone(&broker);
        tokio::spawn(async move { broker.refusal(&token).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Reason::TokenKeyUnknown);
    }
    let pauses = usize::try_from(began.elapsed().as_millis() / 50).unwrap();
    let asked = issuer.asked() - before;
    assert!(asked <= pauses + 2, "{asked} requests in {pauses} pauses");
}

#[tokio::test]
async fn an_issuer_that_is_down_leaves_its_keys_in_use_for_a_stated_time() {
    let key = Key::elliptic("e");
    let issuer = Issuer::start(&[&key]).await;
    let quick = |keep: Duration| TokenConfig {
        refresh: Span(Duration::from_millis(60)),
        keep_keys: Span(keep),
        ..issuer.settings()
    };
    let patient = Guarded::start(quick(Duration::from_secs(3600))).await;
    let hasty = Guarded::start(quick(Duration::from_millis(1))).await;
    let token = |sub: &str| key.token(&with(&issuer.claims(), "sub", json!(sub)));
    patient.call(&token("a")).await.unwrap();
    hasty.call(&token("a")).await.unwrap();

    issuer.says("/keys", 503, String::new());
    hasty.until_refused(&token("a"), Reason::TokenKeyUnknown).await;
    hasty.until_refused(&token("b"), Reason::KeySetUnavailable).await;
    let error = hasty.call(&token("b")).await.unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    patient.call(&token("b")).await.unwrap();

    drop(issuer.serving.lock().take());
    let late = Guarded::start(issuer.settings()).await;
    assert_eq!(late.refusal(&token("c")).await, Reason::KeySetUnavailable, "it knows no key");
    patient.call(&token("d")).await.unwrap();
}

#[tokio::test]
async fn what_an_issuer_should_not_answer_is_refused_and_said() {
    let key = Key::elliptic("e");
    let issuer = Issuer::start(&[&key]).await;
    let broker = Guarded::start(issuer.settings()).await;
    let token = key.token(&issuer.claims());
    broker.call(&token).await.unwrap();

    let long = format!("{{\"keys\": [\"{}\"]}}", "x".repeat(300 << 10));
    let many: Vec<Value> = (0..101).map(|id| with(&key.published(), "kid", json!(id))).collect();
    for (path, status, body, said) in [
        ("/keys", 200, long, "longer than"),
        ("/keys", 200, json!({ "keys": many }).to_string(), "101 keys"),
        ("/keys", 200, "<html>".to_owned(), "not a set of keys"),
        ("/keys", 302, String::new(), "302"),
        (
            "/.well-known/openid-configuration",
            200,
            json!({"issuer": "http://evil", "jwks_uri": "http://evil/keys"}).to_string(),
            "another issuer",
        ),
        (
            "/.well-known/openid-configuration",
            200,
            json!({"issuer": issuer.name, "jwks_uri": "http://192.0.2.1/keys"}).to_string(),
            "https://",
        ),
    ] {
        issuer.says(path, status, body);
        let fresh = Guarded::start(issuer.settings()).await;
        let error = fresh.call(&token).await.unwrap_err();
        assert_eq!(error.reason(), Reason::KeySetUnavailable);
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
    broker.call(&key.token(&with(&issuer.claims(), "sub", json!("b")))).await.unwrap();
}

#[tokio::test]
async fn keys_come_over_tls_from_an_authority_that_is_trusted_and_no_other() {
    let key = Key::elliptic("e");
    let plain = Issuer::start(&[&key]).await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![made.cert.der().clone()],
        rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
    )
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = Arc::clone(&plain.answers);
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust the certificate hangs up here.
            if let Ok(stream) = acceptor.accept(stream).await {
                answer(stream, Arc::clone(&answers)).await;
            }
        }
    }));
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let settings = |ca| TokenConfig {
        keys_uri: format!("https://localhost:{port}/keys"),
        ca,
        ..plain.settings()
    };
    let token = key.token(&plain.claims());
    Guarded::start(settings(Some(ca))).await.call(&token).await.unwrap();
    let untrusting = Guarded::start(settings(None)).await;
    let error = untrusting.call(&token).await.unwrap_err();
    assert_eq!(error.reason(), Reason::KeySetUnavailable);
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_they_change() {
    let (old, new) = (Key::elliptic("1"), Key::rsa("2"));
    let issuer = Issuer::start(&[]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let publish = |key: &Key| {
        std::fs::write(&file, json!({"keys": [key.published()]}).to_string()).unwrap();
    };
    publish(&old);
    let settings = TokenConfig { keys_file: Some(file.clone()), ..issuer.settings() };
    let broker = Guarded::start(settings.clone()).await;
    broker.call(&old.token(&issuer.claims())).await.unwrap();
    publish(&new);
    tokio::time::sleep(Duration::from_millis(60)).await;
    broker.call(&new.token(&issuer.claims())).await.unwrap();
    assert_eq!(broker.refusal(&old.token(&issuer.claims())).await, Reason::TokenKeyUnknown);
    std::fs::write(&file, "{}").unwrap();
    let mut config = Config::default();
    config.identity.tokens = settings;
    let refused = Broker::open(config).unwrap_err();
    assert_eq!(refused.reason(), Reason::InvalidArgument, "a start does not wait for a good file");
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does_and_calls_before_cost_no_signature() {
    let key = Key::edwards("d");
    let issuer = Issuer::start(&[&key]).await;
    let broker = Guarded::start(issuer.settings()).await;
    broker.product().await;
    let token = key.token(&with(&issuer.claims(), "exp", json!(in_seconds(2))));
    let caller = broker.call(&token).await.unwrap();
    let again = broker.call(&token).await.unwrap();
    let session = |caller: &Caller| match &caller.authority {
        crate::caller::Authority::Proven(session) => Arc::clone(session),
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&session(&caller), &session(&again)), "it was remembered");
    assert_eq!(broker.end_of_stream(&caller).await, Reason::TokenExpired);
    assert_eq!(broker.refusal(&token).await, Reason::TokenExpired, "also of what is remembered");
}

#[tokio::test]
async fn with_an_issuer_every_call_says_who_makes_it_also_before_there_is_a_key() {
    let key = Key::edwards("d");
    let issuer = Issuer::start(&[&key]).await;
    let config = |tokens: TokenConfig| {
        let mut config = Config::default();
        config.identity.tokens = tokens;
        config
    };
    let roles = TokenConfig { role_claim: "role".to_owned(), ..issuer.settings() };
    let broker = Broker::open(config(roles)).unwrap();
    let broker =
        Guarded { _watch: AbortOnDropHandle::new(tokio::spawn(watch(broker.clone()))), broker };
    team(&broker.broker, "ops").await;
    let anonymous = Request::builder()
        .uri("/meshlog.v1.CatalogService/ListProducts")
        .extension(crate::edge::connection::Peer {
            address: Some(([127, 0, 0, 1], 7420).into()),
            ..Default::default()
        })
        .body(())
        .unwrap();
    let refused = admit(&broker.broker, &anonymous).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::CredentialMissing);

    // The first key can be made with a token, and from then on there was one.
    let admin = key.token(&with(&issuer.claims(), "role", json!("admin")));
    let admin = broker.call(&admin).await.unwrap();
    let asked = v1::ApiKey { admin: true, ..Default::default() };
    let request = v1::CreateKeyRequest { key: Some(asked), validate_only: false };
    broker.broker.catalogue().create_key(&admin, request).await.unwrap();
    assert!(broker.broker.catalogue().is_protected());
}

#[tokio::test]
async fn a_token_of_a_deleted_team_is_nobody_s() {
    let key = Key::edwards("d");
    let issuer = Issuer::start(&[&key]).await;
    let broker = Guarded::start(issuer.settings()).await;
    team(&broker.broker, "guests").await;
    let token = key.token(&with(&issuer.claims(), "team", json!("guests")));
    broker.call(&token).await.unwrap();
    let delete = v1::DeleteTeamRequest { name: "guests".to_owned(), ..Default::default() };
    broker.broker.catalogue().delete_team(&Caller::default(), delete).await.unwrap();
    assert_eq!(broker.refusal(&token).await, Reason::CredentialUnmapped);
}

#[tokio::test]
async fn settings_of_an_issuer_that_cannot_be_meant_are_refused() {
    let good = TokenConfig {
        issuer: "https://login.example.org".to_owned(),
        audience: "meshlog".to_owned(),
        ..TokenConfig::default()
    };
    let open = |tokens: TokenConfig| {
        let mut config = Config::default();
        config.identity.tokens = tokens;
        Broker::open(config)
    };
    open(good.clone()).unwrap();
    let member = crate::config::MemberConfig { role: "king".to_owned(), ..Default::default() };
    for (what, wrong) in [
        ("no audience", TokenConfig { audience: String::new(), ..good.clone() }),
        ("no issuer", TokenConfig { issuer: String::new(), ..good.clone() }),
        ("none", TokenConfig { algorithms: vec!["none".to_owned()], ..good.clone() }),
        ("HS256", TokenConfig { algorithms: vec!["HS256".to_owned()], ..good.clone() }),
        ("leeway", TokenConfig { leeway: Span::seconds(301), ..good.clone() }),
        ("no team", TokenConfig { team_claim: String::new(), ..good.clone() }),
        (
            "two sources",
            TokenConfig {
                keys_uri: "https://x".to_owned(),
                keys_file: Some("/x".into()),
                ..good.clone()
            },
        ),
        ("role", TokenConfig { members: [("g".to_owned(), member)].into(), ..good.clone() }),
    ] {
        assert_eq!(open(wrong).unwrap_err().reason(), Reason::InvalidArgument, "{what}");
    }
}
