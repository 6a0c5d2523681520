//! Creating a product, and with it, if asked, its domain and its team.

use std::sync::Arc;

use meshlog_proto::v1::{self, Classification, SchemaFormat, SchemaSource};
use ulid::Ulid;

use super::name::{SANDBOX, check_product, shell_word};
use super::stored::{Key, StoredProduct, StoredVersion};
use super::view::View;
use super::{Catalogue, aside, check_length, domain, invalid, settings, tag, team};
use crate::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::{FieldPath, Schema};

/// Most partitions of a product.
pub const MAX_PARTITIONS: u32 = 1024;

pub(super) const MAX_DOCS_BYTES: usize = 64 << 10;
pub(super) const MAX_SUPPORT_BYTES: usize = 1 << 10;

impl Catalogue {
    /// Creates a product, its domain and its team where asked, in one entry.
    ///
    /// # Errors
    /// `FIELD_MISSING` with every mandatory field that is missing and the command that mends it;
    /// `NAME_INVALID`, `NAME_RESERVED`, `INVALID_ARGUMENT`, `SCHEMA_MALFORMED`,
    /// `DOMAIN_NOT_FOUND`, `TEAM_NOT_FOUND`, `PRODUCT_EXISTS`.
    pub async fn create_product(
        &self,
        caller: &Caller,
        request: v1::CreateProductRequest,
    ) -> Result<v1::CreateProductResponse> {
        let validate_only = request.validate_only;
        let (catalogue, author) = (self.clone(), caller.clone());
        let plan = aside(move || Plan::new(&catalogue, &author, request)).await?;
        let mut mutation = self.begin().await;
        let (new_domain, new_team, contacts) = plan.check_against(&self.inner.view.read())?;
        let mut product = plan.product;
        let effective = settings::resolve(product.settings.as_ref(), plan.value.format())?;
        let answer = |mut product: v1::Product| {
            product.schema_version = 1;
            product.effective_settings = Some(effective);
            product.contacts = contacts;
            v1::CreateProductResponse { product: Some(product) }
        };
        if validate_only {
            return Ok(answer(product));
        }

        if let Some(new_team) = new_team {
            team::add(&mut mutation, caller, new_team);
        }
        if let Some(new_domain) = new_domain {
            domain::add(&mut mutation, caller, new_domain);
        }
        product.id = Ulid::generate().to_string();
        product.etag = mutation.etag();
        product.create_time = Some(mutation.now());
        product.created_by = caller.principal();
        product.update_time = product.create_time;
        product.updated_by = product.created_by.clone();
        let version = StoredVersion {
            version: 1,
            storage_id: mutation.next_storage_id()?,
            value: mutation.store_schema(&plan.value),
            key: plan.key.as_ref().map(|key| mutation.store_schema(key)).unwrap_or_default(),
            create_time: product.create_time,
            created_by: product.created_by.clone(),
        };
        let stored = StoredProduct {
            number: mutation.next_product_number(),
            streams: (0..product.partitions).map(|_| mutation.create_stream().0).collect(),
            versions: vec![version],
            product: Some(product.clone()),
        };
        mutation.set(Key::Product(&product.id), &stored);
        mutation.commit().await?;
        Ok(answer(product))
    }
}

/// A request that is right in itself.
struct Plan {
    product: v1::Product,
    domain: String,
    value: Arc<Schema>,
    key: Option<Arc<Schema>>,
    new_domain: Option<v1::Domain>,
    new_team: Option<v1::Team>,
}

/// What must be created together with a product, and the contacts of its owner.
type Company = (Option<v1::Domain>, Option<v1::Team>, Vec<String>);

