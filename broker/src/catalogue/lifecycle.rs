//! The states of a product and the ways between them.
//!
//! ```text
//!   DRAFT ──activate──► ACTIVE ──deprecate──► DEPRECATED ──retire──► RETIRED
//!     └──────────────deprecate──────────────────►│  ▲
//!                        ▲──────activate─────────┘  └ told to readers and producers
//! ```
//!
//! Appends: all states but RETIRED. Reads: all. New schemas: DRAFT.

use meshlog_proto::v1::{self, ProductState};

use super::change::ProductChange;
use super::in_use::Users;
use super::name::SANDBOX;
use super::product::ProductHandle;
use super::view::View;
use super::{Catalogue, check_length, invalid, product_not_found, team};
use crate::Caller;
use crate::access::Rpc;
use crate::error::{Error, Reason, Result};

impl Catalogue {
    /// DRAFT or DEPRECATED to ACTIVE. What the deprecation said is gone with it.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `STATE_INVALID` from another state or in the sandbox.
    pub async fn activate_product(
        &self,
        caller: &Caller,
        request: v1::ActivateProductRequest,
    ) -> Result<v1::ActivateProductResponse> {
        let mut change = self
            .change_product(caller, Rpc::ActivateProduct, &request.name, "", &request.etag)
            .await?;
        let product = &mut change.product;
        check_state(product, "activated", &[ProductState::Draft, ProductState::Deprecated])?;
        if product.name.split('.').next() == Some(SANDBOX) {
            return Err(Error::new(
                Reason::StateInvalid,
                format!(
                    "`{0}` is in the sandbox, where nothing is promised; move it first: \
                     `meshlog product move {0} DOMAIN.NAME`",
                    product.name
                ),
            )
            .with("product", &product.name)
            .with("state", "DRAFT"));
        }
        product.state = ProductState::Active.into();
        product.deprecation_reason.clear();
        product.successor.clear();
        product.sunset_time = None;
        let product = change.finish(caller, "activate_product", request.validate_only).await?;
        Ok(v1::ActivateProductResponse { product: Some(product) })
    }

    /// DRAFT or ACTIVE to DEPRECATED.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND` (also for the successor), `ETAG_MISMATCH`, `STATE_INVALID`,
    /// `FIELD_MISSING` (the reason), `SUCCESSOR_CYCLE`, `INVALID_ARGUMENT` for a sunset in the past.
    pub async fn deprecate_product(
        &self,
        caller: &Caller,
        request: v1::DeprecateProductRequest,
    ) -> Result<v1::DeprecateProductResponse> {
        let mut change = self
            .change_product(caller, Rpc::DeprecateProduct, &request.name, "", &request.etag)
            .await?;
        let successor = match request.successor.as_str() {
            "" => String::new(),
            name => {
                let view = self.inner.view.read();
                let successor = view.product(name).cloned();
                let successor =
                    successor.ok_or_else(|| product_not_found(name).with("field", "successor"))?;
                check_no_cycle(&view, &change.handle, &successor)?;
                successor.name.to_string()
            }
        };
        let (reason, sunset) = (&request.reason, request.sunset_time);
        deprecate(&mut change, reason, successor, sunset)?;
        let product = change.finish(caller, "deprecate_product", request.validate_only).await?;
        Ok(v1::DeprecateProductResponse { product: Some(product) })
    }

    /// DEPRECATED to RETIRED.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `ETAG_MISMATCH`, `STATE_INVALID` from another state or, without `force`,
    /// before the sunset; without `force`, `IN_USE` while there are live readers.
    pub async fn retire_product(
        &self,
        caller: &Caller,
        request: v1::RetireProductRequest,
    ) -> Result<v1::RetireProductResponse> {
        let mut change = self
            .change_product(caller, Rpc::RetireProduct, &request.name, "", &request.etag)
            .await?;
        check_state(&change.product, "retired", &[ProductState::Deprecated])?;
        if !request.force {
            check_sunset(&change.product, change.mutation.now())?;
            check_unread(&change.handle, "retire")?;
        }
        change.product.state = ProductState::Retired.into();
        let product = change.finish(caller, "retire_product", request.validate_only).await?;
        Ok(v1::RetireProductResponse { product: Some(product) })
    }
}

/// Deprecates a product; the successor has been checked.
pub(super) fn deprecate(
    change: &mut ProductChange<'_>,
    reason: &str,
    successor: String,
    sunset_time: Option<prost_types::Timestamp>,
) -> Result<()> {
    let now = change.mutation.now();
    let product = &mut change.product;
    check_state(product, "deprecated", &[ProductState::Draft, ProductState::Active])?;
    check_reason(&product.name, reason)?;
    if let Some(time) = sunset_time {
        check_time(time, now)?;
    }
    product.state = ProductState::Deprecated.into();
    reason.clone_into(&mut product.deprecation_reason);
    product.successor = successor;
    product.sunset_time = sunset_time;
    Ok(())
}

