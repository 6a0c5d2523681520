//! Teams and domains change, and stay while something needs them.

use super::vocabulary::{create_key, tag, tag_key};
use super::*;

async fn update_team(catalogue: &Catalogue, paths: &[&str], team: v1::Team) -> Result<v1::Team> {
    let request = v1::UpdateTeamRequest {
        team: Some(team),
        update_mask: Some(mask(paths)),
        validate_only: false,
    };
    Ok(catalogue.update_team(&caller(), request).await?.team.unwrap())
}

async fn delete_team(catalogue: &Catalogue, name: &str) -> Result<()> {
    let request = v1::DeleteTeamRequest { name: name.to_owned(), ..Default::default() };
    catalogue.delete_team(&caller(), request).await.map(drop)
}

async fn update_domain(
    catalogue: &Catalogue,
    paths: &[&str],
    domain: v1::Domain,
) -> Result<v1::Domain> {
    let request = v1::UpdateDomainRequest {
        domain: Some(domain),
        update_mask: Some(mask(paths)),
        validate_only: false,
    };
    Ok(catalogue.update_domain(&caller(), request).await?.domain.unwrap())
}

async fn delete_domain(catalogue: &Catalogue, name: &str) -> Result<()> {
    let request = v1::DeleteDomainRequest { name: name.to_owned(), ..Default::default() };
    catalogue.delete_domain(&caller(), request).await.map(drop)
}

#[tokio::test]
async fn a_team_changes_and_keeps_a_contact() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    let get = |catalogue: &Catalogue| {
        let request = v1::GetTeamRequest { name: "ops-team".to_owned() };
        catalogue.get_team(&Caller::default(), request).unwrap().team.unwrap()
    };
    let before = get(&catalogue);
    let asked = v1::Team {
        contacts: vec!["#ops".to_owned(), "ops@example.org".to_owned()],
        description: "ignored".to_owned(),
        ..before.clone()
    };
    let after = update_team(&catalogue, &["contacts"], asked).await.unwrap();
    assert_eq!((after.contacts.len(), after.description.as_str()), (2, ""));
    assert_eq!(after.updated_by, "unverified:tests");
    assert_eq!(get(&catalogue), after);
    assert_eq!(super::get(&catalogue, "ops.flights").contacts, after.contacts, "as of now");

    for contacts in [vec![], vec![" ".to_owned()]] {
        let none = v1::Team { contacts, ..after.clone() };
        let error = update_team(&catalogue, &["contacts"], none).await.unwrap_err();
        assert_eq!(field(&error), (Reason::FieldMissing, "contacts"));
    }
    let stale = v1::Team { etag: before.etag, ..after.clone() };
    let error = update_team(&catalogue, &["contacts"], stale).await.unwrap_err();
    assert_eq!((error.reason(), &error.metadata()["etag"]), (Reason::EtagMismatch, &after.etag));
    let error = update_team(&catalogue, &["name"], after.clone()).await.unwrap_err();
    assert_eq!(field(&error), (Reason::InvalidArgument, "update_mask"));
    for (name, reason) in [
        ("sandbox", Reason::NameReserved),
        ("meshlog", Reason::NameReserved),
        ("nobody", Reason::TeamNotFound),
    ] {
        let other = v1::Team { name: name.to_owned(), etag: String::new(), ..after.clone() };
        let error = update_team(&catalogue, &["contacts"], other).await.unwrap_err();
        assert_eq!(error.reason(), reason);
        assert_eq!(delete_team(&catalogue, name).await.unwrap_err().reason(), reason);
    }
}

