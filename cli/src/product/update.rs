//! `meshlog product update`.

use clap::Args;
use clap_complete::ArgValueCompleter;
use meshlog_client::proto::{self, Product, UpdateProductRequest};

use super::{
    Target,
    values::{Classification, Facts},
};
use crate::{
    completion,
    exit::{Exit, Failure, Result},
    output::Out,
    tag::{self, FieldTag, FieldTagKey, WholeTag},
    words::{self, Mask},
};

/// Arguments of `product update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    facts: Facts,
}

/// What an update changes beside what creating takes too.
#[derive(Debug, Args)]
pub(crate) struct Values {
    /// What it holds, for a person
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// How far its data may travel
    #[arg(long)]
    classification: Option<Classification>,
    /// Tag of the product; replaces the value of one that is there
    #[arg(long = "tag", value_name = "K=V|TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    tags: Vec<WholeTag>,
    /// Tag of the product that goes
    #[arg(long = "untag", value_name = "TAG", add = ArgValueCompleter::new(completion::tag_keys))]
    untags: Vec<String>,
    /// Tag of a field; replaces the value of one that is there
    #[arg(long = "field-tag", value_name = "PATH:TAG")]
    field_tags: Vec<FieldTag>,
    /// Tag of a field that goes
    #[arg(long = "field-untag", value_name = "PATH:TAG")]
    field_untags: Vec<FieldTagKey>,
    /// Link that goes, by its title
    #[arg(long = "remove-link", value_name = "TITLE")]
    remove_links: Vec<String>,
    /// Product that it is no longer made of
    #[arg(long = "remove-input", value_name = "PRODUCT")]
    remove_inputs: Vec<String>,
    /// Earlier name that shall no longer lead here
    #[arg(long = "remove-alias", value_name = "NAME")]
    remove_aliases: Vec<String>,
}

impl Update {
    /// Runs the command.
    pub(super) async fn run(self, out: &mut Out) -> Result<()> {
        let (catalog, before) = self.target.read().await?;
        let mut product = before.clone();
        let mut mask = Mask::default();
        self.values.put(&mut product, &mut mask)?;
        self.facts.put(&mut product)?.into_iter().for_each(|field| mask.add(field));
        let update_mask = mask.done();
        if update_mask.paths.is_empty() {
            return Err(Failure::usage(
                "nothing to change was named; `meshlog product update --help` lists what can be",
            ));
        }
        let request = UpdateProductRequest {
            product: Some(product),
            update_mask: Some(update_mask),
            validate_only: self.target.change.dry_run,
        };
        let after = catalog.update_product(request).await?;
        self.target.show(before, after, out)
    }
}

impl Values {
    fn put(self, product: &mut Product, mask: &mut Mask) -> Result<()> {
        if let Some(description) = self.description {
            product.description = description;
            mask.add("description");
        }
        if let Some(classification) = self.classification {
            product.set_classification(proto::Classification::from(classification));
            mask.add("classification");
        }
        for key in &self.untags {
            tag::remove(&mut product.tags, key, "")?;
            mask.add("tags");
        }
        for untag in &self.field_untags {
            tag::remove(&mut product.tags, &untag.key, &untag.path)?;
            mask.add("tags");
        }
        let tags = self.tags.into_iter().map(|tag| tag.0);
        for tag in tags.chain(self.field_tags.into_iter().map(|tag| tag.0)) {
            tag::put(&mut product.tags, tag);
            mask.add("tags");
        }
        for title in &self.remove_links {
            let Some(place) = product.links.iter().position(|link| link.title == *title) else {
                let titles: Vec<_> = product.links.iter().map(|link| link.title.as_str()).collect();
                return Err(Failure::new(
                    Exit::NotFound,
                    format!(
                        "there is no link `{title}` to remove; there are {}",
                        titles.join(", ")
                    ),
                ));
            };
            product.links.remove(place);
            mask.add("links");
        }
        if !self.remove_inputs.is_empty() {
            words::remove_all("input", &mut product.inputs, &self.remove_inputs)?;
            mask.add("inputs");
        }
        if !self.remove_aliases.is_empty() {
            words::remove_all("alias", &mut product.aliases, &self.remove_aliases)?;
            mask.add("aliases");
        }
        Ok(())
    }
}
