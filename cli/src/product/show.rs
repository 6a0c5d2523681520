//! `meshlog product show`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::{Code, proto::SampleProductRequest};
use serde::Serialize;

use super::{
    View,
    profile::{ProfileArgs, ProfileView},
    view::{OffsetsView, ProvenanceView},
};
use crate::{
    completion,
    exit::Result,
    lineage::CopyView,
    output::{Format, Out, OutputArgs, Row},
    schema::FieldView,
    settings::ServerArgs,
    words,
};

/// Arguments of `product show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// `<domain>.<name>`
    #[arg(add = ArgValueCompleter::new(completion::products))]
    name: String,
    /// Also who set each value, when and how
    #[arg(long)]
    provenance: bool,
    #[command(flatten)]
    profile: ProfileArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Show {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let mut product = catalog.get_product(self.name.as_str()).await?;
        let provenance = std::mem::take(&mut product.provenance);
        let provenance = self
            .provenance
            .then(|| provenance.into_iter().map(ProvenanceView::from).collect::<Vec<_>>());
        // The id pins what was read: nobody shall see two products as one.
        let name = product.name.as_str();
        let offsets = match catalog.list_offsets(name, &[], None).await {
            Ok(offsets) => Some(offsets.into_iter().map(OffsetsView::from).collect()),
            // A product can be found by everybody, and read by those who may.
            Err(error) if error.code() == Code::PermissionDenied => None,
            Err(error) => return Err(error.into()),
        };
        let fields = if product.schema_version == 0 {
            Vec::new()
        } else {
            catalog.get_schema_version(name, product.schema_version).await?.fields
        };
        let profile = match self.profile.profile {
            None => None,
            Some(records) => {
                let request = SampleProductRequest {
                    product: product.name.clone(),
                    product_id: product.id.clone(),
                    max_records: 1,
                    profile_records: records,
                    ..SampleProductRequest::default()
                };
                catalog.sample_product(request).await?.profile.map(ProfileView::from)
            }
        };
        let view = View::from(product);
        let fields = fields.into_iter().map(FieldView::from);
        let page = Page {
            fields: fields.map(|field| FieldRow::new(field, &view)).collect(),
            product: view,
            offsets,
            provenance,
            profile,
        };
        page.show(&self.name, self.output.output, out)
    }
}

#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    product: View,
    /// Nothing if whoever asks may not know.
    offsets: Option<Vec<OffsetsView>>,
    fields: Vec<FieldRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provenance: Option<Vec<ProvenanceView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<ProfileView>,
}

impl Page {
    fn show(&self, asked: &str, format: Format, out: &mut Out) -> Result<()> {
        if !format.is_for_people() {
            return out.one(format, self);
        }
        self.notices(asked, out);
        out.one(format, &Facts::from(&self.product))?;
        if let Some(offsets) = &self.offsets {
            out.line("")?;
            out.list(format, offsets)?;
        }
        if !self.fields.is_empty() {
            out.line("")?;
            out.list(format, &self.fields)?;
        }
        if let Some(used) = &self.product.r#use
            && !used.live_readers.is_empty()
        {
            out.line("")?;
            out.list(format, &used.live_readers)?;
        }
        if let Some(profile) = &self.profile {
            out.line("")?;
            profile.show(format, out)?;
        }
        if let Some(provenance) = &self.provenance {
            out.line("")?;
            out.list(format, provenance)?;
        }
        if let Some(completeness) = &self.product.completeness
            && !completeness.missing.is_empty()
        {
            out.line(format_args!("\n{} % complete; to add", completeness.score))?;
            for missing in &completeness.missing {
                out.line(format_args!("  {missing}"))?;
            }
        }
        Ok(())
    }

    /// What whoever looks at the product should know first.
    fn notices(&self, asked: &str, out: &mut Out) {
        let product = &self.product;
        if asked != product.name {
            out.note(format_args!("{asked} is called {} now", product.name));
        }
        if product.state == "deprecated" || product.state == "retired" {
            let instead = match product.successor.as_str() {
                "" => String::new(),
                successor => format!("; use {successor} instead"),
            };
            let until = match (product.state.as_str(), product.sunset_time) {
                ("deprecated", Some(time)) => {
                    format!("; it may be retired on {}", time.strftime("%Y-%m-%d"))
                }
                _ => String::new(),
            };
            out.note(format_args!(
                "{} is {}: {}{instead}{until}",
                product.name, product.state, product.deprecation_reason
            ));
        }
        if let Some(transfer) = &product.pending_transfer {
            let team = &transfer.new_owner;
            out.note(format_args!(
                "offered to {team}, who takes it with `meshlog product accept {} {team}`",
                product.name
            ));
        }
    }
}

