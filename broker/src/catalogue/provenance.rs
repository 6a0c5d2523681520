//! Who set each value of a product, when and how.
//!
//! Kept with the product, per path; a change renews the paths whose values it changes, and no
//! other. Values from before there was provenance have none.

use meshlog_proto::v1::{self, Provenance, ProvenanceKind};

use super::facts::Difference;
use crate::Caller;

/// How a request says its values: by a file, if it names one.
pub(super) fn said(asked: &v1::Product) -> ProvenanceKind {
    match asked.managed_by.is_empty() {
        true => ProvenanceKind::Declared,
        false => ProvenanceKind::Imported,
    }
}

/// Renews what is said about the values that differ. `inferred` are the paths that the broker
/// filled in; the others came as `said`.
pub(super) fn renew(
    provenance: &mut Vec<Provenance>,
    differences: &[Difference],
    said: ProvenanceKind,
    inferred: &[&str],
    caller: &Caller,
    time: prost_types::Timestamp,
) {
    for difference in differences {
        provenance.retain(|known| known.path != difference.path);
        if difference.after.is_none() {
            continue;
        }
        let kind = match inferred.contains(&&*difference.path) {
            true => ProvenanceKind::Inferred,
            false => said,
        };
        provenance.push(Provenance {
            path: difference.path.clone(),
            kind: kind.into(),
            principal: caller.principal(),
            time: Some(time),
        });
    }
    provenance.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Somebody says what the broker had filled in: from now on it is their word.
pub(super) fn declare(
    provenance: &mut [Provenance],
    paths: &[String],
    said: ProvenanceKind,
    caller: &Caller,
    time: prost_types::Timestamp,
) {
    let inferred = ProvenanceKind::Inferred;
    let known = provenance.iter_mut().filter(|known| known.kind() == inferred);
    for known in known.filter(|known| paths.contains(&known.path)) {
        known.kind = said.into();
        known.principal = caller.principal();
        known.time = Some(time);
    }
}

/// Whether the broker filled in this value, and nobody has said otherwise since.
pub(super) fn is_inferred(product: &v1::Product, path: &str) -> bool {
    let known = product.provenance.iter().find(|known| known.path == path);
    known.is_some_and(|known| known.kind() == ProvenanceKind::Inferred)
}
