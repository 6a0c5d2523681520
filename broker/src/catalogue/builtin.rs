//! What is always there: the sandbox, and what belongs to the broker itself. It has no key in the
//! storage state, and nobody changes it.

use std::sync::Arc;

use meshlog_proto::v1;

use super::name::{MESHLOG, SANDBOX};

/// The etag of what never changes.
const ETAG: &str = "0";

/// The tag key for what identifies a person.
pub(super) const PII: &str = "pii";

/// Names of the built-in domains; the built-in teams have the same.
pub(super) const NAMES: [&str; 2] = [MESHLOG, SANDBOX];

/// Whether a domain or a team of this name is built in.
pub(super) fn is_builtin(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The built-in team of this name.
pub(super) fn team(name: &str) -> Option<Arc<v1::Team>> {
    let (contact, description) = match name {
        SANDBOX => (
            "whoever created the product: see created_by",
            "Answers for what is tried out in the domain sandbox.",
        ),
        MESHLOG => (
            "whoever runs this broker",
            "The broker itself: it owns what it writes about its own work.",
        ),
        _ => return None,
    };
    Some(Arc::new(v1::Team {
        name: name.to_owned(),
        contacts: vec![contact.to_owned()],
        description: description.to_owned(),
        etag: ETAG.to_owned(),
        ..Default::default()
    }))
}

/// The built-in domain of this name.
pub(super) fn domain(name: &str) -> Option<Arc<v1::Domain>> {
    let description = match name {
        SANDBOX => {
            "For trying things out: owner, description, classification and schema of a product \
             are filled in."
        }
        MESHLOG => "What the broker writes about its own work. Read only.",
        _ => return None,
    };
    Some(Arc::new(v1::Domain {
        name: name.to_owned(),
        owner: name.to_owned(),
        description: description.to_owned(),
        etag: ETAG.to_owned(),
        ..Default::default()
    }))
}

/// The built-in tag key of this name.
pub(super) fn tag_key(name: &str) -> Option<Arc<v1::TagKey>> {
    (name == PII).then(|| {
        Arc::new(v1::TagKey {
            name: name.to_owned(),
            description: "The value identifies a person, or helps to.".to_owned(),
            owner: MESHLOG.to_owned(),
            value_type: v1::TagValueType::None.into(),
            etag: ETAG.to_owned(),
            ..Default::default()
        })
    })
}