/// What a person reads first.
#[derive(Serialize)]
struct Facts<'a> {
    name: &'a str,
    description: &'a str,
    owner: &'a str,
    contacts: String,
    classification: &'a str,
    state: &'a str,
    kind: &'a str,
    tags: Vec<String>,
    schema_version: u32,
    enforcement: &'a str,
    on_fail: Option<&'a str>,
    framing: Option<&'a str>,
    compatibility: &'a str,
    protobuf_profile: Option<&'a str>,
    minimum_durability: &'a str,
    retention: String,
    compaction: String,
    key: Option<&'a str>,
    partitions: u32,
    support: &'a str,
    links: Vec<String>,
    inputs: &'a [String],
    undeclared_input_observed: Vec<String>,
    declared_input_never_observed: &'a [String],
    copy: Vec<String>,
    successor: &'a str,
    deprecated_because: &'a str,
    sunset: String,
    aliases: &'a [String],
    offered_to: String,
    appended: String,
    read: String,
    created: String,
    updated: String,
    id: &'a str,
    etag: &'a str,
    docs: &'a str,
}

impl<'a> From<&'a View> for Facts<'a> {
    fn from(product: &'a View) -> Self {
        let by = |time, who: &str| format!("{} by {who}", words::when(time));
        let used = |records: u64, last| match records {
            0 => String::new(),
            records => format!("{}, last {}", words::counted(records, "record"), words::when(last)),
        };
        let offered = product.pending_transfer.as_ref();
        let usage = product.r#use.as_ref();
        let undeclared = usage.map(|usage| usage.undeclared_inputs.as_slice()).unwrap_or_default();
        let copies = usage.map(|usage| usage.copies.as_slice()).unwrap_or_default();
        Self {
            name: &product.name,
            description: &product.description,
            owner: &product.owner,
            contacts: product.contacts.join(", "),
            classification: &product.classification,
            state: &product.state,
            kind: &product.kind,
            tags: tags(product, ""),
            schema_version: product.schema_version,
            enforcement: &product.enforcement,
            on_fail: product.on_fail.as_deref(),
            framing: product.framing.as_deref(),
            compatibility: &product.compatibility,
            protobuf_profile: product.protobuf_profile.as_deref(),
            minimum_durability: &product.minimum_durability,
            retention: product.retention(),
            compaction: product.compaction(),
            key: product.key.as_deref(),
            partitions: product.partitions,
            support: &product.support,
            links: product
                .links
                .iter()
                .map(|link| format!("{}: {}", link.title, link.url))
                .collect(),
            inputs: &product.inputs,
            undeclared_input_observed: undeclared
                .iter()
                .map(|input| format!("{} (by {})", input.product, input.applications.join(", ")))
                .collect(),
            declared_input_never_observed: usage
                .map(|usage| usage.unobserved_inputs.as_slice())
                .unwrap_or_default(),
            copy: copies.iter().map(CopyView::sentence).collect(),
            successor: &product.successor,
            deprecated_because: &product.deprecation_reason,
            sunset: product
                .sunset_time
                .map(|time| time.strftime("%Y-%m-%d").to_string())
                .unwrap_or_default(),
            aliases: &product.aliases,
            offered_to: offered
                .map(|offer| match offer.reason.as_str() {
                    "" => offer.new_owner.clone(),
                    reason => format!("{}: {reason}", offer.new_owner),
                })
                .unwrap_or_default(),
            appended: product
                .r#use
                .as_ref()
                .map(|usage| used(usage.records_appended, usage.last_append_time))
                .unwrap_or_default(),
            read: product
                .r#use
                .as_ref()
                .map(|usage| used(usage.records_read, usage.last_read_time))
                .unwrap_or_default(),
            created: by(product.create_time, &product.created_by),
            updated: by(product.update_time, &product.updated_by),
            id: &product.id,
            etag: &product.etag,
            docs: &product.docs,
        }
    }
}

/// The tags that apply to the product (an empty path) or to a field; those that were set further
/// away say where.
fn tags(product: &View, path: &str) -> Vec<String> {
    let here = if path.is_empty() { "product" } else { "field" };
    let applies = product.effective_tags.iter().filter(|tag| tag.field_path == path);
    let texts: Vec<String> = applies
        .map(|tag| match tag.from.as_str() {
            from if from == here => tag.tag.clone(),
            from => format!("{} (of the {from})", tag.tag),
        })
        .collect();
    if !texts.is_empty() || !product.effective_tags.is_empty() {
        return texts;
    }
    if path.is_empty() {
        return product.tags.clone();
    }
    let prefix = format!("{path}:");
    product.field_tags.iter().filter_map(|tag| tag.strip_prefix(&prefix)).map(Into::into).collect()
}

/// A field with the tags that apply to it.
#[derive(Serialize)]
struct FieldRow {
    #[serde(flatten)]
    field: FieldView,
    #[serde(skip)]
    tags: Vec<String>,
}

impl FieldRow {
    fn new(field: FieldView, product: &View) -> Self {
        // What applies to the whole product stands with the product.
        let mut tags = tags(product, field.path());
        tags.retain(|tag| !tag.ends_with("(of the product)") && !tag.ends_with("(of the domain)"));
        Self { tags, field }
    }
}

impl Row for FieldRow {
    const PLURAL: &'static str = "fields";
    const HEADER: &'static [&'static str] = &["FIELD", "TYPE", "OPTIONAL", "TAGS", "DESCRIPTION"];

    fn cells(&self) -> Vec<String> {
        let mut cells = self.field.cells();
        cells.insert(3, self.tags.join(", "));
        cells
    }
}
