//! Creating a product, and with it, if asked, its domain and its team.

use std::sync::Arc;

use meshlog_proto::v1::{self, Classification, SchemaFormat, SchemaSource};
use meshlog_storage::{Policy, StreamId};
use parking_lot::RwLock;
use ulid::Ulid;

use super::audit::{Act, Kind};
use super::facts::Facts;
use super::mutation::Mutation;
use super::name::{SANDBOX, check_managed_by, check_product, shell_word, shown};
use super::stored::{Key, StoredProduct, StoredVersion};
use super::view::View;
use super::{
    Catalogue, aside, attached, change, check_length, domain, facts, inheritance, invalid, moving,
    provenance, references, rules, settings, tag, team,
};
use crate::Caller;
use crate::access::{Resource, Rpc};
use crate::error::{Error, Reason, Result};
use crate::schema::{FieldPath, Handling, Schema};

/// Most partitions of a product.
pub const MAX_PARTITIONS: u32 = 1024;

pub(super) const MAX_DOCS_BYTES: usize = 64 << 10;
pub(super) const MAX_SUPPORT_BYTES: usize = 1 << 10;
const MAX_LINKS: usize = 20;
const MAX_LINK_TITLE_BYTES: usize = 200;
const MAX_LINK_BYTES: usize = 2 << 10;

impl Catalogue {
    /// Creates a product, its domain and its team where asked, in one entry.
    ///
    /// # Errors
    /// `FIELD_MISSING` with every mandatory field that is missing and the command that mends it;
    /// `NAME_INVALID`, `NAME_RESERVED`, `INVALID_ARGUMENT`, `SCHEMA_MALFORMED`,
    /// `DOMAIN_NOT_FOUND`, `TEAM_NOT_FOUND`, `TAG_KEY_NOT_FOUND`, `TAG_VALUE_INVALID`,
    /// `PRODUCT_NOT_FOUND` (an input), `PRODUCT_EXISTS`.
    pub async fn create_product(
        &self,
        caller: &Caller,
        request: v1::CreateProductRequest,
    ) -> Result<v1::CreateProductResponse> {
        self.allow_creating(caller, &request)?;
        let validate_only = request.validate_only;
        let (catalogue, author) = (self.clone(), caller.clone());
        let mut plan = aside(move || Plan::new(&catalogue, &author, request)).await?;
        let mut mutation = self.begin().await;
        plan.check_against(&self.inner.view.read())?;
        plan.allow(self, caller)?;
        let nothing = Facts::new();
        let mut act = Act::new("create_product", Kind::Product, &plan.product.name);
        let mut company = Vec::new();
        if let Some(new_team) = plan.new_team.take() {
            let team = team::add(&mut mutation, caller, new_team);
            act = act.along("new_team", facts::differences(&nothing, &facts::of_team(&team)));
            company = team.contacts;
        }
        let mut domain_tags = None;
        if let Some(new_domain) = plan.new_domain.take() {
            let domain = domain::add(&mut mutation, caller, new_domain);
            act = act.along("new_domain", facts::differences(&nothing, &facts::of_domain(&domain)));
            domain_tags = Some(domain.tags);
        }
        let value = Arc::clone(&plan.value);
        let mut answer = plan.add(&self.inner.view, &mut mutation, caller)?;
        let changes = facts::differences(&nothing, &facts::of_product(&answer));
        let act = act.id(&answer.id).changes(changes);
        change::finish(&self.inner.view, &mut answer, &value)?;
        // What is created along with it is not in the view yet.
        if answer.contacts.is_empty() {
            answer.contacts = company;
        }
        if let Some(tags) = domain_tags {
            answer.effective_tags = inheritance::of_product(&tags, &answer.tags);
        }
        if validate_only {
            answer.id.clear();
            answer.etag.clear();
            return Ok(v1::CreateProductResponse { product: Some(answer) });
        }
        mutation.commit(caller, act).await?;
        Ok(v1::CreateProductResponse { product: Some(answer) })
    }
}

impl Catalogue {
    /// Refuses what the caller may not create, before anything of it is looked at.
    fn allow_creating(&self, caller: &Caller, request: &v1::CreateProductRequest) -> Result<()> {
        let name = request.product.as_ref().map(|product| product.name.as_str());
        let domain = name.unwrap_or_default().split('.').next().unwrap_or_default();
        let is_new =
            request.new_domain.is_some() && self.inner.view.read().domain(domain).is_none();
        self.allow_in_domain(caller, domain, is_new)
    }

    /// Whether the caller may put a product into a domain, or make the domain for it.
    pub(super) fn allow_in_domain(
        &self,
        caller: &Caller,
        domain: &str,
        is_new: bool,
    ) -> Result<()> {
        match is_new {
            true => self.allow(caller, Rpc::CreateDomain, Resource::Broker),
            false => self.allow(caller, Rpc::CreateProduct, Resource::Domain(domain)),
        }
    }
}

