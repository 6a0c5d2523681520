//! Schema versions of products.

use std::sync::Arc;

use meshlog_proto::v1::{self, ProductState};

use super::change::ProductChange;
use super::create::check_key_rule;
use super::product::{ProductHandle, Version};
use super::promise::{Proposal, Question, succeed_command};
use super::stored::StoredVersion;
use super::{Catalogue, aside, settings};
use crate::Caller;
use crate::access::Rpc;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

/// Most schema versions of one product.
const MAX_VERSIONS: usize = 1000;

impl Catalogue {
    /// Adds a version, which becomes the current one; the current schemas again give the current
    /// version. In a draft any schema may follow any other; other products take what keeps their
    /// promise (`promise.rs`).
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_READ_ONLY`, `FIELD_MISSING`, `SCHEMA_MALFORMED`,
    /// `ETAG_MISMATCH`, `SCHEMA_INCOMPATIBLE`, `SCHEMA_TOO_COMPLEX`, `STATE_INVALID` if the product is
    /// retired, `INVALID_ARGUMENT` if the key rule or the settings cannot be kept with it.
    pub async fn add_schema_version(
        &self,
        caller: &Caller,
        request: v1::AddSchemaVersionRequest,
    ) -> Result<v1::AddSchemaVersionResponse> {
        self.resolve_for(caller, Rpc::AddSchemaVersion, &request.product, "")?;
        let proposal = self.proposal(request.value_schema, request.key_schema).await?;
        let parsed = Arc::clone(&proposal.value);
        let fields = aside(move || fields(&parsed)).await?;
        loop {
            // Comparing takes its time, and nothing waits for it: whoever changed the product
            // meanwhile has the comparison made anew, of whatever the name leads to now.
            let judged = self.resolve_for(caller, Rpc::AddSchemaVersion, &request.product, "")?;
            let judgement = match judged.state() {
                ProductState::Draft => None,
                _ if is_current(&judged, &proposal) => None,
                _ => Some(self.judge(&judged, &proposal, &Question::default()).await?),
            };
            if let Some(judgement) = judgement.as_ref().filter(|judgement| !judgement.is_kept()) {
                return Err(judgement.refusal(&judged));
            }
            let change = self
                .change_product(caller, Rpc::AddSchemaVersion, &request.product, "", &request.etag)
                .await?;
            if !Arc::ptr_eq(&change.handle, &judged) {
                continue;
            }
            let forgotten = judgement.map(|judgement| judgement.forgotten).unwrap_or_default();
            let validate_only = request.validate_only;
            let added = add(change, caller, proposal, fields, &forgotten, validate_only);
            return Box::pin(added).await;
        }
    }

    /// Parses what may become a version.
    ///
    /// # Errors
    /// `FIELD_MISSING`, `SCHEMA_MALFORMED`.
    pub(crate) async fn proposal(
        &self,
        value: Option<v1::SchemaSource>,
        key: Option<v1::SchemaSource>,
    ) -> Result<Proposal> {
        let value = value.ok_or_else(|| {
            let what = "the schema is missing";
            Error::new(Reason::FieldMissing, what)
                .with("field", "value_schema")
                .with_violation("value_schema", what)
        })?;
        let catalogue = self.clone();
        aside(move || {
            let value = catalogue.parse(&value, "value_schema")?;
            let key = key.map(|source| catalogue.parse(&source, "key_schema")).transpose()?;
            Ok(Proposal { value, key })
        })
        .await
    }

    /// One version; 0 is the current one.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `SCHEMA_VERSION_UNKNOWN`.
    pub fn get_schema_version(
        &self,
        caller: &Caller,
        request: v1::GetSchemaVersionRequest,
    ) -> Result<v1::GetSchemaVersionResponse> {
        let handle = self.resolve_for(caller, Rpc::GetSchemaVersion, &request.product, "")?;
        let version = match request.version {
            0 => handle.current(),
            number => handle.version(number)?,
        };
        let mut stored = handle.stored()?.versions;
        let stored = stored.swap_remove(version.number as usize - 1);
        Ok(v1::GetSchemaVersionResponse { schema_version: Some(message(version, stored)?) })
    }

    /// All versions, oldest first.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub fn list_schema_versions(
        &self,
        caller: &Caller,
        request: v1::ListSchemaVersionsRequest,
    ) -> Result<v1::ListSchemaVersionsResponse> {
        let handle = self.resolve_for(caller, Rpc::ListSchemaVersions, &request.product, "")?;
        let stored = handle.stored()?.versions;
        let versions = handle.versions().iter().zip(stored);
        let schema_versions = versions.map(|(version, stored)| message(version, stored));
        Ok(v1::ListSchemaVersionsResponse {
            schema_versions: schema_versions.collect::<Result<_>>()?,
        })
    }
}

/// Whether the product has these schemas already.
fn is_current(handle: &ProductHandle, proposal: &Proposal) -> bool {
    let current = handle.current();
    let same_key = match (&proposal.key, &current.key) {
        (Some(new), Some(old)) => new.says_the_same(old),
        (Some(_), None) => false,
        (None, _) => true,
    };
    same_key && proposal.value.says_the_same(&current.value)
}

async fn add(
    mut change: ProductChange<'_>,
    caller: &Caller,
    proposal: Proposal,
    fields: Vec<v1::SchemaField>,
    forgotten: &[u32],
    validate_only: bool,
) -> Result<v1::AddSchemaVersionResponse> {
    let current = change.handle.current();
    if is_current(&change.handle, &proposal) {
        let last = change.stored.versions.last().cloned().unwrap_or_default();
        return Ok(v1::AddSchemaVersionResponse { schema_version: Some(message(current, last)?) });
    }
    let name = change.product.name.clone();
    if change.handle.state() == ProductState::Retired {
        return Err(Error::new(
            Reason::StateInvalid,
            format!("the product `{name}` is retired: it takes no records and no schemas any more"),
        )
        .with("product", &name)
        .with("state", "RETIRED"));
    }
    let value = proposal.value;
    let key = proposal.key.or_else(|| current.key.clone());
    settings::resolve(change.product.settings.as_ref(), value.format())?;
    if let Some(rule) = change.handle.key_rule() {
        check_key_rule(rule, &value)?;
    }
    if change.stored.versions.len() >= MAX_VERSIONS {
        return Err(Error::new(
            Reason::InvalidArgument,
            format!(
                "the product `{name}` has {MAX_VERSIONS} schema versions, the most there can be; \
                 create a successor: `{}`",
                succeed_command(&name)
            ),
        )
        .with("product", &name));
    }
    let number = current.number + 1;
    let version = StoredVersion {
        version: number,
        storage_id: change.mutation.next_storage_id()?,
        value: change.mutation.store_schema(&value),
        key: key.as_ref().map(|key| change.mutation.store_schema(key)).unwrap_or_default(),
        create_time: Some(change.mutation.now()),
        created_by: caller.principal(),
        closed: false,
    };
    if validate_only {
        let storage_id = version.storage_id;
        let stored = StoredVersion { storage_id, ..StoredVersion::default() };
        let answer = parts(number, &value, key.as_deref(), stored, fields);
        return Ok(v1::AddSchemaVersionResponse { schema_version: Some(answer) });
    }
    let answer = parts(number, &value, key.as_deref(), version.clone(), fields);
    change.product.schema_version = number;
    for stored in &mut change.stored.versions {
        stored.closed |= forgotten.contains(&stored.version);
    }
    change.stored.versions.push(version);
    change.finish(caller, "add_schema_version", false).await?;
    Ok(v1::AddSchemaVersionResponse { schema_version: Some(answer) })
}

fn message(version: &Version, stored: StoredVersion) -> Result<v1::SchemaVersion> {
    let fields = fields(&version.value)?;
    Ok(parts(version.number, &version.value, version.key.as_deref(), stored, fields))
}

fn fields(schema: &Schema) -> Result<Vec<v1::SchemaField>> {
    let fields = schema.fields().map_err(|malformed| malformed.in_field("value_schema"))?;
    Ok(fields.into_iter().map(v1::SchemaField::from).collect())
}

fn parts(
    number: u32,
    value: &Schema,
    key: Option<&Schema>,
    stored: StoredVersion,
    fields: Vec<v1::SchemaField>,
) -> v1::SchemaVersion {
    v1::SchemaVersion {
        version: number,
        value: Some(value.source()),
        value_fingerprint: value.fingerprint().to_string(),
        key: key.map(Schema::source),
        key_fingerprint: key.map(|key| key.fingerprint().to_string()).unwrap_or_default(),
        fields,
        create_time: stored.create_time,
        created_by: stored.created_by,
        schema_id: stored.storage_id,
    }
}
