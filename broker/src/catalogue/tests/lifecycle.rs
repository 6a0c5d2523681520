//! States, and who may go where.

use meshlog_proto::v1::ProductState;

use super::*;

pub(super) async fn activate(catalogue: &Catalogue, name: &str) -> Result<v1::Product> {
    let request = v1::ActivateProductRequest { name: name.to_owned(), ..Default::default() };
    Ok(catalogue.activate_product(&caller(), request).await?.product.unwrap())
}

pub(super) fn deprecation(name: &str) -> v1::DeprecateProductRequest {
    v1::DeprecateProductRequest {
        name: name.to_owned(),
        reason: "The source is switched off.".to_owned(),
        ..Default::default()
    }
}

pub(super) async fn deprecate(
    catalogue: &Catalogue,
    request: v1::DeprecateProductRequest,
) -> Result<v1::Product> {
    Ok(catalogue.deprecate_product(&caller(), request).await?.product.unwrap())
}

pub(super) async fn retire(catalogue: &Catalogue, name: &str, force: bool) -> Result<v1::Product> {
    let request = v1::RetireProductRequest { name: name.to_owned(), force, ..Default::default() };
    Ok(catalogue.retire_product(&caller(), request).await?.product.unwrap())
}

fn in_seconds(seconds: i64) -> Option<prost_types::Timestamp> {
    let mut time = prost_types::Timestamp::from(std::time::SystemTime::now());
    time.seconds += seconds;
    Some(time)
}

