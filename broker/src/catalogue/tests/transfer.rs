//! Handing products over.

use super::*;

pub(super) async fn transfer(catalogue: &Catalogue, name: &str, to: &str) -> Result<v1::Product> {
    let request = v1::TransferProductRequest {
        name: name.to_owned(),
        new_owner: to.to_owned(),
        reason: "They run it now.".to_owned(),
        ..Default::default()
    };
    Ok(catalogue.transfer_product(&caller(), request).await?.product.unwrap())
}

pub(super) async fn accept(catalogue: &Catalogue, name: &str, team: &str) -> Result<v1::Product> {
    let request = v1::AcceptProductTransferRequest {
        name: name.to_owned(),
        new_owner: team.to_owned(),
        ..Default::default()
    };
    Ok(catalogue.accept_product_transfer(&caller(), request).await?.product.unwrap())
}

async fn cancel(catalogue: &Catalogue, name: &str) -> Result<v1::Product> {
    let request = v1::CancelProductTransferRequest { name: name.to_owned(), ..Default::default() };
    Ok(catalogue.cancel_product_transfer(&caller(), request).await?.product.unwrap())
}

#[tokio::test]
async fn the_owner_changes_when_the_new_team_accepts_and_not_before() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    for name in ["new", "third"] {
        catalogue.create_team(&caller(), team(name)).await.unwrap();
    }
    let offered = transfer(&catalogue, "ops.a", "third").await.unwrap();
    assert_eq!(offered.owner, "ops-team");
    let offered = transfer(&catalogue, "ops.a", "new").await.unwrap();
    let pending = offered.pending_transfer.as_ref().unwrap();
    assert_eq!((pending.new_owner.as_str(), pending.reason.as_str()), ("new", "They run it now."));
    assert_eq!(pending.requested_by, "unverified:tests");
    assert!(pending.request_time.is_some());
    assert_eq!(get(&catalogue, "ops.a"), offered);

    for stranger in ["third", "ops-team", ""] {
        let error = accept(&catalogue, "ops.a", stranger).await.unwrap_err();
        assert_eq!(
            (error.reason(), error.metadata()["new_owner"].as_str()),
            (Reason::TransferNotPending, "new")
        );
    }
    let taken = accept(&catalogue, "ops.a", "new").await.unwrap();
    assert_eq!((taken.owner.as_str(), taken.pending_transfer.as_ref()), ("new", None));
    assert_eq!(taken.contacts, ["new@example.org"]);
    assert_eq!(
        accept(&catalogue, "ops.a", "new").await.unwrap_err().reason(),
        Reason::TransferNotPending
    );
}

#[tokio::test]
async fn a_transfer_is_called_off_or_refused_by_reason() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    catalogue.create_team(&caller(), team("new")).await.unwrap();
    for (to, reason, name) in [
        ("nobody", Reason::TeamNotFound, ""),
        ("sandbox", Reason::NameReserved, ""),
        ("meshlog", Reason::NameReserved, ""),
        ("", Reason::NameInvalid, ""),
        ("ops-team", Reason::InvalidArgument, "new_owner"),
    ] {
        let error = transfer(&catalogue, "ops.a", to).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    let error = cancel(&catalogue, "ops.a").await.unwrap_err();
    assert_eq!(error.reason(), Reason::TransferNotPending);
    assert!(error.to_string().contains("`meshlog product transfer ops.a TEAM`"), "{error}");
    transfer(&catalogue, "ops.a", "new").await.unwrap();
    assert_eq!(cancel(&catalogue, "ops.a").await.unwrap().pending_transfer, None);
    assert_eq!(
        accept(&catalogue, "ops.a", "new").await.unwrap_err().reason(),
        Reason::TransferNotPending
    );
}
