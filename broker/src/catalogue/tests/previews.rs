//! Every change can be tried out, and is refused when somebody else was first.

#![allow(clippy::needless_update, reason = "some requests have no field that is left out")]

use std::future::Future;
use std::pin::Pin;

use super::vocabulary::{create_key, tag_key};
use super::*;

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<String>> + 'a>>;

/// A change, as a dry run or not, with this etag; answers with its response as text, without
/// what differs from run to run.
type Call = fn(&Catalogue, bool, String) -> Outcome<'_>;

macro_rules! call {
    ($method:ident, $request:ident { $($fields:tt)* }) => {
        call!($method, etag, v1::$request { etag, $($fields)* })
    };
    ($method:ident, $etag:ident, v1::$request:ident { $($fields:tt)* }) => {
        (stringify!($method), (|catalogue, validate_only, $etag| Box::pin(async move {
            let request = v1::$request { validate_only, $($fields)*, ..Default::default() };
            let response = catalogue.$method(&caller(), request).await?;
            Ok(plain(&format!("{response:?}")))
        })) as Call)
    };
}

/// Without ids, etags and times.
fn plain(text: &str) -> String {
    let changing = regex::Regex::new(
        r#"((^| )id|etag): "[^"]*"|(create_time|update_time|request_time): (None|Some\(Timestamp \{[^}]*\}\))|(created_by|updated_by): "[^"]*""#,
    );
    changing.unwrap().replace_all(text, "…").into_owned()
}

/// Products in each state, a domain, a team and a key that nothing uses.
async fn stage(catalogue: &Catalogue) {
    for name in ["ops.draft", "ops.deprecated", "ops.offered"] {
        created(catalogue, create(name)).await;
    }
    lifecycle::deprecate(catalogue, lifecycle::deprecation("ops.deprecated")).await.unwrap();
    catalogue.create_team(&caller(), team("idle")).await.unwrap();
    catalogue.create_domain(&caller(), domain("idle", "ops-team")).await.unwrap();
    create_key(catalogue, tag_key("idle", v1::TagValueType::None, &[])).await.unwrap();
    transfer::transfer(catalogue, "ops.offered", "idle").await.unwrap();
    catalogue.create_team(&caller(), team("unused")).await.unwrap();
}

fn named(name: &str) -> String {
    name.to_owned()
}

fn creations() -> Vec<(&'static str, Call)> {
    vec![
        call!(create_team, _etag, v1::CreateTeamRequest { team: team("new").team }),
        call!(
            create_domain,
            _etag,
            v1::CreateDomainRequest { domain: domain("new", "idle").domain }
        ),
        call!(
            create_tag_key,
            _etag,
            v1::CreateTagKeyRequest {
                tag_key: Some(tag_key("new", v1::TagValueType::String, &[]))
            }
        ),
        call!(
            create_product,
            _etag,
            v1::CreateProductRequest {
                product: create("new.a").product,
                value_schema: create("new.a").value_schema,
                new_domain: create("new.a").new_domain
            }
        ),
    ]
}

fn changes() -> Vec<(&'static str, Call)> {
    vec![
        call!(
            update_team,
            etag,
            v1::UpdateTeamRequest {
                team: Some(v1::Team {
                    name: named("idle"),
                    description: named("x"),
                    etag,
                    ..Default::default()
                })
            }
        ),
        call!(delete_team, DeleteTeamRequest { name: named("unused") }),
        call!(
            update_domain,
            etag,
            v1::UpdateDomainRequest {
                domain: Some(v1::Domain {
                    name: named("idle"),
                    description: named("x"),
                    etag,
                    ..Default::default()
                })
            }
        ),
        call!(delete_domain, DeleteDomainRequest { name: named("idle") }),
        call!(
            update_tag_key,
            etag,
            v1::UpdateTagKeyRequest {
                tag_key: Some(v1::TagKey {
                    name: named("idle"),
                    description: named("x"),
                    etag,
                    ..Default::default()
                })
            }
        ),
        call!(delete_tag_key, DeleteTagKeyRequest { name: named("idle") }),
        call!(
            update_product,
            etag,
            v1::UpdateProductRequest {
                product: Some(v1::Product {
                    name: named("ops.draft"),
                    docs: named("x"),
                    etag,
                    ..Default::default()
                })
            }
        ),
        call!(
            update_product,
            etag,
            v1::UpdateProductRequest {
                product: Some(v1::Product {
                    name: named("ops.draft"),
                    settings: Some(ProductSettings { retention_count: 5, ..Default::default() }),
                    etag,
                    ..Default::default()
                })
            }
        ),
        call!(delete_product, DeleteProductRequest { name: named("ops.draft") }),
        call!(activate_product, ActivateProductRequest { name: named("ops.draft") }),
        call!(
            deprecate_product,
            DeprecateProductRequest { name: named("ops.draft"), reason: named("x") }
        ),
        call!(retire_product, RetireProductRequest { name: named("ops.deprecated") }),
        call!(
            move_product,
            MoveProductRequest { name: named("ops.draft"), new_name: named("ops.other") }
        ),
        call!(
            transfer_product,
            TransferProductRequest { name: named("ops.draft"), new_owner: named("idle") }
        ),
        call!(
            accept_product_transfer,
            AcceptProductTransferRequest { name: named("ops.offered"), new_owner: named("idle") }
        ),
        call!(cancel_product_transfer, CancelProductTransferRequest { name: named("ops.offered") }),
        call!(
            succeed_product,
            SucceedProductRequest { name: named("ops.draft"), reason: named("x") }
        ),
        call!(
            add_schema_version,
            AddSchemaVersionRequest {
                product: named("ops.draft"),
                value_schema: Some(json_schema("{}"))
            }
        ),
    ]
}

