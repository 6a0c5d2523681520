//! A product as the program shows it.

use jiff::Timestamp;
use meshlog_broker::config::ByteSize;
use meshlog_client::proto::{
    Completeness, EffectiveTag, Framing, LiveReader, ObservedInput, OnFail, PartitionOffsets,
    PendingTransfer, Product, ProductUse, Provenance,
};
use serde::Serialize;

use super::limits;
use crate::{lineage::CopyView, output::Row, tag, words};

/// A product as programs get it.
#[derive(Serialize)]
pub(crate) struct View {
    pub(crate) name: String,
    pub(super) description: String,
    pub(crate) owner: String,
    pub(super) contacts: Vec<String>,
    pub(crate) classification: String,
    pub(super) state: String,
    pub(super) kind: String,
    pub(super) tags: Vec<String>,
    pub(super) field_tags: Vec<String>,
    pub(super) effective_tags: Vec<EffectiveTagView>,
    pub(super) schema_version: u32,
    pub(super) enforcement: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) on_fail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) framing: Option<String>,
    pub(super) compatibility: String,
    pub(super) protobuf_profile: Option<String>,
    pub(super) minimum_durability: String,
    pub(super) retention_age: Option<String>,
    pub(super) retention_bytes: Option<u64>,
    pub(super) retention_count: Option<u64>,
    pub(super) compaction: Option<CompactionView>,
    pub(super) key: Option<String>,
    pub(super) partitions: u32,
    pub(super) docs: String,
    pub(super) links: Vec<LinkView>,
    pub(super) support: String,
    pub(super) inputs: Vec<String>,
    pub(super) successor: String,
    pub(super) deprecation_reason: String,
    pub(super) sunset_time: Option<Timestamp>,
    pub(super) aliases: Vec<String>,
    pub(super) pending_transfer: Option<TransferView>,
    pub(super) completeness: Option<CompletenessView>,
    pub(super) r#use: Option<UseView>,
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) create_time: Option<Timestamp>,
    pub(super) created_by: String,
    pub(super) update_time: Option<Timestamp>,
    pub(super) updated_by: String,
}

impl From<Product> for View {
    fn from(product: Product) -> Self {
        let settings = product.effective_settings.unwrap_or_default();
        let tags = |on_fields: bool| {
            product
                .tags
                .iter()
                .filter(|tag| tag.field_path.is_empty() != on_fields)
                .map(tag::text)
                .collect()
        };
        let links = product.links.iter();
        Self {
            classification: words::word(product.classification().as_str_name(), "CLASSIFICATION_"),
            state: words::word(product.state().as_str_name(), "PRODUCT_STATE_"),
            kind: words::word(product.kind().as_str_name(), "PRODUCT_KIND_").replace('_', "-"),
            enforcement: words::word(settings.enforcement().as_str_name(), "ENFORCEMENT_"),
            on_fail: (settings.on_fail() == OnFail::Quarantine)
                .then(|| words::word(settings.on_fail().as_str_name(), "ON_FAIL_")),
            framing: (settings.framing() == Framing::Confluent)
                .then(|| words::word(settings.framing().as_str_name(), "FRAMING_")),
            compatibility: words::word(settings.compatibility().as_str_name(), "COMPATIBILITY_")
                .replace('_', "-"),
            protobuf_profile: (settings.protobuf_profile != 0).then(|| {
                let name = settings.protobuf_profile().as_str_name();
                words::word(name, "PROTOBUF_PROFILE_").replace('_', "-")
            }),
            minimum_durability: words::word(
                settings.minimum_durability().as_str_name(),
                "DURABILITY_",
            ),
            retention_age: settings.retention_age.map(limits::age),
            retention_bytes: limits::limit(settings.retention_bytes),
            retention_count: limits::limit(settings.retention_count),
            compaction: settings.compaction.map(|compaction| CompactionView {
                tombstone_min_age: limits::age(compaction.tombstone_min_age.unwrap_or_default()),
            }),
            tags: tags(false),
            field_tags: tags(true),
            links: links
                .map(|link| LinkView { title: link.title.clone(), url: link.url.clone() })
                .collect(),
            name: product.name,
            description: product.description,
            owner: product.owner,
            contacts: product.contacts,
            effective_tags: product.effective_tags.into_iter().map(Into::into).collect(),
            schema_version: product.schema_version,
            key: product.key.map(|rule| rule.field),
            partitions: product.partitions,
            docs: product.docs,
            support: product.support,
            inputs: product.inputs,
            successor: product.successor,
            deprecation_reason: product.deprecation_reason,
            sunset_time: words::time(product.sunset_time),
            aliases: product.aliases,
            pending_transfer: product.pending_transfer.map(Into::into),
            completeness: product.completeness.map(Into::into),
            r#use: product.r#use.map(Into::into),
            id: product.id,
            etag: product.etag,
            create_time: words::time(product.create_time),
            created_by: product.created_by,
            update_time: words::time(product.update_time),
            updated_by: product.updated_by,
        }
    }
}

