//! Products as tests need them: complete, with one line for what the test is about.

use std::time::Duration;

use meshlog_proto::v1;

/// A product with everything mandatory filled in; its domain and owner are created with it.
#[must_use]
pub fn product(name: &str) -> ProductBuilder {
    let opaque = v1::SchemaSource {
        format: v1::SchemaFormat::Opaque.into(),
        media_type: "application/octet-stream".to_owned(),
        reason: "the test does not look inside".to_owned(),
        ..v1::SchemaSource::default()
    };
    ProductBuilder {
        product: v1::Product {
            name: name.to_owned(),
            owner: "ops".to_owned(),
            description: format!("what the test appends to {name}"),
            classification: v1::Classification::Internal.into(),
            ..v1::Product::default()
        },
        value_schema: opaque,
    }
}

/// Builds a [`v1::CreateProductRequest`].
#[derive(Clone, Debug)]
pub struct ProductBuilder {
    product: v1::Product,
    value_schema: v1::SchemaSource,
}

impl ProductBuilder {
    /// The team that answers for it; by default `ops`.
    #[must_use]
    pub fn owner(mut self, owner: &str) -> Self {
        owner.clone_into(&mut self.product.owner);
        self
    }

    /// By default one.
    #[must_use]
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.product.partitions = partitions;
        self
    }

    /// A JSON Schema; by default the values are opaque.
    #[must_use]
    pub fn json_schema(self, text: &str) -> Self {
        self.schema(v1::SchemaFormat::JsonSchema, text)
    }

    /// A schema of this format.
    #[must_use]
    pub fn schema(mut self, format: v1::SchemaFormat, text: &str) -> Self {
        self.value_schema = v1::SchemaSource {
            format: format.into(),
            text: text.to_owned(),
            ..v1::SchemaSource::default()
        };
        self
    }

    /// The field of the value that the key must equal.
    #[must_use]
    pub fn key(mut self, field: &str) -> Self {
        self.product.key = Some(v1::KeyRule { field: field.to_owned() });
        self
    }

    /// A floor for every append.
    #[must_use]
    pub fn minimum_durability(mut self, durability: v1::Durability) -> Self {
        self.settings().minimum_durability = durability.into();
        self
    }

    /// Records go this long after they were appended, by the clock of the broker.
    #[must_use]
    pub fn retention_age(mut self, age: Duration) -> Self {
        self.settings().retention_age = age.try_into().ok();
        self
    }

    /// The newest so many records of each partition stay, rounded up to whole batches.
    #[must_use]
    pub fn retention_count(mut self, count: u64) -> Self {
        self.settings().retention_count = count;
        self
    }

    /// The newest so many bytes of each partition stay, rounded up to whole batches.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.settings().retention_bytes = bytes;
        self
    }

    /// Only the newest record of each key stays.
    #[must_use]
    pub fn compact(mut self) -> Self {
        self.settings().compaction = Some(v1::Compaction::default());
        self
    }

    /// What happens to records that do not conform.
    #[must_use]
    pub fn enforcement(mut self, enforcement: v1::Enforcement) -> Self {
        self.settings().enforcement = enforcement.into();
        self
    }

    /// Records that do not conform go to the quarantine.
    #[must_use]
    pub fn quarantine(mut self) -> Self {
        self.settings().on_fail = v1::OnFail::Quarantine.into();
        self
    }

    /// A schema id stands before each value.
    #[must_use]
    pub fn confluent(mut self) -> Self {
        self.settings().framing = v1::Framing::Confluent.into();
        self
    }

    fn settings(&mut self) -> &mut v1::ProductSettings {
        self.product.settings.get_or_insert_with(Default::default)
    }

    /// The request as it goes over the wire.
    #[must_use]
    pub fn request(self) -> v1::CreateProductRequest {
        let owner = self.product.owner.clone();
        let domain = self.product.name.split('.').next().unwrap_or_default().to_owned();
        v1::CreateProductRequest {
            new_domain: Some(v1::Domain {
                name: domain,
                owner: owner.clone(),
                description: "a domain of the tests".to_owned(),
                ..v1::Domain::default()
            }),
            new_team: Some(v1::Team {
                name: owner,
                contacts: vec!["ops@example.org".to_owned()],
                ..v1::Team::default()
            }),
            product: Some(self.product),
            value_schema: Some(self.value_schema),
            ..v1::CreateProductRequest::default()
        }
    }
}
