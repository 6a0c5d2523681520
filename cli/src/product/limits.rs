//! How long records stay, as it is written on the command line.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use meshlog_broker::config::{ByteSize, Span};
use meshlog_client::proto::{Compaction, ProductSettings};

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    /// `unlimited`.
    None,
    /// So much and no more.
    At(T),
}

impl<T: FromStr<Err = String> + Amount> FromStr for Limit<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self::None);
        }
        let amount: T = text.parse().map_err(|_| format!("write {}, or unlimited", T::EXAMPLES))?;
        match amount.is_zero() {
            true => Err("0 would keep nothing; for no limit write unlimited".into()),
            false => Ok(Self::At(amount)),
        }
    }
}

/// What can be limited.
pub(crate) trait Amount {
    const EXAMPLES: &'static str;

    fn is_zero(&self) -> bool;
}

impl Amount for Span {
    const EXAMPLES: &'static str = "a time such as 12h, 7d or 1d 12h";

    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
}

impl Amount for ByteSize {
    const EXAMPLES: &'static str = "a size such as 512MiB, 10GiB or 2TiB";

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

/// A number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) u64);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| format!("`{text}` is not a number"))
    }
}

impl Amount for Count {
    const EXAMPLES: &'static str = "a number such as 1000000";

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

/// How long records stay; each partition by itself.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// Delete records this long after they were appended, as 7d; or unlimited
    #[arg(long, value_name = "TIME|unlimited")]
    retention_age: Option<Limit<Span>>,
    /// Keep the newest so many bytes of each partition, as 10GiB; or unlimited
    #[arg(long, value_name = "SIZE|unlimited")]
    retention_bytes: Option<Limit<ByteSize>>,
    /// Keep the newest so many records of each partition; or unlimited
    #[arg(long, value_name = "N|unlimited")]
    retention_count: Option<Limit<Count>>,
    /// Keep only the newest record of each key
    #[arg(long, overrides_with = "no_compact")]
    compact: bool,
    /// Keep all records of a key
    #[arg(long, overrides_with = "compact", conflicts_with = "tombstone_min_age")]
    no_compact: bool,
    /// Of a compacted product: keep a record without a value at least this long [default: 24h]
    #[arg(long, value_name = "TIME")]
    tombstone_min_age: Option<Span>,
}

impl Limits {
    /// Whether it says how old records may get.
    pub(super) fn names_an_age(&self) -> bool {
        self.retention_age.is_some()
    }

    /// Puts them into the settings; the fields that were given.
    pub(super) fn put(self, settings: &mut Option<ProductSettings>) -> Vec<&'static str> {
        let mut given = Vec::new();
        if let Some(age) = self.retention_age {
            let age = match age {
                // Said, so that the sandbox fills in nothing.
                Limit::None => Duration::ZERO,
                Limit::At(Span(age)) => age,
            };
            settings.get_or_insert_default().retention_age = age.try_into().ok();
            given.push("settings.retention_age");
        }
        if let Some(bytes) = self.retention_bytes {
            settings.get_or_insert_default().retention_bytes = match bytes {
                Limit::None => 0,
                Limit::At(ByteSize(bytes)) => bytes,
            };
            given.push("settings.retention_bytes");
        }
        if let Some(count) = self.retention_count {
            settings.get_or_insert_default().retention_count = match count {
                Limit::None => 0,
                Limit::At(Count(count)) => count,
            };
            given.push("settings.retention_count");
        }
        if self.compact || self.tombstone_min_age.is_some() {
            let settings = settings.get_or_insert_default();
            let compaction = settings.compaction.get_or_insert_default();
            if let Some(Span(age)) = self.tombstone_min_age {
                compaction.tombstone_min_age = age.try_into().ok();
            }
            given.push("settings.compaction");
        } else if self.no_compact {
            settings.get_or_insert_default().compaction = None::<Compaction>;
            given.push("settings.compaction");
        }
        given
    }
}

/// An age of the contract, as one writes it.
pub(super) fn age(wire: prost_types::Duration) -> String {
    Span(Duration::try_from(wire).unwrap_or_default()).to_string()
}

/// A limit of the contract, if there is one.
pub(super) fn limit(wire: u64) -> Option<u64> {
    (wire > 0).then_some(wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_an_amount_or_unlimited_and_never_nothing() {
        let week = Span(Duration::from_secs(7 * 86_400));
        assert_eq!("7d".parse(), Ok(Limit::At(week)));
        assert_eq!("10GiB".parse(), Ok(Limit::At(ByteSize(10 << 30))));
        assert_eq!("1000".parse(), Ok(Limit::At(Count(1000))));
        assert_eq!("unlimited".parse(), Ok(Limit::<Span>::None));
        for wrong in ["0d", "week", "", "-1d"] {
            assert!(wrong.parse::<Limit<Span>>().unwrap_err().contains("unlimited"), "{wrong}");
        }
        assert!("0".parse::<Limit<Count>>().is_err());
        assert!("0".parse::<Limit<ByteSize>>().is_err());
    }

    #[test]
    fn only_what_was_given_is_changed() {
        let limits = Limits {
            retention_age: Some(Limit::None),
            retention_bytes: None,
            retention_count: Some(Limit::At(Count(5))),
            compact: false,
            no_compact: false,
            tombstone_min_age: None,
        };
        let mut settings = Some(ProductSettings {
            retention_bytes: 7,
            compaction: Some(Compaction::default()),
            ..ProductSettings::default()
        });
        assert_eq!(
            limits.put(&mut settings),
            ["settings.retention_age", "settings.retention_count"]
        );
        let settings = settings.unwrap();
        assert_eq!((settings.retention_bytes, settings.retention_count), (7, 5));
        assert_eq!(settings.retention_age, Some(prost_types::Duration::default()));
        assert!(settings.compaction.is_some());
    }
}
