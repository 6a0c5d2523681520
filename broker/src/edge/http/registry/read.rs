//! What changes nothing: subjects, versions, schemas by id, levels.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};
use meshlog_proto::v1::{self, ProductState, SchemaFormat};
use serde::Serialize;
use serde_json::{Value, json};

use super::super::route::Call;
use super::subject::Subject;
use super::{Refusal, Reply, is_set, level, parameter};
use crate::caller::Caller;
use crate::catalogue::{Catalogue, Side, SidedVersion};
use crate::error::{Error, Reason};
use crate::schema::protobuf_compiled;

/// What a product promises in our words, beside the level that clients of Confluent know.
const COMPATIBILITY: HeaderName = HeaderName::from_static("meshlog-compatibility");

/// Subjects of one answer, as many as the original gives.
const MAX_SUBJECTS: usize = 20_000;

/// A version as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// Absent for Avro, as ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'static str>,
    schema: String,
}

/// `GET /`: where clients look whether somebody is there.
pub(in crate::edge::http) async fn root(_call: Call) -> Result<Reply, Refusal> {
    Reply::of(&json!({}))
}

/// `GET /schemas/types`.
pub(in crate::edge::http) async fn types(_call: Call) -> Result<Reply, Refusal> {
    Reply::of(&["JSON", "PROTOBUF", "AVRO"])
}

/// `GET /subjects`.
pub(in crate::edge::http) async fn subjects(call: Call) -> Result<Reply, Refusal> {
    // Nothing is deleted but whole products, which are gone then.
    if is_set(&call.query, "deletedOnly") {
        return Reply::of(&[""; 0]);
    }
    let prefix = parameter(&call.query, "subjectPrefix").unwrap_or_default();
    let products = call.http.broker.catalogue().products_with_schemas(&call.caller);
    let mut subjects = Vec::new();
    for (product, has_value, has_key) in products {
        for (side, is_there) in [(Side::Key, has_key), (Side::Value, has_value)] {
            let subject = Subject { product: product.to_string(), side }.to_string();
            if is_there && subject.starts_with(prefix) {
                subjects.push(subject);
            }
        }
    }
    Reply::of(&page(&call.query, &subjects))
}

/// `GET /subjects/{subject}/versions`.
pub(in crate::edge::http) async fn versions(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let versions = all(&call, &subject)?;
    let numbers: Vec<u32> = versions.iter().map(|version| version.number).collect();
    Reply::of(&page(&call.query, &numbers))
}

/// `GET /subjects/{subject}/versions/{version}`.
pub(in crate::edge::http) async fn version(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let version = one(&call, &subject)?;
    Reply::of(&told(Some(&subject), &version, parameter(&call.query, "format"))?)
}

/// `GET /subjects/{subject}/versions/{version}/schema`: the text alone.
pub(in crate::edge::http) async fn version_schema(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let version = one(&call, &subject)?;
    text_of(&version, parameter(&call.query, "format"))
}

/// `GET /schemas/ids/{id}`. A number is one of both schemas of a version; the one of the values is meant
/// unless the parameter `subject` says otherwise.
pub(in crate::edge::http) async fn id(call: Call) -> Result<Reply, Refusal> {
    let version = by_id(&call)?;
    Reply::of(&told(None, &version, parameter(&call.query, "format"))?)
}

/// `GET /schemas/ids/{id}/schema`: the text alone.
pub(in crate::edge::http) async fn id_schema(call: Call) -> Result<Reply, Refusal> {
    let version = by_id(&call)?;
    text_of(&version, parameter(&call.query, "format"))
}

/// `GET /schemas/ids/{id}/subjects`.
pub(in crate::edge::http) async fn id_subjects(call: Call) -> Result<Reply, Refusal> {
    let subjects: Vec<String> =
        of_id(&call)?.iter().map(|one| Subject::of_version(one).to_string()).collect();
    Reply::of(&page(&call.query, &subjects))
}

/// `GET /schemas/ids/{id}/versions`.
pub(in crate::edge::http) async fn id_versions(call: Call) -> Result<Reply, Refusal> {
    let told = |one: &SidedVersion| json!({"subject": Subject::of_version(one).to_string(), "version": one.number});
    let versions: Vec<Value> = of_id(&call)?.iter().map(told).collect();
    Reply::of(&page(&call.query, &versions))
}

/// `GET /mode`: schemas can be registered.
pub(in crate::edge::http) async fn mode(_call: Call) -> Result<Reply, Refusal> {
    Reply::of(&json!({"mode": "READWRITE"}))
}

/// `GET /mode/{subject}`.
pub(in crate::edge::http) async fn subject_mode(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let product = product(call.http.broker.catalogue(), &call.caller, &subject)?;
    let mode = match product.state() {
        ProductState::Retired => "READONLY",
        _ => "READWRITE",
    };
    Reply::of(&json!({"mode": mode}))
}

/// `GET /config`: what a product promises that says nothing else.
pub(in crate::edge::http) async fn config(_call: Call) -> Result<Reply, Refusal> {
    level_reply(v1::Compatibility::Unspecified)
}

/// `GET /config/{subject}`.
pub(in crate::edge::http) async fn subject_config(call: Call) -> Result<Reply, Refusal> {
    let subject = Subject::of(first(&call.path))?;
    let product = product(call.http.broker.catalogue(), &call.caller, &subject)?;
    level_reply(product.settings.unwrap_or_default().compatibility())
}

