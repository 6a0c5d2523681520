//! Which tags apply: a field has those of the fields that contain it, of the product and of the
//! domain; of one key, what is set nearest wins. Worked out when somebody reads, never stored.

use std::collections::{BTreeMap, BTreeSet};

use meshlog_proto::v1::{EffectiveTag, Tag, TagOrigin};

/// Most rows about fields. Beyond, what applies to every field because it is set on the product or
/// on the domain is not repeated for each.
const MAX_FIELD_ROWS: usize = 4096;

type Nearest<'a> = BTreeMap<&'a str, (&'a Tag, TagOrigin)>;

/// The tags that apply to a product.
pub(super) fn of_product(domain: &[Tag], tags: &[Tag]) -> Vec<EffectiveTag> {
    let nearest = product_level(domain, tags);
    nearest.values().map(|(tag, origin)| effective(tag, "", *origin)).collect()
}

/// The tags that apply to its fields. `paths` are those of the schema; a tagged field need not be
/// among them.
pub(super) fn of_fields(
    domain: &[Tag],
    tags: &[Tag],
    paths: impl Iterator<Item = String>,
) -> Vec<EffectiveTag> {
    let mut on_fields: BTreeMap<&str, Vec<&Tag>> = BTreeMap::new();
    for tag in tags.iter().filter(|tag| !tag.field_path.is_empty()) {
        on_fields.entry(&tag.field_path).or_default().push(tag);
    }
    let product = product_level(domain, tags);
    let tagged = on_fields.keys().map(|path| (*path).to_owned());
    let paths: BTreeSet<String> = paths.chain(tagged).collect();

    let rows = |inherited: &Nearest<'_>| {
        let mut rows = Vec::new();
        for path in &paths {
            let mut nearest = inherited.clone();
            for containing in containing(path) {
                for tag in on_fields.get(containing).into_iter().flatten() {
                    nearest.insert(&tag.key, (*tag, TagOrigin::Field));
                }
            }
            let applying = nearest.values().map(|(tag, origin)| effective(tag, path, *origin));
            rows.extend(applying.take(MAX_FIELD_ROWS + 1 - rows.len()));
            if rows.len() > MAX_FIELD_ROWS {
                break;
            }
        }
        rows
    };
    let mut all = rows(&product);
    if all.len() > MAX_FIELD_ROWS {
        all = rows(&Nearest::new());
        all.truncate(MAX_FIELD_ROWS);
    }
    all
}

fn product_level<'a>(domain: &'a [Tag], tags: &'a [Tag]) -> Nearest<'a> {
    let domain = domain.iter().map(|tag| (tag, TagOrigin::Domain));
    let own = tags.iter().filter(|tag| tag.field_path.is_empty());
    let own = own.map(|tag| (tag, TagOrigin::Product));
    domain.chain(own).map(|(tag, origin)| (tag.key.as_str(), (tag, origin))).collect()
}

/// The field and those that contain it, the outermost first: `a`, `a.b`, `a.b[]`, `a.b[].c`.
fn containing(path: &str) -> impl Iterator<Item = &str> {
    let ends = path.char_indices().filter(|(at, c)| *at > 0 && matches!(c, '.' | '['));
    ends.map(|(at, _)| at).chain([path.len()]).map(|end| &path[..end])
}

fn effective(tag: &Tag, field: &str, origin: TagOrigin) -> EffectiveTag {
    let tag = Tag { key: tag.key.clone(), value: tag.value.clone(), field_path: field.to_owned() };
    EffectiveTag { tag: Some(tag), origin: origin.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str, field: &str) -> Tag {
        Tag { key: key.to_owned(), value: Some(value.to_owned()), field_path: field.to_owned() }
    }

    fn rows(tags: Vec<EffectiveTag>) -> Vec<String> {
        let row = |tag: EffectiveTag| {
            let origin = tag.origin().as_str_name().trim_start_matches("TAG_ORIGIN_").to_owned();
            let tag = tag.tag.unwrap();
            format!("{} {}={} {origin}", tag.field_path, tag.key, tag.value.unwrap())
        };
        tags.into_iter().map(row).collect()
    }

    #[test]
    fn what_is_set_nearest_wins() {
        let domain = [tag("region", "world", ""), tag("level", "1", ""), tag("source", "x", "")];
        let tags = [
            tag("level", "2", ""),
            tag("region", "nyc", "a"),
            tag("level", "3", "a.b[]"),
            tag("level", "4", "a.b[].c"),
            tag("unit", "m", "ab"),
        ];
        assert_eq!(
            rows(of_product(&domain, &tags)),
            [" level=2 PRODUCT", " region=world DOMAIN", " source=x DOMAIN"]
        );
        let paths = ["a", "a.b", "a.b[].c", "z"].into_iter().map(str::to_owned);
        assert_eq!(
            rows(of_fields(&domain, &tags, paths)),
            [
                "a level=2 PRODUCT",
                "a region=nyc FIELD",
                "a source=x DOMAIN",
                "a.b level=2 PRODUCT",
                "a.b region=nyc FIELD",
                "a.b source=x DOMAIN",
                "a.b[] level=3 FIELD",
                "a.b[] region=nyc FIELD",
                "a.b[] source=x DOMAIN",
                "a.b[].c level=4 FIELD",
                "a.b[].c region=nyc FIELD",
                "a.b[].c source=x DOMAIN",
                "ab level=2 PRODUCT",
                "ab region=world DOMAIN",
                "ab source=x DOMAIN",
                "ab unit=m FIELD",
                "z level=2 PRODUCT",
                "z region=world DOMAIN",
                "z source=x DOMAIN",
            ]
        );
    }

    #[test]
    fn a_wide_schema_repeats_only_what_is_set_on_fields() {
        let tags: Vec<Tag> = (0..100).map(|key| tag(&format!("k{key}"), "v", "")).collect();
        let mut tags = tags;
        tags.push(tag("own", "v", "f7"));
        let paths = (0..1_000).map(|number| format!("f{number}"));
        assert_eq!(rows(of_fields(&[], &tags, paths)), ["f7 own=v FIELD"]);
    }
}
