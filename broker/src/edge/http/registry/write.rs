//! Looking a schema up, registering it, trying it, and what a product promises.

use std::sync::Arc;

use meshlog_proto::v1;
use serde_json::json;

use super::super::Http;
use super::super::route::Call;
use super::body::{self, ConfigBody, SchemaBody};
use super::read::{asked_version, first, no_version, told_version};
use super::subject::Subject;
use super::{Refusal, Reply, is_set, level, parameter};
use crate::caller::Caller;
use crate::catalogue::{Likeness, Side, SidedVersion};
use crate::error::{Error, Reason};

/// A schema that a client sent for a subject.
struct Sent {
    http: Arc<Http>,
    caller: Caller,
    subject: Subject,
    source: v1::SchemaSource,
    likeness: Likeness,
}

impl Sent {
    async fn read(
        http: Arc<Http>,
        caller: Caller,
        headers: &http::HeaderMap,
        subject: Subject,
        body: axum::body::Body,
    ) -> Result<Self, Refusal> {
        let sent: SchemaBody = body::read(headers, body).await?;
        sent.check()?;
        let format = sent.format()?;
        let found = http
            .broker
            .catalogue()
            .sided_source(&caller, &subject.product, subject.side, format, sent.schema)
            .await;
        let (source, likeness) = found.map_err(|error| subject.explain(error))?;
        Ok(Self { http, caller, subject, source, likeness })
    }

    /// The version that has the schema.
    async fn find(&self) -> Result<Option<SidedVersion>, Refusal> {
        let Subject { product, side } = &self.subject;
        let catalogue = self.http.broker.catalogue();
        let source = self.source.clone();
        let found =
            catalogue.find_sided_version(&self.caller, product, *side, source, self.likeness);
        found.await.map_err(|error| self.subject.explain(error))
    }

    /// Both schemas of a version that has this one on its side, and the current one on the other.
    fn beside_current(&self) -> Result<(v1::SchemaSource, Option<v1::SchemaSource>), Refusal> {
        match self.subject.side {
            Side::Value => Ok((self.source.clone(), None)),
            Side::Key => {
                let product = self.subject.product.clone();
                let request = v1::GetSchemaVersionRequest { product, version: 0 };
                let catalogue = self.http.broker.catalogue();
                let current = catalogue.get_schema_version(&self.caller, request);
                let current = current.map_err(|error| self.subject.explain(error))?;
                let value = current.schema_version.unwrap_or_default().value.unwrap_or_default();
                Ok((value, Some(self.source.clone())))
            }
        }
    }
}

/// `POST /subjects/{subject}`: which version has this schema.
pub(in crate::edge::http) async fn look_up(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let Call { http, caller, headers, body, query, .. } = call;
    let sent = Sent::read(http, caller, &headers, subject, body).await?;
    match sent.find().await? {
        Some(version) => told_version(&sent.subject, &version, parameter(&query, "format")),
        None => {
            let catalogue = sent.http.broker.catalogue();
            let Subject { product, side } = &sent.subject;
            if catalogue.sided_versions(&sent.caller, product, *side)?.is_empty() {
                return Err(sent.subject.empty());
            }
            let what = format!(
                "no version of the subject `{0}` has this schema; `meshlog schema add {1} FILE` adds one",
                sent.subject, sent.subject.product
            );
            Err(Refusal::new(40403, Error::new(Reason::SchemaVersionUnknown, what)))
        }
    }
}

/// `POST /subjects/{subject}/versions`: the version that has this schema, or a new one. A schema that an
/// older version has does not become the current one again: producers of different age would take turns.
pub(in crate::edge::http) async fn register(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let Call { http, caller, headers, body, .. } = call;
    let sent = Sent::read(http, caller, &headers, subject, body).await?;
    if let Some(version) = sent.find().await? {
        return Reply::of(&json!({"id": version.schema_id}));
    }
    let (value, key_schema) = sent.beside_current()?;
    let request = v1::AddSchemaVersionRequest {
        product: sent.subject.product.clone(),
        value_schema: Some(value),
        key_schema,
        ..v1::AddSchemaVersionRequest::default()
    };
    let added = sent.http.broker.catalogue().add_schema_version(&sent.caller, request).await;
    let added = added.map_err(|error| sent.subject.explain(error))?;
    Reply::of(&json!({"id": added.schema_version.unwrap_or_default().schema_id}))
}

