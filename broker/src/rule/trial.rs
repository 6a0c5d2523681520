//! What rules would make of records.

use std::sync::Arc;

use meshlog_proto::v1;

use super::Verdict;
use super::rules::Rules;
use crate::Caller;
use crate::access::Rpc;
use crate::broker::Broker;
use crate::catalogue::{ProductHandle, check_expression};
use crate::error::{Error, Reason, Result};

/// Most records of one test.
const MAX_RECORDS: usize = 1_000;
/// Failures that an answer has in full, for each rule.
const MAX_FAILURES: usize = 10;

/// A record to be tested, and where it comes from.
struct Case {
    failure: v1::RuleFailure,
    schema_version: u32,
    record: v1::Record,
}

impl Broker {
    /// What rules, or an expression that may become one, would make of records: of those given, or of
    /// the newest of the product. Nothing is appended, nothing counted.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `RULE_INVALID`, `INVALID_ARGUMENT`, `SCHEMA_VERSION_UNKNOWN`; for the
    /// records of the product those of sampling, which needs the permission to consume.
    pub async fn test_rules(
        &self,
        caller: &Caller,
        request: v1::TestRulesRequest,
    ) -> Result<v1::TestRulesResponse> {
        self.refuse_if_closing()?;
        let product = self.catalogue().resolve_for(caller, Rpc::TestRules, &request.product, "")?;
        let rules = self.rules_asked(&product, &request)?;
        if request.records.len() > MAX_RECORDS {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!("records: at most {MAX_RECORDS}, not {}", request.records.len()),
            )
            .with("field", "records"));
        }
        let cases = match request.records.is_empty() {
            false => (0..)
                .zip(request.records)
                .map(|(index, record)| Case {
                    failure: v1::RuleFailure { record: index, ..v1::RuleFailure::default() },
                    schema_version: request.schema_version,
                    record,
                })
                .collect(),
            true => self.newest(caller, &product, request.max_records).await?,
        };
        let permit = self.check_permit()?;
        let handle = Arc::clone(&product);
        let work = tokio::task::spawn_blocking(move || {
            let answer = judge(&handle, &rules, cases);
            drop(permit);
            answer
        });
        work.await.unwrap_or_else(|_| {
            Err(Error::new(Reason::Internal, "the test of rules broke off; report this"))
        })
    }

    fn rules_asked(
        &self,
        product: &ProductHandle,
        request: &v1::TestRulesRequest,
    ) -> Result<Rules> {
        let (schema, mut rules) = product.schema_and_rules()?;
        if !request.expression.is_empty() {
            check_expression(&request.expression, &schema).map_err(|what| {
                Error::new(Reason::RuleInvalid, format!("expression: {what}"))
                    .with("field", "expression")
                    .with("product", &product.name)
            })?;
            let expression = request.expression.clone();
            rules = vec![v1::Rule { expression, ..v1::Rule::default() }];
        } else if !request.name.is_empty() {
            rules.retain(|rule| rule.name == request.name);
            if rules.is_empty() {
                return Err(Error::new(
                    Reason::InvalidArgument,
                    format!("the product `{}` has no rule of this name", product.name),
                )
                .with("field", "name"));
            }
            rules.iter_mut().for_each(|rule| rule.disabled = false);
        }
        Ok(Rules::new(&rules, |_| Arc::default()))
    }

    async fn newest(
        &self,
        caller: &Caller,
        product: &ProductHandle,
        max_records: u32,
    ) -> Result<Vec<Case>> {
        let sample = v1::SampleProductRequest {
            product: product.name.to_string(),
            product_id: product.id.to_string(),
            max_records: if max_records == 0 { 100 } else { max_records },
            ..v1::SampleProductRequest::default()
        };
        let sampled = self.sample_product(caller, sample).await?.records;
        let case = |one: v1::SampledRecord| Case {
            failure: v1::RuleFailure {
                partition: one.partition,
                offset: one.offset,
                ..v1::RuleFailure::default()
            },
            schema_version: one.schema_version,
            record: one.record.unwrap_or_default(),
        };
        Ok(sampled.into_iter().map(case).collect())
    }
}

fn judge(
    product: &ProductHandle,
    rules: &Rules,
    cases: Vec<Case>,
) -> Result<v1::TestRulesResponse> {
    let test = |rule: &super::rules::Rule| v1::RuleTest {
        name: rule.name.to_string(),
        ..v1::RuleTest::default()
    };
    let mut answer = v1::TestRulesResponse {
        rules: rules.all().iter().map(test).collect(),
        ..v1::TestRulesResponse::default()
    };
    let mut spent = 0;
    for case in cases {
        let check = product.check_of_version(case.schema_version)?;
        let key = case.record.key.as_deref();
        let value = case.record.value.as_deref();
        let judged = value.and_then(|value| check.judge(rules, key, value, &mut spent));
        let Some(judged) = judged else {
            answer.passed_over += 1;
            continue;
        };
        answer.records += 1;
        for (test, (verdict, steps)) in answer.rules.iter_mut().zip(judged) {
            test.most_steps = test.most_steps.max(u32::try_from(steps).unwrap_or(u32::MAX));
            let found = match verdict {
                Verdict::Met => continue,
                Verdict::Failed(found) => found,
                Verdict::OverBudget => {
                    test.over_budget += 1;
                    "it takes too many steps".to_owned()
                }
            };
            test.failed += 1;
            if test.failures.len() < MAX_FAILURES {
                test.failures.push(v1::RuleFailure { found, ..case.failure.clone() });
            }
        }
    }
    Ok(answer)
}
