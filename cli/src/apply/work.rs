//! One call that changes something: as it is made, and as the broker is asked beforehand whether it
//! would take it.

use std::collections::{BTreeMap, BTreeSet};

use meshlog_client::{Catalog, proto};

use super::there;
use crate::exit::{Exit, Failure, Result};

/// A change of the catalogue. Etags of products come from [`Etags`], all others are in the messages.
#[derive(Clone, Debug)]
pub(super) enum Work {
    CreateTeam(proto::Team),
    UpdateTeam(proto::Team),
    DeleteTeam(proto::DeleteTeamRequest),
    CreateTagKey(proto::TagKey),
    UpdateTagKey(proto::TagKey),
    DeleteTagKey(proto::DeleteTagKeyRequest),
    CreateDomain(proto::Domain),
    UpdateDomain(proto::Domain),
    DeleteDomain(proto::DeleteDomainRequest),
    CreateProduct(Box<proto::CreateProductRequest>),
    AddSchema(Box<proto::AddSchemaVersionRequest>),
    UpdateProduct(Box<proto::Product>, Vec<String>),
    Transfer(proto::TransferProductRequest),
    Activate(String),
    Deprecate(proto::DeprecateProductRequest),
    Retire(String),
    DeleteProduct(proto::DeleteProductRequest),
}

/// What each product must still have when it is changed next, by name.
pub(super) type Etags = BTreeMap<String, String>;

/// What the same plan creates first: asked beforehand, the broker does not have it yet.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub(super) teams: BTreeMap<String, proto::Team>,
    pub(super) keys: BTreeSet<String>,
    pub(super) domains: BTreeMap<String, proto::Domain>,
    pub(super) products: BTreeSet<String>,
}

impl Planned {
    /// Leaves out what only the plan has.
    fn strip(&self, product: &mut proto::Product) {
        product.tags.retain(|tag| !self.keys.contains(&tag.key));
        product.inputs.retain(|input| !self.products.contains(input));
    }
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

fn team_update(team: &proto::Team, validate_only: bool) -> proto::UpdateTeamRequest {
    let update_mask = mask(&["contacts", "description", "managed_by"]);
    proto::UpdateTeamRequest { team: Some(team.clone()), update_mask, validate_only }
}

fn key_update(key: &proto::TagKey, validate_only: bool) -> proto::UpdateTagKeyRequest {
    let update_mask = mask(&["description", "owner", "value_type", "allowed_values", "managed_by"]);
    proto::UpdateTagKeyRequest { tag_key: Some(key.clone()), update_mask, validate_only }
}

fn domain_update(domain: &proto::Domain, validate_only: bool) -> proto::UpdateDomainRequest {
    let update_mask = mask(&["owner", "description", "tags", "managed_by"]);
    proto::UpdateDomainRequest { domain: Some(domain.clone()), update_mask, validate_only }
}

impl Work {
    /// Makes the change.
    pub(super) async fn run(&self, catalog: &Catalog, etags: &mut Etags) -> Result<()> {
        let etag_of = |etags: &Etags, name: &str| etags.get(name).cloned().unwrap_or_default();
        let product = match self.clone() {
            Self::CreateTeam(team) => {
                let request = proto::CreateTeamRequest { team: Some(team), validate_only: false };
                return catalog.create_team(request).await.map(drop).map_err(Failure::from);
            }
            Self::UpdateTeam(team) => {
                catalog.update_team(team_update(&team, false)).await?;
                return Ok(());
            }
            Self::DeleteTeam(request) => return Ok(catalog.delete_team(request).await?),
            Self::CreateTagKey(key) => {
                let tag_key = Some(key);
                let request = proto::CreateTagKeyRequest { tag_key, validate_only: false };
                return catalog.create_tag_key(request).await.map(drop).map_err(Failure::from);
            }
            Self::UpdateTagKey(key) => {
                catalog.update_tag_key(key_update(&key, false)).await?;
                return Ok(());
            }
            Self::DeleteTagKey(request) => return Ok(catalog.delete_tag_key(request).await?),
            Self::CreateDomain(domain) => {
                let domain = Some(domain);
                let request = proto::CreateDomainRequest { domain, validate_only: false };
                return catalog.create_domain(request).await.map(drop).map_err(Failure::from);
            }
            Self::UpdateDomain(domain) => {
                catalog.update_domain(domain_update(&domain, false)).await?;
                return Ok(());
            }
            Self::DeleteDomain(request) => return Ok(catalog.delete_domain(request).await?),
            Self::DeleteProduct(request) => {
                catalog.delete_product(request).await?;
                return Ok(());
            }
            Self::AddSchema(request) => return add_schema(catalog, *request, etags).await,
            Self::CreateProduct(request) => catalog.create_product(*request).await?,
            Self::UpdateProduct(mut product, paths) => {
                product.etag = etag_of(etags, &product.name);
                let update_mask = Some(prost_types::FieldMask { paths });
                let product = Some(*product);
                let request =
                    proto::UpdateProductRequest { product, update_mask, validate_only: false };
                catalog.update_product(request).await?
            }
            Self::Transfer(mut request) => {
                request.etag = etag_of(etags, &request.name);
                catalog.transfer_product(request).await?
            }
            Self::Activate(name) => {
                let etag = etag_of(etags, &name);
                let request = proto::ActivateProductRequest { name, etag, validate_only: false };
                catalog.activate_product(request).await?
            }
            Self::Deprecate(mut request) => {
                request.etag = etag_of(etags, &request.name);
                catalog.deprecate_product(request).await?
            }
            Self::Retire(name) => {
                let etag = etag_of(etags, &name);
                let request = proto::RetireProductRequest {
                    name,
                    etag,
                    ..proto::RetireProductRequest::default()
                };
                catalog.retire_product(request).await?
            }
        };
        etags.insert(product.name, product.etag);
        Ok(())
    }

