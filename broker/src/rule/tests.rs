//! Expressions of good and of bad will.

use proptest::prelude::*;
use serde_json::json;

use super::budget::{Budget, Stop};
use super::*;

fn met(expression: &str, value: &serde_json::Value) -> Result<bool, Stop> {
    let expression =
        Expression::parse(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
    expression.is_met(Some(b"k1"), Source::Json(value), &mut Budget::of(MAX_STEPS))
}

fn value() -> serde_json::Value {
    json!({
        "carrier": "UA", "delay": 12, "fare": 99.5, "stops": ["EWR", "IAH"], "empty": null,
        "most": u64::MAX, "legs": [{"from": "EWR", "miles": 3}, {"from": "IAH", "miles": 400}],
    })
}

fn fault(expression: &str) -> String {
    match met(expression, &value()) {
        Err(Stop::Fault(fault)) => fault.into_owned(),
        other => panic!("{expression}: {other:?}"),
    }
}

#[test]
fn rules_say_what_cel_says() {
    for expression in [
        "value.carrier == 'UA' && value.delay < 1440",
        "value.delay + 1 == 13 && -value.delay == -12 && 7 % 4 == 3 && 7 / 2 == 3",
        "value.fare > 99 && value.fare <= 99.5 && value.delay < 12.5 && value.most > value.delay",
        "has(value.carrier) && !has(value.other) && value.empty == null",
        "'EWR' in value.stops && !('JFK' in value.stops) && 'fare' in value",
        "size(value.stops) == 2 && size('añb') == 3 && value.stops.size() == 2",
        "value.stops[1] == 'IAH' && value['carrier'] == 'UA'",
        "value.legs.all(leg, leg.miles > 0) && value.legs.exists(leg, leg.miles > 100)",
        "value.legs.exists_one(leg, leg.from == 'EWR') && !value.legs.all(l, l.miles > 100)",
        "value.legs.map(leg, leg.miles) == [3, 400]",
        "value.legs.map(leg, leg.miles > 100, leg.from) == ['IAH']",
        "value.legs.filter(leg, leg.miles > 100).size() == 1",
        "value.legs.all(a, value.legs.exists(b, a.from != b.from))",
        "value.all(name, name != '') && {'a': 1}.a == 1 && {1: 2}[1] == 2",
        "value.carrier.matches('^[A-Z]{2}$') && value.carrier.startsWith('U')",
        "value.carrier.contains('A') && value.carrier.endsWith('A') && 'a' < 'b'",
        "key == 'k1' && (value.delay > 5 ? true : false)",
        "int('7') == 7 && double(value.delay) == 12.0 && string(value.delay) == '12' && uint(3) == 3u",
        "true || value.other == 1",
        "value.other == 1 || true",
        "!(value.other == 1 && false)",
        "value.legs.exists(l, l.other == 1 || l.miles == 3)",
        "1 == 1.0 && 1 != 'a' && [1, 2] + [3] == [1, 2, 3] && {'a': [1]} == {'a': [1]}",
        "9007199254740993 != 9007199254740992.0",
    ] {
        assert_eq!(met(expression, &value()), Ok(true), "{expression}");
    }
    assert_eq!(met("value.delay > 12", &value()), Ok(false));
}

#[test]
fn what_has_no_value_is_a_fault_with_words() {
    for (expression, wanted) in [
        ("value.other == 1", "there is no field `other`"),
        ("value.carrier.name == 1", "a string has no field `name`"),
        ("value.delay / 0 == 1", "a division by zero"),
        ("value.delay % 0 == 1", "a division by zero"),
        ("9223372036854775807 + value.delay > 0", "does not fit"),
        ("-(-9223372036854775807 - 1) > 0", "does not fit"),
        ("9223372036854775807 * 9223372036854775807 > 0", "does not fit"),
        ("1u - 2u == 0u", "does not fit"),
        ("value.delay + 'a' == 'b'", "a int cannot be calculated with a string"),
        ("value.carrier < 3", "cannot be compared"),
        ("value.delay && true", "neither true nor false"),
        ("value.delay", "neither true nor false"),
        ("value.stops[2] == ''", "there is no item 2"),
        ("value.stops[-1] == ''", "there is no item -1"),
        ("int('x') == 1", "cannot be made"),
        ("value.delay.all(x, true)", "has no items"),
        ("value.delay.matches('a')", "matches no pattern"),
    ] {
        let fault = fault(expression);
        assert!(fault.contains(wanted), "{expression}: {fault}");
    }
}

#[test]
fn an_expression_that_cannot_be_a_rule_is_refused_with_the_reason() {
    let deep = |open: &str, close: &str, depth: usize| {
        format!("{}1{} == 1", open.repeat(depth), close.repeat(depth))
    };
    let long = format!("value.a == '{}'", "x".repeat(MAX_EXPRESSION_BYTES));
    let sum = format!("value.a == {}1", "1+".repeat(200));
    let many = format!("value.a in [{}1]", "1,".repeat(400));
    for (expression, wanted) in [
        ("", "empty"),
        ("value.", "line 1"),
        ("value.a ==", "line 1"),
        ("1 + 2", "true or false"),
        ("'yes'", "a rule is true or false"),
        ("now() > value.a", "`now` with 0 arguments is not known"),
        ("other == 1", "`other` is not known"),
        ("value.a.matches(value.b)", "constant"),
        ("value.a.matches('(')", "cannot be read"),
        ("value.a.matches('(a{1000}){1000}')", "too large"),
        ("value.a.matches('(?=a)')", "cannot be read"),
        ("Type{a: 1} == value", "messages"),
        ("value.a.all(x, x.all(y, y.all(z, true)))", "nested deeper than 2"),
        (&deep("(", ")", 25), "nested deeper"),
        (&deep("[", "]", 1_000), "nested deeper"),
        (&deep("{1:", "}", 500), "nested deeper"),
        (&long, "bytes, more than"),
        (&sum, "nested deeper than 48"),
        (&many, "more than 256 parts"),
    ] {
        let why = Expression::parse(expression).unwrap_err();
        assert!(why.contains(wanted), "{expression:.60}: {why}");
    }
}

/// The parser goes a level deeper for each of these, which no bracket shows.
#[test]
fn chains_of_operators_do_not_overflow_the_stack() {
    for chain in [
        "!".repeat(2_000),
        "-".repeat(2_000),
        "!-".repeat(1_000),
        "- ".repeat(1_000),
        "1?".repeat(1_000),
        "a?b:".repeat(500),
        "a.".repeat(1_000),
        "a[0]".repeat(500),
        "1+".repeat(1_000),
        "a&&".repeat(600),
        "a||b&&".repeat(300),
        "a.map(".repeat(300),
        "'".repeat(2_000),
        "\"\"\"".repeat(600),
        "((((((((".repeat(3),
    ] {
        assert!(Expression::parse(&format!("{chain}1")).is_err(), "{chain:.20}");
        // What it says does not matter, that it ends does.
        let _said = Expression::parse(&chain);
    }
}

#[test]
fn a_hostile_expression_ends_at_the_budget() {
    let list: Vec<u32> = (0..10_000).collect();
    let text = "a".repeat(1 << 20);
    let value = json!({"list": list, "text": text, "words": vec!["aaaaaaaaaaaaaaaa"; 1_000]});
    let twice = |of: &str, times: usize| {
        (0..times).fold(of.to_owned(), |made, _| format!("[{made}].map(x, x + x)[0]"))
    };
    let doubled = format!("size({}) > 0", twice("value.text", 2));
    for expression in [
        "value.list.all(a, value.list.all(b, a + b >= 0))",
        "value.list.map(a, value.list.map(b, a * b)).size() > 0",
        "value.list.map(a, value.list).size() == value.list.map(a, a).size()",
        "value.list + value.list + value.list == value.list",
        "value.text + value.text + value.text == value.text",
        "value.text.matches('(a|a)*(a|aa)+b')",
        "value.text.matches('(.*)(.*)(.*)(.*)(.*)[^a]$')",
        "value.words.all(w, value.text.contains(w))",
        "value.words.all(w, value.words.all(v, w.matches('(x+x+)+y') || v == w))",
        "value.list in [value.list, value.list, value.list] && value.list.exists(a, a == -1)",
        "value.list.map(a, [value.text + value.text]) == []",
        &doubled,
    ] {
        let expression = Expression::parse(expression).unwrap_or_else(|why| panic!("{why}"));
        let mut budget = Budget::of(MAX_STEPS);
        let ended = expression.is_met(None, Source::Json(&value), &mut budget);
        assert_eq!(ended, Err(Stop::OverBudget));
        assert!(budget.spent() <= MAX_STEPS);
    }
}

/// What would have been true ends all the same: the request has no steps left.
#[test]
fn the_steps_of_a_request_are_bounded_too() {
    let rules = [meshlog_proto::v1::Rule {
        name: "small".to_owned(),
        expression: "value.delay < 1440".to_owned(),
        ..Default::default()
    }];
    let rules = Rules::new(&rules, |_| Default::default());
    let value = value();
    let check = |spent: u64| {
        let spent = std::sync::atomic::AtomicU64::new(spent);
        rules.check(None, Some(Source::Json(&value)), &spent)
    };
    assert_eq!(check(MAX_REQUEST_STEPS - 100), Ok(()));
    let refused = check(MAX_REQUEST_STEPS).unwrap_err();
    assert_eq!(refused.broken, crate::schema::Broken::RuleBudget);
    assert_eq!(refused.path, "rules[small]");
}

#[test]
fn a_rule_of_few_parts_takes_few_steps() {
    let mut budget = Budget::of(MAX_STEPS);
    let expression = Expression::parse("value.delay >= 0 && value.delay < 1440").unwrap();
    assert_eq!(expression.is_met(None, Source::Json(&value()), &mut budget), Ok(true));
    assert!(budget.spent() < 20, "{}", budget.spent());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_parsed_or_refused(text in "\\PC{0,200}") {
        let _said = Expression::parse(&text);
    }

    #[test]
    fn any_expression_ends_within_its_budget(
        words in prop::collection::vec(prop::sample::select(vec![
            "value", ".stops", ".legs", "[0]", "(", ")", "[", "]", "{", "}", ",", ":", "?", "+", "-",
            "*", "/", "%", "!", "==", "<", "in", "&&", "||", ".map(x,", ".all(x,", ".filter(x,",
            "x", "1", "0", "2u", "1.5", "'a'", "b'a'", "null", "true", "size(", "has(", "key",
            ".matches('a*')", "int(", "string(", "9223372036854775807", "-9223372036854775808",
        ]), 0..40),
        most in 0_u64..500,
    ) {
        if let Ok(expression) = Expression::parse(&words.join(" ")) {
            let mut budget = Budget::of(most);
            let _said = expression.is_met(None, Source::Json(&value()), &mut budget);
            prop_assert!(budget.spent() <= most);
        }
    }
}