#[tokio::test]
async fn a_product_goes_from_state_to_state_as_the_contract_says_and_no_other_way() {
    use ProductState::{Active, Deprecated, Draft, Retired};
    for (state, activates, deprecates, retires) in [
        (Draft, true, true, false),
        (Active, false, true, false),
        (Deprecated, true, false, true),
        (Retired, false, false, false),
    ] {
        for (step, allowed) in
            [("activate", activates), ("deprecate", deprecates), ("retire", retires)]
        {
            let (_, catalogue) = catalogue();
            created(&catalogue, create("ops.a")).await;
            if state == Active {
                activate(&catalogue, "ops.a").await.unwrap();
            } else if state != Draft {
                deprecate(&catalogue, deprecation("ops.a")).await.unwrap();
            }
            if state == Retired {
                retire(&catalogue, "ops.a", false).await.unwrap();
            }
            let before = get(&catalogue, "ops.a");
            assert_eq!(before.state(), state);
            let outcome = match step {
                "activate" => activate(&catalogue, "ops.a").await,
                "deprecate" => deprecate(&catalogue, deprecation("ops.a")).await,
                _ => retire(&catalogue, "ops.a", true).await,
            };
            match outcome {
                Ok(after) => {
                    assert!(allowed, "{step} from {state:?}");
                    assert_ne!(after.etag, before.etag);
                    assert_eq!(get(&catalogue, "ops.a"), after);
                    let handle = catalogue.resolve("ops.a", "").unwrap();
                    assert_eq!(handle.state(), after.state());
                    assert_eq!(handle.check_appendable().is_err(), after.state() == Retired);
                }
                Err(error) => {
                    assert!(!allowed, "{step} from {state:?}: {error}");
                    assert_eq!(error.reason(), Reason::StateInvalid);
                    assert_eq!(error.metadata()["state"], super::super::lifecycle::word(state));
                    assert_eq!(get(&catalogue, "ops.a"), before);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_says_how_to_get_to_a_state_that_allows_it() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    let error = retire(&catalogue, "ops.a", true).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`ops.a` is DRAFT; only a product that is DEPRECATED can be retired; deprecate it first: \
         `meshlog product deprecate ops.a --reason TEXT`"
    );
    let mut request = create("sandbox.x");
    (request.new_domain, request.new_team) = (None, None);
    request.product.as_mut().unwrap().owner.clear();
    created(&catalogue, request).await;
    let error = activate(&catalogue, "sandbox.x").await.unwrap_err();
    assert_eq!(error.reason(), Reason::StateInvalid);
    assert!(error.to_string().contains("`meshlog product move sandbox.x DOMAIN.NAME`"), "{error}");
}

#[tokio::test]
async fn a_deprecation_says_why_what_instead_and_until_when_and_goes_when_it_is_activated() {
    let (_, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    created(&catalogue, create("ops.b")).await;
    let sunset_time = in_seconds(1_000);
    let request = v1::DeprecateProductRequest {
        successor: "ops.b".to_owned(),
        sunset_time,
        ..deprecation("ops.a")
    };
    let product = deprecate(&catalogue, request).await.unwrap();
    assert_eq!((product.successor.as_str(), product.sunset_time), ("ops.b", sunset_time));
    assert_eq!(product.deprecation_reason, "The source is switched off.");

    let error = retire(&catalogue, "ops.a", false).await.unwrap_err();
    assert_eq!(error.reason(), Reason::StateInvalid, "before its sunset");
    let product = activate(&catalogue, "ops.a").await.unwrap();
    assert_eq!((product.successor.as_str(), product.sunset_time), ("", None));
    assert_eq!(product.deprecation_reason, "");

    deprecate(&catalogue, v1::DeprecateProductRequest { sunset_time, ..deprecation("ops.a") })
        .await
        .unwrap();
    retire(&catalogue, "ops.a", true).await.unwrap();
}

#[tokio::test]
async fn a_bad_deprecation_is_refused_by_reason_and_field() {
    let (_, catalogue) = catalogue();
    let product = created(&catalogue, create("ops.a")).await;
    let request = |change: fn(&mut v1::DeprecateProductRequest)| {
        let mut request = deprecation("ops.a");
        change(&mut request);
        request
    };
    for (request, reason, name) in [
        (request(|r| r.reason = " ".to_owned()), Reason::FieldMissing, "reason"),
        (request(|r| r.reason = "x".repeat(5_000)), Reason::InvalidArgument, "reason"),
        (request(|r| r.successor = "ops.none".to_owned()), Reason::ProductNotFound, "successor"),
        (request(|r| r.successor = "ops.a".to_owned()), Reason::SuccessorCycle, "successor"),
        (request(|r| r.sunset_time = in_seconds(-10)), Reason::InvalidArgument, "sunset_time"),
        (
            request(|r| {
                r.sunset_time = Some(prost_types::Timestamp { seconds: i64::MAX, nanos: 0 })
            }),
            Reason::InvalidArgument,
            "sunset_time",
        ),
        (request(|r| r.etag = "0".to_owned()), Reason::EtagMismatch, ""),
        (request(|r| r.name = "ops.none".to_owned()), Reason::ProductNotFound, ""),
    ] {
        let error = deprecate(&catalogue, request).await.unwrap_err();
        assert_eq!(field(&error), (reason, name), "{error}");
    }
    assert_eq!(get(&catalogue, "ops.a"), product);
}

#[tokio::test]
async fn successors_never_lead_in_a_circle_however_long() {
    let (_, catalogue) = catalogue();
    for number in 0..20 {
        created(&catalogue, create(&format!("ops.p{number}"))).await;
    }
    let to = |from: u32, to: u32| v1::DeprecateProductRequest {
        successor: format!("ops.p{to}"),
        ..deprecation(&format!("ops.p{from}"))
    };
    for number in 0..19 {
        deprecate(&catalogue, to(number, number + 1)).await.unwrap();
    }
    for back in 0..20 {
        let error = deprecate(&catalogue, to(19, back)).await.unwrap_err();
        assert_eq!(error.reason(), Reason::SuccessorCycle);
        assert_eq!(error.metadata()["successor"], format!("ops.p{back}"));
    }
    let error = deprecate(&catalogue, to(19, 18)).await.unwrap_err();
    assert!(error.to_string().contains("ops.p19 → ops.p18 → ops.p19"), "{error}");
    created(&catalogue, create("ops.end")).await;
    let request =
        v1::DeprecateProductRequest { successor: "ops.end".to_owned(), ..deprecation("ops.p19") };
    deprecate(&catalogue, request).await.unwrap();
}

#[tokio::test]
async fn a_product_with_live_readers_is_not_pulled_from_under_them_unless_forced() {
    let (_, catalogue) = catalogue();
    for name in ["ops.a", "ops.draft"] {
        created(&catalogue, create(name)).await;
        let usage = Arc::clone(&catalogue.resolve(name, "").unwrap().traffic);
        usage.delivered(&Caller::new("billing"), 1, 1, 0);
        // As long as it is not dropped, the subscription is open.
        std::mem::forget(usage.open(&Caller::new("alerts")));
    }
    deprecate(&catalogue, deprecation("ops.a")).await.unwrap();
    let error = retire(&catalogue, "ops.a", false).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InUse);
    assert_eq!(
        error.metadata()["used_by"],
        "alerts (open subscription), billing (read within 24 hours)"
    );
    assert!(error.to_string().contains("`meshlog product retire ops.a --force`"), "{error}");
    let request = |name: &str, force| v1::DeleteProductRequest {
        name: name.to_owned(),
        force,
        ..Default::default()
    };
    let error = catalogue.delete_product(&caller(), request("ops.a", false)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InUse);
    retire(&catalogue, "ops.a", true).await.unwrap();
    let error = catalogue.delete_product(&caller(), request("ops.a", false)).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InUse);
    catalogue.delete_product(&caller(), request("ops.a", true)).await.unwrap();
    catalogue.delete_product(&caller(), request("ops.draft", false)).await.unwrap();
}

#[tokio::test]
async fn a_product_that_is_active_takes_only_schemas_that_keep_its_promise() {
    let (storage, catalogue) = catalogue();
    created(&catalogue, create("ops.a")).await;
    activate(&catalogue, "ops.a").await.unwrap();
    let entries = storage.stats().entries;
    let same = add_version(&catalogue, "ops.a", json_schema(FLIGHT)).await.unwrap();
    assert_eq!(same.version, 1);
    let other = || add_version(&catalogue, "ops.a", json_schema(r#"{"type": "integer"}"#));
    let error = other().await.unwrap_err();
    assert_eq!(error.reason(), Reason::SchemaIncompatible);
    assert_eq!(error.metadata()["mode"], "RETAINED");
    assert_eq!(error.metadata()["rule"], "JSON_TYPE_NARROWED");
    assert!(error.to_string().contains("`meshlog product succeed ops.a"), "{error}");
    assert_eq!(storage.stats().entries, entries);
    deprecate(&catalogue, deprecation("ops.a")).await.unwrap();
    assert_eq!(other().await.unwrap_err().reason(), Reason::SchemaIncompatible);
    let wider = add_version(&catalogue, "ops.a", json_schema("{}")).await.unwrap();
    assert_eq!(wider.version, 2, "it reads whatever is there");
    retire(&catalogue, "ops.a", false).await.unwrap();
    let again = add_version(&catalogue, "ops.a", json_schema("true")).await.unwrap_err();
    assert_eq!(again.reason(), Reason::StateInvalid);
}
