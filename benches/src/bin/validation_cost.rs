//! What checking records costs those who append: one batch of records of 1 KiB, in memory, in the
//! process, with enforcement off, on, and on with one rule, in turn.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use meshlog_benches::report::{Row, Table};
use meshlog_benches::rounds::Timed;
use meshlog_broker::{Broker, Caller};
use meshlog_proto::v1::{Enforcement, SchemaFormat};
use meshlog_proto::{server_v1, v1};
use prost::Message as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures appends of records of 1 KiB that conform to their schema.
#[derive(Debug, Parser)]
struct Args {
    /// Records in one append.
    #[arg(long, default_value_t = 64)]
    records: usize,
    #[command(flatten)]
    timed: Timed,
}

/// Bytes appended by one case in one round at most.
const MOST: u64 = 512 << 20;
/// Fields of a record; with their values a record has 1 KiB.
const FIELDS: usize = 16;

/// The last says whether the product has a rule.
type Case = (SchemaFormat, Enforcement, bool);

fn main() -> io::Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let formats = [SchemaFormat::JsonSchema, SchemaFormat::Avro, SchemaFormat::Protobuf];
    let modes =
        [(Enforcement::Off, false), (Enforcement::Enforce, false), (Enforcement::Enforce, true)];
    let cases = formats.into_iter();
    let cases: Vec<Case> =
        cases.flat_map(|format| modes.map(|(mode, rule)| (format, mode, rule))).collect();
    let time = args.timed.time();
    let series = args.timed.rounds.run(cases, |case| {
        runtime.block_on(append(*case, args.records, time)).map_err(io::Error::other)
    })?;
    let median = |case: Case| {
        let measured = series.measured.iter().find(|measured| measured.case == case);
        measured.map_or(f64::NAN, |measured| measured.spread(|nanos| *nanos).median)
    };
    let rows = series.measured.iter().map(|measured| {
        let (format, mode, has_rule) = measured.case;
        let off = median((format, Enforcement::Off, false));
        Row {
            case: vec![
                format.as_str_name().trim_start_matches("SCHEMA_FORMAT_").to_owned(),
                mode.as_str_name().trim_start_matches("ENFORCEMENT_").to_owned(),
                if has_rule { "one" } else { "none" }.to_owned(),
            ],
            figures: vec![measured.spread(|nanos| *nanos), measured.spread(|nanos| *nanos - off)],
        }
    });
    let table = Table {
        title: "what checking records of 1 KiB costs",
        labels: vec!["format", "enforcement", "rules"],
        figures: vec!["ns a record", "more than off"],
        rows: rows.collect(),
    };
    println!("{}", args.timed.report(series.noise, table)?);
    Ok(())
}

/// One that looks at a field and is met.
fn rule() -> v1::Rule {
    v1::Rule {
        name: "bench".to_owned(),
        expression: "value.field7.startsWith('x') && size(value.field9) < 100".to_owned(),
        ..v1::Rule::default()
    }
}

/// Nanoseconds of one record.
async fn append(
    (format, enforcement, has_rule): Case,
    records: usize,
    time: Duration,
) -> meshlog_broker::Result<f64> {
    let broker = Broker::in_memory()?;
    let caller = Caller::new("bench");
    let settings =
        v1::ProductSettings { enforcement: enforcement.into(), ..v1::ProductSettings::default() };
    let product = v1::Product {
        name: "sandbox.bench".to_owned(),
        settings: Some(settings),
        rules: if has_rule { vec![rule()] } else { Vec::new() },
        ..v1::Product::default()
    };
    let create = v1::CreateProductRequest {
        product: Some(product),
        value_schema: Some(v1::SchemaSource {
            format: format.into(),
            text: schema(format),
            ..v1::SchemaSource::default()
        }),
        ..v1::CreateProductRequest::default()
    };
    broker.catalogue().create_product(&caller, create).await?;
    let record = v1::Record { value: Some(value(format)), ..v1::Record::default() };
    let records = vec![record; records];
    let count = records.len() as u64;
    let batch = Bytes::from(v1::RecordBatch { records }.encode_to_vec());
    let begun = Instant::now();
    let mut appends = 0_u64;
    // What is in memory stays there.
    while begun.elapsed() < time && appends * (batch.len() as u64) < MOST {
        let request = server_v1::AppendRequest {
            product: "sandbox.bench".to_owned(),
            batch: vec![batch.clone()],
            ..Default::default()
        };
        broker.append(&caller, request).await?;
        appends += 1;
    }
    let nanos = begun.elapsed().as_nanos() as f64 / (appends * count) as f64;
    broker.close().await?;
    Ok(nanos)
}

fn schema(format: SchemaFormat) -> String {
    let fields =
        |field: &dyn Fn(usize) -> String| -> Vec<String> { (0..FIELDS).map(field).collect() };
    match format {
        SchemaFormat::Avro => {
            let field = |n| format!(r#"{{"name": "field{n}", "type": ["null", "string"]}}"#);
            let fields = fields(&field).join(",");
            format!(r#"{{"type": "record", "name": "Bench", "fields": [{fields}]}}"#)
        }
        SchemaFormat::Protobuf => {
            let field = |n| format!("string field{n} = {};", n + 1);
            format!("syntax = \"proto3\"; message Bench {{ {} }}", fields(&field).join(" "))
        }
        _ => {
            let field = |n| format!(r#""field{n}": {{"type": "string"}}"#);
            let fields = fields(&field).join(",");
            format!(r#"{{"type": "object", "properties": {{{fields}}}}}"#)
        }
    }
}

/// One of about 1 KiB.
fn value(format: SchemaFormat) -> Bytes {
    const LENGTH: usize = 60;
    let text = "x".repeat(LENGTH);
    let mut bytes = Vec::new();
    match format {
        SchemaFormat::Avro => {
            for _ in 0..FIELDS {
                bytes.extend([2, 2 * LENGTH as u8]);
                bytes.extend(text.as_bytes());
            }
        }
        SchemaFormat::Protobuf => {
            for number in 1..=FIELDS as u32 {
                prost::encoding::string::encode(number, &text, &mut bytes);
            }
        }
        _ => {
            let text = "x".repeat(LENGTH - 10);
            let members: Vec<String> =
                (0..FIELDS).map(|n| format!("\"field{n}\":\"{text}\"")).collect();
            bytes.extend(format!("{{{}}}", members.join(",")).into_bytes());
        }
    }
    Bytes::from(bytes)
}