/// A product to be created: right in itself, not yet compared with what there is.
pub(super) struct Plan {
    pub(super) product: v1::Product,
    pub(super) domain: String,
    pub(super) value: Arc<Schema>,
    key: Option<Arc<Schema>>,
    /// What is to be created with it; after [`Plan::check_against`] only what does not exist.
    new_domain: Option<v1::Domain>,
    new_team: Option<v1::Team>,
    /// Paths that the broker filled in.
    inferred: Vec<&'static str>,
}

impl Plan {
    fn new(
        catalogue: &Catalogue,
        caller: &Caller,
        request: v1::CreateProductRequest,
    ) -> Result<Self> {
        let asked = request.product.ok_or_else(|| invalid("product", "it is missing"))?;
        let (domain, _) = check_product(&asked.name)?;
        let domain = domain.to_owned();
        let mut product = given(asked);
        let mut inferred = Vec::new();
        if product.partitions == 0 {
            product.partitions = 1;
            inferred.push("partitions");
        }
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
            inferred.append(&mut fill_sandbox(caller, &mut product));
            inferred.extend(settings::fill_sandbox(&mut product.settings));
            if value_schema.is_none() {
                value_schema = Some(sandbox_schema());
                inferred.push("schema_version");
            }
        }
        let missing = missing_fields(&product, value_schema.is_some());
        let value_schema = match value_schema {
            Some(value_schema) if missing.is_empty() => value_schema,
            _ => return Err(field_missing(&product, &missing)),
        };
        let value = catalogue.parse(&value_schema, "value_schema")?;
        let key = request.key_schema.map(|source| catalogue.parse(&source, "key_schema"));
        let key = key.transpose()?;
        tag::check(&product.tags, std::iter::once(&*value))?;
        let plan = Self { product, domain, value, key, new_domain, new_team, inferred };
        plan.check_itself()?;
        Ok(plan)
    }

    /// Of a product that takes most of what it says from another one.
    pub(super) fn of(
        product: v1::Product,
        value: Arc<Schema>,
        key: Option<Arc<Schema>>,
    ) -> Result<Self> {
        let (domain, _) = check_product(&product.name)?;
        let domain = domain.to_owned();
        let (new_domain, new_team, inferred) = (None, None, Vec::new());
        tag::check(&product.tags, std::iter::once(&*value))?;
        let plan = Self { product, domain, value, key, new_domain, new_team, inferred };
        plan.check_itself()?;
        Ok(plan)
    }

    fn check_itself(&self) -> Result<()> {
        let product = &self.product;
        check_texts(product)?;
        if !(1..=MAX_PARTITIONS).contains(&product.partitions) {
            return Err(invalid(
                "product.partitions",
                format!("1 to {MAX_PARTITIONS}, not {}", product.partitions),
            ));
        }
        settings::resolve(product.settings.as_ref(), self.value.format())?;
        rules::check(&product.rules, &self.value, &product.name)?;
        match &product.key {
            Some(rule) => check_key_rule(&FieldPath::new(&rule.field), &self.value),
            None => Ok(()),
        }
    }

    /// Refuses what the caller may not create; after [`Plan::check_against`], with the gate closed.
    fn allow(&self, catalogue: &Catalogue, caller: &Caller) -> Result<()> {
        if self.new_team.is_some() {
            catalogue.allow(caller, Rpc::CreateTeam, Resource::Broker)?;
        }
        catalogue.allow_in_domain(caller, &self.domain, self.new_domain.is_some())
    }

    /// Compares it with what there is.
    pub(super) fn check_against(&mut self, view: &View) -> Result<()> {
        moving::check_free(view, &self.product.name, "")?;
        self.new_domain.take_if(|_| domain::exists(view, &self.domain));
        let new_domain = self.new_domain.as_ref();
        if new_domain.is_none() && !domain::exists(view, &self.domain) {
            return Err(domain::not_found(&self.domain, Some(&self.product.name)));
        }
        let domain_owner = new_domain.map(|domain| domain.owner.as_str());
        self.new_team.take_if(|team| view.team(&team.name).is_some());
        let new_team = self.new_team.as_ref();
        if let Some(team) = new_team {
            team::check(team)?;
            if team.name != self.product.owner && Some(team.name.as_str()) != domain_owner {
                return Err(invalid(
                    "new_team.name",
                    format!("neither the product nor its new domain is owned by `{}`", team.name),
                ));
            }
        }
        let exists = |name: &str| match new_team {
            Some(team) if team.name == name => Ok(()),
            _ => team::check_owner(view, name).map(drop),
        };
        if let Some(new_domain) = new_domain {
            domain::check(new_domain)?;
            tag::check_vocabulary(view, &new_domain.tags, &[])?;
            exists(&new_domain.owner)?;
        }
        if !(self.domain == SANDBOX && self.product.owner == SANDBOX) {
            exists(&self.product.owner)?;
        }
        tag::check_vocabulary(view, &self.product.tags, &[])?;
        references::check_inputs(view, &mut self.product)
    }

    /// Adds it to a change; gives it as it will be.
    pub(super) fn add(
        self,
        view: &RwLock<View>,
        mutation: &mut Mutation<'_>,
        caller: &Caller,
    ) -> Result<v1::Product> {
        let time = mutation.now();
        let mut product = self.product;
        product.id = Ulid::generate().to_string();
        product.etag = mutation.etag();
        product.create_time = Some(time);
        product.created_by = caller.principal();
        product.update_time = Some(time);
        product.updated_by = caller.principal();
        product.schema_version = 1;
        let asked = std::mem::take(&mut product.rules);
        product.rules_version = 0;
        rules::set(&mut product, &asked);
        let said = facts::differences(&Facts::new(), &facts::of_product(&product));
        let how = provenance::said(&product);
        provenance::renew(&mut product.provenance, &said, how, &self.inferred, caller, time);
        let version = StoredVersion {
            version: 1,
            storage_id: mutation.next_storage_id()?,
            value: mutation.store_schema(&self.value),
            key: self.key.as_ref().map(|key| mutation.store_schema(key)).unwrap_or_default(),
            create_time: Some(time),
            created_by: caller.principal(),
            closed: false,
        };
        let streams: Vec<StreamId> =
            (0..product.partitions).map(|_| mutation.create_stream()).collect();
        let policy = settings::policy(product.settings.as_ref());
        if policy != Policy::default() {
            mutation.set_policy(&streams, policy);
        }
        let quarantine = settings::handling(product.settings.as_ref(), self.value.format())
            .filter(|handling| *handling == Handling::Quarantine)
            .map(|_| attached::add_quarantine(mutation, product.settings.as_ref()));
        let stored = StoredProduct {
            quarantine,
            number: mutation.next_product_number(),
            streams: streams.into_iter().map(|stream| stream.0).collect(),
            versions: vec![version],
            product: Some(change::for_storage(view, &product, None)?),
        };
        mutation.set(Key::Product(&product.id), &stored);
        Ok(product)
    }
}

