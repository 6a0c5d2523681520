//! `meshlog impact`: who would notice a change of a field.

use clap::Args;
use clap_complete::ArgValueCompleter;
use jiff::Timestamp;
use meshlog_client::proto::{
    GetImpactRequest, GetImpactResponse, Impact as Level, ImpactEvidence, ImpactedProduct,
    ImpactedReader, LineageApplication,
};
use serde::Serialize;

use crate::{
    completion,
    exit::Result,
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Arguments of `impact`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog impact ops.flights --field tailnum
  meshlog impact ops.flights -o json")]
pub(crate) struct Impact {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Path of a field [default: the whole product]
    #[arg(long, value_name = "PATH", add = ArgValueCompleter::new(completion::fields))]
    field: Option<String>,
    /// How many products away, 1 to 20
    #[arg(long, value_name = "N", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=20))]
    depth: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Impact {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let request = GetImpactRequest {
            product: self.name,
            field: self.field.unwrap_or_default(),
            depth: self.depth,
        };
        let answer = View::from(catalog.get_impact(request).await?);
        let format = self.output.output;
        if !format.is_for_people() {
            return out.one(format, &answer);
        }
        let readers: Vec<ReaderRow> = answer.products.iter().flat_map(ReaderRow::of).collect();
        out.list(format, &readers)?;
        let made: Vec<MadeRow> = answer.products.iter().filter_map(MadeRow::of).collect();
        if !made.is_empty() {
            out.line("")?;
            out.list(format, &made)?;
        }
        if answer.truncated {
            out.note("it goes on; see --depth");
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct View {
    product: String,
    field: String,
    versions: Vec<u32>,
    products: Vec<ProductView>,
    truncated: bool,
}

#[derive(Serialize)]
struct ProductView {
    name: String,
    owner: String,
    contacts: Vec<String>,
    distance: u32,
    via: String,
    applications: Vec<ApplicationView>,
    evidence: Vec<String>,
    fields: Vec<String>,
    readers: Vec<ReaderView>,
}

#[derive(Serialize)]
struct ApplicationView {
    name: String,
    team: String,
    shared: bool,
}

#[derive(Serialize)]
struct ReaderView {
    application: ApplicationView,
    impact: String,
    versions: Vec<u32>,
    last_time: Option<Timestamp>,
    records: u64,
}

impl From<GetImpactResponse> for View {
    fn from(answer: GetImpactResponse) -> Self {
        Self {
            product: answer.product,
            field: answer.field,
            versions: answer.versions,
            products: answer.products.into_iter().map(ProductView::from).collect(),
            truncated: answer.truncated,
        }
    }
}

impl From<ImpactedProduct> for ProductView {
    fn from(product: ImpactedProduct) -> Self {
        let evidence = product.evidence();
        let evidence = evidence.map(|one: ImpactEvidence| {
            words::word(one.as_str_name(), "IMPACT_EVIDENCE_").replace('_', "-")
        });
        Self {
            evidence: evidence.collect(),
            name: product.name,
            owner: product.owner,
            contacts: product.contacts,
            distance: product.distance,
            via: product.via,
            applications: product.applications.into_iter().map(ApplicationView::from).collect(),
            fields: product.fields,
            readers: product.readers.into_iter().map(ReaderView::from).collect(),
        }
    }
}

impl From<LineageApplication> for ApplicationView {
    fn from(application: LineageApplication) -> Self {
        Self { name: application.name, team: application.team, shared: application.shared }
    }
}

impl From<ImpactedReader> for ReaderView {
    fn from(reader: ImpactedReader) -> Self {
        let impact: Level = reader.impact();
        Self {
            impact: words::word(impact.as_str_name(), "IMPACT_").replace('_', "-"),
            application: reader.application.unwrap_or_default().into(),
            versions: reader.versions,
            last_time: words::time(reader.last_time),
            records: reader.records,
        }
    }
}

/// Somebody who reads the product, or what is made of it.
#[derive(Serialize)]
struct ReaderRow {
    reader: String,
    team: String,
    product: String,
    impact: String,
    versions: String,
    last_time: Option<Timestamp>,
}

impl ReaderRow {
    fn of(product: &ProductView) -> Vec<Self> {
        let row = |reader: &ReaderView| Self {
            reader: reader.application.name.clone(),
            team: reader.application.team.clone(),
            product: product.name.clone(),
            impact: reader.impact.clone(),
            versions: reader.versions.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
            last_time: reader.last_time,
        };
        product.readers.iter().map(row).collect()
    }
}

impl Row for ReaderRow {
    const PLURAL: &'static str = "readers";
    const HEADER: &'static [&'static str] =
        &["READER", "TEAM", "READS", "REACHED", "VERSIONS", "LAST READ"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.reader.clone(),
            self.team.clone(),
            self.product.clone(),
            match self.impact.as_str() {
                "reached" => "yes".into(),
                "not-reached" => "no".into(),
                other => other.into(),
            },
            self.versions.clone(),
            words::when(self.last_time),
        ]
    }
}

/// A product that is made of it.
#[derive(Serialize)]
struct MadeRow {
    product: String,
    owner: String,
    contacts: String,
    via: String,
    applications: String,
    evidence: String,
    fields: String,
}

impl MadeRow {
    fn of(product: &ProductView) -> Option<Self> {
        (product.distance > 0).then(|| Self {
            product: product.name.clone(),
            owner: product.owner.clone(),
            contacts: product.contacts.join(", "),
            via: product.via.clone(),
            applications: product
                .applications
                .iter()
                .map(|application| application.name.clone())
                .collect::<Vec<_>>()
                .join(", "),
            evidence: product.evidence.join(", "),
            fields: product.fields.join(", "),
        })
    }
}

impl Row for MadeRow {
    const PLURAL: &'static str = "products made of it";
    const HEADER: &'static [&'static str] =
        &["MADE OF IT", "OWNER", "FROM", "BY", "BECAUSE OF", "FIELDS"];
    const WIDE: &'static [&'static str] = &["CONTACTS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.product.clone(),
            self.owner.clone(),
            self.via.clone(),
            self.applications.clone(),
            self.evidence.clone(),
            self.fields.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.contacts.clone()]
    }
}
