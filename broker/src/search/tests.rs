use std::collections::BTreeMap;
use std::sync::Arc;

use meshlog_proto::v1::{self, Classification, ProductKind, ProductState, SchemaFormat};
use proptest::prelude::*;

use super::search::Found;
use super::*;
use crate::schema::Field;

fn document(id: u32, name: &str, description: &str) -> Document {
    let product = v1::Product {
        id: format!("id-{id:03}"),
        name: name.to_owned(),
        description: description.to_owned(),
        owner: "ops".to_owned(),
        ..Default::default()
    };
    Document { product, fields: Vec::new(), format: SchemaFormat::Opaque, traffic: Arc::default() }
}

fn field(path: &str, docs: &str) -> Field {
    let (path, docs) = (path.to_owned(), docs.to_owned());
    Field { path, docs, type_name: "string".to_owned(), optional: false }
}

fn tag(text: &str, field_path: &str) -> v1::Tag {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    v1::Tag { key: key.to_owned(), value, field_path: field_path.to_owned() }
}

fn index(documents: &[Document]) -> Index {
    let mut index = Index::default();
    documents.iter().for_each(|document| index.put(document));
    index
}

fn search(index: &Index, query: &str) -> Found {
    index.search(&Query::parse(query).unwrap(), 0, 1000, true)
}

/// Names in the order found.
fn names(documents: &[Document], query: &str) -> Vec<String> {
    let by_id: BTreeMap<&str, &str> =
        documents.iter().map(|one| (&*one.product.id, &*one.product.name)).collect();
    search(&index(documents), query).ids.iter().map(|id| by_id[&**id].to_owned()).collect()
}

#[test]
fn better_places_and_better_likeness_come_first() {
    let documents = [
        document(1, "a.log", "what the port authority writes"),
        document(2, "a.passport", "passports"),
        document(3, "a.port", "ships"),
        document(4, "a.portfolio", "shares"),
        document(5, "a.port-calls", "ships"),
        document(6, "a.part", "of a machine"),
    ];
    assert_eq!(names(&documents, "port"), ["a.port", "a.port-calls", "a.portfolio", "a.log"]);
    assert_eq!(names(&documents, "prot"), ["a.port", "a.port-calls", "a.log"]);
}

#[test]
fn words_stand_in_every_place() {
    let mut one = document(1, "sky.tail_num", "Descriptive");
    one.product.docs = "Documentary".to_owned();
    one.product.owner = "fleet-team".to_owned();
    one.product.contacts = vec!["desk@example.org".to_owned()];
    one.product.tags = vec![tag("source=bts", ""), tag("pii", "passenger.fullName")];
    one.fields = vec![field("passenger.fullName", "Spelled as in the ticket")];
    let documents = [one];
    for query in [
        "sky",
        "tail",
        "tailnum",
        "descriptive",
        "documentary",
        "fleet",
        "desk",
        "example.org",
        "bts",
        "source=bts",
        "pii",
        "passenger",
        "name",
        "fullname",
        "ticket",
        "\"in the ticket\"",
        "tag:pii",
        "tag:source",
        "tag:source=bts",
        "tag:source=b*",
        "field:fullname",
        "field:passenger.fullName",
        "field:passenger.*",
        "name:tail_num",
        "name:sky.*",
        "owner:fleet-team",
        "domain:sky",
        "format:opaque",
        "-domain:sea",
        "-tag:gdpr sky",
    ] {
        assert_eq!(names(&documents, query).len(), 1, "{query}");
    }
    for query in [
        "ail",
        "\"the in\"",
        "\"name spelled\"",
        "tag:pi",
        "tag:source=b",
        "field:full",
        "name:tail",
        "owner:fleet",
        "-tag:source",
        "-domain:s*",
        "sky -format:opaque",
        "domain:sea",
    ] {
        assert_eq!(names(&documents, query).len(), 0, "{query}");
    }
}

#[test]
fn several_values_of_a_single_fact_are_alternatives_and_tags_are_not() {
    let mut documents =
        vec![document(1, "a.x", ""), document(2, "b.x", ""), document(3, "c.x", "")];
    documents[0].product.tags = vec![tag("p", ""), tag("q", "")];
    documents[1].product.tags = vec![tag("p", "")];
    assert_eq!(names(&documents, "domain:a domain:b"), ["a.x", "b.x"]);
    assert_eq!(names(&documents, "domain:a domain:b -domain:a"), ["b.x"]);
    assert_eq!(names(&documents, "tag:p tag:q"), ["a.x"]);
    assert_eq!(names(&documents, "tag:p -tag:q"), ["b.x"]);
}