/// Without what only the server says: a draft.
fn given(asked: v1::Product) -> v1::Product {
    v1::Product {
        name: asked.name,
        owner: asked.owner,
        description: asked.description,
        classification: asked.classification,
        state: v1::ProductState::Draft.into(),
        kind: asked.kind,
        tags: asked.tags,
        partitions: asked.partitions,
        settings: asked.settings,
        key: asked.key,
        docs: asked.docs,
        links: asked.links,
        support: asked.support,
        inputs: asked.inputs,
        managed_by: asked.managed_by,
        rules: asked.rules,
        ..Default::default()
    }
}

/// Fills in what a product outside the sandbox must be given; gives the paths.
pub(super) fn fill_sandbox(caller: &Caller, product: &mut v1::Product) -> Vec<&'static str> {
    let mut filled = Vec::new();
    if product.owner.is_empty() {
        product.owner = SANDBOX.to_owned();
        filled.push("owner");
    }
    if product.description.trim().is_empty() {
        product.description =
            format!("Tried out in the sandbox by {}; not described yet.", caller.principal());
        filled.push("description");
    }
    if product.classification == i32::from(Classification::Unspecified) {
        product.classification = Classification::Internal.into();
        filled.push("classification");
    }
    filled
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
    check_managed_by("product.managed_by", &product.managed_by)?;
    check_links(&product.links)?;
    if v1::ProductKind::try_from(product.kind).is_err() {
        let what = "use SOURCE_ALIGNED, AGGREGATE or CONSUMER_ALIGNED";
        return Err(invalid("product.kind", what));
    }
    match Classification::try_from(product.classification) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(
            "product.classification",
            "use PUBLIC, INTERNAL, CONFIDENTIAL or RESTRICTED",
        )),
    }
}

fn check_links(links: &[v1::Link]) -> Result<()> {
    if links.len() > MAX_LINKS {
        let what = format!("at most {MAX_LINKS}, there are {}", links.len());
        return Err(invalid("product.links", what));
    }
    for link in links {
        check_length("product.links.title", &link.title, MAX_LINK_TITLE_BYTES)?;
        check_length("product.links.url", &link.url, MAX_LINK_BYTES)?;
        if link.title.trim().is_empty() || link.title.chars().any(char::is_control) {
            return Err(invalid("product.links.title", "a title is one line of text, not empty"));
        }
        let rest = ["https://", "http://", "mailto:"]
            .iter()
            .find_map(|scheme| link.url.strip_prefix(scheme))
            .unwrap_or_default();
        let unsafe_part = |c: char| c.is_control() || c.is_whitespace() || "<>\"`".contains(c);
        if rest.is_empty() || link.url.contains(unsafe_part) {
            return Err(invalid(
                "product.links.url",
                format!(
                    "`{}` is not a web or mail address: https://…, http://… or mailto:…",
                    shown(&link.url)
                ),
            ));
        }
    }
    Ok(())
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
