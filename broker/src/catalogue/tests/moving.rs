//! Other names for a product.

use super::lifecycle::{activate, deprecate, deprecation};
use super::transfer::{accept, transfer};
use super::*;

pub(super) async fn move_to(
    catalogue: &Catalogue,
    name: &str,
    new_name: &str,
) -> Result<v1::Product> {
    let request = v1::MoveProductRequest {
        name: name.to_owned(),
        new_name: new_name.to_owned(),
        ..Default::default()
    };
    Ok(catalogue.move_product(&caller(), request).await?.product.unwrap())
}

#[tokio::test]
async fn a_moved_product_keeps_its_id_and_records_and_is_found_by_both_names() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    created(&catalogue, create("air.others")).await;
    let before = catalogue.resolve("ops.flights", "").unwrap();
    before.traffic.appended(&crate::Caller::new("loader"), 1, 7, 0);
    let product = move_to(&catalogue, "ops.flights", "air.flights").await.unwrap();
    assert_eq!(
        (product.name.as_str(), product.aliases.as_slice()),
        ("air.flights", &["ops.flights".to_owned()][..])
    );
    for name in ["ops.flights", "air.flights"] {
        let handle = catalogue.resolve(name, &product.id).unwrap();
        assert_eq!((&*handle.name, &handle.streams), ("air.flights", &before.streams));
        assert_eq!(get(&catalogue, name), product);
        assert_eq!(get_whole(&catalogue, name).r#use.unwrap().records_appended, 7);
    }
    // Every call takes the old name.
    let docs =
        v1::Product { name: "ops.flights".to_owned(), docs: "d".to_owned(), ..Default::default() };
    assert_eq!(update(&catalogue, &["docs"], docs).await.unwrap().name, "air.flights");
    add_version(&catalogue, "ops.flights", json_schema("{}")).await.unwrap();
    activate(&catalogue, "ops.flights").await.unwrap();
    let list = v1::ListProductsRequest { domain: "ops".to_owned(), ..Default::default() };
    assert!(catalogue.list_products(&Caller::default(), list).unwrap().products.is_empty());
}

#[tokio::test]
async fn an_alias_stays_taken_until_it_is_given_up() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    created(&catalogue, create("ops.x")).await;
    move_to(&catalogue, "ops.a", "ops.b").await.unwrap();
    let error = refused(&catalogue, create("ops.a")).await;
    assert_eq!(
        (error.reason(), error.metadata()["product"].as_str()),
        (Reason::ProductExists, "ops.b")
    );
    assert!(
        error.to_string().contains("`ops.a` is an earlier name of the product `ops.b`"),
        "{error}"
    );
    for taken in ["ops.a", "ops.b"] {
        let error = move_to(&catalogue, "ops.x", taken).await.unwrap_err();
        assert_eq!(error.reason(), Reason::ProductExists);
    }
    // An update can only give aliases up.
    let aliases = |aliases: &[&str]| v1::Product {
        name: "ops.b".to_owned(),
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        ..Default::default()
    };
    let error = update(&catalogue, &["aliases"], aliases(&["ops.a", "ops.new"])).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "product.aliases"));
    update(&catalogue, &["aliases"], aliases(&["ops.a"])).await.unwrap();
    update(&catalogue, &["aliases"], aliases(&[])).await.unwrap();
    assert_eq!(catalogue.resolve("ops.a", "").unwrap_err().reason(), Reason::ProductNotFound);
    created(&catalogue, create("ops.a")).await;
}

#[tokio::test]
async fn a_product_moves_back_and_a_deleted_one_frees_its_aliases() {
    let (_, catalogue) = catalogue();
    let id = created(&catalogue, create("ops.a")).await.id;
    move_to(&catalogue, "ops.a", "ops.b").await.unwrap();
    let product = move_to(&catalogue, "ops.a", "ops.a").await.unwrap();
    assert_eq!((product.id, product.aliases.as_slice()), (id, &["ops.b".to_owned()][..]));
    let error = move_to(&catalogue, "ops.a", "ops.a").await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "new_name"));
    delete(&catalogue, "ops.b").await;
    for name in ["ops.a", "ops.b"] {
        created(&catalogue, create(name)).await;
    }
}