#[test]
fn an_inherited_tag_is_found_and_one_that_is_overridden_is_not_there_twice() {
    let mut one = document(1, "a.x", "");
    one.product.tags = vec![tag("region=nyc", "")];
    let effective = |tag| v1::EffectiveTag { tag: Some(tag), ..Default::default() };
    one.product.effective_tags = vec![effective(tag("region=nyc", "")), effective(tag("gdpr", ""))];
    let index = index(&[one]);
    assert_eq!(search(&index, "gdpr tag:gdpr tag:region=nyc").total, 1);
    let facets = search(&index, "").facets;
    let tags = facets.iter().find(|facet| facet.name == "tag").unwrap();
    let values: Vec<&str> = tags.values.iter().map(|value| &*value.value).collect();
    assert_eq!(values, ["gdpr", "region=nyc"]);
}

#[test]
fn corrections_name_the_word_that_was_meant() {
    let documents = [document(1, "ops.flights", ""), document(2, "ops.lights", "flights")];
    let found = search(&index(&documents), "fligths ops");
    assert_eq!((found.total, &found.corrections[..]), (2, &["fligths: flights".to_owned()][..]));
    assert!(search(&index(&documents), "flights").corrections.is_empty());
    // Both words are known, but not together: then they are taken for others too.
    let documents = [document(1, "a.fright", "red"), document(2, "a.flight", "blue")];
    let found = search(&index(&documents), "fright blue");
    assert_eq!((found.total, &found.corrections[..]), (1, &["fright: flight".to_owned()][..]));
    // Numbers are not misspelled.
    let found = search(&index(&[document(1, "a.report-2013", "")]), "2014");
    assert_eq!(found.total, 0);
}

#[test]
fn a_word_that_is_gone_with_its_product_is_corrected_again() {
    let mut index = index(&[document(1, "a.flights", ""), document(2, "a.fligths", "")]);
    assert!(search(&index, "fligths").corrections.is_empty());
    index.remove("id-002");
    assert_eq!(search(&index, "fligths").corrections, ["fligths: flights"]);
}

#[test]
fn words_in_one_place_count_more_than_words_apart() {
    let mut apart = document(1, "a.apart", "salt");
    apart.product.docs = "pepper".to_owned();
    let documents = [
        apart,
        document(2, "b.together", "pepper and salt"),
        document(3, "c.salt-of-pepper", ""),
        document(4, "d.salt-pepper", ""),
    ];
    let expected = ["d.salt-pepper", "c.salt-of-pepper", "b.together", "a.apart"];
    assert_eq!(names(&documents, "salt pepper"), expected);
    let known: Vec<f32> = [(2, 1, 2), (2, 1, 3), (2, 32, 2), (2, 0, 2), (1, 32, 2)]
        .map(|(words, common, pieces)| rank::together(words, common, pieces))
        .to_vec();
    assert!(known.is_sorted_by(|a, b| a >= b) && known[2] > known[3], "{known:?}");
}

#[test]
fn deprecated_and_retired_products_come_later() {
    let mut documents =
        vec![document(1, "a.x", "sky"), document(2, "b.x", "sky"), document(3, "c.x", "sky")];
    documents[0].product.state = ProductState::Retired.into();
    documents[1].product.state = ProductState::Deprecated.into();
    assert_eq!(names(&documents, "sky"), ["c.x", "b.x", "a.x"]);
}

#[test]
fn use_decides_between_equal_matches_and_lifts_no_poor_one() {
    let documents = [
        document(1, "a.orders", "sold"),
        document(2, "b.orders", "sold"),
        document(3, "c.sales", "all the orders that were sold, every one of them, in one place"),
    ];
    assert_eq!(names(&documents, "orders"), ["a.orders", "b.orders", "c.sales"]);
    documents[1].traffic.delivered(&crate::Caller::new("reader"), 1, 10, 0);
    for reader in 0..100 {
        documents[2].traffic.delivered(
            &crate::Caller::new(&format!("reader-{reader}")),
            1,
            1_000_000_000,
            0,
        );
    }
    assert_eq!(names(&documents, "orders"), ["b.orders", "a.orders", "c.sales"]);
    assert_eq!(names(&documents, ""), ["c.sales", "b.orders", "a.orders"]);
}