impl View {
    /// Where it is in its life.
    pub(crate) fn state(&self) -> &str {
        &self.state
    }

    /// How long its records stay, in words.
    pub(super) fn retention(&self) -> String {
        let age = self.retention_age.clone();
        let bytes = self.retention_bytes.map(|bytes| ByteSize(bytes).to_string());
        let count = self.retention_count.map(|count| words::counted(count, "offset"));
        let per_partition = [bytes, count].into_iter().flatten().collect::<Vec<_>>();
        let per_partition = match per_partition.as_slice() {
            [] => None,
            limits => Some(format!("{} per partition", limits.join(", "))),
        };
        let limits: Vec<_> = age.into_iter().chain(per_partition).collect();
        if limits.is_empty() { "unlimited".into() } else { limits.join(", ") }
    }

    /// Whether only the newest of a key stays, in words.
    pub(super) fn compaction(&self) -> String {
        match &self.compaction {
            Some(compaction) => {
                format!("newest per key; tombstones stay {}", compaction.tombstone_min_age)
            }
            None => String::new(),
        }
    }

    /// What it holds.
    pub(crate) fn description(&self) -> &str {
        &self.description
    }
}

impl Row for View {
    const PLURAL: &'static str = "products";
    const HEADER: &'static [&'static str] =
        &["NAME", "OWNER", "CLASSIFICATION", "STATE", "SCHEMA", "PARTITIONS", "DESCRIPTION"];
    const WIDE: &'static [&'static str] = &["KIND", "TAGS", "COMPLETE", "UPDATED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.owner.clone(),
            self.classification.clone(),
            self.state.clone(),
            format!("v{}", self.schema_version),
            self.partitions.to_string(),
            self.description.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        let or_dash = |text: String| if text.is_empty() { "-".into() } else { text };
        vec![
            or_dash(self.kind.clone()),
            or_dash(self.tags.join(", ")),
            self.completeness
                .as_ref()
                .map_or_else(|| "-".into(), |made| format!("{} %", made.score)),
            words::when(self.update_time),
            self.updated_by.clone(),
        ]
    }
}

/// How superseded records go.
#[derive(Serialize)]
pub(crate) struct CompactionView {
    pub(super) tombstone_min_age: String,
}

/// Where to read more.
#[derive(Serialize)]
pub(crate) struct LinkView {
    pub(super) title: String,
    pub(super) url: String,
}

/// A tag that applies, and where it was set.
#[derive(Serialize)]
pub(crate) struct EffectiveTagView {
    pub(super) tag: String,
    pub(super) field_path: String,
    pub(super) from: String,
}

impl From<EffectiveTag> for EffectiveTagView {
    fn from(effective: EffectiveTag) -> Self {
        let from = words::word(effective.origin().as_str_name(), "TAG_ORIGIN_");
        let mut tag = effective.tag.unwrap_or_default();
        let field_path = std::mem::take(&mut tag.field_path);
        Self { tag: tag::text(&tag), field_path, from }
    }
}

/// A transfer that waits for the new team.
#[derive(Serialize)]
pub(crate) struct TransferView {
    pub(super) new_owner: String,
    pub(super) reason: String,
    pub(super) requested_by: String,
    pub(super) request_time: Option<Timestamp>,
}

impl From<PendingTransfer> for TransferView {
    fn from(transfer: PendingTransfer) -> Self {
        Self {
            new_owner: transfer.new_owner,
            reason: transfer.reason,
            requested_by: transfer.requested_by,
            request_time: words::time(transfer.request_time),
        }
    }
}