impl Plan {
    fn new(
        catalogue: &Catalogue,
        caller: &Caller,
        request: v1::CreateProductRequest,
    ) -> Result<Self> {
        let asked = request.product.ok_or_else(|| invalid("product", "it is missing"))?;
        let (domain, _) = check_product(&asked.name)?;
        let domain = domain.to_owned();
        let mut product = v1::Product {
            name: asked.name,
            owner: asked.owner,
            description: asked.description,
            classification: asked.classification,
            state: v1::ProductState::Draft.into(),
            tags: asked.tags,
            partitions: asked.partitions.max(1),
            settings: asked.settings,
            key: asked.key,
            docs: asked.docs,
            support: asked.support,
            ..Default::default()
        };
        let (mut new_domain, mut new_team) = (request.new_domain, request.new_team);
        if let Some(team) = &mut new_team {
            if team.name.is_empty() {
                team.name.clone_from(&product.owner);
            } else if product.owner.is_empty() {
                product.owner.clone_from(&team.name);
            }
        }
        if let Some(new_domain) = &mut new_domain {
            if new_domain.name.is_empty() {
                new_domain.name.clone_from(&domain);
            }
            if new_domain.name != domain {
                return Err(invalid(
                    "new_domain.name",
                    format!("the domain of `{}` is `{domain}`; leave the name out", product.name),
                ));
            }
            if new_domain.owner.is_empty() {
                new_domain.owner.clone_from(&product.owner);
            }
        }
        let mut value_schema = request.value_schema;
        if domain == SANDBOX {
            fill_sandbox(caller, &mut product);
            value_schema = value_schema.or_else(|| Some(sandbox_schema()));
        }
        let missing = missing_fields(&product, value_schema.is_some());
        let value_schema = match value_schema {
            Some(value_schema) if missing.is_empty() => value_schema,
            _ => return Err(field_missing(&product, &missing)),
        };
        check_texts(&product)?;
        if product.partitions > MAX_PARTITIONS {
            return Err(invalid(
                "product.partitions",
                format!("1 to {MAX_PARTITIONS}, not {}", product.partitions),
            ));
        }

        let value = catalogue.parse(&value_schema, "value_schema")?;
        let key = request.key_schema.map(|source| catalogue.parse(&source, "key_schema"));
        let key = key.transpose()?;
        tag::check(&product.tags, std::iter::once(&*value))?;
        settings::resolve(product.settings.as_ref(), value.format())?;
        if let Some(rule) = &product.key {
            check_key_rule(&FieldPath::new(&rule.field), &value)?;
        }
        Ok(Self { product, domain, value, key, new_domain, new_team })
    }

    fn check_against(&self, view: &View) -> Result<Company> {
        let product = &self.product;
        if view.products.contains_key(product.name.as_str()) {
            return Err(Error::new(
                Reason::ProductExists,
                format!(
                    "the product `{}` exists already; `meshlog product show {0}` shows it",
                    product.name
                ),
            )
            .with("product", &product.name));
        }
        let new_domain = self.new_domain.as_ref().filter(|_| !domain::exists(view, &self.domain));
        if new_domain.is_none() && !domain::exists(view, &self.domain) {
            return Err(domain::not_found(&self.domain, Some(&product.name)));
        }
        let domain_owner = new_domain.map(|domain| domain.owner.as_str());
        let new_team = self.new_team.as_ref().filter(|team| team::find(view, &team.name).is_none());
        if let Some(team) = new_team {
            team::check(team)?;
            if team.name != product.owner && Some(team.name.as_str()) != domain_owner {
                return Err(invalid(
                    "new_team.name",
                    format!("neither the product nor its new domain is owned by `{}`", team.name),
                ));
            }
        }
        let contacts = |name: &str| match new_team {
            Some(team) if team.name == name => Ok(team.contacts.clone()),
            _ => team::find(view, name)
                .map(|team| team.contacts.clone())
                .ok_or_else(|| team::not_found(name)),
        };
        if let Some(new_domain) = new_domain {
            domain::check(new_domain)?;
            contacts(&new_domain.owner)?;
        }
        let contacts = contacts(&product.owner)?;
        Ok((new_domain.cloned(), new_team.cloned(), contacts))
    }
}