/// `POST /compatibility/subjects/{subject}/versions/{version}`.
pub(in crate::edge::http) async fn check(call: Call) -> Result<Reply, Refusal> {
    let version = asked_version(call.path.get(1))?;
    compared(call, |current| vec![version.unwrap_or(current)]).await
}

/// `POST /compatibility/subjects/{subject}/versions`: with the versions that the product's promise is
/// about.
pub(in crate::edge::http) async fn check_all(call: Call) -> Result<Reply, Refusal> {
    compared(call, |_| Vec::new()).await
}

async fn compared(call: Call, with: impl FnOnce(u32) -> Vec<u32>) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let Call { http, caller, headers, body, query, .. } = call;
    let sent = Sent::read(http, caller, &headers, subject, body).await?;
    let Subject { product, side } = &sent.subject;
    let catalogue = sent.http.broker.catalogue();
    let versions = catalogue.sided_versions(&sent.caller, product, *side)?;
    let current = versions.last().ok_or_else(|| sent.subject.empty())?.number;
    let with = with(current);
    if let Some(missing) = with.iter().find(|number| !versions.iter().any(|v| v.number == **number))
    {
        return Err(no_version(&sent.subject, *missing));
    }
    let (value, key_schema) = sent.beside_current()?;
    let request = v1::CheckCompatibilityRequest {
        product: product.clone(),
        value_schema: Some(value),
        key_schema,
        versions: with,
        ..v1::CheckCompatibilityRequest::default()
    };
    let mut check = sent.http.broker.check_compatibility(&sent.caller, request).await?;
    let mut result = v1::CompatibilityResult::default();
    while let Some(message) = check.next().await {
        result = message?.result.unwrap_or_default();
    }
    let mut messages = Vec::new();
    let mut is_compatible = true;
    for one in result.comparisons.iter().filter(|one| one.is_key == (*side == Side::Key)) {
        if one.verdict() == v1::ComparisonVerdict::Compatible || !one.decides {
            continue;
        }
        is_compatible = false;
        messages.extend(differences(one));
    }
    messages.extend(result.remarks);
    match is_set(&query, "verbose") {
        true => Reply::of(&json!({"is_compatible": is_compatible, "messages": messages})),
        false => Reply::of(&json!({"is_compatible": is_compatible})),
    }
}

/// What stands against a version, a sentence each.
fn differences(comparison: &v1::SchemaComparison) -> Vec<String> {
    let version = comparison.version;
    let decisive =
        comparison.differences.iter().filter(|one| one.weight() != v1::DifferenceWeight::Warning);
    let mut told: Vec<String> = decisive
        .map(|one| {
            let place = if one.path.is_empty() { "the value" } else { &one.path };
            format!(
                "version {version}: {place} was {}, is {}: {} ({})",
                one.old, one.new, one.hint, one.rule
            )
        })
        .collect();
    if comparison.omitted_differences > 0 {
        told.push(format!("version {version}: {} more", comparison.omitted_differences));
    }
    if !comparison.counterexample.is_empty() {
        told.push(format!("version {version}: for instance {}", comparison.counterexample));
    }
    told
}

/// `PUT /config/{subject}`: what the product promises, for its values and its keys.
pub(in crate::edge::http) async fn set_config(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let Call { http, caller, headers, body, .. } = call;
    let sent: ConfigBody = body::read(&headers, body).await?;
    let compatibility = level::read(&sent.level()?)?;
    let settings =
        v1::ProductSettings { compatibility: compatibility.into(), ..Default::default() };
    let product = v1::Product {
        name: subject.product.clone(),
        settings: Some(settings),
        ..v1::Product::default()
    };
    let paths = vec!["settings.compatibility".to_owned()];
    let request = v1::UpdateProductRequest {
        product: Some(product),
        update_mask: Some(prost_types::FieldMask { paths }),
        validate_only: false,
    };
    let changed = http.broker.catalogue().update_product(&caller, request).await;
    changed.map_err(|error| subject.explain(error))?;
    Reply::of(&json!({"compatibility": level::own(compatibility)}))
}
