//! What it costs to know who calls and what it may do: with a key, with a token, and, built with the
//! feature `cedar`, with policies.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use meshlog_benches::report::{Row, Table};
use meshlog_benches::rounds::Timed;
use meshlog_broker::access::{Resource, Rpc};
use meshlog_broker::{Broker, Caller, Config};
use meshlog_proto::v1;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures authentication and decisions, without a connection.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    timed: Timed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Key,
    Token,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Case {
    /// Who calls, as it was found out before, and whether it may append to a product.
    Call(Proof),
    /// Who calls, with a proof that has not been seen.
    Prove(Proof),
    /// Whether it may append to a product.
    Decide,
    /// Whether it may make a product in a domain, which is worked out each time.
    DecideAnew,
}

impl Case {
    const ALL: [Self; 6] = [
        Self::Call(Proof::Key),
        Self::Call(Proof::Token),
        Self::Prove(Proof::Key),
        Self::Prove(Proof::Token),
        Self::Decide,
        Self::DecideAnew,
    ];

    fn name(self) -> String {
        match self {
            Self::Call(Proof::Key) => "key: authenticate and decide, as before",
            Self::Call(Proof::Token) => "token: authenticate and decide, as before",
            Self::Prove(Proof::Key) => "key: authenticate, not seen before",
            Self::Prove(Proof::Token) => "token (EdDSA): authenticate, not seen before",
            Self::Decide => "decide on a product, as before",
            Self::DecideAnew => "decide on a domain, worked out",
        }
        .to_owned()
    }
}

/// A broker with or without policies, and what opens it.
struct Target {
    policies: usize,
    broker: Broker,
    key: String,
    token: String,
    caller: Caller,
    _files: tempfile::TempDir,
}

const POLICIES: usize = 20;
const APPLICATIONS: usize = 1_000;

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counts = if cfg!(feature = "cedar") { vec![0, POLICIES] } else { vec![0] };
    let targets = counts.into_iter().map(|count| runtime.block_on(target(count)));
    let targets = targets.collect::<meshlog_broker::Result<Vec<_>>>().map_err(io::Error::other)?;
    let applications: Vec<String> = (0..APPLICATIONS).map(|n| format!("application-{n}")).collect();
    let cases = targets.iter().flat_map(|target| Case::ALL.map(|case| (target, case)));
    let cases: Vec<(&Target, Case)> = cases.collect();
    let time = args.timed.time();
    let series = args.timed.rounds.run(cases, |(target, case)| {
        runtime.block_on(measure(target, *case, &applications, time)).map_err(io::Error::other)
    })?;
    let rows = series.measured.iter().map(|measured| {
        let (target, case) = measured.case;
        Row {
            case: vec![case.name(), target.policies.to_string()],
            figures: vec![measured.spread(|nanos| *nanos)],
        }
    });
    let table = Table {
        title: "what it costs to know who calls and what it may do",
        labels: vec!["case", "policies"],
        figures: vec!["ns"],
        rows: rows.collect(),
    };
    println!("{}", args.timed.report(series.noise, table)?);
    Ok(())
}

/// Nanoseconds of one turn.
async fn measure(
    target: &Target,
    case: Case,
    applications: &[String],
    time: Duration,
) -> meshlog_broker::Result<f64> {
    let Target { broker, key, token, caller, .. } = target;
    let catalogue = broker.catalogue();
    let product = catalogue.resolve("ops.bench", "")?;
    let text = |proof: Proof| if proof == Proof::Key { key } else { token };
    let mut count = 0_u64;
    let begun = Instant::now();
    while begun.elapsed() < time {
        for application in applications {
            let is_allowed = match case {
                Case::Call(proof) => {
                    let caller = broker.caller_with(text(proof).as_bytes(), None).await?;
                    catalogue.allows(&caller, Rpc::Append, Resource::Product(&product))
                }
                // Sixteen thousand callers are remembered: another proof each time, and then another
                // name for the same ones, so that none of them is.
                Case::Prove(proof) => {
                    let named = format!("{application}-{}", count / APPLICATIONS as u64);
                    broker.caller_with(text(proof).as_bytes(), Some(&named)).await.is_ok()
                }
                Case::Decide => {
                    catalogue.allows(black_box(caller), Rpc::Append, Resource::Product(&product))
                }
                Case::DecideAnew => {
                    catalogue.allows(caller, Rpc::CreateProduct, Resource::Domain("ops"))
                }
            };
            assert!(black_box(is_allowed), "what is refused would not be what is measured");
            count += 1;
        }
    }
    Ok(begun.elapsed().as_nanos() as f64 / count as f64)
}

