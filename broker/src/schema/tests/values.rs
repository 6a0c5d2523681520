//! Values of Avro and Protobuf, framing and tombstones.

use std::time::{Duration, Instant};

use meshlog_proto::v1::SchemaFormat;
use proptest::prelude::*;
use prost_reflect::{DynamicMessage, MapKey, Value};

use super::*;

fn parsed(format: SchemaFormat, text: &str) -> Schema {
    Schema::parse(&source(format, text)).unwrap()
}

fn avro(text: &str) -> RecordCheck<'static> {
    check_of(&parsed(SchemaFormat::Avro, text))
}

fn protobuf(text: &str) -> RecordCheck<'static> {
    check_of(&parsed(SchemaFormat::Protobuf, text))
}

fn refused(check: &RecordCheck<'_>, value: &[u8]) -> (String, String, String) {
    let Rejection { path, expected, found, broken } = check.check(None, Some(value)).unwrap_err();
    assert_eq!(broken, Broken::Schema);
    (path, expected, found)
}

fn told(check: &RecordCheck<'_>, value: &[u8]) -> String {
    let (path, expected, found) = refused(check, value);
    format!("{path}: {expected}, not {found}")
}

const FLIGHT: &str = r#"{"type": "record", "name": "Flight", "namespace": "ops", "fields": [
    {"name": "carrier", "type": "string"},
    {"name": "delay", "type": ["null", "int"]},
    {"name": "stops", "type": {"type": "array", "items": "string"}},
    {"name": "fares", "type": {"type": "map", "values": "double"}},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["CARGO", "PASSENGER"]}},
    {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
    {"name": "late", "type": "boolean"}]}"#;

/// `UA`, 3 minutes, two stops, one fare, a passenger flight.
fn flight() -> Vec<u8> {
    let mut bytes = vec![4, b'U', b'A', 2, 6];
    bytes.extend([4, 6, b'E', b'W', b'R', 6, b'I', b'A', b'H', 0]);
    bytes.extend([2, 2, b'y']);
    bytes.extend(f64::NAN.to_le_bytes());
    bytes.extend([0, 2, 0xaa, 0xbb, 1]);
    bytes
}

