//! JSON Schema: drafts 7, 2019-09 and 2020-12 (the default).
//!
//! ```text
//! text ─► document (draft, metaschema) ─► Graph (subschemas and what they refer to)
//!                                            └─► Shape (places of a value: declared properties)
//!                                                  ├─► fields, key field
//!                                                  └─► JsonValidator = compiled schema + closed places
//! ```
//!
//! **Undeclared properties are refused.** At every place of a value where the schema declares
//! properties, a property that no applicable subschema declares is refused, unless one of them
//! has an explicit `additionalProperties` or `unevaluatedProperties`, which then decides. So an
//! optional property can be added later without meeting values that already used its name for
//! something else. `allOf`, `anyOf`, `oneOf`, `if`, `then`, `else`, dependent schemas and
//! references all add to what is declared at their place, whichever branch a value takes.
//!
//! `format` is asserted, except `idn-email` and `idn-hostname`, whose tables are left out.

mod check;
mod closing;
mod document;
mod graph;
mod shape;

pub(crate) use check::JsonValidator;
pub(super) use check::expected;
pub(super) use document::JsonSchema;
