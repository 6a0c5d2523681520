//! What the fields of a product's records look like.

use jiff::Timestamp;
use meshlog_client::proto::{FieldProfile, Profile};
use serde::Serialize;

use crate::{
    exit::Result,
    output::{Format, Out, Row},
    words,
};

/// For commands that can profile a product.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct ProfileArgs {
    /// Also what the fields of the last N records look like
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        default_missing_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub(super) profile: Option<u32>,
}

/// A profile as the program shows it.
#[derive(Serialize)]
pub(super) struct ProfileView {
    records: u64,
    tombstones: u64,
    unreadable: u64,
    oldest_time: Option<Timestamp>,
    newest_time: Option<Timestamp>,
    fields: Vec<FieldProfileView>,
}

impl From<Profile> for ProfileView {
    fn from(profile: Profile) -> Self {
        Self {
            records: profile.records,
            tombstones: profile.tombstones,
            unreadable: profile.unreadable,
            oldest_time: words::time(profile.oldest_time),
            newest_time: words::time(profile.newest_time),
            fields: profile.fields.into_iter().map(Into::into).collect(),
        }
    }
}

impl ProfileView {
    /// For people.
    pub(super) fn show(&self, format: Format, out: &mut Out) -> Result<()> {
        let beside = |count: u64, what: &str| match count {
            0 => String::new(),
            count => format!(", {} {what}", words::count(count)),
        };
        out.line(format_args!(
            "{} from {} to {}{}{}",
            words::counted(self.records, "record"),
            words::when(self.oldest_time),
            words::when(self.newest_time),
            beside(self.tombstones, "without a value"),
            beside(self.unreadable, "that could not be read"),
        ))?;
        if self.fields.is_empty() {
            return Ok(());
        }
        out.line("")?;
        out.list(format, &self.fields)
    }
}

/// One field. Smallest, largest and frequent values are JSON texts.
#[derive(Serialize)]
struct FieldProfileView {
    path: String,
    types: Vec<String>,
    values: u64,
    nulls: u64,
    distinct: u64,
    min: Option<String>,
    max: Option<String>,
    examples: Vec<String>,
}

impl From<FieldProfile> for FieldProfileView {
    fn from(field: FieldProfile) -> Self {
        Self {
            path: field.path,
            types: field.types,
            values: field.values,
            nulls: field.nulls,
            distinct: field.distinct,
            min: field.min,
            max: field.max,
            examples: field.examples,
        }
    }
}

impl Row for FieldProfileView {
    const PLURAL: &'static str = "fields";
    const HEADER: &'static [&'static str] =
        &["FIELD", "TYPES", "NULL", "DISTINCT", "MIN", "MAX", "FREQUENT"];

    fn cells(&self) -> Vec<String> {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let nulls = match (self.values, self.nulls) {
            (_, 0) => "none".into(),
            (values, nulls) if nulls == values => "all".into(),
            (values, nulls) => format!("{:.1} %", nulls as f64 * 100.0 / values as f64),
        };
        let shown = self.examples.iter().take(3).map(String::as_str);
        vec![
            self.path.clone(),
            self.types.join(", "),
            nulls,
            words::count(self.distinct),
            or_dash(&self.min),
            or_dash(&self.max),
            shown.collect::<Vec<_>>().join(", "),
        ]
    }
}
