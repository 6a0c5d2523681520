//! What tests of several parts of the broker begin with.

use meshlog_proto::v1;

/// Asks for a product without a schema, and for its domain and its owner beside it.
pub(crate) fn product(
    name: &str,
    owner: &str,
    classification: v1::Classification,
) -> v1::CreateProductRequest {
    let contacts = vec!["a@example.org".to_owned()];
    v1::CreateProductRequest {
        product: Some(v1::Product {
            name: name.to_owned(),
            owner: owner.to_owned(),
            description: "For tests.".to_owned(),
            classification: classification.into(),
            ..Default::default()
        }),
        value_schema: Some(v1::SchemaSource {
            format: v1::SchemaFormat::Opaque.into(),
            media_type: "text/plain".to_owned(),
            reason: "It is a test.".to_owned(),
            ..Default::default()
        }),
        new_domain: Some(v1::Domain::default()),
        new_team: Some(v1::Team { contacts, ..Default::default() }),
        ..Default::default()
    }
}
