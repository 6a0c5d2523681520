//! `meshlog quickstart`: a broker with a real data mesh in it. Every number and every outcome it
//! prints was measured or answered just now.

use std::{
    env,
    io::Cursor,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::Args;
use meshlog_broker::{Config, edge};
use meshlog_client::{
    BatchBuilder, Catalog, Client, Durability, StartAt,
    proto::{
        self, ActivateProductRequest, CreateDomainRequest, CreateProductRequest,
        CreateTagKeyRequest, CreateTeamRequest, KeyRule, SchemaFormat, SchemaSource,
    },
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    csv_input::Columns,
    exit::{Exit, Failure, Result},
    input::{Input, InputFormat, Shape},
    log::{self, LogFormat},
    mesh::{self, Mesh},
    output::{Format, Out, Row},
    product::Link,
    serve,
    settings::{self, DEFAULT_ADDRESS},
    tag::{FieldTag, WholeTag},
    telemetry, words,
};

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog quickstart
  meshlog quickstart --data tests/data/nycflights13   all of 2013")]
pub(crate) struct Quickstart {
    /// Load the tables of this directory instead of the embedded subset: flights.csv, weather.csv,
    /// planes.csv, airports.csv and airlines.csv, each as it is or as .zip or .zst
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// End after printing what happened
    #[arg(long)]
    exit: bool,
}

impl Quickstart {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        log::begin("warn", LogFormat::Text, &telemetry::Settings::default())?;
        let mut stop = serve::Stop::listen()?;
        let directory = tempfile::Builder::new().prefix("meshlog-quickstart-").tempdir();
        let directory = directory.map_err(|error| {
            Failure::new(Exit::Error, format!("no temporary directory could be made: {error}"))
        })?;
        let listener = match serve::bind(&Config::default(), default_address()?).await {
            Ok(listener) => listener,
            Err(_) => {
                out.note(format_args!("{DEFAULT_ADDRESS} is in use; taking another port"));
                serve::bind(&Config::default(), SocketAddr::from(([127, 0, 0, 1], 0))).await?
            }
        };
        let started = Instant::now();
        let broker = serve::open(Config::at(directory.path())).await?;
        let opened = started.elapsed();
        let address = serve::announce(&listener, out)?;
        out.line(format_args!(
            "opened in {} on {}, which is removed when this ends",
            words::duration(opened),
            directory.path().display(),
        ))?;
        let shutdown = CancellationToken::new();
        let serving =
            tokio::spawn(edge::serve(broker.clone(), listener, shutdown.clone().cancelled_owned()));
        let result = tokio::select! {
            result = self.show(address, out) => result,
            () = stop.wait() => Err(Failure::quiet(Exit::Interrupted)),
        };
        if result.is_ok() && !self.exit {
            stop.wait().await;
        }
        shutdown.cancel();
        let served = serving.await;
        broker.close().await?;
        result?;
        match served {
            Ok(served) => Ok(served?),
            Err(error) => Err(Failure::new(Exit::Error, format!("serving failed: {error}"))),
        }
    }

    async fn show(&self, address: SocketAddr, out: &mut Out) -> Result<()> {
        let mesh = Mesh::flights()?;
        let client = settings::connect(&address.to_string()).await?;
        let catalog = client.catalog();

        let started = Instant::now();
        create(&mesh, &catalog).await?;
        out.line(format_args!(
            "\ncreated {}, {}, {} and {} in {}",
            words::counted(mesh.teams.len() as u64, "team"),
            words::counted(mesh.tag_keys.len() as u64, "tag key"),
            words::counted(mesh.domains.len() as u64, "domain"),
            words::counted(mesh.products.len() as u64, "data product"),
            words::duration(started.elapsed()),
        ))?;

        let mut loaded = Vec::new();
        for product in &mesh.products {
            loaded.push(self.load(&client, product).await?);
        }
        out.line("")?;
        out.list(Format::Table, &loaded)?;

        let info = catalog.server_info().await?;
        let records: u64 = loaded.iter().map(|product| product.records).sum();
        let started = Instant::now();
        for product in &loaded {
            let read = read_back(&client, &product.name).await?;
            if (read.records, read.digest) != (product.records, product.digest) {
                return Err(Failure::new(
                    Exit::Corruption,
                    format!(
                        "{}: {} records were sent and {} read back, and they are not the same; \
                         please report this",
                        product.name, product.records, read.records
                    ),
                ));
            }
        }
        out.line(format_args!(
            "\n{} on disk after {} syncs; read back in {}, every key and value identical",
            words::counted(records, "record"),
            words::count(info.storage.unwrap_or_default().syncs),
            words::duration(started.elapsed()),
        ))?;

        self.refuse(&catalog, out).await?;
        self.suggest(address, out)?;
        out.flush()
    }

    /// Appends a product's table.
    async fn load(&self, client: &Client, product: &mesh::Product) -> Result<Loaded> {
        let table = mesh::table(self.data.as_deref(), &product.data)?;
        let mut input = Input::new(Box::new(Cursor::new(table)), shape(product)?);
        let durability = Arc::new(Mutex::new(None));
        let seen = durability.clone();
        let started = Instant::now();
        let producer = client
            .producer(product.name.as_str())
            .durability(Durability::Synced)
            .on_outcome(move |outcome| {
                if let (Ok(ack), Ok(mut seen)) = (&outcome.result, seen.lock()) {
                    *seen = Some(ack.durability);
                }
            })
            .build()?;
        let mut sent = Content::default();
        let unreadable = |number: u64, reason: &dyn std::fmt::Display| {
            Failure::new(Exit::Rejected, format!("{} line {number}: {reason}", product.data))
        };
        while let Some(line) = input.next_line().map_err(|error| unreadable(0, &error))? {
            let record = line.record.map_err(|reason| unreadable(line.number, &reason))?;
            sent.add(record.key.as_deref(), record.value.as_deref());
            producer.push(&record).await?;
        }
        producer.close().await?;
        let elapsed = started.elapsed();
        let durability = durability.lock().ok().and_then(|durability| *durability);
        Ok(Loaded {
            name: product.name.clone(),
            owner: product.owner.clone(),
            classification: product.classification.clone(),
            records: sent.records,
            digest: sent.finish(),
            durability: durability
                .map(|durability| words::word(durability.as_str_name(), "DURABILITY_"))
                .unwrap_or_default(),
            elapsed,
        })
    }

    /// Offers a record that breaks the schema, and shows what the broker says.
    async fn refuse(&self, catalog: &Catalog, out: &mut Out) -> Result<()> {
        let mesh = Mesh::flights()?;
        let product = mesh.products.iter().find(|product| product.name == BAD_PRODUCT);
        let product = product.ok_or_else(|| Failure::new(Exit::Error, "no product to try"))?;
        let table = mesh::table(self.data.as_deref(), &product.data)?;
        let mut input = Input::new(Box::new(Cursor::new(table)), shape(product)?);
        let line = input.next_line().ok().flatten().and_then(|line| line.record.ok());
        let value = line.and_then(|record| record.value).unwrap_or_default();
        let mut flight: serde_json::Value = serde_json::from_slice(&value)
            .map_err(|error| Failure::new(Exit::Error, format!("no flight to try: {error}")))?;
        flight["dep_time"] = "05:17".into();
        let flight = flight.to_string();
        let mut batch = BatchBuilder::default();
        batch.push(flight.as_str())?;
        let before = ends(catalog).await?;
        let appended =
            catalog.append_once(BAD_PRODUCT, None, &batch.finish(), Durability::Synced).await;
        match appended {
            Err(error) if error.reason() == "SCHEMA_REJECTED" => {
                out.line(format_args!(
                    "a flight with \"dep_time\":\"05:17\" was refused by {BAD_PRODUCT}:\n  {}",
                    error.message()
                ))?;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => {
                return Err(Failure::new(
                    Exit::Error,
                    format!(
                        "{BAD_PRODUCT} took a record that breaks its schema; please report this"
                    ),
                ));
            }
        }
        if ends(catalog).await? != before {
            return Err(Failure::new(
                Exit::Error,
                format!("{BAD_PRODUCT} grew by a record that it refused; please report this"),
            ));
        }
        Ok(())
    }

    fn suggest(&self, address: SocketAddr, out: &mut Out) -> Result<()> {
        let program = program();
        out.line(if self.exit {
            "\nwithout --exit the broker stays, and you can try"
        } else {
            "\ntry next, in another terminal"
        })?;
        if address.to_string() != DEFAULT_ADDRESS {
            out.line(format_args!("  export MESHLOG_SERVER={address}"))?;
        }
        for command in NEXT {
            out.line(format_args!("  {}", command.replace("meshlog ", &format!("{program} "))))?;
        }
        if !self.exit {
            out.line("\nCtrl-C ends the broker and removes its data")?;
        }
        Ok(())
    }
}

const BAD_PRODUCT: &str = "ops.flights";

/// What to try, in order. A test runs them all.
const NEXT: &[&str] = &[
    "meshlog search flight delays",
    "meshlog search tag:unit=minutes",
    "meshlog product show ops.flights",
    "meshlog product sample ops.flights --max 3 --profile",
    "meshlog consume ops.flights --last 3 -o table",
    "meshlog consume ops.flights --key N14228 --max 2",
    "meshlog product create sandbox.notes",
    "echo '{\"note\":\"hello\"}' | meshlog produce sandbox.notes",
    "meshlog consume sandbox.notes",
];

fn default_address() -> Result<SocketAddr> {
    DEFAULT_ADDRESS
        .parse()
        .map_err(|_| Failure::new(Exit::Error, "the default address cannot be read"))
}

/// How this program can be called from where the user is.
fn program() -> String {
    let Ok(this) = env::current_exe() else { return "meshlog".into() };
    let on_path = env::var_os("PATH").is_some_and(|path| {
        let first = env::split_paths(&path).map(|dir| dir.join("meshlog")).find(|p| p.is_file());
        first.and_then(|found| found.canonicalize().ok()) == this.canonicalize().ok()
    });
    if on_path {
        return "meshlog".into();
    }
    let here = env::current_dir().ok();
    match here.as_deref().and_then(|here| this.strip_prefix(here).ok()) {
        Some(below) => format!("./{}", below.display()),
        None => this.display().to_string(),
    }
}

fn shape(product: &mesh::Product) -> Result<Shape> {
    let schema = mesh::embedded(&format!("schemas/{}", product.schema))?;
    Ok(Shape {
        format: InputFormat::Csv,
        columns: Columns::of_json_schema(schema)
            .map_err(|error| Failure::new(Exit::Error, error))?,
        null: Some("NA".into()),
        key_field: Some(product.key.parse().map_err(Failure::usage)?),
        headers: Vec::new(),
    })
}

/// Teams, the vocabulary, domains and products with everything that is known of them.
async fn create(mesh: &Mesh, catalog: &Catalog) -> Result<()> {
    for team in &mesh.teams {
        let team = proto::Team {
            name: team.name.clone(),
            contacts: team.contacts.clone(),
            description: team.description.clone(),
            ..proto::Team::default()
        };
        let request = CreateTeamRequest { team: Some(team), ..Default::default() };
        catalog.create_team(request).await?;
    }
    for key in &mesh.tag_keys {
        let tag_key = proto::TagKey {
            name: key.name.clone(),
            owner: key.owner.clone(),
            description: key.description.clone(),
            value_type: named(
                &key.value_type,
                "TAG_VALUE_TYPE_",
                proto::TagValueType::from_str_name,
            )?
            .into(),
            allowed_values: key.allowed.clone(),
            ..proto::TagKey::default()
        };
        let request = CreateTagKeyRequest { tag_key: Some(tag_key), ..Default::default() };
        catalog.create_tag_key(request).await?;
    }
    for domain in &mesh.domains {
        let domain = proto::Domain {
            name: domain.name.clone(),
            owner: domain.owner.clone(),
            description: domain.description.clone(),
            tags: whole_tags(&domain.tags)?,
            ..proto::Domain::default()
        };
        let request = CreateDomainRequest { domain: Some(domain), ..Default::default() };
        catalog.create_domain(request).await?;
    }
    for product in &mesh.products {
        catalog.create_product(product_request(product)?).await?;
        if product.active {
            let name = product.name.clone();
            catalog.activate_product(ActivateProductRequest { name, ..Default::default() }).await?;
        }
    }
    Ok(())
}

fn product_request(product: &mesh::Product) -> Result<CreateProductRequest> {
    let mut tags = whole_tags(&product.tags)?;
    for tag in &product.field_tags {
        tags.push(tag.parse::<FieldTag>().map_err(Failure::usage)?.0);
    }
    let mut links = Vec::new();
    for link in &product.links {
        links.push(link.parse::<Link>().map_err(Failure::usage)?.0);
    }
    let value_schema = SchemaSource {
        format: SchemaFormat::JsonSchema.into(),
        text: mesh::embedded(&format!("schemas/{}", product.schema))?.to_owned(),
        ..SchemaSource::default()
    };
    let classification = &product.classification;
    let product = proto::Product {
        name: product.name.clone(),
        owner: product.owner.clone(),
        description: product.description.clone(),
        classification: named(
            classification,
            "CLASSIFICATION_",
            proto::Classification::from_str_name,
        )?
        .into(),
        kind: named(&product.kind, "PRODUCT_KIND_", proto::ProductKind::from_str_name)?.into(),
        tags,
        partitions: 1,
        key: product.key_rule.then(|| KeyRule { field: product.key.clone() }),
        docs: product.docs.trim().to_owned(),
        links,
        support: product.support.clone(),
        ..proto::Product::default()
    };
    Ok(CreateProductRequest {
        product: Some(product),
        value_schema: Some(value_schema),
        ..CreateProductRequest::default()
    })
}

/// A value of the contract by the word for it.
fn named<T>(word: &str, prefix: &str, from_name: impl Fn(&str) -> Option<T>) -> Result<T> {
    let name = format!("{prefix}{}", word.to_ascii_uppercase().replace('-', "_"));
    from_name(&name).ok_or_else(|| Failure::usage(format!("the flights mesh says `{word}`")))
}

fn whole_tags(texts: &[String]) -> Result<Vec<proto::Tag>> {
    let tag = |text: &String| Ok(text.parse::<WholeTag>().map_err(Failure::usage)?.0);
    texts.iter().map(tag).collect()
}

/// Counts and hashes keys and values in their order.
#[derive(Default)]
struct Content {
    records: u64,
    hash: Sha256,
}

impl Content {
    fn add(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records += 1;
        for part in [key, value] {
            let length = part.map_or(u64::MAX, |part| part.len() as u64);
            self.hash.update(length.to_le_bytes());
            self.hash.update(part.unwrap_or_default());
        }
    }

    fn finish(self) -> [u8; 32] {
        self.hash.finalize().into()
    }
}

struct ReadBack {
    records: u64,
    digest: [u8; 32],
}

async fn read_back(client: &Client, product: &str) -> Result<ReadBack> {
    let mut consumer = client.consumer(product).from(StartAt::Earliest).stop_at_end(true).build();
    let mut content = Content::default();
    while let Some(batch) = consumer.next().await? {
        for record in batch.records() {
            let record = record?.record;
            content.add(record.key.as_deref(), record.value.as_deref());
        }
    }
    Ok(ReadBack { records: content.records, digest: content.finish() })
}

async fn ends(catalog: &Catalog) -> Result<Vec<u64>> {
    let offsets = catalog.list_offsets(BAD_PRODUCT, &[], None).await?;
    Ok(offsets.into_iter().map(|offsets| offsets.durable_end).collect())
}

/// One product with its records.
#[derive(serde::Serialize)]
struct Loaded {
    name: String,
    owner: String,
    classification: String,
    records: u64,
    #[serde(skip)]
    digest: [u8; 32],
    durability: String,
    #[serde(skip)]
    elapsed: Duration,
}

impl Row for Loaded {
    const PLURAL: &'static str = "products";
    const HEADER: &'static [&'static str] =
        &["PRODUCT", "OWNER", "CLASSIFICATION", "RECORDS", "ACKNOWLEDGED", "IN"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.owner.clone(),
            self.classification.clone(),
            words::count(self.records),
            self.durability.clone(),
            words::duration(self.elapsed),
        ]
    }
}
