use std::collections::BTreeMap;

use super::*;

/// Rows of the table in `docs/errors.md`: reason → cells.
fn documented() -> BTreeMap<String, Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect();
            (cells[0].clone(), cells)
        })
        .collect()
}

/// A code as the documentation writes it.
pub(in crate::edge) fn screaming(code: Code) -> String {
    let mut text = String::new();
    for (index, letter) in format!("{code:?}").chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

#[test]
fn every_reason_has_a_row_that_tells_its_code_and_what_to_do() {
    let rows = documented();
    for reason in Reason::ALL {
        let row = rows.get(reason.text());
        let row = row.unwrap_or_else(|| panic!("docs/errors.md has no row for {}", reason.text()));
        assert_eq!(row.len(), 7, "cells of {}", reason.text());
        assert_eq!(row[1], screaming(code(*reason)), "code of {}", reason.text());
        assert!(["yes", "no", "resend"].contains(&row[2].as_str()), "retryable: {}", row[2]);
        let applied = ["no", "unknown", "no or unknown", "-"];
        assert!(applied.contains(&row[3].as_str()), "applied: {}", row[3]);
        assert!(row[5].parse::<u8>().is_ok(), "exit code: {}", row[5]);
        assert!(row[6].len() > 10, "what to do about {}", reason.text());
    }
    assert_eq!(rows.len(), Reason::ALL.len(), "docs/errors.md has rows for unknown reasons");
}

#[test]
fn a_status_carries_reason_details_and_plain_trailers() {
    let error = Error::new(Reason::OffsetOutOfRange, "offset 9 is not readable")
        .with("start_offset", 2)
        .with("durable_end", 7);
    let status = status_of(&error);
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.metadata().get(REASON_TRAILER).unwrap(), "OFFSET_OUT_OF_RANGE");
    assert_eq!(status.metadata().get(APPLIED_TRAILER).unwrap(), "no");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("OFFSET_OUT_OF_RANGE", "meshlog"));
    assert_eq!(info.metadata["durable_end"], "7");
    assert_eq!(info.metadata["applied"], "no");
    let inner = rpc_status_of(&error);
    assert_eq!(inner.code, i32::from(Code::OutOfRange));
    assert_eq!(inner.details.len(), 1);
}

#[test]
fn overload_says_when_to_try_again() {
    let error = Error::new(Reason::Overloaded, "later").with("retry_after_ms", 250);
    let details = status_of(&error).get_error_details();
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(250)));
}

#[test]
fn many_violations_never_outgrow_the_trailers_of_a_careful_client() {
    let error = (0..100).fold(Error::new(Reason::SchemaRejected, "no"), |error, index| {
        error.with_violation(format!("batch.records[{index}]"), "x".repeat(300))
    });
    let status = status_of(&error);
    let violations = status.get_error_details().bad_request().unwrap().field_violations.len();
    assert!(violations >= 10, "{violations}");
    assert!(status.details().len() < 5 << 10, "{} bytes", status.details().len());
}