/// How much of what helps a reader is there.
#[derive(Serialize)]
pub(crate) struct CompletenessView {
    pub(super) score: u32,
    pub(super) missing: Vec<String>,
}

impl From<Completeness> for CompletenessView {
    fn from(completeness: Completeness) -> Self {
        Self { score: completeness.score, missing: completeness.missing }
    }
}

/// How much a product is used.
#[derive(Serialize)]
pub(crate) struct UseView {
    pub(super) records_appended: u64,
    pub(super) records_read: u64,
    pub(super) last_append_time: Option<Timestamp>,
    pub(super) last_read_time: Option<Timestamp>,
    pub(super) live_readers: Vec<ReaderView>,
    pub(super) copies: Vec<CopyView>,
    pub(super) undeclared_inputs: Vec<ObservedInputView>,
    pub(super) unobserved_inputs: Vec<String>,
}

/// A product that went into this one, as was seen.
#[derive(Serialize)]
pub(crate) struct ObservedInputView {
    pub(super) product: String,
    pub(super) applications: Vec<String>,
}

impl From<ObservedInput> for ObservedInputView {
    fn from(input: ObservedInput) -> Self {
        Self { product: input.product, applications: input.applications }
    }
}

impl From<ProductUse> for UseView {
    fn from(used: ProductUse) -> Self {
        Self {
            records_appended: used.records_appended,
            records_read: used.records_read,
            last_append_time: words::time(used.last_append_time),
            last_read_time: words::time(used.last_read_time),
            live_readers: used.live_readers.into_iter().map(Into::into).collect(),
            copies: used.copies.into_iter().map(Into::into).collect(),
            undeclared_inputs: used.undeclared_inputs.into_iter().map(Into::into).collect(),
            unobserved_inputs: used.unobserved_inputs,
        }
    }
}

/// Somebody who reads a product.
#[derive(Serialize)]
pub(crate) struct ReaderView {
    application: String,
    open_subscriptions: u32,
    last_read_time: Option<Timestamp>,
}

impl From<LiveReader> for ReaderView {
    fn from(reader: LiveReader) -> Self {
        Self {
            application: reader.application,
            open_subscriptions: reader.open_subscriptions,
            last_read_time: words::time(reader.last_read_time),
        }
    }
}

impl Row for ReaderView {
    const PLURAL: &'static str = "readers";
    const HEADER: &'static [&'static str] = &["READ BY", "SUBSCRIPTIONS", "LAST READ"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.application.clone(),
            self.open_subscriptions.to_string(),
            words::when(self.last_read_time),
        ]
    }
}

/// Who set a value, when and how.
#[derive(Serialize)]
pub(crate) struct ProvenanceView {
    path: String,
    kind: String,
    principal: String,
    time: Option<Timestamp>,
}

impl From<Provenance> for ProvenanceView {
    fn from(provenance: Provenance) -> Self {
        Self {
            kind: words::word(provenance.kind().as_str_name(), "PROVENANCE_KIND_"),
            path: provenance.path,
            principal: provenance.principal,
            time: words::time(provenance.time),
        }
    }
}

impl Row for ProvenanceView {
    const PLURAL: &'static str = "values";
    const HEADER: &'static [&'static str] = &["VALUE", "HOW", "BY", "WHEN"];

    fn cells(&self) -> Vec<String> {
        vec![self.path.clone(), self.kind.clone(), self.principal.clone(), words::when(self.time)]
    }
}

/// Where one partition stands.
#[derive(Serialize)]
pub(crate) struct OffsetsView {
    partition: u32,
    start_offset: u64,
    durable_end: u64,
}

impl From<PartitionOffsets> for OffsetsView {
    fn from(offsets: PartitionOffsets) -> Self {
        Self {
            partition: offsets.partition,
            start_offset: offsets.start_offset,
            durable_end: offsets.durable_end,
        }
    }
}

impl Row for OffsetsView {
    const PLURAL: &'static str = "partitions";
    const HEADER: &'static [&'static str] = &["PARTITION", "START OFFSET", "DURABLE END"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.partition.to_string(),
            self.start_offset.to_string(),
            self.durable_end.to_string(),
        ]
    }
}
