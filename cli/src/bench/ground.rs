//! What a run makes in the broker: one domain, owned by a team of its own, and products in it. Nothing else is touched,
//! and all of it goes again.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use meshlog_client::proto::{
    Classification, CreateProductRequest, DeleteDomainRequest, DeleteProductRequest,
    DeleteTeamRequest, Domain, Product, SchemaFormat, SchemaSource, Team,
};
use meshlog_client::{Catalog, Client};
use tokio::sync::Semaphore;

use super::live::Live;
use crate::exit::{Exit, Failure, Result};

/// How the domain and the team of every run begin.
pub(super) const PREFIX: &str = "meshlog-bench-";
/// Changes of the catalogue under way at once.
const AT_ONCE: u32 = 64;

/// A domain of one run.
#[derive(Clone)]
pub(super) struct Ground {
    catalog: Catalog,
    /// The name of the domain and of the team.
    name: String,
    partitions: u32,
    /// A permit for each creation under way: a call that was sent is waited for before anything is removed, also after
    /// an interruption, or it would leave a product behind.
    creating: Arc<Semaphore>,
}

impl Ground {
    /// One that nobody else has. Nothing is made yet.
    pub(super) fn new(client: &Client, partitions: u32) -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        let run = (now ^ (i128::from(std::process::id()) << 32)) as u64;
        Self::existing(client.catalog(), format!("{PREFIX}{run:016x}"), partitions)
    }

    /// That of an earlier run.
    pub(super) fn existing(catalog: Catalog, name: String, partitions: u32) -> Self {
        Self { catalog, name, partitions, creating: Arc::new(Semaphore::new(AT_ONCE as usize)) }
    }

    /// Of the domain and of the team.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Makes products, and returns their names.
    pub(super) async fn create(
        &self,
        word: &str,
        count: usize,
        live: &Live,
    ) -> Result<Vec<String>> {
        let names: Vec<String> =
            (0..count).map(|number| format!("{}.{word}-{number}", self.name)).collect();
        // The first one makes the domain and the team too.
        let (first, rest) = names.split_at(1.min(names.len()));
        for name in first {
            self.create_one(name.clone()).await?;
        }
        let _phase = live.phase("products created");
        live.count(first.len() as u64, 0);
        let mut created = stream::iter(rest)
            .map(|name| self.create_one(name.clone()))
            .buffer_unordered(AT_ONCE as usize);
        while let Some(outcome) = created.next().await {
            outcome?;
            live.count(1, 0);
        }
        drop(created);
        Ok(names)
    }

    /// In a task of its own, which goes on when whoever waits goes away.
    async fn create_one(&self, name: String) -> Result<()> {
        let permit = self.creating.clone().acquire_owned().await;
        let catalog = self.catalog.clone();
        let request = self.creation(name);
        let task = tokio::spawn(async move {
            let outcome = catalog.create_product(request).await;
            drop(permit);
            outcome
        });
        let outcome = task.await.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
        outcome?;
        Ok(())
    }

    fn creation(&self, name: String) -> CreateProductRequest {
        CreateProductRequest {
            product: Some(Product {
                name,
                owner: self.name.clone(),
                description: "Made by `meshlog bench`, and removed when it ends".into(),
                classification: Classification::Internal.into(),
                partitions: self.partitions,
                ..Product::default()
            }),
            value_schema: Some(SchemaSource {
                format: SchemaFormat::Opaque.into(),
                reason: "random bytes of a benchmark".into(),
                media_type: "application/octet-stream".into(),
                ..SchemaSource::default()
            }),
            new_domain: Some(Domain {
                name: self.name.clone(),
                owner: self.name.clone(),
                description: "Made by `meshlog bench`, and removed when it ends".into(),
                ..Domain::default()
            }),
            new_team: Some(Team {
                name: self.name.clone(),
                description: "Made by `meshlog bench`, and removed when it ends".into(),
                contacts: vec!["#meshlog-bench".into()],
                ..Team::default()
            }),
            ..CreateProductRequest::default()
        }
    }

    /// Removes the products with their records, then the domain and the team. Returns how many products went.
    pub(super) async fn clear(&self) -> Result<u64> {
        // Whatever was being created is there now, or never will be.
        let _quiet = self.creating.acquire_many(AT_ONCE).await;
        let mut removed = 0;
        let products = self.catalog.list_products(self.name.clone()).await?;
        let mut deleted = stream::iter(products)
            .map(|product| {
                let request =
                    DeleteProductRequest { name: product.name, force: true, ..Default::default() };
                self.catalog.delete_product(request)
            })
            .buffer_unordered(AT_ONCE as usize);
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) => removed += 1,
                Err(error) if error.reason() == "PRODUCT_NOT_FOUND" => {}
                Err(error) => return Err(error.into()),
            }
        }
        let domain = DeleteDomainRequest { name: self.name.clone(), ..Default::default() };
        let team = DeleteTeamRequest { name: self.name.clone(), ..Default::default() };
        for outcome in
            [self.catalog.delete_domain(domain).await, self.catalog.delete_team(team).await]
        {
            match outcome {
                Err(error) if !error.reason().ends_with("_NOT_FOUND") => return Err(error.into()),
                _ => {}
            }
        }
        Ok(removed)
    }
}

/// The domains and teams of runs that did not clean up, or are still going.
pub(super) async fn left_behind(catalog: &Catalog) -> Result<Vec<String>> {
    let domains = catalog.list_domains().await?.into_iter().map(|domain| domain.name);
    let teams = catalog.list_teams().await?.into_iter().map(|team| team.name);
    let mut names: Vec<String> =
        domains.chain(teams).filter(|name| name.starts_with(PREFIX)).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