#[tokio::test]
async fn a_dry_run_answers_what_the_change_would_give_and_changes_nothing() {
    for (name, call) in creations().into_iter().chain(changes()) {
        let (storage, catalogue) = catalogue();
        stage(&catalogue).await;
        let (state, entries) = (storage.state(), storage.stats().entries);
        let (before, revision) = (seen(&catalogue), *catalogue.changes().borrow());
        let preview = call(&catalogue, true, String::new()).await.unwrap();
        assert_eq!((storage.state(), storage.stats().entries), (state, entries), "{name}");
        assert_eq!((seen(&catalogue), *catalogue.changes().borrow()), (before, revision), "{name}");
        let done = call(&catalogue, false, String::new()).await.unwrap();
        assert_eq!(storage.stats().entries, entries + 1, "{name} is one entry");
        assert_eq!(preview, done, "{name}");
    }
}

#[tokio::test]
async fn a_change_of_what_has_changed_since_it_was_read_is_refused() {
    for (name, call) in changes() {
        let (storage, catalogue) = catalogue();
        stage(&catalogue).await;
        let state = storage.state();
        for validate_only in [true, false] {
            let error = call(&catalogue, validate_only, "0".to_owned()).await.unwrap_err();
            assert_eq!(error.reason(), Reason::EtagMismatch, "{name}: {error}");
            assert!(!error.metadata()["etag"].is_empty());
        }
        assert_eq!(storage.state(), state, "{name}");
    }
}

#[tokio::test]
async fn nobody_changes_what_belongs_to_the_broker() {
    let (storage, catalogue) = catalogue();
    stage(&catalogue).await;
    let state = storage.state();
    macro_rules! refuse {
        ($($method:ident($request:expr);)*) => {
            $({
                let error = catalogue.$method(&caller(), $request).await.unwrap_err();
                assert_eq!(error.reason(), Reason::ProductReadOnly, stringify!($method));
                assert_eq!(error.metadata()["product"], "meshlog.audit");
            })*
        };
    }
    let name = || named("meshlog.audit");
    let docs = v1::Product { name: name(), docs: named("x"), ..Default::default() };
    refuse! {
        update_product(v1::UpdateProductRequest { product: Some(docs), ..Default::default() });
        delete_product(v1::DeleteProductRequest { name: name(), force: true, ..Default::default() });
        activate_product(v1::ActivateProductRequest { name: name(), ..Default::default() });
        deprecate_product(lifecycle::deprecation("meshlog.audit"));
        retire_product(v1::RetireProductRequest { name: name(), force: true, ..Default::default() });
        move_product(v1::MoveProductRequest { name: name(), new_name: named("ops.audit"), ..Default::default() });
        transfer_product(v1::TransferProductRequest { name: name(), new_owner: named("idle"), ..Default::default() });
        accept_product_transfer(v1::AcceptProductTransferRequest { name: name(), ..Default::default() });
        cancel_product_transfer(v1::CancelProductTransferRequest { name: name(), ..Default::default() });
        succeed_product(v1::SucceedProductRequest { name: name(), reason: named("x"), ..Default::default() });
        add_schema_version(v1::AddSchemaVersionRequest {
            product: name(),
            value_schema: Some(json_schema("{}")),
            ..Default::default()
        });
    }
    let error = catalogue.resolve("meshlog.audit", "").unwrap().check_appendable().unwrap_err();
    assert_eq!(error.reason(), Reason::ProductReadOnly);
    assert_eq!(refused(&catalogue, create("meshlog.other")).await.reason(), Reason::NameReserved);
    assert_eq!(storage.state(), state);
    assert_eq!(catalogue.product_count(), 3, "the broker's own are not counted");
}
