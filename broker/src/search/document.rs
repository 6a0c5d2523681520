//! A product as the search sees it: one description of what is searched, for the index and for
//! showing where a word was found.

use std::sync::Arc;

use meshlog_proto::v1::{self, Classification, ProductKind, ProductState, SchemaFormat};

use super::text::{self, Part};
use crate::Traffic;
use crate::schema::Field;

/// What is searched of one product.
pub(crate) struct Document {
    /// As clients see it; `effective_tags` count where they are filled in.
    pub(crate) product: v1::Product,
    /// Of the current schema version.
    pub(crate) fields: Vec<Field>,
    /// Of the current schema version.
    pub(crate) format: SchemaFormat,
    /// How much it is used.
    pub(crate) traffic: Arc<Traffic>,
}

/// Where in a product a word stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// The name behind the domain.
    Name,
    /// A tag of the product or of a field.
    Tag,
    /// The path of a field.
    Field,
    /// The domain.
    Domain,
    /// The owner.
    Owner,
    /// The description.
    Description,
    /// The schema's documentation of a field.
    FieldDocs,
    /// A contact of the owner.
    Contact,
    /// The long text.
    Docs,
}

impl Place {
    /// In the order of the numbers that the enum gives them.
    pub(super) const COUNT: usize = 9;

    pub(super) fn number(self) -> usize {
        self as usize
    }

    pub(super) fn bit(self) -> u16 {
        1 << self.number()
    }

    /// The word of the contract.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Name | Self::Domain => "name",
            Self::Tag => "tag",
            Self::Field => "field",
            Self::Owner => "owner",
            Self::Description => "description",
            Self::FieldDocs => "field_docs",
            Self::Contact => "contact",
            Self::Docs => "docs",
        }
    }

    fn is_prose(self) -> bool {
        matches!(self, Self::Description | Self::FieldDocs | Self::Contact | Self::Docs)
    }

    /// Words of this place that are indexed; the rest of it is not found.
    pub(super) fn most_words(self) -> usize {
        match self {
            Self::Docs | Self::FieldDocs => 2000,
            Self::Field | Self::Tag => 4000,
            _ => 1000,
        }
    }
}

/// One text of a product.
pub(super) struct Text<'a> {
    pub(super) place: Place,
    pub(super) text: &'a str,
    /// The field that it belongs to; empty: the product.
    pub(super) field: &'a str,
}

impl Text<'_> {
    /// Every word, as a place reads it. A joined word follows the pieces it is made of.
    pub(super) fn words(&self, mut each: impl FnMut(Part, &str, std::ops::Range<usize>)) {
        match self.place.is_prose() {
            true => text::prose(self.text, |word, range| each(Part::Piece, word, range)),
            false => text::identifier(self.text, each),
        }
    }
}

impl Document {
    /// The domain, and the name behind it.
    pub(super) fn names(&self) -> (&str, &str) {
        self.product.name.split_once('.').unwrap_or(("", &self.product.name))
    }

    /// Calls `each` with every text that is searched.
    pub(super) fn texts(&self, mut each: impl FnMut(Text<'_>)) {
        let mut of_product = |place, text: &str| {
            if !text.is_empty() {
                each(Text { place, text, field: "" });
            }
        };
        let (domain, name) = self.names();
        of_product(Place::Name, name);
        of_product(Place::Domain, domain);
        of_product(Place::Owner, &self.product.owner);
        of_product(Place::Description, &self.product.description);
        of_product(Place::Docs, &self.product.docs);
        for contact in &self.product.contacts {
            of_product(Place::Contact, contact);
        }
        for tag in self.tags() {
            each(Text { place: Place::Tag, text: &tag_text(tag), field: &tag.field_path });
        }
        for Field { path, docs, .. } in &self.fields {
            each(Text { place: Place::Field, text: path, field: path });
            if !docs.is_empty() {
                each(Text { place: Place::FieldDocs, text: docs, field: path });
            }
        }
    }

    /// Tags that apply, and those of fields.
    pub(super) fn tags(&self) -> impl Iterator<Item = &v1::Tag> {
        let effective = self.product.effective_tags.iter().filter_map(|one| one.tag.as_ref());
        let own = self.product.tags.iter().filter(|own| {
            let mut effective = self.product.effective_tags.iter();
            !effective.any(|one| one.tag.as_ref() == Some(*own))
        });
        effective.chain(own)
    }

    pub(super) fn state(&self) -> &'static str {
        state_word(self.product.state())
    }

    pub(super) fn classification(&self) -> &'static str {
        match self.product.classification() {
            Classification::Unspecified => "",
            Classification::Public => "public",
            Classification::Internal => "internal",
            Classification::Confidential => "confidential",
            Classification::Restricted => "restricted",
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.product.kind() {
            ProductKind::Unspecified => "",
            ProductKind::SourceAligned => "source-aligned",
            ProductKind::Aggregate => "aggregate",
            ProductKind::ConsumerAligned => "consumer-aligned",
        }
    }

    pub(super) fn format(&self) -> &'static str {
        match self.format {
            SchemaFormat::Unspecified => "",
            SchemaFormat::JsonSchema => "json-schema",
            SchemaFormat::Avro => "avro",
            SchemaFormat::Protobuf => "protobuf",
            SchemaFormat::Opaque => "opaque",
        }
    }
}

fn state_word(state: ProductState) -> &'static str {
    match state {
        ProductState::Unspecified => "",
        ProductState::Draft => "draft",
        ProductState::Active => "active",
        ProductState::Deprecated => "deprecated",
        ProductState::Retired => "retired",
    }
}

/// `pii`, `source=bts`.
pub(super) fn tag_text(tag: &v1::Tag) -> String {
    match &tag.value {
        Some(value) => format!("{}={value}", tag.key),
        None => tag.key.clone(),
    }
}
