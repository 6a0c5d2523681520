//! `meshlog search`.

use clap::Args;
use meshlog_client::proto::{Facet, SearchHit, SearchProductsRequest, SearchProductsResponse};
use serde::Serialize;

use crate::{
    exit::Result,
    output::{Format, Out, OutputArgs, Row},
    product::View,
    settings::ServerArgs,
    words,
};

/// Arguments of `search`.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Words, "phrases" and filters: domain: owner: state: classification: kind: format: tag:
    /// field: name:; -filter:VALUE leaves out (quote it, or write `--` first). Nothing: all products
    #[arg(value_name = "QUERY")]
    query: Vec<String>,
    /// How many products to show
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    max: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl Search {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let query = self.query.join(" ");
        let request = SearchProductsRequest {
            query: query.clone(),
            page_size: self.max,
            page_token: String::new(),
        };
        let catalog = self.server.connect().await?.catalog();
        let found = Found::from(catalog.search_products(request).await?);
        let format = self.output.output;
        match format {
            Format::Table | Format::Wide => found.show(&query, format, out),
            Format::Jsonl | Format::Name => out.list(format, &found.hits),
            Format::Json | Format::Yaml => out.one(format, &found),
        }
    }
}

/// What was found.
#[derive(Serialize)]
struct Found {
    total: u64,
    hits: Vec<HitView>,
    facets: Vec<FacetView>,
    corrections: Vec<String>,
}

impl From<SearchProductsResponse> for Found {
    fn from(response: SearchProductsResponse) -> Self {
        Self {
            total: response.total,
            hits: response.hits.into_iter().map(HitView::from).collect(),
            facets: response.facets.into_iter().map(FacetView::from).collect(),
            corrections: response.corrections,
        }
    }
}

impl Found {
    fn show(&self, query: &str, format: Format, out: &mut Out) -> Result<()> {
        for correction in &self.corrections {
            if let Some((word, taken_for)) = correction.split_once(": ") {
                out.note(format_args!("`{word}` was taken for `{taken_for}`"));
            }
        }
        if self.hits.is_empty() {
            out.note(match query.trim() {
                "" => "there are no products yet; create one with \
                       `meshlog product create sandbox.NAME`"
                    .to_owned(),
                query => format!(
                    "nothing is found for `{query}`; all words and filters must hold, so try fewer \
                     of them, or see what there is with `meshlog search` and `meshlog product list`"
                ),
            });
            return Ok(());
        }
        out.list(format, &self.hits)?;
        let shown = self.hits.len() as u64;
        if self.total > shown {
            out.note(format_args!(
                "the best {shown} of {}; add words or filters, or --max N",
                words::counted(self.total, "product")
            ));
        }
        // One product needs no narrowing down.
        let facets: Vec<_> = self.facets.iter().filter(|facet| facet.values.len() > 1).collect();
        if self.total > 1 && !facets.is_empty() {
            out.line("\nnarrow down with")?;
            for facet in facets {
                out.line(format_args!("  {facet}"))?;
            }
        }
        Ok(())
    }
}

/// One product that was found.
#[derive(Serialize)]
struct HitView {
    #[serde(flatten)]
    product: View,
    matches: Vec<MatchView>,
}

#[derive(Serialize)]
struct MatchView {
    place: String,
    snippet: String,
}

impl From<SearchHit> for HitView {
    fn from(hit: SearchHit) -> Self {
        let matches = hit.matches.into_iter();
        Self {
            product: View::from(hit.product.unwrap_or_default()),
            matches: matches
                .map(|found| MatchView { place: found.place, snippet: found.snippet })
                .collect(),
        }
    }
}

/// Longest reason in the table, in characters.
const WHY_WIDTH: usize = 60;

impl HitView {
    /// Why it was found.
    fn why(&self, most: usize) -> String {
        let text = |found: &MatchView| {
            let snippet = found.snippet.split_whitespace().collect::<Vec<_>>().join(" ");
            match found.place.as_str() {
                "name" => "name".to_owned(),
                place if snippet.chars().count() <= WHY_WIDTH => format!("{place}: {snippet}"),
                place => {
                    let cut: String = snippet.chars().take(WHY_WIDTH).collect();
                    format!("{place}: {cut}…")
                }
            }
        };
        self.matches.iter().take(most).map(text).collect::<Vec<_>>().join("; ")
    }
}

impl Row for HitView {
    const PLURAL: &'static str = "products";
    const HEADER: &'static [&'static str] = &["NAME", "OWNER", "STATE", "DESCRIPTION", "WHY"];
    const WIDE: &'static [&'static str] = &["CLASSIFICATION", "ALL REASONS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.product.name.clone(),
            self.product.owner.clone(),
            self.product.state().to_owned(),
            self.product.description().to_owned(),
            self.why(1),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.product.classification.clone(), self.why(usize::MAX)]
    }
}

/// One way to divide what was found.
#[derive(Serialize)]
struct FacetView {
    name: String,
    values: Vec<FacetValueView>,
}

#[derive(Serialize)]
struct FacetValueView {
    value: String,
    count: u64,
}

impl From<Facet> for FacetView {
    fn from(facet: Facet) -> Self {
        let values = facet.values.into_iter();
        Self {
            name: facet.name,
            values: values
                .map(|value| FacetValueView { value: value.value, count: value.count })
                .collect(),
        }
    }
}

/// Most values of one facet in a line.
const FACET_VALUES: usize = 4;

impl std::fmt::Display for FacetView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, value) in self.values.iter().take(FACET_VALUES).enumerate() {
            let gap = if n == 0 { "" } else { "  " };
            write!(f, "{gap}{}:{} ({})", self.name, value.value, words::count(value.count))?;
        }
        match self.values.len().checked_sub(FACET_VALUES) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "  and {more} more"),
        }
    }
}
