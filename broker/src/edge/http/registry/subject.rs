//! A subject: one side of a product.

use std::fmt;

use super::Refusal;
use crate::catalogue::{Side, SidedVersion, is_product_name};
use crate::error::{Error, Reason};

/// `<product>-value` or `<product>-key`.
pub(super) struct Subject {
    pub(super) product: String,
    pub(super) side: Side,
}

impl Subject {
    /// Reads the name of a subject.
    pub(super) fn of(text: &str) -> Result<Self, Refusal> {
        let sides = [("-value", Side::Value), ("-key", Side::Key)];
        let found = sides.into_iter().find_map(|(end, side)| {
            let product = text.strip_suffix(end).filter(|name| is_product_name(name))?;
            Some(Self { product: product.to_owned(), side })
        });
        found.ok_or_else(|| {
            let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
            let what = format!(
                "`{shown}` is no subject: here they are `DOMAIN.NAME-value` and `DOMAIN.NAME-key` for the \
                 product DOMAIN.NAME, as the subject name strategy TOPIC of a serializer makes them"
            );
            Refusal::new(40401, Error::new(Reason::ProductNotFound, what))
        })
    }

    /// The subject of a version.
    pub(super) fn of_version(version: &SidedVersion) -> Self {
        Self { product: version.product.to_string(), side: version.side }
    }

    /// The same error; of one about a product that is not there it says how to make it.
    pub(super) fn explain(&self, error: Error) -> Refusal {
        if error.reason() != Reason::ProductNotFound {
            return error.into();
        }
        let what = format!(
            "there is no product `{0}`, so there is no subject `{self}`; a product needs an owner and a \
             description beside its schema, so create it first: `meshlog product create {0} --owner TEAM \
             --description TEXT --classification internal --schema FILE --framing confluent`",
            self.product
        );
        Refusal::new(
            40401,
            Error::new(Reason::ProductNotFound, what).with("product", &self.product),
        )
    }

    /// The product is there, and nothing stands on this side of it.
    pub(super) fn empty(&self) -> Refusal {
        let (product, what) = (&self.product, self.side);
        let what = match what {
            Side::Value => "no schema of its values: it is OPAQUE",
            Side::Key => "no schema of its keys: they are free",
        };
        let error = Error::new(
            Reason::SchemaVersionUnknown,
            format!("there is no subject `{self}`: the product `{product}` has {what}"),
        );
        Refusal::new(40401, error.with("product", product))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Value => "value",
            Side::Key => "key",
        };
        write!(f, "{}-{side}", self.product)
    }
}
