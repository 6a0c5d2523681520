//! A JSON Schema as written.

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::check::JsonValidator;
use super::graph::Graph;
use super::shape::Shape;
use crate::schema::avro::plain;
use crate::schema::{Field, FieldPath, MAX_DEPTH, Malformed, json_text};

/// Largest compiled regular expression.
pub(super) const MAX_PATTERN_BYTES: usize = 4 << 20;

/// A schema that conforms to its metaschema, refers to nothing outside itself, and ends.
pub(in crate::schema) struct JsonSchema {
    document: Value,
    draft: Draft,
    shape: Shape,
}

impl JsonSchema {
    pub(in crate::schema) fn parse(text: &str) -> Result<Self, Malformed> {
        let document = json_text::read(text.as_bytes(), MAX_DEPTH).map_err(|error| {
            let at = format!("line {} column {}", error.line(), error.column());
            Malformed::new(at, format!("not JSON that can be used: {}", plain(&error)))
        })?;
        let draft = draft(&document)?;
        let conforms = match draft {
            Draft::Draft7 => jsonschema::draft7::meta::validate(&document),
            Draft::Draft201909 => jsonschema::draft201909::meta::validate(&document),
            _ => jsonschema::draft202012::meta::validate(&document),
        };
        if let Err(error) = conforms {
            let at = error.instance_path().to_string();
            return Err(Malformed::new(at, format!("not a JSON Schema: {}", error.masked())));
        }
        let graph = Graph::build(&document, draft)?;
        let shape = Shape::build(graph)?;
        Ok(Self { document, draft, shape })
    }

    /// JSON without white space, members sorted by name.
    pub(in crate::schema) fn canonical(&self) -> String {
        json_text::sorted(self.document.clone()).to_string()
    }

    pub(in crate::schema) fn fields(&self) -> Vec<Field> {
        self.shape.fields()
    }

    pub(in crate::schema) fn check_key_field(&self, path: &FieldPath) -> Result<(), String> {
        self.shape.check_key_field(path)
    }

    /// As it was written.
    pub(in crate::schema) fn document(&self) -> &Value {
        &self.document
    }

    /// The draft that it says it is of.
    pub(in crate::schema) fn draft(&self) -> Draft {
        self.draft
    }

    /// A schema of what the broker lets through on write: closed where properties are declared, as far
    /// as that can be said in the text. It may say more than is let through, never less.
    pub(in crate::schema) fn written(&self) -> Value {
        self.shape.closed(&self.document)
    }

    /// What checks values, closed where properties are declared.
    pub(in crate::schema) fn validator(self) -> Result<JsonValidator, Malformed> {
        Ok(JsonValidator::new(self.compile()?, self.shape.into_places()))
    }

    /// What checks values by the words of the text alone.
    pub(in crate::schema) fn compile(&self) -> Result<Validator, Malformed> {
        jsonschema::options()
            .with_draft(self.draft)
            .offline()
            .should_validate_formats(true)
            .with_pattern_options(
                PatternOptions::regex()
                    .size_limit(MAX_PATTERN_BYTES)
                    .dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(&self.document)
            .map_err(|error| {
                let at = error.instance_path().to_string();
                let what = match error.kind() {
                    ValidationErrorKind::Format { format } if format == "regex" => format!(
                        "{} is not a regular expression that can be used: none with look-around \
                         or back-references, because a match must take linear time, and none \
                         that needs more than {} MiB",
                        error.instance(),
                        MAX_PATTERN_BYTES >> 20
                    ),
                    _ => format!("the schema cannot be used: {error}"),
                };
                Malformed::new(at, what)
            })
    }
}

fn draft(document: &Value) -> Result<Draft, Malformed> {
    let Some(named) = document.get("$schema") else { return Ok(Draft::Draft202012) };
    let uri = named.as_str().unwrap_or_default();
    let uri = uri.strip_prefix("https://").or(uri.strip_prefix("http://")).unwrap_or(uri);
    match uri.trim_end_matches('#') {
        "json-schema.org/draft-07/schema" => Ok(Draft::Draft7),
        "json-schema.org/draft/2019-09/schema" => Ok(Draft::Draft201909),
        "json-schema.org/draft/2020-12/schema" => Ok(Draft::Draft202012),
        _ => Err(Malformed::new(
            "/$schema",
            format!(
                "{named} is not a supported draft; use draft 7, 2019-09 or 2020-12, for instance \
                 \"https://json-schema.org/draft/2020-12/schema\""
            ),
        )),
    }
}