async fn target(policies: usize) -> meshlog_broker::Result<Target> {
    let files = tempfile::tempdir().expect("a directory for the keys");
    let key_file = files.path().join("keys.json");
    let (published, token) = token();
    write(&key_file, &published.to_string());
    let mut config = Config::default();
    config.identity.tokens.issuer = ISSUER.to_owned();
    config.identity.tokens.audience = "meshlog".to_owned();
    config.identity.tokens.application_claim = String::new();
    config.identity.tokens.keys_file = Some(key_file);
    if policies > 0 {
        let file = files.path().join("bench.cedar");
        let policy = |number: usize| {
            format!(
                "@id(\"p{number}\") forbid (principal, action == Meshlog::Action::\"consume\", resource)\n\
                 when {{ resource.tags.contains(\"secret-{number}\") && principal.team != \"t{number}\" }};\n"
            )
        };
        write(&file, &(0..policies).map(policy).collect::<String>());
        config.access.policies = Some(file);
    }
    let broker = Broker::open(config)?;
    let trusted = Caller::default();
    let catalogue = broker.catalogue();
    let create = v1::CreateProductRequest {
        product: Some(v1::Product {
            name: "ops.bench".to_owned(),
            owner: "ops".to_owned(),
            description: "For a measurement.".to_owned(),
            classification: v1::Classification::Internal.into(),
            ..Default::default()
        }),
        value_schema: Some(v1::SchemaSource {
            format: v1::SchemaFormat::Opaque.into(),
            media_type: "text/plain".to_owned(),
            reason: "It is a measurement.".to_owned(),
            ..Default::default()
        }),
        new_domain: Some(v1::Domain::default()),
        new_team: Some(v1::Team {
            contacts: vec!["ops@example.org".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    catalogue.create_product(&trusted, create).await?;
    let made = |admin: bool| v1::CreateKeyRequest {
        key: Some(v1::ApiKey {
            team: if admin { String::new() } else { "ops".to_owned() },
            admin,
            ..Default::default()
        }),
        validate_only: false,
    };
    catalogue.create_key(&trusted, made(true)).await?;
    let secret = catalogue.create_key(&trusted, made(false)).await?.secret;
    let (key, token) = (format!("Bearer {secret}"), format!("Bearer {token}"));
    let caller = broker.caller_with(key.as_bytes(), None).await?;
    Ok(Target { policies, broker, key, token, caller, _files: files })
}

const ISSUER: &str = "https://bench.example.org";

/// A key set, and a token signed with the key in it.
fn token() -> (Value, String) {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random bytes");
    let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key just made");
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let x = base64(pair.public_key().as_ref());
    let published = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": x}]});
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let claims = json!({"iss": ISSUER, "aud": "meshlog", "sub": "bench", "team": "ops",
        "exp": now + 24 * 3_600});
    let header = json!({"alg": "EdDSA", "kid": "b"});
    let parts = [header, claims].map(|part| base64(part.to_string().as_bytes()));
    let message = parts.join(".");
    let signature = base64(pair.sign(message.as_bytes()).as_ref());
    (published, format!("{message}.{signature}"))
}

fn write(path: &std::path::Path, text: &str) {
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.expect("a file in a temporary directory");
}
