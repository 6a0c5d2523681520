//! What a product says, who said it, and what it lacks.

use meshlog_proto::v1::{Link, ProductKind, ProvenanceKind, TagOrigin};

use super::vocabulary::{create_key, tag, tag_key};
use super::*;

fn link(title: &str, url: &str) -> Link {
    Link { title: title.to_owned(), url: url.to_owned() }
}

/// Path, kind and principal of each value.
fn provenance(catalogue: &Catalogue, name: &str) -> BTreeMap<String, (ProvenanceKind, String)> {
    let provenance = get_whole(catalogue, name).provenance;
    assert!(provenance.iter().all(|one| one.time.is_some()));
    let entry = |one: v1::Provenance| (one.path.clone(), (one.kind(), one.principal));
    provenance.into_iter().map(entry).collect()
}

#[tokio::test]
async fn kind_links_inputs_docs_and_support_are_kept_and_checked() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.source")).await;
    let request = with("ops.sum", |p| {
        p.kind = ProductKind::Aggregate.into();
        p.links = vec![
            link("Wiki", "https://wiki.example.org/x?y=1#z"),
            link("Mail", "mailto:a@example.org"),
        ];
        p.inputs = vec!["ops.source".to_owned()];
        p.docs = "# Sum".to_owned();
        p.support = "#ops".to_owned();
    });
    let before = created(&catalogue, request).await;
    assert_eq!(get(&catalogue, "ops.sum"), before);
    assert_eq!(
        (before.kind(), before.links.len(), before.inputs.len()),
        (ProductKind::Aggregate, 2, 1)
    );

    let asked = |change: fn(&mut v1::Product)| {
        let mut product = v1::Product { name: "ops.sum".to_owned(), ..Default::default() };
        change(&mut product);
        product
    };
    for (path, product, reason, name) in [
        ("kind", asked(|p| p.kind = 9), Reason::InvalidArgument, "product.kind"),
        (
            "links",
            asked(|p| p.links = vec![link("x", "javascript:alert(1)")]),
            Reason::InvalidArgument,
            "product.links.url",
        ),
        (
            "links",
            asked(|p| p.links = vec![link("x", "https://")]),
            Reason::InvalidArgument,
            "product.links.url",
        ),
        (
            "links",
            asked(|p| p.links = vec![link("x", "https://a b")]),
            Reason::InvalidArgument,
            "product.links.url",
        ),
        (
            "links",
            asked(|p| p.links = vec![link("", "https://a.org")]),
            Reason::InvalidArgument,
            "product.links.title",
        ),
        (
            "links",
            asked(|p| p.links = vec![link("x", "https://a.org"); 21]),
            Reason::InvalidArgument,
            "product.links",
        ),
        (
            "inputs",
            asked(|p| p.inputs = vec!["ops.none".to_owned()]),
            Reason::ProductNotFound,
            "product.inputs",
        ),
        (
            "inputs",
            asked(|p| p.inputs = vec!["ops.sum".to_owned()]),
            Reason::InvalidArgument,
            "product.inputs",
        ),
        (
            "inputs",
            asked(|p| p.inputs = vec!["ops.source".to_owned(); 2]),
            Reason::InvalidArgument,
            "product.inputs",
        ),
        (
            "inputs",
            asked(|p| p.inputs = vec!["x".to_owned(); 101]),
            Reason::InvalidArgument,
            "product.inputs",
        ),
        (
            "support",
            asked(|p| p.support = "x".repeat(2_000)),
            Reason::InvalidArgument,
            "product.support",
        ),
        (
            "successor",
            asked(|p| p.successor = "ops.source".to_owned()),
            Reason::InvalidArgument,
            "update_mask",
        ),
    ] {
        let error = update(&catalogue, &[path], product).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    assert_eq!(get(&catalogue, "ops.sum"), before);
    let cleared =
        update(&catalogue, &["kind", "links", "inputs", "support", "docs"], asked(|_| {}))
            .await
            .unwrap();
    assert_eq!((cleared.kind, cleared.links.len(), cleared.inputs.len()), (0, 0, 0));
}

