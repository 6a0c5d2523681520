//! The words and amounts of a file: what the contract has as enums and durations.

use std::{fmt, str::FromStr, time::Duration};

use meshlog_broker::config::Span;
use meshlog_client::proto;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An enum of the contract without its unset value, in the words of files.
macro_rules! terms {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $term:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
            #[serde(rename_all = "kebab-case")]
            pub(crate) enum $name { $($(#[$of])* $term,)* }
        )*
    };
}

/// How a term and the contract's enum become each other.
macro_rules! wire {
    ($($name:ident = $wire:ident { $($term:ident),* $(,)? })*) => {
        $(
            impl $name {
                /// For the contract.
                #[allow(dead_code, reason = "a state changes by calls of its own")]
                pub(crate) fn wire(self) -> i32 {
                    match self { $(Self::$term => proto::$wire::$term.into(),)* }
                }

                /// Of the contract; nothing for the unset value.
                pub(crate) fn of_wire(wire: i32) -> Option<Self> {
                    match proto::$wire::try_from(wire) {
                        $(Ok(proto::$wire::$term) => Some(Self::$term),)*
                        _ => None,
                    }
                }
            }
        )*
    };
}

terms! {
    /// How far a product's data may travel.
    Classification {
        /// Anyone.
        Public,
        /// Everyone in the organisation.
        Internal,
        /// Those who need it.
        Confidential,
        /// Named persons.
        Restricted,
    }
    /// Where a product stands between those who make data and those who use it.
    Kind {
        /// The facts of one system, as that system knows them.
        SourceAligned,
        /// Made of several other products.
        Aggregate,
        /// Made for one use.
        ConsumerAligned,
    }
    /// Where a product is in its life.
    State {
        /// Promises nothing yet.
        Draft,
        /// Its promises hold.
        Active,
        /// As active, and will end.
        Deprecated,
        /// Takes reads only.
        Retired,
    }
    /// What happens to a record that does not conform to the schema.
    Enforcement {
        /// Values are not checked.
        Off,
        /// Bad records are counted and stored.
        Warn,
        /// The batch is refused with the bad records named.
        Enforce,
    }
    /// What becomes of records that do not conform, where the schema is enforced.
    OnFail {
        /// The batch is refused with the bad records named.
        Reject,
        /// The bad records go to `<product>$quarantine`, the others into the product.
        Quarantine,
    }
    /// What stands before each value.
    Framing {
        /// Nothing.
        None,
        /// The byte 0 and a schema id of 4 bytes, as serializers of Confluent write it.
        Confluent,
    }
    /// The least that an acknowledgement of an append may mean.
    Floor {
        /// Written.
        Written,
        /// On disk.
        Synced,
    }
    /// Which schemas may follow.
    Compatibility {
        /// Any schema may follow any other.
        None,
        /// The new schema reads what the version before it wrote.
        Backward,
        /// The new schema reads what every version wrote.
        BackwardTransitive,
        /// The version before it reads what the new schema writes.
        Forward,
        /// Every version reads what the new schema writes.
        ForwardTransitive,
        /// Backward and forward.
        Full,
        /// Backward and forward, with every version.
        FullTransitive,
        /// The new schema reads every record that is still in the log.
        Retained,
    }
    /// What readers of a Protobuf product rely on.
    ProtobufProfile {
        /// The bytes only.
        Wire,
        /// The names too, as in the JSON form.
        WireJson,
    }
    /// The language of a schema.
    Format {
        /// JSON Schema.
        JsonSchema,
        /// Avro, as JSON text.
        Avro,
        /// Protobuf: the text of one .proto file.
        Protobuf,
        /// No schema: a media type and a written reason.
        Opaque,
    }
}

/// What the values of a tag key are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ValueType {
    /// A plain tag; it has no value.
    #[default]
    None,
    /// One of the allowed values.
    Enum,
    /// Any text.
    String,
    /// A decimal number.
    Number,
}

