use super::*;

fn proto(text: &str) -> Schema {
    let source = SchemaSource {
        format: SchemaFormat::Protobuf.into(),
        text: format!("syntax = \"proto3\";\n{text}"),
        message_name: "M".to_owned(),
        ..SchemaSource::default()
    };
    Schema::parse(&source).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn both(reader: &str, writer: &str) -> (Comparison, Comparison) {
    let (reader, writer) = (proto(reader), proto(writer));
    let on = |profile| {
        let terms = Terms { profile, ..Terms::default() };
        can_read(&reader, &writer, terms).unwrap()
    };
    (on(Profile::Wire), on(Profile::WireJson))
}

#[test]
fn bytes_and_names_are_two_promises() {
    for (reader, writer, wire, json) in [
        ("message M { int64 a = 1; }", "message M { int32 a = 1; }", true, false),
        ("message M { uint32 a = 1; }", "message M { int32 a = 1; }", true, true),
        ("message M { int32 b = 1; }", "message M { int32 a = 1; }", true, false),
        ("message M { sint32 a = 1; }", "message M { int32 a = 1; }", false, false),
        ("message M { bytes a = 1; }", "message M { string a = 1; }", true, false),
        ("message M { string a = 1; }", "message M { bytes a = 1; }", false, false),
        ("message M { repeated int32 a = 1; }", "message M { int32 a = 1; }", false, false),
        ("message M { optional int32 a = 1; }", "message M { int32 a = 1; }", true, true),
        ("message M { }", "message M { int32 a = 1; }", true, true),
        ("message M { int32 a = 1; int32 b = 2; }", "message M { int32 a = 1; }", true, true),
        (
            "message M { oneof o { int32 a = 1; int32 b = 2; } }",
            "message M { int32 a = 1; int32 b = 2; }",
            false,
            false,
        ),
        (
            "message M { int32 a = 1; int32 b = 2; }",
            "message M { oneof o { int32 a = 1; int32 b = 2; } }",
            true,
            true,
        ),
        (
            "message M { map<string, int64> a = 1; }",
            "message M { map<string, int32> a = 1; }",
            true,
            false,
        ),
        (
            "enum E { X = 0; Z = 1; } message M { E a = 1; }",
            "enum E { X = 0; Y = 1; } message M { E a = 1; }",
            true,
            false,
        ),
        (
            "message N { int32 x = 1; } message M { N a = 1; }",
            "message O { int32 x = 1; } message M { O a = 1; }",
            true,
            true,
        ),
        (
            "message N { string x = 1; } message M { N a = 1; }",
            "message O { int32 x = 1; } message M { O a = 1; }",
            false,
            false,
        ),
    ] {
        let (on_wire, on_json) = both(reader, writer);
        assert_eq!(on_wire.is_compatible(), wire, "WIRE: {reader} reads {writer}: {on_wire:?}");
        assert_eq!(
            on_json.is_compatible(),
            json,
            "WIRE_JSON: {reader} reads {writer}: {on_json:?}"
        );
    }
}

#[test]
fn a_number_that_goes_must_be_reserved_and_stay_so() {
    let kept = |new: &str, old: &str| {
        let found = keeps(&proto(new), &proto(old), Terms::default()).unwrap();
        found.differences.iter().map(|one| (one.rule, one.hint.clone())).collect::<Vec<_>>()
    };
    let old = "message M { int32 a = 1; int32 b = 2; }";
    let hint = "add `reserved 2; reserved \"b\";`, so that nobody gives them another meaning";
    assert_eq!(
        kept("message M { int32 a = 1; }", old),
        [("PROTOBUF_DELETED_UNLESS_RESERVED", hint.to_owned())]
    );
    let reserved = "message M { reserved 2; reserved \"b\"; int32 a = 1; }";
    assert_eq!(kept(reserved, old), []);
    assert_eq!(kept("message M { int32 a = 1; }", reserved).len(), 2, "number and name");
    assert_eq!(kept(old, reserved).len(), 2, "given away again");
}

#[test]
fn narrowing_is_read_and_warned_of() {
    let (wire, _) = both("message M { int32 a = 1; }", "message M { int64 a = 1; }");
    assert!(wire.is_compatible());
    assert_eq!(wire.differences[0].rule, "PROTOBUF_FIELD_NARROWED");
    assert_eq!(wire.differences[0].weight, Weight::Warning);
}

#[test]
fn recursive_messages_are_compared_to_the_end() {
    let tree = |of: &str| format!("message M {{ {of} x = 1; repeated M kids = 2; }}");
    let (wire, _) = both(&tree("int64"), &tree("int32"));
    assert!(wire.is_compatible());
    let (wire, _) = both(&tree("string"), &tree("int32"));
    assert_eq!(breaks(&wire), [("PROTOBUF_FIELD_TYPE", "x")]);
}