#[tokio::test]
async fn completeness_names_what_is_missing_with_the_command_that_adds_it() {
    let (_, catalogue) = catalogue();
    let product = created(&catalogue, create("ops.a")).await;
    let completeness = product.completeness.unwrap();
    assert_eq!(completeness.score, 25, "a schema and an owner");
    assert_eq!(completeness.missing.len(), 7);
    assert!(completeness.missing[0].contains("`meshlog product update ops.a --description TEXT`"));
    let whole = v1::Product {
        name: "ops.a".to_owned(),
        description: "Departures of all flights from New York, as the carriers report them."
            .to_owned(),
        docs: "d".to_owned(),
        kind: ProductKind::SourceAligned.into(),
        tags: vec![tag("pii", None, "carrier")],
        links: vec![link("Wiki", "https://example.org")],
        support: "#ops".to_owned(),
        ..Default::default()
    };
    let product = update(&catalogue, &[], whole).await.unwrap();
    assert_eq!(product.completeness.unwrap(), v1::Completeness { score: 100, missing: vec![] });
    let request = v1::CreateProductRequest {
        product: Some(v1::Product { name: "sandbox.x".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    let product = created(&catalogue, request).await;
    assert_eq!(product.completeness.unwrap().score, 15, "the sandbox describes it");
    let list =
        catalogue.list_products(&Caller::default(), v1::ListProductsRequest::default()).unwrap();
    assert!(list.products.iter().all(|product| product.completeness.is_some()));
}

#[tokio::test]
async fn tags_of_the_domain_the_product_and_containing_fields_apply_as_of_now() {
    let (_, catalogue) = catalogue();
    let nested = r#"{"type": "object", "properties": {"leg": {"type": "object",
        "properties": {"from": {"type": "string"}}}, "carrier": {"type": "string"}}}"#;
    let mut request = with("ops.flights", |p| p.tags = vec![tag("pii", None, "leg")]);
    request.value_schema = Some(json_schema(nested));
    created(&catalogue, request).await;
    create_key(&catalogue, tag_key("level", v1::TagValueType::String, &[])).await.unwrap();
    let effective = |catalogue: &Catalogue| {
        let row = |one: &v1::EffectiveTag| {
            let tag = one.tag.as_ref().unwrap();
            format!("{}:{}={}", tag.field_path, tag.key, tag.value.as_deref().unwrap_or("-"))
        };
        get_whole(catalogue, "ops.flights").effective_tags.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(effective(&catalogue), ["leg:pii=-", "leg.from:pii=-"]);

    let domain = |tags| v1::UpdateDomainRequest {
        domain: Some(v1::Domain { name: "ops".to_owned(), tags, ..Default::default() }),
        update_mask: Some(mask(&["tags"])),
        validate_only: false,
    };
    let stored = catalogue.resolve("ops.flights", "").unwrap().stored().unwrap();
    catalogue.update_domain(&caller(), domain(vec![tag("level", Some("1"), "")])).await.unwrap();
    assert_eq!(
        effective(&catalogue),
        [
            ":level=1",
            "carrier:level=1",
            "leg:level=1",
            "leg:pii=-",
            "leg.from:level=1",
            "leg.from:pii=-"
        ]
    );
    let whole = get_whole(&catalogue, "ops.flights");
    assert_eq!(whole.effective_tags[0].origin(), TagOrigin::Domain);
    assert_eq!(
        catalogue.resolve("ops.flights", "").unwrap().stored().unwrap(),
        stored,
        "nothing is copied"
    );
    let list = catalogue
        .list_products(&Caller::default(), v1::ListProductsRequest::default())
        .unwrap()
        .products;
    assert_eq!(list[1].effective_tags.len(), 1, "lists have those of the product");
    let own = v1::Product {
        name: "ops.flights".to_owned(),
        tags: vec![tag("level", Some("2"), "")],
        ..Default::default()
    };
    let product = update(&catalogue, &["tags"], own).await.unwrap();
    assert_eq!(product.effective_tags[0].origin(), TagOrigin::Product);
    assert_eq!(
        effective(&catalogue),
        [":level=2", "carrier:level=2", "leg:level=2", "leg.from:level=2"]
    );
}

#[tokio::test]
async fn each_value_says_who_set_it_and_only_a_change_renews_it() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, with("ops.a", |p| p.tags = vec![tag("pii", None, "carrier")])).await;
    let before = provenance(&catalogue, "ops.a");
    let declared = (ProvenanceKind::Declared, "unverified:tests".to_owned());
    let paths: Vec<&str> = before.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "classification",
            "description",
            "name",
            "owner",
            "partitions",
            "schema_version",
            "state",
            "tags[pii@carrier]"
        ]
    );
    assert_eq!(before["owner"], declared);
    assert_eq!(before["partitions"].0, ProvenanceKind::Inferred);

    let times = |catalogue: &Catalogue| {
        let provenance = get_whole(catalogue, "ops.a").provenance;
        provenance.into_iter().map(|one| (one.path, one.time)).collect::<BTreeMap<_, _>>()
    };
    let earlier = times(&catalogue);
    let request = v1::UpdateProductRequest {
        product: Some(v1::Product {
            name: "ops.a".to_owned(),
            description: "Departures.".to_owned(),
            docs: "new".to_owned(),
            tags: vec![tag("pii", None, "")],
            settings: Some(ProductSettings {
                enforcement: Enforcement::Off.into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    catalogue.update_product(&Caller::new("editor"), request).await.unwrap();
    let after = provenance(&catalogue, "ops.a");
    let editor = (ProvenanceKind::Declared, "unverified:editor".to_owned());
    for path in ["docs", "tags[pii]", "settings.enforcement"] {
        assert_eq!(after[path], editor, "{path}");
    }
    assert!(!after.contains_key("tags[pii@carrier]"), "what is gone has no author");
    for path in ["description", "owner", "classification", "name"] {
        assert_eq!(after[path], declared, "{path} was not changed");
        assert_eq!(times(&catalogue)[path], earlier[path]);
    }
    let list = catalogue
        .list_products(&Caller::default(), v1::ListProductsRequest::default())
        .unwrap()
        .products;
    assert!(list.iter().all(|product| product.provenance.is_empty()), "only in GetProduct");
    let reopened = Catalogue::open(&storage).unwrap();
    assert_eq!(provenance(&reopened, "ops.a"), after);
}

#[tokio::test]
async fn what_the_sandbox_fills_in_is_inferred_until_somebody_says_so() {
    let (_, catalogue) = catalogue();
    let request = v1::CreateProductRequest {
        product: Some(v1::Product { name: "sandbox.x".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    created(&catalogue, request).await;
    let inferred: Vec<String> = provenance(&catalogue, "sandbox.x")
        .into_iter()
        .filter(|(_, (kind, _))| *kind == ProvenanceKind::Inferred)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        inferred,
        [
            "classification",
            "description",
            "owner",
            "partitions",
            "schema_version",
            "settings.retention_age"
        ]
    );
    let same = v1::Product {
        name: "sandbox.x".to_owned(),
        classification: Classification::Internal.into(),
        ..Default::default()
    };
    update(&catalogue, &["classification", "description"], same).await.unwrap();
    let after = provenance(&catalogue, "sandbox.x");
    assert_eq!(after["classification"].0, ProvenanceKind::Declared);
    assert_eq!(after["description"].0, ProvenanceKind::Inferred, "emptied, so filled in again");
}