/// Fills in what a product outside the sandbox must be given.
pub(super) fn fill_sandbox(caller: &Caller, product: &mut v1::Product) {
    if product.owner.is_empty() {
        product.owner = SANDBOX.to_owned();
    }
    if product.description.trim().is_empty() {
        product.description =
            format!("Tried out in the sandbox by {}; not described yet.", caller.principal());
    }
    if product.classification == i32::from(Classification::Unspecified) {
        product.classification = Classification::Internal.into();
    }
}

fn sandbox_schema() -> SchemaSource {
    SchemaSource {
        format: SchemaFormat::Opaque.into(),
        media_type: "application/json".to_owned(),
        reason: "In the sandbox; not described yet.".to_owned(),
        ..Default::default()
    }
}

/// A mandatory field: its name, its path in the request, and how the command gives it.
pub(super) type Mandatory = (&'static str, &'static str, &'static str);

/// The mandatory fields that are missing.
pub(super) fn missing_fields(product: &v1::Product, has_schema: bool) -> Vec<Mandatory> {
    let fields: [(bool, Mandatory); 4] = [
        (product.owner.is_empty(), ("owner", "product.owner", "--owner TEAM")),
        (
            product.description.trim().is_empty(),
            ("description", "product.description", "--description TEXT"),
        ),
        (
            product.classification == i32::from(Classification::Unspecified),
            (
                "classification",
                "product.classification",
                "--classification public|internal|confidential|restricted",
            ),
        ),
        (!has_schema, ("schema", "value_schema", "--schema FILE")),
    ];
    fields.into_iter().filter(|(missing, _)| *missing).map(|(_, field)| field).collect()
}

fn field_missing(product: &v1::Product, missing: &[Mandatory]) -> Error {
    let mut command = format!("meshlog product create {}", product.name);
    if !product.owner.is_empty() {
        command += &format!(" --owner {}", shell_word(&product.owner));
    }
    if !product.description.trim().is_empty() {
        command += " --description …";
    }
    for (_, _, option) in missing {
        command += &format!(" {option}");
    }
    let names: Vec<&str> = missing.iter().map(|(name, ..)| *name).collect();
    let verb = if names.len() == 1 { "is" } else { "are" };
    let mut what = format!(
        "{} {verb} missing; every product outside the domain `sandbox` has an owner, a \
         description, a classification and a schema: `{command}`",
        names.join(", ")
    );
    if names.contains(&"owner") {
        what += "; a team is created with `meshlog team create TEAM --contact MAIL`";
    }
    let error = Error::new(Reason::FieldMissing, what)
        .with("field", names.first().copied().unwrap_or_default())
        .with("missing", names.join(","))
        .with("product", &product.name)
        .with("command", &command);
    missing.iter().fold(error, |error, (name, path, option)| {
        error.with_violation(*path, format!("the {name} is missing: {option}"))
    })
}

/// Checks the texts of a product, and values that are not known.
pub(super) fn check_texts(product: &v1::Product) -> Result<()> {
    check_length("product.description", &product.description, team::MAX_DESCRIPTION_BYTES)?;
    check_length("product.docs", &product.docs, MAX_DOCS_BYTES)?;
    check_length("product.support", &product.support, MAX_SUPPORT_BYTES)?;
    match Classification::try_from(product.classification) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(
            "product.classification",
            "use PUBLIC, INTERNAL, CONFIDENTIAL or RESTRICTED",
        )),
    }
}

/// The key rule must name a field that every value has.
pub(super) fn check_key_rule(rule: &FieldPath, value: &Schema) -> Result<()> {
    value.check_key_field(rule).map_err(|what| {
        let field: Vec<&str> = rule.names().collect();
        let field = field.join(".");
        invalid("product.key", format!("`{field}` cannot be the record key: {what}"))
            .with("path", field)
    })
}
