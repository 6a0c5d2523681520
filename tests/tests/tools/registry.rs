//! Confluent's own serializers for Python, with the broker as their schema registry: what they write
//! is taken, and read back by their deserializers.

use std::path::Path;
use std::process::Command;

use meshlog_broker::Caller;
use meshlog_proto::v1;
use meshlog_tests::{TestBroker, product};

use crate::install::python_with;
use crate::{Outcome, root, run};

/// The version that is installed if there is none.
const PACKAGE: &str = "confluent-kafka[avro,json,protobuf,schemaregistry]==2.16.1";

const AVRO: &str = r#"{"type": "record", "name": "Flight", "namespace": "ops",
    "fields": [{"name": "carrier", "type": "string"}]}"#;
const JSON: &str = r#"{"$schema": "http://json-schema.org/draft-07/schema#", "title": "Flight",
    "type": "object", "properties": {"carrier": {"type": "string"}}, "required": ["carrier"]}"#;
const PROTOBUF: &str = r#"syntax = "proto3";
package ops;
import "google/protobuf/timestamp.proto";

// One departure.
message Flight {
  // Who flies.
  string carrier = 1;
  google.protobuf.Timestamp at = 2;
  message Stop {
    string airport = 1;
  }
}
"#;

/// Runs the program of the guide as it stands there.
async fn run_page(python: &Path, broker: &TestBroker) -> Result<(), String> {
    let text = |error: std::io::Error| error.to_string();
    let page =
        std::fs::read_to_string(root().join("docs/guide/schema-registry.md")).map_err(text)?;
    let program = page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next());
    let url = format!("http://{}", broker.address());
    let program = program.unwrap_or_default().replace("http://127.0.0.1:7420", &url);
    let folder = tempfile::tempdir().map_err(text)?;
    std::fs::write(folder.path().join("flight.avsc"), AVRO).map_err(text)?;
    broker.create(product("ops.flights").schema(v1::SchemaFormat::Avro, AVRO).confluent()).await;
    let program = format!("{program}\nassert value[0] == 0 and value[5:] == b'\\x04UA', value\n");
    let outcome = run(Command::new(python).args(["-c", &program]).current_dir(folder.path()));
    let name = "ops.flights".to_owned();
    let delete = v1::DeleteProductRequest { name, ..Default::default() };
    broker.catalog().delete_product(delete).await.map_err(|status| status.to_string())?;
    match outcome {
        Outcome::Passed => Ok(()),
        Outcome::Failed(why) | Outcome::Skipped(why) => Err(format!("the guide: {why}")),
    }
}

/// The check.
pub(crate) fn check(may_install: bool) -> Outcome {
    let imported = "confluent_kafka.schema_registry.protobuf, confluent_kafka.schema_registry.avro";
    let python = match python_with("confluent-kafka", PACKAGE, imported, may_install) {
        Ok(python) => python,
        Err(why) => return Outcome::Skipped(why),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let made = runtime.block_on(async {
        let broker = TestBroker::start().await;
        for (name, format, text) in [
            ("ops.avro", v1::SchemaFormat::Avro, AVRO),
            ("ops.json", v1::SchemaFormat::JsonSchema, JSON),
            ("ops.proto", v1::SchemaFormat::Protobuf, PROTOBUF),
        ] {
            broker.create(product(name).schema(format, text).confluent()).await;
            let name = name.to_owned();
            let request = v1::ActivateProductRequest { name, ..Default::default() };
            broker
                .catalog()
                .activate_product(request)
                .await
                .map_err(|status| status.to_string())?;
        }
        run_page(&python, &broker).await?;
        let key = v1::ApiKey { admin: true, ..Default::default() };
        let request = v1::CreateKeyRequest { key: Some(key), validate_only: false };
        let of_broker = broker.broker();
        let key = of_broker.catalogue().create_key(&Caller::default(), request).await;
        let key = key.map_err(|error| error.to_string())?;
        Ok::<_, String>((broker, key.secret))
    });
    let (broker, key) = match made {
        Ok(made) => made,
        Err(why) => return Outcome::Failed(why),
    };
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/registry.py");
    let url = format!("http://{}", broker.address());
    run(Command::new(python).arg(program).arg(url).arg(key))
}