#[test]
fn matches_say_where_and_show_the_text() {
    let mut one = document(1, "ops.flights", "Every flight that left the city");
    one.product.contacts = vec!["flight-desk@example.org".to_owned()];
    one.product.tags = vec![tag("unit=minutes", "delay")];
    one.fields = vec![field("delay", "Delay of the flight in minutes"), field("number", "")];
    let query = Query::parse("flights tag:unit=minutes").unwrap();
    let found = index(std::slice::from_ref(&one)).search(&query, 0, 10, false);
    let matches = one.matches(&query, &found);
    let shown: Vec<(&str, &str)> = matches.iter().map(|one| (&*one.place, &*one.snippet)).collect();
    assert_eq!(
        shown,
        [
            ("name", "ops.flights"),
            ("tag", "unit=minutes on delay"),
            ("description", "Every flight that left the city"),
            ("field_docs", "delay: Delay of the flight in minutes"),
            ("contact", "flight-desk@example.org"),
        ]
    );
}

#[test]
fn facets_count_all_hits_whatever_the_page() {
    let mut documents: Vec<Document> =
        (0..50).map(|n| document(n, &format!("d{}.x{n}", n % 25), "sky")).collect();
    documents[7].product.classification = Classification::Public.into();
    documents[7].product.kind = ProductKind::SourceAligned.into();
    let found = index(&documents).search(&Query::parse("sky").unwrap(), 0, 3, true);
    assert_eq!((found.ids.len(), found.total), (3, 50));
    let facet = |name: &str| found.facets.iter().find(|facet| facet.name == name).unwrap();
    let domains = &facet("domain").values;
    assert_eq!(domains.len(), 20);
    assert!(domains.iter().all(|domain| domain.count == 2));
    assert_eq!(facet("format").values[0], v1::FacetValue { value: "opaque".to_owned(), count: 50 });
    assert_eq!(
        facet("kind").values[0],
        v1::FacetValue { value: "source-aligned".to_owned(), count: 1 }
    );
    assert!(!found.facets.iter().any(|facet| facet.name == "tag"));
}

#[test]
fn a_document_with_too_many_words_is_found_by_the_first_of_them() {
    let mut one = document(1, "a.x", "last");
    one.product.docs = (0..20_000).map(|n| format!("word{n}x ")).collect();
    one.fields = (0..4096).map(|n| field(&format!("f{n}_a.b{n}"), "some docs of it")).collect();
    let index = index(&[one]);
    assert_eq!(search(&index, "last word0x word1999x").total, 1);
    assert_eq!(search(&index, "\"word2001x\"").total, 0);
    assert!(index.size().postings <= 12_000, "{:?}", index.size());
}

// The reference: what a product has is looked up in its texts, one product after the other.

/// What the generator makes: words of at most three letters, which are never taken for others.
#[derive(Clone, Debug)]
struct Made {
    domain: &'static str,
    name: Vec<String>,
    description: Vec<String>,
    tags: Vec<String>,
    fields: Vec<String>,
    state: i32,
    classification: i32,
    read: u64,
}

impl Made {
    fn document(&self, id: u32) -> Document {
        let name = format!("{}.{}", self.domain, self.name.join("-"));
        let mut made = document(id, &name, &self.description.join(" "));
        made.product.state = self.state;
        made.product.classification = self.classification;
        made.product.tags = self.tags.iter().map(|text| tag(text, "")).collect();
        made.fields = self.fields.iter().map(|path| field(path, "")).collect();
        made.traffic.delivered(&crate::Caller::new("reader"), 1, self.read, 0);
        made
    }

    fn has_word(&self, word: &str) -> bool {
        let joined = self.name.join("");
        let parts = self.tags.iter().flat_map(|tag| tag.split('='));
        let all = self.name.iter().chain(&self.description).chain(&self.fields).map(String::as_str);
        let mut all = all.chain(parts).chain([self.domain, "ops", &*joined]);
        let plural = format!("{word}s");
        all.any(|own| match word.len() {
            1 => own == word,
            _ => own.starts_with(word) || own == plural,
        })
    }