    /// Asks the broker whether it would take it, as far as it can know before the rest of the plan is
    /// done. Deletions of domains, teams and tag keys depend on that rest; it decides when it gets to
    /// them.
    pub(super) async fn validate(
        &self,
        catalog: &Catalog,
        planned: &Planned,
        etags: &Etags,
    ) -> Result<()> {
        let etag_of = |name: &str| etags.get(name).cloned().unwrap_or_default();
        let is_planned = |team: &str| planned.teams.contains_key(team);
        match self.clone() {
            Self::CreateTeam(team) => {
                let request = proto::CreateTeamRequest { team: Some(team), validate_only: true };
                catalog.create_team(request).await?;
            }
            Self::UpdateTeam(team) => {
                catalog.update_team(team_update(&team, true)).await?;
            }
            Self::CreateTagKey(key) => {
                let owner_comes = is_planned(&key.owner);
                let request =
                    proto::CreateTagKeyRequest { tag_key: Some(key), validate_only: true };
                let asked = catalog.create_tag_key(request).await.map(drop);
                return but_for_its_owner(asked, owner_comes);
            }
            Self::UpdateTagKey(key) => {
                let asked = catalog.update_tag_key(key_update(&key, true)).await.map(drop);
                return but_for_its_owner(asked, is_planned(&key.owner));
            }
            Self::CreateDomain(mut domain) => {
                domain.tags.retain(|tag| !planned.keys.contains(&tag.key));
                let owner_comes = is_planned(&domain.owner);
                let request =
                    proto::CreateDomainRequest { domain: Some(domain), validate_only: true };
                let asked = catalog.create_domain(request).await.map(drop);
                return but_for_its_owner(asked, owner_comes);
            }
            Self::UpdateDomain(mut domain) => {
                domain.tags.retain(|tag| !planned.keys.contains(&tag.key));
                let asked = catalog.update_domain(domain_update(&domain, true)).await.map(drop);
                return but_for_its_owner(asked, is_planned(&domain.owner));
            }
            Self::CreateProduct(mut request) => {
                request.validate_only = true;
                if let Some(product) = &mut request.product {
                    planned.strip(product);
                    let domain = product.name.split('.').next().unwrap_or_default();
                    request.new_domain = planned.domains.get(domain).map(|_| proto::Domain {
                        name: domain.to_owned(),
                        owner: product.owner.clone(),
                        ..proto::Domain::default()
                    });
                    request.new_team = planned.teams.get(&product.owner).cloned();
                }
                catalog.create_product(*request).await?;
            }
            Self::UpdateProduct(mut product, paths) => {
                planned.strip(&mut product);
                product.etag = etag_of(&product.name);
                let update_mask = Some(prost_types::FieldMask { paths });
                let product = Some(*product);
                let request =
                    proto::UpdateProductRequest { product, update_mask, validate_only: true };
                catalog.update_product(request).await?;
            }
            Self::Transfer(mut request) => {
                request.etag = etag_of(&request.name);
                request.validate_only = true;
                let owner_comes = is_planned(&request.new_owner);
                let asked = catalog.transfer_product(request).await.map(drop);
                return but_for_its_owner(asked, owner_comes);
            }
            Self::Activate(name) if etags.contains_key(&name) => {
                let etag = etag_of(&name);
                let request = proto::ActivateProductRequest { name, etag, validate_only: true };
                catalog.activate_product(request).await?;
            }
            Self::Deprecate(mut request)
                if etags.contains_key(&request.name)
                    && !planned.products.contains(&request.successor) =>
            {
                request.etag = etag_of(&request.name);
                request.validate_only = true;
                catalog.deprecate_product(request).await?;
            }
            Self::Retire(name) if etags.contains_key(&name) => {
                let etag = etag_of(&name);
                let request = proto::RetireProductRequest {
                    name,
                    etag,
                    validate_only: true,
                    ..proto::RetireProductRequest::default()
                };
                catalog.retire_product(request).await?;
            }
            Self::DeleteProduct(mut request) => {
                request.validate_only = true;
                catalog.delete_product(request).await?;
            }
            // The schema was asked about when the plan was made.
            Self::AddSchema(_)
            | Self::Activate(_)
            | Self::Deprecate(_)
            | Self::Retire(_)
            | Self::DeleteTeam(_)
            | Self::DeleteTagKey(_)
            | Self::DeleteDomain(_) => {}
        }
        Ok(())
    }
}

/// What is checked before the owner is, holds; the owner is created first.
fn but_for_its_owner(asked: meshlog_client::Result<()>, owner_comes: bool) -> Result<()> {
    match asked {
        Err(error) if owner_comes && error.reason() == "TEAM_NOT_FOUND" => Ok(()),
        other => Ok(other?),
    }
}

/// The answer has no etag of the product: it is read again, and must be what it was but for the
/// schema.
async fn add_schema(
    catalog: &Catalog,
    mut request: proto::AddSchemaVersionRequest,
    etags: &mut Etags,
) -> Result<()> {
    let name = request.product.clone();
    let before = there::find(catalog, &name).await?;
    request.etag = etags.get(&name).cloned().unwrap_or_default();
    let added = catalog.add_schema_version(request).await?;
    let after = there::find(catalog, &name).await?;
    let (mut was, mut is) = (before.said(), after.said());
    (was.schema, was.key_schema) = (None, None);
    (is.schema, is.key_schema) = (None, None);
    if was != is || after.version.version != added.version {
        return Err(Failure::new(
            Exit::Conflict,
            format!("{name} was changed by somebody else meanwhile; run the command again"),
        ));
    }
    etags.insert(name, after.product.etag);
    Ok(())
}
