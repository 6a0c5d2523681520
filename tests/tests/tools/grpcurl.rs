//! `grpcurl`, with which people look at a gRPC server by hand: what it lists, describes and calls
//! comes from reflection alone.

use std::process::Command;

use meshlog_tests::{TestBroker, product};
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
