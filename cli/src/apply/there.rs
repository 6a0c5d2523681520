//! What the broker has now, of what a plan is about.

use std::collections::{BTreeMap, BTreeSet};

use meshlog_client::{Catalog, proto};

use super::{document::Product, read::Given};
use crate::exit::Result;

/// A product with its current schema.
pub(super) struct Found {
    /// With provenance and use.
    pub(super) product: proto::Product,
    /// The current one.
    pub(super) version: proto::SchemaVersion,
}

impl Found {
    /// As a file would say it.
    pub(super) fn said(&self) -> Product {
        Product::of_wire(&self.product, &self.version)
    }
}

/// Teams, keys and domains by name; of the products those that matter.
#[derive(Default)]
pub(super) struct There {
    pub(super) teams: BTreeMap<String, proto::Team>,
    pub(super) keys: BTreeMap<String, proto::TagKey>,
    pub(super) domains: BTreeMap<String, proto::Domain>,
    /// Those that the files name, and those that `--prune` may remove.
    pub(super) products: BTreeMap<String, Found>,
    /// Earlier names of products, and what they are called now.
    pub(super) aliases: BTreeMap<String, String>,
}

impl There {
    /// Asks the broker.
    pub(super) async fn read(catalog: &Catalog, given: &Given, prune: bool) -> Result<Self> {
        let teams = catalog.list_teams().await?;
        let keys = catalog.list_tag_keys().await?;
        let domains = catalog.list_domains().await?;
        let listed = catalog.list_products("").await?;
        let mut there = Self {
            teams: teams.into_iter().map(|team| (team.name.clone(), team)).collect(),
            keys: keys.into_iter().map(|key| (key.name.clone(), key)).collect(),
            domains: domains.into_iter().map(|domain| (domain.name.clone(), domain)).collect(),
            ..Self::default()
        };
        let named: BTreeSet<&str> =
            given.document.products.iter().map(|product| &*product.name).collect();
        for product in listed {
            for alias in &product.aliases {
                there.aliases.insert(alias.clone(), product.name.clone());
            }
            let may_go = prune && given.managers.contains(&product.managed_by);
            if named.contains(&*product.name) || may_go {
                let found = find(catalog, &product.name).await?;
                there.products.insert(product.name, found);
            }
        }
        Ok(there)
    }
}

/// One product as it is now.
pub(super) async fn find(catalog: &Catalog, name: &str) -> Result<Found> {
    let product = catalog.get_product(name).await?;
    let version = catalog.get_schema_version(name, 0).await?;
    Ok(Found { product, version })
}
