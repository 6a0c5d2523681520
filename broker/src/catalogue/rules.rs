//! The rules of a product: what may be said, and their versions.

use std::collections::BTreeSet;

use meshlog_proto::v1::{self, SchemaFormat};

use super::Catalogue;
use crate::Caller;
use crate::access::Rpc;
use crate::error::{Error, Reason, Result};
use crate::rule::{Expression, check_names};
use crate::schema::Schema;

/// Fields that an error message lists.
const MAX_LISTED_FIELDS: usize = 40;

impl Catalogue {
    /// The rules of a product, with what they made of records since the broker started.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`.
    pub fn list_rules(
        &self,
        caller: &Caller,
        request: v1::ListRulesRequest,
    ) -> Result<v1::ListRulesResponse> {
        let handle = self.resolve_for(caller, Rpc::ListRules, &request.product, "")?;
        let compiled = handle.rules()?;
        let rules = handle.stored()?.product.unwrap_or_default().rules;
        let status = |rule: v1::Rule| {
            let found = compiled.all().iter().find(|one| *one.name == *rule.name);
            let mut status = v1::RuleStatus { rule: Some(rule), ..v1::RuleStatus::default() };
            if let Some(found) = found {
                found.tell(&mut status);
            }
            status
        };
        Ok(v1::ListRulesResponse { rules: rules.into_iter().map(status).collect() })
    }
}

/// Refuses rules that cannot be evaluated for values of a schema.
pub(super) fn check(rules: &[v1::Rule], schema: &Schema, product: &str) -> Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    if schema.format() == SchemaFormat::Opaque {
        let what = "rules: a product without a schema has no values that a rule could see; give it a \
                    JSON Schema, an Avro or a Protobuf schema";
        return Err(Error::new(Reason::RuleInvalid, what).with("product", product));
    }
    check_names(rules).map_err(|(field, what)| {
        Error::new(Reason::RuleInvalid, format!("product.{field}: {what}"))
            .with("field", format!("product.{field}"))
            .with("product", product)
    })?;
    for (at, rule) in rules.iter().enumerate() {
        check_expression(&rule.expression, schema).map_err(|what| {
            let field = format!("product.rules[{at}].expression");
            Error::new(Reason::RuleInvalid, format!("the rule `{}`: {what}", rule.name))
                .with("field", &field)
                .with("rule", &rule.name)
                .with("product", product)
                .with_violation(field, what)
        })?;
    }
    Ok(())
}

/// Whether an expression can be evaluated for values of a schema.
pub(crate) fn check_expression(text: &str, schema: &Schema) -> Result<Expression, String> {
    let expression = Expression::parse(text)?;
    if !says_all_fields(schema) {
        return Ok(expression);
    }
    let known: BTreeSet<String> = match schema.fields() {
        Ok(fields) => fields.into_iter().map(|field| field.path).collect(),
        Err(_) => return Ok(expression),
    };
    for names in expression.fields() {
        let mut path = String::new();
        for name in names {
            // What stands below is only known where the table has something.
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            let below = || known.iter().filter_map(|one| one.strip_prefix(&prefix));
            if below().next().is_none() {
                break;
            }
            let next = format!("{prefix}{name}");
            if !known.contains(&next) {
                let there: BTreeSet<&str> = below()
                    .filter_map(|rest| rest.split(['.', '[']).next())
                    .filter(|name| !name.is_empty())
                    .take(4 * MAX_LISTED_FIELDS)
                    .collect();
                let there: Vec<&str> = there.into_iter().take(MAX_LISTED_FIELDS).collect();
                return Err(format!(
                    "the schema has no field `{next}`; it has {}",
                    there.join(", ")
                ));
            }
            path = next;
        }
    }
    Ok(expression)
}

/// Whether a value has no fields but those that the schema's field table lists.
fn says_all_fields(schema: &Schema) -> bool {
    match schema.format() {
        SchemaFormat::Avro | SchemaFormat::Protobuf => true,
        SchemaFormat::JsonSchema => {
            let text = schema.source().text;
            let opens = [
                "additionalProperties",
                "patternProperties",
                "unevaluatedProperties",
                "allOf",
                "anyOf",
                "oneOf",
                "$ref",
                "$dynamicRef",
                "if",
            ];
            !opens.iter().any(|word| text.contains(&format!("\"{word}\"")))
        }
        _ => false,
    }
}

/// Puts rules in the place of those there are. One that is as it was keeps its version; every other
/// gets the next.
pub(super) fn set(product: &mut v1::Product, asked: &[v1::Rule]) {
    let before = std::mem::take(&mut product.rules);
    let mut rules = asked.to_vec();
    rules.sort_by(|a, b| a.name.cmp(&b.name));
    for rule in &mut rules {
        let same = before.iter().find(|one| {
            let unversioned = |rule: &v1::Rule| v1::Rule { version: 0, ..rule.clone() };
            unversioned(one) == unversioned(rule)
        });
        rule.version = match same {
            Some(same) => same.version,
            None => {
                product.rules_version += 1;
                product.rules_version
            }
        };
    }
    product.rules = rules;
}