    fn has(&self, filter: &str, value: &str) -> bool {
        match filter {
            "domain" => self.domain == value,
            "state" => {
                ["", "draft", "active", "deprecated", "retired"][self.state as usize] == value
            }
            "tag" => self.tags.iter().any(|tag| {
                tag == value || tag.strip_prefix(value).is_some_and(|rest| rest.starts_with('='))
            }),
            "field" => self.fields.iter().any(|field| field == value),
            _ => unreachable!(),
        }
    }
}

fn short() -> impl Strategy<Value = String> {
    "[ab]{1,3}"
}

fn made() -> impl Strategy<Value = Made> {
    let words = |most| prop::collection::vec(short(), 1..most);
    let tags = prop::collection::vec("[pq](=[ab])?", 0..4);
    let single =
        (prop::sample::select(vec!["sea", "sky"]), 1..5i32, 0..5i32, prop::option::of(1..1000u64));
    (single, words(3), words(6), tags, words(4)).prop_map(
        |(single, name, description, tags, fields)| {
            let (domain, state, classification, read) = single;
            let read = read.unwrap_or_default();
            Made { domain, name, description, tags, fields, state, classification, read }
        },
    )
}

fn filter() -> impl Strategy<Value = (bool, &'static str, String)> {
    let value = prop_oneof![
        prop::sample::select(vec!["sea", "sky"]).prop_map(|value| ("domain", value.to_owned())),
        prop::sample::select(vec!["draft", "retired"])
            .prop_map(|value| ("state", value.to_owned())),
        "[pq](=[ab])?".prop_map(|value| ("tag", value)),
        short().prop_map(|value| ("field", value)),
    ];
    (any::<bool>(), value).prop_map(|(negated, (name, value))| (negated, name, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn after_any_changes_the_index_finds_what_the_products_have_as_a_fresh_one_does(
        changes in prop::collection::vec((0..12u32, prop::option::weighted(0.8, made())), 1..60),
        queries in prop::collection::vec(
            (prop::collection::vec(short(), 0..3), prop::collection::vec(filter(), 0..3)), 1..8),
    ) {
        let mut changed = Index::default();
        let mut documents: BTreeMap<u32, (Made, Document)> = BTreeMap::new();
        for (id, change) in changes {
            match change {
                Some(made) => {
                    let document = made.document(id);
                    changed.put(&document);
                    documents.insert(id, (made, document));
                }
                None => {
                    changed.remove(&format!("id-{id:03}"));
                    documents.remove(&id);
                }
            }
        }
        let mut fresh = Index::default();
        for (_, document) in documents.values().rev() {
            fresh.put(document);
        }
        prop_assert_eq!(changed.len(), documents.len());
        for (words, filters) in queries {
            let filter = |(negated, name, value): &(bool, &str, String)| {
                format!("{}{name}:{value}", if *negated { "-" } else { "" })
            };
            let parts: Vec<String> = words.iter().cloned().chain(filters.iter().map(filter)).collect();
            let query = parts.join(" ");
            let found = search(&changed, &query);
            let same = search(&fresh, &query);
            prop_assert_eq!(&found.ids, &same.ids, "{}", query);
            prop_assert_eq!(&found.facets, &same.facets, "{}", query);
            let holds = |made: &Made| {
                let either = |on: &str| {
                    let mut wanted = filters.iter().filter(|one| !one.0 && one.1 == on).peekable();
                    wanted.peek().is_none() || wanted.any(|(_, on, value)| made.has(on, value))
                };
                words.iter().all(|word| made.has_word(word))
                    && either("domain")
                    && either("state")
                    && filters.iter().all(|(negated, on, value)| match (negated, *on) {
                        (true, on) => !made.has(on, value),
                        (false, "domain" | "state") => true,
                        (false, on) => made.has(on, value),
                    })
            };
            let expected: Vec<String> = documents
                .values()
                .filter(|(made, _)| holds(made))
                .map(|(_, document)| document.product.id.clone())
                .collect();
            let mut ids: Vec<String> = found.ids.iter().map(ToString::to_string).collect();
            ids.sort();
            prop_assert_eq!(ids, expected, "{}", query);
            // Pages cut what the whole has.
            let parsed = Query::parse(&query).unwrap();
            let paged: Vec<Arc<str>> = (0..found.total)
                .step_by(2)
                .flat_map(|skip| changed.search(&parsed, skip, 2, false).ids)
                .collect();
            prop_assert_eq!(&paged, &found.ids);
        }
    }
}