#[tokio::test]
async fn a_team_that_owns_something_stays_and_what_it_owns_is_named() {
    let (_, catalogue) = catalogue();
    for number in 0..12 {
        created(&catalogue, create(&format!("ops.p{number:02}"))).await;
    }
    create_key(&catalogue, tag_key("unit", v1::TagValueType::None, &[])).await.unwrap();
    let error = delete_team(&catalogue, "ops-team").await.unwrap_err();
    assert_eq!((error.reason(), error.metadata()["name"].as_str()), (Reason::InUse, "ops-team"));
    let users = &error.metadata()["used_by"];
    assert!(users.starts_with("the domain ops, ops.p"), "{users}");
    assert!(users.ends_with(" and 4 more"), "{users}");

    // A team to which something is offered stays as well.
    catalogue.create_team(&caller(), team("others")).await.unwrap();
    let transfer = v1::TransferProductRequest {
        name: "ops.p00".to_owned(),
        new_owner: "others".to_owned(),
        ..Default::default()
    };
    catalogue.transfer_product(&caller(), transfer).await.unwrap();
    let error = delete_team(&catalogue, "others").await.unwrap_err();
    assert_eq!(error.metadata()["used_by"], "ops.p00");
    let cancel =
        v1::CancelProductTransferRequest { name: "ops.p00".to_owned(), ..Default::default() };
    catalogue.cancel_product_transfer(&caller(), cancel).await.unwrap();
    delete_team(&catalogue, "others").await.unwrap();
    assert_eq!(delete_team(&catalogue, "others").await.unwrap_err().reason(), Reason::TeamNotFound);
    catalogue.create_team(&caller(), team("others")).await.unwrap();
}

#[tokio::test]
async fn a_domain_changes_and_stays_while_it_has_products() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.flights")).await;
    created(&catalogue, create("ops-2.flights")).await;
    catalogue.create_team(&caller(), team("others")).await.unwrap();
    let asked = v1::Domain {
        name: "ops".to_owned(),
        owner: "others".to_owned(),
        description: "Operations".to_owned(),
        tags: vec![tag("pii", None, "")],
        ..Default::default()
    };
    let after = update_domain(&catalogue, &["owner", "description"], asked.clone()).await.unwrap();
    assert_eq!((after.owner.as_str(), after.tags.len()), ("others", 0));
    let after = update_domain(&catalogue, &[], asked.clone()).await.unwrap();
    assert_eq!(after.tags.len(), 1, "without a mask, what is not empty");
    assert_eq!(after.created_by, "unverified:tests");

    let bad = |change: fn(&mut v1::Domain)| {
        let mut domain = asked.clone();
        change(&mut domain);
        domain
    };
    for (domain, path, reason, name) in [
        (bad(|d| d.owner.clear()), "owner", Reason::FieldMissing, "owner"),
        (bad(|d| d.owner = "nobody".to_owned()), "owner", Reason::TeamNotFound, ""),
        (
            bad(|d| d.tags[0].field_path = "x".to_owned()),
            "tags",
            Reason::InvalidArgument,
            "tags.field_path",
        ),
        (bad(|d| d.etag = "0".to_owned()), "owner", Reason::EtagMismatch, ""),
        (bad(|d| d.name = "sandbox".to_owned()), "owner", Reason::NameReserved, ""),
        (bad(|d| d.name = "nothing".to_owned()), "owner", Reason::DomainNotFound, ""),
        (asked.clone(), "name", Reason::InvalidArgument, "update_mask"),
    ] {
        let error = update_domain(&catalogue, &[path], domain).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }

    let error = delete_domain(&catalogue, "ops").await.unwrap_err();
    assert_eq!(
        (error.reason(), error.metadata()["used_by"].as_str()),
        (Reason::InUse, "ops.flights")
    );
    delete(&catalogue, "ops.flights").await;
    delete_domain(&catalogue, "ops").await.unwrap();
    assert_eq!(
        delete_domain(&catalogue, "ops").await.unwrap_err().reason(),
        Reason::DomainNotFound
    );
    assert_eq!(
        delete_domain(&catalogue, "meshlog").await.unwrap_err().reason(),
        Reason::NameReserved
    );
    get(&catalogue, "ops-2.flights");
}
