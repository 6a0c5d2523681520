//! How much of what helps a reader a product says.
//!
//! | Worth | What |
//! |---|---|
//! | 15 | a schema that says what is inside (not OPAQUE) |
//! | 15 | a description of at least 40 characters |
//! | 15 | docs |
//! | 10 | an owner outside the sandbox |
//! | 10 | where it stands (kind) |
//! | 10 | a tag, on the product or on a field |
//! | 10 | where to ask (support) |
//! | 10 | a link |
//! | 5 | inputs, unless it is source-aligned |
//!
//! The score is the worth of what is there in percent of the worth of all that applies.

use meshlog_proto::v1::{self, Completeness, ProductKind, SchemaFormat};

use super::name::SANDBOX;

/// Characters of a description that says something.
const TELLING_DESCRIPTION: usize = 40;

/// Of a product as clients see it.
pub(super) fn of(product: &v1::Product, format: SchemaFormat) -> Completeness {
    let name = &product.name;
    let update = |option: &str| format!("`meshlog product update {name} {option}`");
    let described = product.description.trim().chars().count() >= TELLING_DESCRIPTION;
    let mut aspects = vec![
        (
            15,
            format != SchemaFormat::Opaque,
            format!("a schema that says what is inside: `meshlog schema add {name} FILE`"),
        ),
        (
            15,
            described,
            format!(
                "a description of at least {TELLING_DESCRIPTION} characters: {}",
                update("--description TEXT")
            ),
        ),
        (15, !product.docs.trim().is_empty(), format!("docs: {}", update("--docs FILE"))),
        (10, product.owner != SANDBOX, format!("an owner: `meshlog product transfer {name} TEAM`")),
        (
            10,
            product.kind() != ProductKind::Unspecified,
            format!("its kind: {}", update("--kind source-aligned|aggregate|consumer-aligned")),
        ),
        (10, !product.tags.is_empty(), format!("tags: {}", update("--tag KEY=VALUE"))),
        (
            10,
            !product.support.trim().is_empty(),
            format!("where to ask: {}", update("--support TEXT")),
        ),
        (10, !product.links.is_empty(), format!("links: {}", update("--link TITLE=URL"))),
    ];
    if product.kind() != ProductKind::SourceAligned {
        let inputs = format!("what it is made of: {}", update("--input PRODUCT"));
        aspects.push((5, !product.inputs.is_empty(), inputs));
    }
    let all: u32 = aspects.iter().map(|(worth, ..)| worth).sum();
    let there: u32 = aspects.iter().filter(|(_, there, _)| *there).map(|(worth, ..)| worth).sum();
    let missing = aspects.into_iter().filter(|(_, there, _)| !there).map(|(.., what)| what);
    Completeness { score: there * 100 / all, missing: missing.collect() }
}
