//! `meshlog product succeed`.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use meshlog_client::proto::{Product, SucceedProductRequest};
use serde::Serialize;

use super::{Target, View, values::Facts};
use crate::{change::Change, exit::Result, output::Out, schema, words};

/// Arguments of `product succeed`.
#[derive(Debug, Args)]
pub(crate) struct Succeed {
    #[command(flatten)]
    target: Target,
    /// Name of the successor [default: the name with `-v2`, or the next number]
    #[arg(long = "name", value_name = "NAME")]
    new_name: Option<String>,
    /// Schema of its values: a .json file (JSON Schema), .avsc (Avro) or .proto (Protobuf)
    /// [default: that of the product]
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Why, for those who use the product
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// When the product may be retired: a day, or a time in RFC 3339
    #[arg(long, value_name = "TIME", value_parser = words::parse_time)]
    sunset: Option<Timestamp>,
    /// What the successor holds [default: what is said of the product]
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    #[command(flatten)]
    facts: Facts,
}

/// Both products, for programs.
#[derive(Serialize)]
struct Both {
    product: View,
    successor: View,
}

impl Succeed {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let mut successor = Product {
            name: self.new_name.unwrap_or_default(),
            description: self.description.unwrap_or_default(),
            ..Product::default()
        };
        self.facts.put(&mut successor)?;
        let value_schema = self.schema.as_deref().map(schema::read_file).transpose()?;
        let dry_run = self.target.change.dry_run;
        let request = SucceedProductRequest {
            name: before.name.clone(),
            etag: before.etag.clone(),
            validate_only: dry_run,
            successor: Some(successor),
            value_schema,
            key_schema: None,
            reason: self.reason,
            sunset_time: self.sunset.map(words::to_wire),
        };
        let response = catalog.succeed_product(request).await?;
        let product = View::from(response.product.unwrap_or_default());
        let successor = View::from(response.successor.unwrap_or_default());
        let format = self.target.output.output;
        if !format.is_for_people() {
            return out.one(format, &Both { product, successor });
        }
        let before = View::from(before);
        out.line(format_args!("{}:", product.name))?;
        let change = Change { dry_run: false, before: Some(&before), after: Some(&product) };
        change.show(format, out)?;
        out.line(format_args!("\n{}:", successor.name))?;
        Change { dry_run, before: None, after: Some(&successor) }.show(format, out)
    }
}