fn level_reply(compatibility: v1::Compatibility) -> Result<Reply, Refusal> {
    let mut reply = Reply::of(&json!({"compatibilityLevel": level::told(compatibility)}))?;
    let own = HeaderValue::from_static(level::own(compatibility));
    reply.header = Some((COMPATIBILITY, own));
    Ok(reply)
}

fn product(
    catalogue: &Catalogue,
    caller: &Caller,
    subject: &Subject,
) -> Result<v1::Product, Refusal> {
    let request = v1::GetProductRequest { name: subject.product.clone() };
    let found = catalogue.get_product(caller, request).map_err(|error| subject.explain(error))?;
    Ok(found.product.unwrap_or_default())
}

/// The first parameter of the path; routes without one do not ask.
pub(super) fn first(path: &[String]) -> &str {
    path.first().map(String::as_str).unwrap_or_default()
}

/// All versions of a subject; there is at least one.
fn all(call: &Call, subject: &Subject) -> Result<Vec<SidedVersion>, Refusal> {
    let catalogue = call.http.broker.catalogue();
    let versions = catalogue.sided_versions(&call.caller, &subject.product, subject.side);
    let versions = versions.map_err(|error| subject.explain(error))?;
    match versions.is_empty() {
        true => Err(subject.empty()),
        false => Ok(versions),
    }
}

/// The version that the path names.
fn one(call: &Call, subject: &Subject) -> Result<SidedVersion, Refusal> {
    let asked = asked_version(call.path.get(1))?;
    let mut versions = all(call, subject)?;
    let at = match asked {
        None => versions.len().checked_sub(1),
        Some(number) => versions.iter().position(|version| version.number == number),
    };
    match at {
        Some(at) => Ok(versions.swap_remove(at)),
        None => Err(no_version(subject, asked.unwrap_or_default())),
    }
}

pub(super) fn no_version(subject: &Subject, number: u32) -> Refusal {
    let what = format!("the subject `{subject}` has no version {number}");
    Refusal::new(40402, Error::new(Reason::SchemaVersionUnknown, what))
}

/// A version in a path; `None`: the current one.
pub(super) fn asked_version(text: Option<&String>) -> Result<Option<u32>, Refusal> {
    match text.map(String::as_str) {
        None | Some("latest" | "-1") => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(Refusal::invalid(
                42202,
                "the version must be a number from 1 to 2147483647, or `latest`",
            )),
        },
    }
}

/// The schemas of the version whose number the path names; there is at least one.
fn of_id(call: &Call) -> Result<Vec<SidedVersion>, Refusal> {
    let found = first(&call.path).parse().map(|id| {
        let mut found = call.http.broker.catalogue().schemas_of_id(&call.caller, id);
        if let Some(subject) = parameter(&call.query, "subject").filter(|name| !name.is_empty()) {
            // A name that leads nowhere else is a hint, and not every client knows it.
            let is_asked = |one: &SidedVersion| Subject::of_version(one).to_string() == subject;
            if found.iter().any(is_asked) {
                found.retain(is_asked);
            }
        }
        found
    });
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => {
            let what =
                "there is no schema with this id, or it is of a product that you may not see";
            Err(Refusal::new(40403, Error::new(Reason::SchemaVersionUnknown, what)))
        }
    }
}

fn by_id(call: &Call) -> Result<SidedVersion, Refusal> {
    let mut found = of_id(call)?;
    Ok(found.swap_remove(0))
}

/// A version as clients read it; of a subject, or by its id alone.
pub(super) fn told_version(
    subject: &Subject,
    version: &SidedVersion,
    format: Option<&str>,
) -> Result<Reply, Refusal> {
    Reply::of(&told(Some(subject), version, format)?)
}

fn told(
    subject: Option<&Subject>,
    version: &SidedVersion,
    format: Option<&str>,
) -> Result<Told, Refusal> {
    Ok(Told {
        subject: subject.map(ToString::to_string),
        version: subject.map(|_| version.number),
        id: subject.map(|_| version.schema_id),
        schema_type: match version.schema.format() {
            SchemaFormat::JsonSchema => Some("JSON"),
            SchemaFormat::Protobuf => Some("PROTOBUF"),
            _ => None,
        },
        schema: schema_text(version, format)?,
    })
}

/// The text of a schema. That of Protobuf is given compiled to those who ask for `serialized`.
fn schema_text(version: &SidedVersion, format: Option<&str>) -> Result<String, Refusal> {
    let source = version.schema.source();
    if version.schema.format() != SchemaFormat::Protobuf || format != Some("serialized") {
        return Ok(source.text);
    }
    let compiled = protobuf_compiled(&source).ok_or_else(|| {
        Error::new(Reason::Internal, "this version of the broker cannot read the schema")
    })?;
    Ok(BASE64_STANDARD.encode(compiled))
}

/// The text alone: that of a JSON Schema and of Avro is JSON by itself.
fn text_of(version: &SidedVersion, format: Option<&str>) -> Result<Reply, Refusal> {
    let text = schema_text(version, format)?;
    Ok(Reply { json: text.into_bytes(), header: None })
}

/// The part of a list that `offset` and `limit` ask for.
fn page<'a, T>(query: &[(String, String)], all: &'a [T]) -> &'a [T] {
    let number = |name| parameter(query, name)?.parse::<i64>().ok();
    let from = number("offset").and_then(|from| usize::try_from(from).ok()).unwrap_or_default();
    let limit = number("limit").and_then(|limit| usize::try_from(limit).ok());
    let all = all.get(from..).unwrap_or_default();
    let most = limit.unwrap_or(MAX_SUBJECTS).min(MAX_SUBJECTS);
    all.get(..most).unwrap_or(all)
}
