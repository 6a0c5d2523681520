//! Schema versions of products.

use meshlog_proto::v1::{self, ProductState};

use super::create::check_key_rule;
use super::lifecycle::word;
use super::product::{ProductHandle, Version};
use super::stored::StoredVersion;
use super::{Catalogue, aside, settings};
use crate::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::Schema;

/// Most schema versions of one product.
const MAX_VERSIONS: usize = 1000;

impl Catalogue {
    /// Adds a version, which becomes the current one; the current schemas again give the current
    /// version. In a draft any schema may follow any other; other products have promised theirs.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `PRODUCT_READ_ONLY`, `FIELD_MISSING`, `SCHEMA_MALFORMED`,
    /// `ETAG_MISMATCH`, `STATE_INVALID` unless the product is a draft, `INVALID_ARGUMENT` if the key rule or the settings cannot be kept with it.
    pub async fn add_schema_version(
        &self,
        caller: &Caller,
        request: v1::AddSchemaVersionRequest,
    ) -> Result<v1::AddSchemaVersionResponse> {
        self.resolve(&request.product, "")?;
        let value_source = request.value_schema.ok_or_else(|| {
            let what = "the schema is missing";
            Error::new(Reason::FieldMissing, what)
                .with("field", "value_schema")
                .with_violation("value_schema", what)
        })?;
        let (catalogue, key_source) = (self.clone(), request.key_schema);
        let (value, key, fields) = aside(move || {
            let value = catalogue.parse(&value_source, "value_schema")?;
            let key = key_source.map(|source| catalogue.parse(&source, "key_schema"));
            let fields = fields(&value)?;
            Ok((value, key.transpose()?, fields))
        })
        .await?;

        // The parser took its time: whatever the name leads to now is asked for its rules.
        let mut change = self.change_product(&request.product, "", &request.etag).await?;
        let current = change.handle.current();
        let same_key = match (&key, &current.key) {
            (Some(new), Some(old)) => new.says_the_same(old),
            (Some(_), None) => false,
            (None, _) => true,
        };
        if same_key && value.says_the_same(&current.value) {
            let last = change.stored.versions.last().cloned().unwrap_or_default();
            return Ok(v1::AddSchemaVersionResponse {
                schema_version: Some(message(current, last)?),
            });
        }
        if change.handle.state() != ProductState::Draft {
            return Err(promised(&change.handle));
        }
        let key = key.or_else(|| current.key.clone());
        settings::resolve(change.product.settings.as_ref(), value.format())?;
        if let Some(rule) = change.handle.key_rule() {
            check_key_rule(rule, &value)?;
        }
        if change.stored.versions.len() >= MAX_VERSIONS {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!(
                    "the product `{0}` has {MAX_VERSIONS} schema versions, the most there can be; \
                     create a successor: `meshlog product succeed {0} …`",
                    change.product.name
                ),
            )
            .with("product", &change.product.name));
        }
        let number = current.number + 1;
        let version = StoredVersion {
            version: number,
            storage_id: change.mutation.next_storage_id()?,
            value: change.mutation.store_schema(&value),
            key: key.as_ref().map(|key| change.mutation.store_schema(key)).unwrap_or_default(),
            create_time: Some(change.mutation.now()),
            created_by: caller.principal(),
        };
        if request.validate_only {
            let answer = parts(number, &value, key.as_deref(), StoredVersion::default(), fields);
            return Ok(v1::AddSchemaVersionResponse { schema_version: Some(answer) });
        }
        let answer = parts(number, &value, key.as_deref(), version.clone(), fields);
        change.product.schema_version = number;
        change.stored.versions.push(version);
        change.finish(caller, "add_schema_version", false).await?;
        Ok(v1::AddSchemaVersionResponse { schema_version: Some(answer) })
    }

    /// One version; 0 is the current one.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `SCHEMA_VERSION_UNKNOWN`.
    pub fn get_schema_version(
        &self,
        request: v1::GetSchemaVersionRequest,
    ) -> Result<v1::GetSchemaVersionResponse> {
        let handle = self.resolve(&request.product, "")?;
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
        request: v1::ListSchemaVersionsRequest,
    ) -> Result<v1::ListSchemaVersionsResponse> {
        let handle = self.resolve(&request.product, "")?;
        let stored = handle.stored()?.versions;
        let versions = handle.versions().iter().zip(stored);
        let schema_versions = versions.map(|(version, stored)| message(version, stored));
        Ok(v1::ListSchemaVersionsResponse {
            schema_versions: schema_versions.collect::<Result<_>>()?,
        })
    }
}

/// A new schema for a product that has promised the one it has.
fn promised(handle: &ProductHandle) -> Error {
    let name = &handle.name;
    let state = word(handle.state());
    Error::new(
        Reason::StateInvalid,
        format!(
            "`{name}` is {state} and keeps its schema; only a draft takes another one. Create a \
             successor with the new schema: `meshlog product succeed {name} --schema FILE --reason TEXT`"
        ),
    )
    .with("product", name)
    .with("state", state)
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
    }
}
