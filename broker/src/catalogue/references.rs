//! Other products that a product names: its inputs and its successor. Stored as ids, so that a
//! product which gets another name is still meant; shown as names. One that was deleted is no
//! longer shown.

use meshlog_proto::v1;

use super::view::View;
use super::{invalid, product_not_found};
use crate::error::Result;

const MAX_INPUTS: usize = 100;

/// Puts names in the place of ids.
pub(super) fn by_name(view: &View, product: &mut v1::Product) {
    let name = |id: &String| Some(view.product_of(id)?.name.to_string());
    product.inputs = product.inputs.iter().filter_map(name).collect();
    product.successor = Some(&product.successor).and_then(name).unwrap_or_default();
}

/// Puts ids in the place of names. `fresh` is being created in the same change.
///
/// # Errors
/// `PRODUCT_NOT_FOUND`.
pub(super) fn by_id(
    view: &View,
    product: &mut v1::Product,
    fresh: Option<&v1::Product>,
) -> Result<()> {
    let id = |name: &String| match (view.product(name), fresh) {
        (_, Some(fresh)) if fresh.name == *name => Ok(fresh.id.clone()),
        (Some(handle), _) => Ok(handle.id.to_string()),
        (None, _) => Err(product_not_found(name)),
    };
    product.inputs = product.inputs.iter().map(id).collect::<Result<_>>()?;
    if !product.successor.is_empty() {
        product.successor = id(&product.successor)?;
    }
    Ok(())
}

/// Checks the inputs that somebody gives a product, and puts the names of today in the place of
/// earlier ones.
///
/// # Errors
/// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT`.
pub(super) fn check_inputs(view: &View, product: &mut v1::Product) -> Result<()> {
    let inputs = &mut product.inputs;
    if inputs.len() > MAX_INPUTS {
        let what = format!("at most {MAX_INPUTS}, there are {}", inputs.len());
        return Err(invalid("product.inputs", what));
    }
    for at in 0..inputs.len() {
        let Some(handle) = view.product(&inputs[at]) else {
            let error = product_not_found(&inputs[at]);
            return Err(error.with("field", "product.inputs"));
        };
        let name = handle.name.to_string();
        if name == product.name {
            return Err(invalid("product.inputs", "a product is not made of itself"));
        }
        if inputs[..at].contains(&name) {
            return Err(invalid("product.inputs", format!("`{name}` stands there twice")));
        }
        inputs[at] = name;
    }
    Ok(())
}
