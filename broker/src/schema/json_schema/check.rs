//! A compiled schema.

use std::fmt::Write as _;

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;

use super::shape::Place;
use crate::schema::record_check::shown;
use crate::schema::{Broken, Rejection};

/// Checks values against one JSON Schema, closed where it declares properties.
pub(crate) struct JsonValidator {
    compiled: Validator,
    places: Vec<Place>,
}

impl JsonValidator {
    pub(super) fn new(compiled: Validator, places: Vec<Place>) -> Self {
        Self { compiled, places }
    }

    /// Whether the value conforms.
    pub(in crate::schema) fn conforms(&self, value: &Value) -> bool {
        self.compiled.is_valid(value) && self.is_declared(0, value)
    }

    /// Whether the value conforms. What is wrong is worked out only when something is.
    pub(in crate::schema) fn check(&self, value: &Value) -> Result<(), Rejection> {
        if !self.compiled.is_valid(value) {
            return Err(self.explain(value));
        }
        if self.is_declared(0, value) {
            return Ok(());
        }
        let mut path = String::new();
        Err(self.undeclared(0, value, &mut path).unwrap_or_else(|| Rejection {
            path: String::new(),
            expected: "only declared properties".to_owned(),
            found: shown(&value.to_string()),
            broken: Broken::Schema,
        }))
    }

    fn explain(&self, value: &Value) -> Rejection {
        let Some(error) = self.compiled.iter_errors(value).next() else {
            return Rejection {
                path: String::new(),
                expected: "a value that conforms to the schema".to_owned(),
                found: shown(&value.to_string()),
                broken: Broken::Schema,
            };
        };
        let found = match error.kind() {
            ValidationErrorKind::Required { .. } => match error.instance().as_object() {
                Some(members) if members.is_empty() => "an empty object".to_owned(),
                Some(members) => {
                    let names: Vec<&str> = members.keys().map(String::as_str).collect();
                    shown(&format!("only {}", names.join(", ")))
                }
                None => shown(&error.instance().to_string()),
            },
            _ => shown(&error.instance().to_string()),
        };
        Rejection {
            path: error.instance_path().to_string(),
            expected: shown(&expected(&error)),
            found,
            broken: Broken::Schema,
        }
    }

    /// Where a property of this name leads, and whether it is declared.
    fn step(&self, place: &Place, name: &str) -> (bool, Option<usize>) {
        if let Some(inner) = place.properties.get(name) {
            return (true, Some(*inner));
        }
        let mut matching = place.patterns.iter().filter(|(pattern, _)| pattern.is_match(name));
        match (matching.next(), matching.next()) {
            (None, _) => (false, place.rest),
            (Some((_, inner)), None) => (true, Some(*inner)),
            (Some(_), Some(_)) => (true, place.several),
        }
    }

    fn is_declared(&self, at: usize, value: &Value) -> bool {
        let place = &self.places[at];
        if !place.matters {
            return true;
        }
        match value {
            Value::Object(members) => members.iter().all(|(name, value)| {
                let (declared, inner) = self.step(place, name);
                (declared || !place.closed) && inner.is_none_or(|at| self.is_declared(at, value))
            }),
            Value::Array(items) => items.iter().enumerate().all(|(index, item)| {
                let inner = place.prefix.get(index).copied().or(place.items);
                inner.is_none_or(|at| self.is_declared(at, item))
            }),
            _ => true,
        }
    }

    /// The first undeclared property.
    fn undeclared(&self, at: usize, value: &Value, path: &mut String) -> Option<Rejection> {
        let place = &self.places[at];
        let length = path.len();
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    let (declared, inner) = self.step(place, name);
                    let _ = write!(path, "/{}", name.replace('~', "~0").replace('/', "~1"));
                    if !declared && place.closed {
                        let mut names: Vec<&str> =
                            place.properties.keys().map(|name| &**name).collect();
                        names.sort_unstable();
                        return Some(Rejection {
                            path: path.clone(),
                            expected: shown(&format!("a declared property: {}", names.join(", "))),
                            found: shown(&format!("undeclared property with value {value}")),
                            broken: Broken::Schema,
                        });
                    }
                    let below = inner.and_then(|at| self.undeclared(at, value, path));
                    if below.is_some() {
                        return below;
                    }
                    path.truncate(length);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let inner = place.prefix.get(index).copied().or(place.items);
                    let _ = write!(path, "/{index}");
                    let below = inner.and_then(|at| self.undeclared(at, item, path));
                    if below.is_some() {
                        return below;
                    }
                    path.truncate(length);
                }
            }
            _ => {}
        }
        None
    }
}

/// What would have conformed, in words.
pub(in crate::schema) fn expected(error: &jsonschema::ValidationError<'_>) -> String {
    use ValidationErrorKind as Kind;
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(one) } => one.to_string(),
        Kind::Type { kind: TypeKind::Multiple(many) } => {
            many.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" or ")
        }
        Kind::Required { property } => format!("the property {property}"),
        Kind::Enum { options } => format!("one of {options}"),
        Kind::Constant { expected_value } => expected_value.to_string(),
        Kind::Format { format } => format!("a string in the format {format}"),
        Kind::Pattern { pattern } => format!("a string that matches {pattern}"),
        Kind::Minimum { limit } => format!("at least {limit}"),
        Kind::Maximum { limit } => format!("at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("at least {limit} characters"),
        Kind::MaxLength { limit } => format!("at most {limit} characters"),
        Kind::MinItems { limit } => format!("at least {limit} items"),
        Kind::MaxItems { limit } => format!("at most {limit} items"),
        Kind::AdditionalItems { limit } => format!("at most {limit} items"),
        Kind::MinProperties { limit } => format!("at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("at most {limit} properties"),
        Kind::UniqueItems => "items that all differ".to_owned(),
        Kind::Contains => "an item of the kind that `contains` asks for".to_owned(),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("no property {}", unexpected.join(", "))
        }
        Kind::UnevaluatedItems { .. } => "no further items".to_owned(),
        Kind::AnyOf { .. } => "a value that conforms to one of the `anyOf` schemas".to_owned(),
        Kind::OneOfNotValid { .. } => {
            "a value that conforms to one of the `oneOf` schemas".to_owned()
        }
        Kind::OneOfMultipleValid { .. } => {
            "a value that conforms to only one of the `oneOf` schemas".to_owned()
        }
        Kind::Not { .. } => "a value that does not conform to the `not` schema".to_owned(),
        Kind::FalseSchema => "nothing here".to_owned(),
        Kind::PropertyNames { .. } => "property names that `propertyNames` allows".to_owned(),
        other => format!("a value that conforms to `{}`", other.keyword()),
    }
}