/// Refuses a change that the state of the product does not allow; says how to get to one that does.
pub(super) fn check_state(
    product: &v1::Product,
    done: &str,
    allowed: &[ProductState],
) -> Result<()> {
    let state = product.state();
    if allowed.contains(&state) {
        return Ok(());
    }
    let name = &product.name;
    let allowed = allowed.iter().map(|state| word(*state)).collect::<Vec<_>>().join(" or ");
    let next = match state {
        ProductState::Draft | ProductState::Active => {
            format!("deprecate it first: `meshlog product deprecate {name} --reason TEXT`")
        }
        ProductState::Deprecated => {
            format!("activate it first: `meshlog product activate {name}`")
        }
        ProductState::Retired | ProductState::Unspecified => {
            "a retired product stays as it is; create another one".to_owned()
        }
    };
    let next = match state == ProductState::Active && done == "activated" {
        true => "it already is".to_owned(),
        false => next,
    };
    Err(state_invalid(
        product,
        format!(
            "`{name}` is {}; only a product that is {allowed} can be {done}; {next}",
            word(state)
        ),
    ))
}

/// Refuses to pull a product from under those who read it.
pub(super) fn check_unread(handle: &ProductHandle, verb: &str) -> Result<()> {
    let mut readers = Users::default();
    for reader in handle.traffic.live_readers() {
        readers.add(match reader.open_subscriptions {
            0 => format!("{} (read within 24 hours)", reader.application),
            _ => format!("{} (open subscription)", reader.application),
        });
    }
    let next = format!(
        "tell them, or {verb} it all the same: `meshlog product {verb} {} --force`",
        handle.name
    );
    readers.refuse("the product", &handle.name, &next)
}

fn check_sunset(product: &v1::Product, now: prost_types::Timestamp) -> Result<()> {
    match product.sunset_time {
        Some(sunset) if is_before(now, sunset) => Err(state_invalid(
            product,
            format!(
                "`{0}` was promised until {sunset}; wait for that day, or retire it all the same: \
                 `meshlog product retire {0} --force`",
                product.name
            ),
        )
        .with("sunset_time", sunset)),
        _ => Ok(()),
    }
}

fn check_reason(name: &str, reason: &str) -> Result<()> {
    if reason.trim().is_empty() {
        let what = format!(
            "the reason is missing; those who use `{name}` are told it: \
             `meshlog product deprecate {name} --reason TEXT`"
        );
        return Err(Error::new(Reason::FieldMissing, what.clone())
            .with("field", "reason")
            .with("product", name)
            .with_violation("reason", what));
    }
    check_length("reason", reason, team::MAX_DESCRIPTION_BYTES)
}

fn check_time(time: prost_types::Timestamp, now: prost_types::Timestamp) -> Result<()> {
    let valid = (0..1_000_000_000).contains(&time.nanos)
        && (-62_135_596_800..=253_402_300_799).contains(&time.seconds);
    if !valid {
        return Err(invalid("sunset_time", "it is not a time between the years 1 and 9999"));
    }
    match is_before(time, now) {
        true => Err(invalid("sunset_time", format!("{time} is in the past; give a time to come"))),
        false => Ok(()),
    }
}

fn is_before(one: prost_types::Timestamp, other: prost_types::Timestamp) -> bool {
    (one.seconds, one.nanos) < (other.seconds, other.nanos)
}

/// Refuses a successor whose own successors lead back to the product.
fn check_no_cycle(view: &View, product: &ProductHandle, successor: &ProductHandle) -> Result<()> {
    let mut at = Some(successor);
    let mut way = vec![product.name.to_string()];
    while let Some(next) = at {
        if way.len() < 10 {
            way.push(next.name.to_string());
        }
        if next.id == product.id {
            return Err(Error::new(
                Reason::SuccessorCycle,
                format!(
                    "`{}` cannot succeed `{}`, because it leads back to it: {}",
                    successor.name,
                    product.name,
                    way.join(" → ")
                ),
            )
            .with("product", &product.name)
            .with("successor", &successor.name)
            .with("field", "successor"));
        }
        at = next.successor().and_then(|id| view.product_of(id)).map(|handle| &**handle);
    }
    Ok(())
}

fn state_invalid(product: &v1::Product, what: String) -> Error {
    Error::new(Reason::StateInvalid, what)
        .with("product", &product.name)
        .with("state", word(product.state()))
}

/// The state as it is written.
pub(super) fn word(state: ProductState) -> &'static str {
    state.as_str_name().trim_start_matches("PRODUCT_STATE_")
}
