//! From the broker to a file that makes the same.

use std::collections::BTreeSet;

use meshlog_client::{Catalog, proto};

use super::{
    document::{Document, Domain, Product, TagKey, Team},
    there,
};
use crate::exit::{Exit, Failure, Result};

/// Everything that was asked for: all, the products of a domain, or the products named; with the
/// domains, the teams and the tag keys that they need.
pub(super) async fn document(
    catalog: &Catalog,
    domain: Option<&str>,
    names: &[String],
) -> Result<Document> {
    let listed = catalog.list_products(domain.unwrap_or_default()).await?;
    let mut products = Vec::new();
    if let Some(missing) =
        names.iter().find(|name| !listed.iter().any(|product| product.name == **name))
    {
        // The broker says why, or what it is called now.
        let found = catalog.get_product(missing.as_str()).await?;
        return Err(Failure::new(
            Exit::NotFound,
            match domain {
                Some(domain) if found.name == *missing => {
                    format!("{missing} is not in the domain {domain}")
                }
                _ => format!("{missing} is called {} now; export it by that name", found.name),
            },
        ));
    }
    for product in listed {
        let is_asked = names.is_empty() || names.contains(&product.name);
        if is_asked && is_ours(&product) {
            let found = there::find(catalog, &product.name).await?;
            products.push(found.said());
        }
    }
    if let Some(domain) = domain {
        catalog.get_domain(domain).await?;
    }
    let is_all = domain.is_none() && names.is_empty();
    let mut document = Document { products, ..Document::default() };
    surroundings(catalog, domain, is_all, &mut document).await?;
    document.gather_manager();
    Ok(document)
}

/// What people make, and not the broker.
fn is_ours(product: &proto::Product) -> bool {
    !product.name.starts_with("meshlog.") && !product.name.contains('$')
}

async fn surroundings(
    catalog: &Catalog,
    domain: Option<&str>,
    is_all: bool,
    document: &mut Document,
) -> Result<()> {
    let built_in = |name: &str| matches!(name, "meshlog" | "sandbox");
    let products = &document.products;
    let domain_of =
        |product: &Product| product.name.split('.').next().unwrap_or_default().to_owned();
    let mut domains: BTreeSet<String> = products.iter().map(domain_of).collect();
    domains.extend(domain.map(str::to_owned));
    let mut found: Vec<Domain> = catalog.list_domains().await?.iter().map(Domain::from).collect();
    found.retain(|one| !built_in(&one.name) && (is_all || domains.contains(&one.name)));

    let mut keys: BTreeSet<String> = BTreeSet::new();
    let of_fields = products.iter().flat_map(|product| product.field_tags.values().flatten());
    let of_products = products.iter().flat_map(|product| &product.tags);
    let of_domains = found.iter().flat_map(|one| &one.tags);
    for tag in of_fields.chain(of_products).chain(of_domains) {
        keys.insert(tag.split('=').next().unwrap_or_default().to_owned());
    }
    let mut tag_keys: Vec<TagKey> =
        catalog.list_tag_keys().await?.iter().map(TagKey::from).collect();
    tag_keys.retain(|key| key.name != "pii" && (is_all || keys.contains(&key.name)));

    let mut owners: BTreeSet<&str> = products.iter().map(|product| &*product.owner).collect();
    owners.extend(found.iter().map(|one| &*one.owner));
    owners.extend(tag_keys.iter().map(|key| &*key.owner));
    let mut teams: Vec<Team> = catalog.list_teams().await?.iter().map(Team::from).collect();
    teams.retain(|team| !built_in(&team.name) && (is_all || owners.contains(&*team.name)));

    document.domains = found;
    document.tag_keys = tag_keys;
    document.teams = teams;
    Ok(())
}

/// The text of a document; the same document has the same text.
pub(super) fn text(document: &Document) -> Result<String> {
    to_yaml(document)
}

/// YAML, with texts of several lines as blocks.
pub(super) fn to_yaml<T: serde::Serialize>(thing: &T) -> Result<String> {
    serde_saphyr::to_string(thing)
        .map_err(|error| Failure::new(Exit::Error, format!("the YAML cannot be written: {error}")))
}
