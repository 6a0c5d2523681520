//! `grpcurl`, with which people look at a gRPC server by hand: what it lists, describes and calls
//! comes from reflection alone.

use std::path::Path;
use std::process::Command;

use meshlog_tests::{TestBroker, product};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::Outcome;
use crate::install::go_tool;

/// The version that is installed if there is none.
const PACKAGE: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";

/// The check.
pub(crate) fn check(may_install: bool) -> Outcome {
    let grpcurl = match go_tool("grpcurl", PACKAGE, may_install) {
        Ok(grpcurl) => grpcurl,
        Err(why) => return Outcome::Skipped(why),
    };
    let run = || -> Result<(), String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let broker = runtime.block_on(async {
            let broker = TestBroker::start().await;
            broker.create(product("sandbox.a")).await;
            broker
        });
        let address = broker.address().to_string();
        // Arguments before the address, and what comes after it.
        let call = |before: &[&str], after: &[&str]| {
            let mut command = Command::new(&grpcurl);
            command.arg("-plaintext").args(before).arg(&address).args(after);
            let output = command.output().map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok::<_, String>((output.status.success(), text, error))
        };
        let ok = |before: &[&str], after: &[&str]| match call(before, after)? {
            (true, text, _) => Ok(text),
            (false, text, error) => Err(format!("grpcurl {before:?} {after:?}: {text}{error}")),
        };
        let contains =
            |text: &str, words: &[&str]| match words.iter().find(|word| !text.contains(**word)) {
                None => Ok(()),
                Some(word) => Err(format!("grpcurl does not show `{word}` in\n{text}")),
            };

        let services = ok(&[], &["list"])?;
        contains(
            &services,
            &["meshlog.v1.RecordService", "meshlog.v1.CatalogService", "grpc.health.v1.Health"],
        )?;
        let described = ok(&[], &["describe", "meshlog.v1.RecordService.Append"])?;
        contains(&described, &["rpc Append ( .meshlog.v1.AppendRequest )"])?;
        let record = r#"{"product":"sandbox.a","batch":{"records":[{"value":"e30="}]}}"#;
        let appended = ok(&["-d", record], &["meshlog.v1.RecordService/Append"])?;
        contains(&appended, &["\"count\": 1", "DURABILITY_MEMORY"])?;
        let follow = r#"{"product":"sandbox.a","stopAtEnd":true}"#;
        let followed = ok(&["-d", follow], &["meshlog.v1.RecordService/Subscribe"])?;
        contains(&followed, &["\"value\": \"e30=\"", "\"durableEnd\": \"1\""])?;

        let missing = r#"{"name":"ops.none"}"#;
        let get = ["meshlog.v1.CatalogService/GetProduct"];
        match call(&["-d", missing, "-format-error"], &get)? {
            (false, text, error) => {
                let shown = format!("{text}{error}");
                let status: Value = serde_json::from_str(shown.trim())
                    .map_err(|why| format!("an error of grpcurl is no JSON: {why}\n{shown}"))?;
                match (&status["code"], &status["details"][0]["reason"]) {
                    (code, reason) if *code == 5 && *reason == "PRODUCT_NOT_FOUND" => Ok(()),
                    _ => Err(format!("grpcurl shows {status:#}")),
                }
            }
            (true, text, _) => Err(format!("a product that is not there was found: {text}")),
        }
    };
    match run() {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

/// As [`check`], over TLS and as a client with a certificate.
pub(crate) fn over_tls(may_install: bool) -> Outcome {
    let grpcurl = match go_tool("grpcurl", PACKAGE, may_install) {
        Ok(grpcurl) => grpcurl,
        Err(why) => return Outcome::Skipped(why),
    };
    match with_tls(&grpcurl) {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why.to_string()),
    }
}

fn with_tls(grpcurl: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let files = tempfile::tempdir()?;
    let path = |name: &str| files.path().join(name);
    let authority = |name: &str| -> Result<Issuer<'static, KeyPair>, Box<dyn std::error::Error>> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(path(name), params.self_signed(&key)?.pem())?;
        Ok(Issuer::new(params, key))
    };
    let (ours, _stranger) = (authority("ca.pem")?, authority("stranger.pem")?);
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(path(&format!("{name}.pem")), params.signed_by(&key, &ours)?.pem())?;
        std::fs::write(path(&format!("{name}-key.pem")), key.serialize_pem())?;
    }
    let mut config = meshlog_broker::Config::default();
    config.tls.certificate = Some(path("server.pem"));
    config.tls.key = Some(path("server-key.pem"));
    config.tls.client_ca = Some(path("ca.pem"));
    config.tls.require_client_certificate = true;
    let runtime = tokio::runtime::Runtime::new()?;
    let (address, broker) = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let broker = meshlog_broker::Broker::open(config)?;
        tokio::spawn(meshlog_broker::edge::serve(broker.clone(), listener, std::future::pending()));
        Ok::<_, Box<dyn std::error::Error>>((address, broker))
    })?;
    let call = |authority: &str, client: Option<&str>| {
        let mut command = Command::new(grpcurl);
        command.args(["-connect-timeout", "10", "-authority", "localhost", "-cacert"]);
        command.arg(path(authority));
        if let Some(client) = client {
            command.arg("-cert").arg(path(&format!("{client}.pem")));
            command.arg("-key").arg(path(&format!("{client}-key.pem")));
        }
        command.arg(address.to_string()).arg("meshlog.v1.AdminService/GetServerInfo").output()
    };
    let good = call("ca.pem", Some("client"))?;
    let text = String::from_utf8_lossy(&good.stdout).into_owned();
    if !good.status.success() || !text.contains("\"apiVersion\": \"v1\"") {
        return Err(format!("over TLS: {text}{}", String::from_utf8_lossy(&good.stderr)).into());
    }
    for (authority, client, what) in [
        ("stranger.pem", Some("client"), "a broker of an unknown authority was trusted"),
        ("ca.pem", None, "a client without a certificate was let in"),
    ] {
        if call(authority, client)?.status.success() {
            return Err(what.into());
        }
    }
    runtime.block_on(broker.close())?;
    Ok(())
}
