//! Reads `ops.flights` and appends to `ops.delay-alerts` each flight that left more than an hour late.
//!
//! Every alert carries, in its headers, how far the flights were read when it was made. Whoever starts
//! takes the newest alert, goes on reading from there, and appends only at the offset behind it
//! (`expected_offset`). So a delayed flight has exactly one alert, in the order of the flights:
//!
//! - a lost connection: the client's producer numbers its batches and its consumer knows its place;
//! - a crash between reading and appending: the flight is read again, because no alert says it was;
//! - a crash between appending and being told: the alert is there, and reading goes on behind it;
//! - two at once, or one that was believed dead: the second to append gets `OFFSET_MISMATCH`, and ends.
//!
//! It holds for what is in the log. Whoever is told by [`Alerts::next`] and crashes before passing an
//! alert on finds it in `ops.delay-alerts`, not here again.

use std::collections::BTreeMap;

use meshlog_client::proto::{
    Classification, CreateProductRequest, Product, SchemaFormat, SchemaSource, Team,
};
use meshlog_client::{Client, ConsumedRecord, Consumer, Producer, Record, Result, StartAt};
use serde::{Deserialize, Serialize};

/// What is read.
pub const FLIGHTS: &str = "ops.flights";
/// What is written.
pub const ALERTS: &str = "ops.delay-alerts";
/// A delay of more minutes than this is told.
const LATE: i64 = 60;

/// Headers of an alert: how far the flights were read, and of which product.
const READ_TO: &str = "read-to";
const READ_FROM: &str = "read-from";

/// The fields of a flight that matter here.
#[derive(Debug, Deserialize)]
struct Flight {
    carrier: String,
    flight: u32,
    origin: String,
    dest: String,
    /// Absent: cancelled.
    dep_delay: Option<i64>,
    time_hour: String,
}

/// A flight that left late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Carrier and number, for instance `UA1545`; the key of its record.
    pub flight: String,
    /// Airport of departure.
    pub origin: String,
    /// Airport of destination.
    pub dest: String,
    /// How late it left.
    pub minutes: i64,
    /// Hour of the scheduled departure, UTC.
    pub time_hour: String,
}

/// Makes alerts from where the last one of the log left off.
#[derive(Debug)]
pub struct Alerts {
    flights: Consumer,
    alerts: Producer,
}

impl Alerts {
    /// Goes on where the newest alert in the log was made; creates the product if there is none.
    ///
    /// # Errors
    /// The broker's.
    pub async fn resume(client: &Client) -> Result<Self> {
        create_product(client).await?;
        let offsets = client.catalog().list_offsets(ALERTS, &[0], None).await?;
        let (start, end) = offsets.first().map_or((0, 0), |at| (at.start_offset, at.durable_end));
        let mut flights = client.consumer(FLIGHTS);
        if end > start {
            let last = client.consumer(ALERTS).from(StartAt::Offset(end - 1)).stop_at_end(true);
            if let Some(last) = last.build().next_record().await? {
                // Flights that were deleted and created again are others: PRODUCT_RECREATED.
                flights = flights.product_id(header(&last, READ_FROM));
                flights = flights.from(StartAt::Positions(parse(&header(&last, READ_TO))));
            }
        }
        let alerts = client.producer(ALERTS).partition(0).expected_offset(end).build()?;
        Ok(Self { flights: flights.build(), alerts })
    }

    /// The next alert, once it is on disk. Dropping the future may skip a flight: drop `self` with
    /// it, and resume.
    ///
    /// # Errors
    /// The broker's; `OFFSET_MISMATCH` if another one appends alerts. Resume to go on.
    pub async fn next(&mut self) -> Result<Option<Alert>> {
        while let Some(found) = self.flights.next_record().await? {
            let Some(alert) = found.record.value.as_deref().and_then(alert_for) else { continue };
            let record = Record::new(serde_json::to_vec(&alert).unwrap_or_default())
                .key(alert.flight.clone())
                .header(READ_FROM, self.flights.product_id().to_owned())
                .header(READ_TO, format(self.flights.positions()));
            self.alerts.send(record).await?;
            return Ok(Some(alert));
        }
        Ok(None)
    }
}

/// The alert for a flight, if it is one; the schema of the product has seen to the rest.
fn alert_for(flight: &[u8]) -> Option<Alert> {
    let flight: Flight = serde_json::from_slice(flight).ok()?;
    Some(Alert {
        flight: format!("{}{}", flight.carrier, flight.flight),
        origin: flight.origin,
        dest: flight.dest,
        minutes: flight.dep_delay.filter(|minutes| *minutes > LATE)?,
        time_hour: flight.time_hour,
    })
}

async fn create_product(client: &Client) -> Result<()> {
    let owner = "flight-operations".to_owned();
    let request = CreateProductRequest {
        product: Some(Product {
            name: ALERTS.to_owned(),
            owner: owner.clone(),
            description: "Flights that left more than an hour late, as they leave".to_owned(),
            classification: Classification::Internal.into(),
            ..Product::default()
        }),
        value_schema: Some(SchemaSource {
            format: SchemaFormat::JsonSchema.into(),
            text: include_str!("schema.json").to_owned(),
            ..SchemaSource::default()
        }),
        new_team: Some(Team {
            name: owner,
            contacts: vec!["flight-operations@nyc.example".to_owned()],
            ..Team::default()
        }),
        ..CreateProductRequest::default()
    };
    match client.catalog().create_product(request).await {
        Err(error) if error.reason() != "PRODUCT_EXISTS" => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn header(record: &ConsumedRecord, name: &str) -> String {
    let mut headers = record.record.headers.iter();
    let value = headers.find(|header| header.name == name).map(|header| &*header.value);
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// As `0=124 1=45`: the next offset of each partition.
fn format(positions: &BTreeMap<u32, u64>) -> String {
    let positions = positions.iter().map(|(partition, next)| format!("{partition}={next}"));
    positions.collect::<Vec<_>>().join(" ")
}

fn parse(positions: &str) -> BTreeMap<u32, u64> {
    let position = |position: &str| {
        let (partition, next) = position.split_once('=')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    };
    positions.split(' ').filter_map(position).collect()
}