#[tokio::test]
async fn a_product_has_at_most_sixteen_earlier_names() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.p0")).await;
    for number in 1..=16 {
        move_to(&catalogue, "ops.p0", &format!("ops.p{number}")).await.unwrap();
    }
    let error = move_to(&catalogue, "ops.p0", "ops.p17").await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["limit"].as_str()), (Reason::LimitReached, "16"));
    move_to(&catalogue, "ops.p0", "ops.p3").await.unwrap();
}

#[tokio::test]
async fn a_bad_move_is_refused_by_reason() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    for (new_name, reason) in [
        ("ops/b", Reason::NameInvalid),
        ("meshlog.b", Reason::NameReserved),
        ("nowhere.b", Reason::DomainNotFound),
    ] {
        let error = move_to(&catalogue, "ops.a", new_name).await.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
    }
    activate(&catalogue, "ops.a").await.unwrap();
    let error = move_to(&catalogue, "ops.a", "sandbox.a").await.unwrap_err();
    assert_eq!(error.reason(), Reason::StateInvalid);
    let error = move_to(&catalogue, "ops.none", "ops.b").await.unwrap_err();
    assert_eq!(error.reason(), Reason::ProductNotFound);
}

#[tokio::test]
async fn what_refers_to_a_moved_product_goes_on_meaning_it() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    created(&catalogue, with("ops.sum", |p| p.inputs = vec!["ops.a".to_owned()])).await;
    created(&catalogue, create("ops.old")).await;
    let request =
        v1::DeprecateProductRequest { successor: "ops.a".to_owned(), ..deprecation("ops.old") };
    deprecate(&catalogue, request).await.unwrap();
    move_to(&catalogue, "ops.a", "ops.b").await.unwrap();
    assert_eq!(get(&catalogue, "ops.sum").inputs, ["ops.b"]);
    assert_eq!(get(&catalogue, "ops.old").successor, "ops.b");
    let old = catalogue.resolve("ops.old", "").unwrap();
    assert_eq!(catalogue.notices(&old, "ops.old")[0].product, "ops.b");
    delete(&catalogue, "ops.b").await;
    created(&catalogue, create("ops.b")).await;
    assert!(
        get(&catalogue, "ops.sum").inputs.is_empty(),
        "another product of that name is not meant"
    );
    assert_eq!(get(&catalogue, "ops.old").successor, "");
}

#[tokio::test]
async fn out_of_the_sandbox_a_product_says_what_every_other_one_does() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    let request = v1::CreateProductRequest {
        product: Some(v1::Product { name: "sandbox.try".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    created(&catalogue, request).await;
    let error = move_to(&catalogue, "sandbox.try", "ops.try").await.unwrap_err();
    assert_eq!(field(&error), (Reason::FieldMissing, "owner"));
    assert_eq!(error.metadata()["missing"], "owner,description,classification,schema");
    assert_eq!(error.violations().len(), 4);
    assert!(error.to_string().contains("`meshlog product transfer sandbox.try TEAM`"), "{error}");

    transfer(&catalogue, "sandbox.try", "ops-team").await.unwrap();
    accept(&catalogue, "sandbox.try", "ops-team").await.unwrap();
    // The same value as the sandbox gave, but now somebody says so.
    let said = v1::Product {
        name: "sandbox.try".to_owned(),
        description: "What was tried.".to_owned(),
        classification: Classification::Internal.into(),
        ..Default::default()
    };
    update(&catalogue, &["description", "classification"], said).await.unwrap();
    let error = move_to(&catalogue, "sandbox.try", "ops.try").await.unwrap_err();
    assert_eq!(error.metadata()["missing"], "schema");
    add_version(&catalogue, "sandbox.try", json_schema("{}")).await.unwrap();
    let product = move_to(&catalogue, "sandbox.try", "ops.try").await.unwrap();
    assert_eq!((product.owner.as_str(), product.schema_version), ("ops-team", 2));
    activate(&catalogue, "sandbox.try").await.unwrap();
}