#[test]
fn an_avro_value_must_be_one_value_of_the_schema_from_its_first_byte_to_its_last() {
    let check = avro(FLIGHT);
    let good = flight();
    check.check(None, Some(&good)).unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let last = good.len() - 1;
    assert_eq!(told(&check, &with(1, 0xff)), "/carrier: string, not bytes that are not UTF-8");
    assert_eq!(told(&check, &with(3, 4)), "/delay: union of null, int, not branch number 2");
    assert_eq!(told(&check, &with(7, 0xc3)), "/stops/0: string, not bytes that are not UTF-8");
    assert_eq!(told(&check, &with(last, 2)), "/late: boolean, not the byte 2");
    assert_eq!(told(&check, &with(last - 3, 4)), "/kind: enum ops.Kind, not symbol number 2");
    assert_eq!(
        told(&check, &[&good[..], &[0, 0]].concat()),
        ": the end of the value, not 2 bytes more"
    );
    for cut in 0..good.len() {
        let (_, _, found) = refused(&check, &good[..cut]);
        assert!(found.contains("the end of the bytes"), "cut at {cut}: {found}");
    }
    let number = avro(r#""int""#);
    number.check(None, Some(&[0xfe, 0xff, 0xff, 0xff, 0x0f])).unwrap();
    assert_eq!(told(&number, &[0x80, 0x80, 0x80, 0x80, 0x10]), ": int, not the number 2147483648");
}

#[test]
fn avro_values_that_would_take_much_time_or_memory_end_soon() {
    let long = |value: i64| {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    };
    let began = Instant::now();
    // Items that take no byte, more than there is memory; also in a block of a size that is given.
    let nulls = avro(r#"{"type": "array", "items": "null"}"#);
    let many = [long(i64::MAX), vec![0]].concat();
    assert!(told(&nulls, &many).contains("too many items"));
    assert!(told(&nulls, &[long(i64::MIN), long(0), vec![0]].concat()).contains("too many items"));
    let empty =
        avro(r#"{"type": "array", "items": {"type": "record", "name": "E", "fields": []}}"#);
    assert!(told(&empty, &many).contains("too many items"));
    // A length beyond everything.
    let bytes = avro(r#""bytes""#);
    assert!(told(&bytes, &long(i64::MAX)).contains("the end of the bytes"));
    assert!(told(&bytes, &long(-1)).contains("the end of the bytes"));
    assert!(told(&avro(r#""string""#), &long(i64::MIN)).contains("the end of the bytes"));
    // A list that is as deep as it is long.
    let list = avro(
        r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#,
    );
    list.check(None, Some(&[vec![2; 30], vec![0]].concat())).unwrap();
    assert!(told(&list, &[vec![2; 1 << 20], vec![0]].concat()).contains("nested too deeply"));
    // A block that lies about its size: whoever passes over it reads something else.
    let ints = avro(r#"{"type": "array", "items": "int"}"#);
    ints.check(None, Some(&[3, 4, 2, 4, 0])).unwrap();
    assert!(told(&ints, &[3, 2, 2, 4, 0]).contains("not as long as it says"));
    // As many visits as a record of the largest size can make.
    let mut most = long(8 << 20);
    most.push(0);
    most.resize(1 << 20, 0);
    assert!(nulls.check(None, Some(&most)).is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

const PASSENGER: &str = r#"syntax = "proto3"; package p;
    message Ticket {
      string name = 1; int32 seat = 2; repeated Leg legs = 3; map<string, double> fares = 4;
      repeated sint32 gates = 5; Kind kind = 6; bool late = 7; fixed32 hash = 8; bytes raw = 9;
      message Leg { string from = 1; Ticket back = 2; uint32 miles = 3; }
      enum Kind { NONE = 0; CARGO = 1; }
    }"#;

fn ticket(text: &str) -> prost_reflect::MessageDescriptor {
    let mut source = source(SchemaFormat::Protobuf, text);
    source.message_name = "p.Ticket".to_owned();
    protobuf_message(&source).unwrap()
}

fn leg(of: &prost_reflect::MessageDescriptor, from: &str) -> Value {
    let leg = of.get_field_by_name("legs").unwrap().kind().as_message().unwrap().clone();
    let mut message = DynamicMessage::new(leg);
    message.set_field_by_name("from", Value::String(from.to_owned()));
    Value::Message(message)
}

fn some_ticket() -> Vec<u8> {
    let descriptor = ticket(PASSENGER);
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field_by_name("name", Value::String("Ada".to_owned()));
    message.set_field_by_name("seat", Value::I32(-7));
    let legs = vec![leg(&descriptor, "EWR"), leg(&descriptor, "IAH")];
    message.set_field_by_name("legs", Value::List(legs));
    let fares = [(MapKey::String("y".to_owned()), Value::F64(f64::NAN))];
    message.set_field_by_name("fares", Value::Map(fares.into_iter().collect()));
    message.set_field_by_name("gates", Value::List([-1, 2].map(Value::I32).to_vec()));
    message.set_field_by_name("kind", Value::EnumNumber(9));
    message.set_field_by_name("late", Value::Bool(true));
    message.set_field_by_name("hash", Value::U32(7));
    message.set_field_by_name("raw", Value::Bytes(vec![0xff].into()));
    prost::Message::encode_to_vec(&message)
}

#[test]
fn a_protobuf_value_must_be_one_message_with_declared_fields_of_their_types() {
    let check = protobuf(PASSENGER);
    let good = some_ticket();
    check.check(None, Some(&good)).unwrap();
    check.check(None, Some(b"")).unwrap();
    // Not packed, and again: both are allowed.
    check.check(None, Some(&[0x28, 1, 0x28, 2, 0x2a, 1, 3, 0x10, 1, 0x10, 2])).unwrap();
    let more = |bytes: &[u8]| told(&check, &[&good[..], bytes].concat());
    assert_eq!(more(&[0x0a, 1, 0xff]), "/name: a string, not bytes that are not UTF-8");
    assert_eq!(more(&[0x08, 1]), "/name: a string, not a varint");
    assert_eq!(more(&[0x50, 1]), ": a declared field of p.Ticket, not the undeclared field 10");
    assert_eq!(more(&[0x38, 2]), "/late: a bool, not the number 2");
    assert_eq!(
        more(&[0x10, 0x80, 0x80, 0x80, 0x80, 0x40]),
        "/seat: a number of 32 bits, not the number 17179869184"
    );
    // The third leg: two are there.
    assert_eq!(
        more(&[0x1a, 2, 0x22, 0]),
        "/legs/2: a declared field of p.Ticket.Leg, not the undeclared field 4"
    );
    assert_eq!(more(&[0x1a, 4, 0x12, 2, 0x08, 1]), "/legs/2/back/name: a string, not a varint");
    assert_eq!(more(&[0x22, 2, 0x10, 1]), "/fares/1/value: 8 bytes, not a varint");
    assert_eq!(
        more(&[0x2a, 1, 0x80]),
        "/gates/1: a zigzag number of 32 bits, not the end of the bytes"
    );
    assert_eq!(more(&[0]), ": a field, not an impossible field number");
    assert_eq!(more(&[0x0c]), "/name: a string, not a wire type that there is not");
    for cut in 1..4 {
        assert!(check.check(None, Some(&good[..cut])).is_err(), "cut at {cut}");
    }
}

#[test]
fn what_proto2_requires_must_be_there_and_a_closed_enum_has_its_own_values_only() {
    let check = protobuf(
        r#"syntax = "proto2"; package p; message T {
            required int32 a = 1; optional E e = 2; optional group G = 3 { optional string s = 1; }
            enum E { X = 1; Y = -1; } }"#,
    );
    check.check(None, Some(&[8, 1])).unwrap();
    check.check(None, Some(&[8, 1, 0x1b, 0x0a, 1, b'x', 0x1c])).unwrap();
    check
        .check(None, Some(&[8, 1, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]))
        .unwrap();
    assert_eq!(told(&check, b""), "/a: a required field, not nothing");
    assert_eq!(told(&check, &[8, 1, 16, 2]), "/e: a value of the enum, not the number 2");
    assert!(told(&check, &[8, 1, 0x1b, 0x0a, 1, b'x']).contains("the end of the group"));
    assert!(told(&check, &[8, 1, 0x1b, 0x24]).contains("the undeclared field 4"));
}

#[test]
fn protobuf_values_that_would_take_much_time_or_memory_end_soon() {
    let began = Instant::now();
    let check = protobuf(PASSENGER);
    // Messages in messages, each with its length: as deep as a megabyte can be.
    let mut value = Vec::new();
    for _ in 0..200 {
        for tag in [0x12, 0x1a] {
            let mut outer = vec![tag];
            prost::encoding::encode_varint(value.len() as u64, &mut outer);
            outer.extend(value);
            value = outer;
        }
    }
    assert!(told(&check, &value).contains("nested too deeply"));
    // A length beyond everything, and a packed megabyte.
    let long = [0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(told(&check, &long).contains("beyond the end"));
    let mut packed = vec![0x2a];
    prost::encoding::encode_varint((1 << 20) - 8, &mut packed);
    packed.resize(packed.len() + (1 << 20) - 9, 0);
    packed.push(0x80);
    assert!(told(&check, &packed).contains("the end of the bytes"));
    // Half a million fields, the last of which is wrong: its number is counted once.
    let mut many = [0x28, 0].repeat(500_000);
    many.extend([0x28, 0x80]);
    let (path, ..) = refused(&check, &many);
    assert_eq!(path, "/gates/500000");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_schema_id_stands_before_the_value_and_must_be_of_the_version() {
    let framed = |schema: &Schema| RecordCheck {
        frame: Some(Frame { schema_id: 258, version: 2 }),
        ..check_of(schema)
    };
    let check = framed(&json_schema(json!({"type": "object"})));
    let value = |prefix: &[u8]| [prefix, b"{}"].concat();
    check.check(None, Some(&value(&[0, 0, 0, 1, 2]))).unwrap();
    let reject = |bytes: &[u8]| check.check(None, Some(bytes)).unwrap_err();
    assert_eq!(reject(b"{}").broken, Broken::Schema);
    assert_eq!(reject(b"{}").found, "2 bytes");
    assert_eq!(reject(&value(&[1, 0, 0, 1, 2])).found, "the byte 1");
    let other = reject(&value(&[0, 0, 0, 1, 3]));
    assert_eq!((other.broken, other.found.as_str()), (Broken::Version, "the schema id 259"));

    let text = "syntax = \"proto3\"; message A { message B { string s = 1; } } message C {}";
    let mut source = source(SchemaFormat::Protobuf, text);
    source.message_name = "A.B".to_owned();
    let nested = framed(&Schema::parse(&source).unwrap());
    nested.check(None, Some(&[0, 0, 0, 1, 2, 4, 0, 0, 10, 1, b'x'])).unwrap();
    let other = nested.check(None, Some(&[0, 0, 0, 1, 2, 2, 2, 10, 1, b'x'])).unwrap_err();
    assert_eq!(
        (other.expected.as_str(), other.found.as_str()),
        ("the message indexes [0, 0]", "[1]")
    );
    nested.check(None, Some(&[0, 0, 0, 1, 2, 0xff, 0xff])).unwrap_err();
    source.message_name = "A".to_owned();
    let first = framed(&Schema::parse(&source).unwrap());
    first.check(None, Some(&[0, 0, 0, 1, 2, 0])).unwrap();
    first.check(None, Some(&[0, 0, 0, 1, 2, 2, 0])).unwrap();
    assert_eq!(after_indexes(&[4, 0, 0, 9]), Some(&[9][..]));
}

#[test]
fn a_key_without_a_value_is_for_products_that_are_compacted() {
    let schema = json_schema(json!({"type": "object"}));
    let check = RecordCheck { refuses_tombstones: true, ..check_of(&schema) };
    let refused = check.check(Some(b"UA"), None).unwrap_err();
    assert_eq!(refused.broken.reason(), crate::error::Reason::TombstoneNotAllowed);
    check_of(&schema).check(Some(b"UA"), None).unwrap();
    assert_eq!(check.check(None, None).unwrap_err().found, "neither key nor value");
}

#[test]
fn a_warning_is_not_enough_for_a_key_that_is_not_the_one_in_the_value() {
    let schema = json_schema(json!({"type": "object", "properties": {"id": {"type": "integer"}}}));
    let rule = FieldPath::new("id");
    let check = RecordCheck { key_rule: Some(&rule), ..check_of(&schema) };
    let unacceptable = |key: &[u8], value: &[u8]| {
        let rejection = check.check(Some(key), Some(value)).unwrap_err();
        check.is_unacceptable(&rejection, Some(key), Some(value)).map(|broken| broken.broken)
    };
    assert_eq!(unacceptable(b"7", br#"{"id": "7"}"#), None, "only the type is wrong");
    assert_eq!(unacceptable(b"8", br#"{"id": "7"}"#), Some(Broken::Key));
    assert_eq!(unacceptable(b"8", br#"{"id": 7}"#), Some(Broken::Key));
    assert_eq!(unacceptable(b"8", b"no JSON"), Some(Broken::Key));
}

proptest! {
    /// What the checks take, the libraries that readers use can decode.
    #[test]
    fn what_a_check_takes_a_library_reads(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
        let check = protobuf(PASSENGER);
        let read = DynamicMessage::decode(ticket(PASSENGER), &bytes[..]);
        if check.check(None, Some(&bytes)).is_ok() {
            prop_assert!(read.is_ok(), "{:?}", read);
        }
        let check = avro(FLIGHT);
        if check.check(None, Some(&bytes)).is_ok() {
            let schema = apache_avro::Schema::parse_str(FLIGHT).unwrap();
            let mut rest = &bytes[..];
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build();
            let read = reader.unwrap().read_value(&mut rest);
            prop_assert!(read.is_ok() && rest.is_empty(), "{:?}", read);
        }
    }

    /// What a library writes, the checks take.
    #[test]
    fn what_a_library_writes_a_check_takes(
        carrier in ".{0,9}", delay in any::<Option<i32>>(), stops in prop::collection::vec(".{0,4}", 0..4),
        kind in 0_u32..2, hash in any::<[u8; 2]>(), late in any::<bool>(), seat in any::<i32>(),
        gates in prop::collection::vec(any::<i32>(), 0..4), raw in prop::collection::vec(any::<u8>(), 0..9)
    ) {
        use apache_avro::types::Value as Avro;
        let schema = apache_avro::Schema::parse_str(FLIGHT).unwrap();
        let delay = delay.map_or((0, Avro::Null), |delay| (1, Avro::Int(delay)));
        let symbol = ["CARGO", "PASSENGER"][kind as usize].to_owned();
        let value = Avro::Record(vec![
            ("carrier".to_owned(), Avro::String(carrier.clone())),
            ("delay".to_owned(), Avro::Union(delay.0, Box::new(delay.1))),
            ("stops".to_owned(), Avro::Array(stops.into_iter().map(Avro::String).collect())),
            ("fares".to_owned(), Avro::Map([("y".to_owned(), Avro::Double(1.5))].into())),
            ("kind".to_owned(), Avro::Enum(kind, symbol)),
            ("hash".to_owned(), Avro::Fixed(2, hash.to_vec())),
            ("late".to_owned(), Avro::Boolean(late)),
        ]);
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build();
        let bytes = writer.unwrap().write_value_to_vec(value).unwrap();
        prop_assert_eq!(avro(FLIGHT).check(None, Some(&bytes)), Ok(()));

        let mut message = DynamicMessage::new(ticket(PASSENGER));
        message.set_field_by_name("name", Value::String(carrier));
        message.set_field_by_name("seat", Value::I32(seat));
        message.set_field_by_name("gates", Value::List(gates.into_iter().map(Value::I32).collect()));
        message.set_field_by_name("raw", Value::Bytes(raw.into()));
        let bytes = prost::Message::encode_to_vec(&message);
        prop_assert_eq!(protobuf(PASSENGER).check(None, Some(&bytes)), Ok(()));
    }
}
