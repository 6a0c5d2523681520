//! One row of a field table.

use meshlog_proto::v1;

/// One field of a schema, flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Names joined by dots; `[]` stands for the items of an array.
    pub path: String,
    /// The type in the schema's own words.
    pub type_name: String,
    /// Whether null or absence is allowed.
    pub optional: bool,
    /// The schema's own documentation of the field.
    pub docs: String,
}

impl From<Field> for v1::SchemaField {
    fn from(field: Field) -> Self {
        Self {
            path: field.path,
            r#type: field.type_name,
            optional: field.optional,
            docs: field.docs,
        }
    }
}
