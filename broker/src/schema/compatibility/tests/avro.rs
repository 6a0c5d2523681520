use super::*;

fn avro(reader: &str, writer: &str) -> Comparison {
    reads(SchemaFormat::Avro, reader, writer)
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"r","namespace":"n","fields":[{fields}]}}"#)
}

#[test]
fn every_difference_is_told_with_its_path_both_sides_and_what_to_do() {
    let writer = record(
        r#"{"name":"id","type":"long"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},
           {"name":"f","type":{"type":"fixed","name":"F","size":4}},
           {"name":"u","type":["null","string"]},
           {"name":"in","type":{"type":"record","name":"I","fields":[{"name":"a","type":"string"}]}}"#,
    );
    let reader = record(
        r#"{"name":"id","type":"int"},{"name":"e","type":{"type":"enum","name":"E","symbols":["A"]}},
           {"name":"f","type":{"type":"fixed","name":"F","size":8}},
           {"name":"u","type":"string"},
           {"name":"in","type":{"type":"record","name":"I","fields":[{"name":"a","type":"string"},{"name":"b","type":"int"}]}},
           {"name":"more","type":"string"}"#,
    );
    let found = avro(&reader, &writer);
    assert_eq!(
        breaks(&found),
        [
            ("AVRO_TYPE_MISMATCH", "id"),
            ("AVRO_MISSING_ENUM_SYMBOLS", "e"),
            ("AVRO_FIXED_SIZE_MISMATCH", "f"),
            ("AVRO_TYPE_MISMATCH", "u"),
            ("AVRO_READER_FIELD_MISSING_DEFAULT", "in.b"),
            ("AVRO_READER_FIELD_MISSING_DEFAULT", "more"),
        ]
    );
    let enums = &found.differences[1];
    assert_eq!(enums.reader, "enum n.E without B");
    assert!(enums.hint.contains("default"), "{}", enums.hint);
}

#[test]
fn names_go_together_by_alias_and_by_their_last_part() {
    let writer = r#"{"type":"record","name":"a.Old","fields":[{"name":"x","type":"int"}]}"#;
    let other =
        r#"{"type":"record","name":"b.New","fields":[{"name":"y","type":"int","default":0}]}"#;
    assert_eq!(breaks(&avro(other, writer)), [("AVRO_NAME_MISMATCH", "")]);
    let alias = r#"{"type":"record","name":"b.New","aliases":["a.Old"],
        "fields":[{"name":"y","aliases":["x"],"type":"long"}]}"#;
    assert!(avro(alias, writer).differences.is_empty());
    let space = r#"{"type":"record","name":"b.Old","fields":[{"name":"x","type":"int"}]}"#;
    assert!(avro(space, writer).differences.is_empty());
}

/// The library finds no difference here: both sides only name the type, and its definitions stand in
/// fields that are not compared.
#[test]
fn a_type_that_is_only_named_is_compared_by_its_definition() {
    let side = |field: &str, of: &str| {
        record(&format!(
            r#"{{"name":"{field}","type":{{"type":"record","name":"T","fields":[{{"name":"x","type":"{of}"}}]}},"default":{{"x":{}}}}},
               {{"name":"t","type":"T"}}"#,
            if of == "string" { "\"\"" } else { "0" }
        ))
    };
    assert_eq!(
        breaks(&avro(&side("new", "int"), &side("old", "string"))),
        [("AVRO_TYPE_MISMATCH", "t.x")]
    );
    assert!(avro(&side("new", "long"), &side("old", "int")).is_compatible());
}

#[test]
fn recursive_types_are_compared_to_the_end() {
    let list = |of: &str, name: &str| {
        format!(
            r#"{{"type":"record","name":"{name}","fields":[{{"name":"head","type":"{of}"}},
                {{"name":"tail","type":["null","{name}"]}}]}}"#
        )
    };
    assert!(avro(&list("long", "L"), &list("int", "L")).is_compatible());
    assert_eq!(
        breaks(&avro(&list("int", "L"), &list("long", "L"))),
        [("AVRO_TYPE_MISMATCH", "head")]
    );
}

/// A pair that is taken to hold while it is being compared must not prove another one if it fails.
#[test]
fn what_rests_on_a_pair_that_fails_is_forgotten() {
    // In the union, branch X fails (its `n` needs a default) after its `inner` was compared with X
    // taken to hold; `inner` alone, in the second field, must fail too.
    let side = |more: &str| {
        record(&format!(
            r#"{{"name":"u","type":["null",{{"type":"record","name":"X","fields":[
                 {{"name":"inner","type":{{"type":"record","name":"In","fields":[{{"name":"x","type":["null","X"]}}]}}}}{more}]}},
                 {{"type":"map","values":"int"}}]}},
               {{"name":"alone","type":"In"}}"#
        ))
    };
    let writer = side("");
    let reader = side(r#",{"name":"n","type":"int"}"#);
    let found = avro(&reader, &writer);
    assert!(!found.is_compatible());
    assert!(breaks(&found).contains(&("AVRO_READER_FIELD_MISSING_DEFAULT", "u.n")), "{found:?}");
}

#[test]
fn decimals_keep_their_scale_and_other_logical_types_only_warn() {
    let decimal = |scale: u8| {
        record(&format!(
            r#"{{"name":"d","type":{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}}}"#
        ))
    };
    assert_eq!(breaks(&avro(&decimal(3), &decimal(2))), [("AVRO_DECIMAL_MISMATCH", "d")]);
    let time = |unit: &str| {
        record(&format!(
            r#"{{"name":"t","type":{{"type":"long","logicalType":"timestamp-{unit}"}}}}"#
        ))
    };
    let found = avro(&time("micros"), &time("millis"));
    assert!(found.is_compatible());
    assert_eq!(found.differences[0].rule, "AVRO_LOGICAL_TYPE_CHANGED");
}