wire! {
    Classification = Classification { Public, Internal, Confidential, Restricted }
    Kind = ProductKind { SourceAligned, Aggregate, ConsumerAligned }
    State = ProductState { Draft, Active, Deprecated, Retired }
    Enforcement = Enforcement { Off, Warn, Enforce }
    OnFail = OnFail { Reject, Quarantine }
    Framing = Framing { None, Confluent }
    Floor = Durability { Written, Synced }
    Compatibility = Compatibility {
        None, Backward, BackwardTransitive, Forward, ForwardTransitive, Full, FullTransitive,
        Retained,
    }
    ProtobufProfile = ProtobufProfile { Wire, WireJson }
    Format = SchemaFormat { JsonSchema, Avro, Protobuf, Opaque }
    ValueType = TagValueType { None, Enum, String, Number }
}

/// A length of time, or `unlimited`, which is none at all. Exact to the nanosecond, as the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Duration);

impl Age {
    /// Of the contract, which refuses what is negative.
    pub(crate) fn of_wire(wire: prost_types::Duration) -> Self {
        Self(Duration::try_from(wire).unwrap_or_default())
    }

    /// For the contract.
    pub(crate) fn wire(self) -> Option<prost_types::Duration> {
        self.0.try_into().ok()
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        match nanos % 1_000_000 {
            _ if self.0.is_zero() => f.write_str("unlimited"),
            0 => Span(self.0).fmt(f),
            _ => write!(f, "{}.{nanos:09}s", self.0.as_secs()),
        }
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Self(Duration::ZERO));
        }
        if let Ok(span) = text.parse::<Span>() {
            return Ok(Self(span.0));
        }
        let exact = text.strip_suffix('s').and_then(|number| number.split_once('.'));
        let exact = exact.filter(|(_, nanos)| nanos.len() == 9);
        let parsed = exact.and_then(|(seconds, nanos)| {
            Some(Duration::new(seconds.parse().ok()?, nanos.parse().ok()?))
        });
        parsed.map(Self).ok_or_else(|| {
            format!("`{text}` is not a time; write for instance 12h, 7d or 1d 12h, or unlimited")
        })
    }
}

/// A length of time, which may be none at all: `24h`, `0s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length(pub(crate) Age);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.0.is_zero() {
            true => f.write_str("0s"),
            false => self.0.fmt(f),
        }
    }
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unlimited" => Err("write for instance 12h, 7d or 0s".into()),
            _ => text.parse().map(Self),
        }
    }
}

/// What stands in a file as a text.
macro_rules! as_text {
    ($($name:ident: $examples:tt)*) => {
        $(
            impl Serialize for $name {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                }
            }

            impl JsonSchema for $name {
                fn schema_name() -> std::borrow::Cow<'static, str> {
                    stringify!($name).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!({ "title": "time", "type": "string", "examples": $examples })
                }
            }
        )*
    };
}

as_text! {
    Age: ["7d", "12h", "1d 12h", "unlimited"]
    Length: ["24h", "0s"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_to_the_nanosecond() {
        for age in [
            Duration::ZERO,
            Duration::from_secs(7 * 86_400),
            Duration::from_millis(1_500),
            Duration::new(3, 7),
            Duration::new(36_500 * 86_400, 999_999_999),
        ] {
            let text = Age(age).to_string();
            assert_eq!(text.parse::<Age>().unwrap(), Age(age), "{text}");
        }
        assert_eq!(Age(Duration::from_secs(604_800)).to_string(), "7d");
        assert_eq!("unlimited".parse(), Ok(Age(Duration::ZERO)));
        assert_eq!(Length(Age(Duration::ZERO)).to_string(), "0s");
        assert_eq!("0s".parse(), Ok(Length(Age(Duration::ZERO))));
        assert!("unlimited".parse::<Length>().is_err());
        assert!("soon".parse::<Age>().unwrap_err().contains("unlimited"));
    }
}
