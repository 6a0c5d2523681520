//! Protobuf values, decoded without being made.
//!
//! A value conforms if its bytes are one message of the schema, whole: every field declared and of its
//! wire type, packed or not; lengths within the bytes; numbers within their type; text in UTF-8;
//! required fields there. `float` and `double` may be anything, NaN included, and an open enum (as in
//! proto3) any number; a closed one only its own. As the format has it, a field that occurs again is
//! not wrong.
//!
//! **Undeclared fields are refused**, as for JSON Schema: a field can be added later without meeting
//! values that already used its number for something else.
//!
//! Nothing is allocated unless something is wrong, or a message has more than 64 required fields.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
};

use super::Rejection;
use super::fault::{Fault, Step};
use super::record_check::MAX_VALUE_DEPTH;
use crate::rule::Data;

/// Checks values against one message.
pub(crate) struct ProtobufCheck {
    /// The first is the record's.
    messages: Vec<Message>,
    /// Where the record's message stands in its file: its number, and those of the messages around
    /// it before; once as the descriptor counts, once without the entries of maps.
    places: [Vec<i64>; 2],
    descriptor: MessageDescriptor,
}

/// Longest value that is decoded for rules: one byte of it may become a value of its own.
const MAX_DECODED_BYTES: usize = 256 << 10;

struct Message {
    name: Box<str>,
    /// By number.
    fields: Box<[Field]>,
    required: usize,
}

struct Field {
    number: u32,
    name: Box<str>,
    kind: FieldKind,
    repeated: bool,
    /// Its place among the required ones.
    required: Option<usize>,
}

enum FieldKind {
    Int32,
    UInt32,
    SInt32,
    Bool,
    /// 64 bits of any sign.
    Int64,
    Fixed32,
    Fixed64,
    Bytes,
    String,
    /// The numbers of a closed enum, sorted; `None`: any.
    Enum(Option<Box<[i32]>>),
    Message(usize),
    Group(usize),
}

/// What is found where bytes are missing.
const CUT: &str = "the end of the bytes";

impl ProtobufCheck {
    pub(super) fn new(message: &MessageDescriptor) -> Self {
        let mut known = HashMap::new();
        let mut messages = Vec::new();
        collect(message, &mut known, &mut messages);
        let messages = messages.iter().map(|one| Message::new(one, &known)).collect();
        Self {
            messages,
            places: [place(message, false), place(message, true)],
            descriptor: message.clone(),
        }
    }

    /// Whether the bytes are one message.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), Rejection> {
        let mut input = Input { bytes, at: 0 };
        self.message(0, &mut input, None, 0).map_err(|fault| fault.into_rejection())
    }

    /// A value that conforms, as rules see it; `None`: it is too large, or has too many parts.
    pub(super) fn data(&self, bytes: &[u8]) -> Option<Data> {
        if bytes.len() > MAX_DECODED_BYTES {
            return None;
        }
        let message = DynamicMessage::decode(self.descriptor.clone(), bytes).ok()?;
        Data::of_message(&message)
    }

    /// Takes the indexes that Confluent writes before a message away; they must be of the record's.
    pub(super) fn after_indexes<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Rejection> {
        let expected = "the indexes of the record's message before it";
        let broken = |found: &str| Fault::new(expected, found).into_rejection();
        let mut found = [0; MAX_VALUE_DEPTH];
        let (length, rest) = indexes(bytes, &mut found).ok_or_else(|| broken("none"))?;
        let found = &found[..length];
        match self.places.iter().any(|place| place == found) {
            true => Ok(rest),
            false => {
                let expected = format!("the message indexes {:?}", self.places[0]);
                Err(Fault::new(expected, format!("{found:?}")).into_rejection())
            }
        }
    }

    /// The fields of a message, up to the end of the bytes or of the group.
    fn message(&self, at: usize, input: &mut Input<'_>, group: Option<u32>, depth: usize) -> Step {
        let message = &self.messages[at];
        if depth > MAX_VALUE_DEPTH {
            return Err(Fault::new(&*message.name, "a value nested too deeply"));
        }
        let start = input.at;
        let mut seen = Seen::new(message.required);
        loop {
            if input.at == input.bytes.len() {
                match group {
                    None => break,
                    Some(_) => return Err(Fault::new("the end of the group", CUT)),
                }
            }
            let begins = input.at;
            let tag = input.varint().ok_or_else(|| Fault::new("a field", CUT))?;
            let Some(number) = u32::try_from(tag).ok().map(|tag| tag >> 3).filter(|one| *one > 0)
            else {
                return Err(Fault::new("a field", "an impossible field number"));
            };
            let wire = (tag & 7) as u8;
            if wire == 4 && group == Some(number) {
                break;
            }
            let field = message.field(number).ok_or_else(|| {
                Fault::new(
                    format!("a declared field of {}", message.name),
                    format!("the undeclared field {number}"),
                )
            })?;
            self.field(field, wire, input, depth).map_err(|fault| {
                let fault = match field.repeated {
                    true => fault.inside(count(&input.bytes[start..begins], number)),
                    false => fault,
                };
                fault.inside(&field.name)
            })?;
            if let Some(place) = field.required {
                seen.note(place);
            }
        }
        match message.fields.iter().find(|f| f.required.is_some_and(|place| !seen.has(place))) {
            None => Ok(()),
            Some(field) => Err(Fault::new("a required field", "nothing").inside(&field.name)),
        }
    }

    fn field(&self, field: &Field, wire: u8, input: &mut Input<'_>, depth: usize) -> Step {
        use FieldKind as K;
        let wrong = || {
            let found = match wire {
                0 => "a varint",
                1 => "8 bytes",
                2 => "bytes with their length",
                3 => "a group",
                5 => "4 bytes",
                _ => "a wire type that there is not",
            };
            Err(Fault::new(field.kind.word(), found))
        };
        match (&field.kind, wire) {
            (K::Message(inner), 2) => {
                let mut inside = Input { bytes: input.counted(field)?, at: 0 };
                self.message(*inner, &mut inside, None, depth + 1)
            }
            (K::Group(inner), 3) => self.message(*inner, input, Some(field.number), depth + 1),
            (K::Message(_) | K::Group(_), _) => wrong(),
            (K::Bytes, 2) => input.counted(field).map(drop),
            (K::String, 2) => match std::str::from_utf8(input.counted(field)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(Fault::new("a string", "bytes that are not UTF-8")),
            },
            (K::Bytes | K::String, _) => wrong(),
            (_, 2) if field.repeated => {
                let mut packed = Input { bytes: input.counted(field)?, at: 0 };
                while packed.at < packed.bytes.len() {
                    field.kind.scalar(&mut packed)?;
                }
                Ok(())
            }
            (kind, wire) if wire == kind.wire() => kind.scalar(input),
            _ => wrong(),
        }
    }
}

impl Message {
    fn new(message: &MessageDescriptor, known: &HashMap<String, usize>) -> Self {
        let plain = message.fields().map(|field| Field::new(&field, known));
        let extensions = message.extensions().map(|field| Field::of_extension(&field, known));
        let mut fields: Vec<Field> = plain.chain(extensions).collect();
        fields.sort_by_key(|field| field.number);
        let mut required = 0;
        for field in &mut fields {
            if let Some(place) = &mut field.required {
                *place = required;
                required += 1;
            }
        }
        Self { name: message.full_name().into(), fields: fields.into(), required }
    }

    fn field(&self, number: u32) -> Option<&Field> {
        // Most messages count their fields from 1 without gaps.
        match self.fields.get(number as usize - 1) {
            Some(field) if field.number == number => Some(field),
            _ => {
                let at = self.fields.binary_search_by_key(&number, |field| field.number).ok()?;
                Some(&self.fields[at])
            }
        }
    }
}

impl Field {
    fn new(field: &FieldDescriptor, known: &HashMap<String, usize>) -> Self {
        Self {
            number: field.number(),
            name: field.name().into(),
            kind: FieldKind::new(&field.kind(), field.is_group(), known),
            repeated: field.is_list() || field.is_map(),
            required: field.is_required().then_some(0),
        }
    }

    fn of_extension(field: &ExtensionDescriptor, known: &HashMap<String, usize>) -> Self {
        Self {
            number: field.number(),
            name: format!("[{}]", field.full_name()).into(),
            kind: FieldKind::new(&field.kind(), field.is_group(), known),
            repeated: field.is_list() || field.is_map(),
            required: None,
        }
    }
}

impl FieldKind {
    fn new(kind: &Kind, is_group: bool, known: &HashMap<String, usize>) -> Self {
        match kind {
            Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Self::Fixed64,
            Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Self::Fixed32,
            Kind::Int32 => Self::Int32,
            Kind::Uint32 => Self::UInt32,
            Kind::Sint32 => Self::SInt32,
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 => Self::Int64,
            Kind::Bool => Self::Bool,
            Kind::String => Self::String,
            Kind::Bytes => Self::Bytes,
            Kind::Message(message) => {
                let inner = known.get(message.full_name()).copied().unwrap_or_default();
                if is_group { Self::Group(inner) } else { Self::Message(inner) }
            }
            Kind::Enum(one) => {
                let is_closed = one.parent_file().syntax() == prost_reflect::Syntax::Proto2;
                let mut numbers: Vec<i32> = one.values().map(|value| value.number()).collect();
                numbers.sort_unstable();
                Self::Enum(is_closed.then(|| numbers.into()))
            }
        }
    }

    fn wire(&self) -> u8 {
        match self {
            Self::Fixed64 => 1,
            Self::Fixed32 => 5,
            Self::Bytes | Self::String | Self::Message(_) => 2,
            Self::Group(_) => 3,
            _ => 0,
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Int32 => "a number of 32 bits",
            Self::UInt32 => "a number of 32 bits without a sign",
            Self::SInt32 => "a zigzag number of 32 bits",
            Self::Bool => "a bool",
            Self::Int64 => "a number of 64 bits",
            Self::Fixed32 => "4 bytes",
            Self::Fixed64 => "8 bytes",
            Self::Bytes => "bytes",
            Self::String => "a string",
            Self::Enum(None) => "an enum",
            Self::Enum(Some(_)) => "a value of the enum",
            Self::Message(_) => "a message",
            Self::Group(_) => "a group",
        }
    }

    fn scalar(&self, input: &mut Input<'_>) -> Step {
        let cut = || Fault::new(self.word(), CUT);
        let number = match self {
            Self::Fixed64 => return input.take(8).map(drop).ok_or_else(cut),
            Self::Fixed32 => return input.take(4).map(drop).ok_or_else(cut),
            _ => input.varint().ok_or_else(cut)?,
        };
        // Negative numbers have 64 bits on the wire; some writers keep to 32.
        let is_int32 = i32::try_from(number.cast_signed()).is_ok() || u32::try_from(number).is_ok();
        let fits = match self {
            Self::Bool => number <= 1,
            Self::UInt32 | Self::SInt32 => u32::try_from(number).is_ok(),
            Self::Int32 | Self::Enum(None) => is_int32,
            Self::Enum(Some(known)) => is_int32 && known.binary_search(&(number as i32)).is_ok(),
            _ => true,
        };
        match fits {
            true => Ok(()),
            false => Err(Fault::new(self.word(), format!("the number {}", number.cast_signed()))),
        }
    }
}

/// The value behind the indexes that Confluent writes before a message, whichever they are.
pub(crate) fn after_indexes(bytes: &[u8]) -> Option<&[u8]> {
    indexes(bytes, &mut [0; MAX_VALUE_DEPTH]).map(|(_, rest)| rest)
}

/// Reads indexes: how many there are, and what follows. None is short for the first message.
fn indexes<'a>(bytes: &'a [u8], found: &mut [i64; MAX_VALUE_DEPTH]) -> Option<(usize, &'a [u8])> {
    let mut input = Input { bytes, at: 0 };
    let count = usize::try_from(input.zigzag()?).ok()?;
    for slot in found.get_mut(..count)? {
        *slot = input.zigzag()?;
    }
    Some((count.max(1), &bytes[input.at..]))
}

/// Which required fields were there.
enum Seen {
    Few(u64),
    Many(Vec<bool>),
}

impl Seen {
    fn new(required: usize) -> Self {
        if required <= 64 { Self::Few(0) } else { Self::Many(vec![false; required]) }
    }

    fn note(&mut self, place: usize) {
        match self {
            Self::Few(bits) => *bits |= 1 << place,
            Self::Many(places) => places[place] = true,
        }
    }

    fn has(&self, place: usize) -> bool {
        match self {
            Self::Few(bits) => bits & (1 << place) != 0,
            Self::Many(places) => places[place],
        }
    }
}

/// The message and all that it can contain, each once.
fn collect(
    message: &MessageDescriptor,
    known: &mut HashMap<String, usize>,
    messages: &mut Vec<MessageDescriptor>,
) {
    let mut waiting = vec![message.clone()];
    while let Some(next) = waiting.pop() {
        if known.contains_key(next.full_name()) {
            continue;
        }
        known.insert(next.full_name().to_owned(), messages.len());
        messages.push(next.clone());
        let kinds = next.fields().map(|field| field.kind());
        let kinds = kinds.chain(next.extensions().map(|field| field.kind()));
        waiting.extend(kinds.filter_map(|kind| kind.as_message().cloned()));
    }
}

fn place(message: &MessageDescriptor, without_maps: bool) -> Vec<i64> {
    let mut place = match message.parent_message() {
        Some(outer) => place_of(&outer, outer.child_messages(), message, without_maps),
        None => {
            let file = message.parent_file();
            let at = file.messages().position(|one| one == *message);
            return vec![at.map_or(-1, |at| at as i64)];
        }
    };
    place.shrink_to_fit();
    place
}

fn place_of(
    outer: &MessageDescriptor,
    siblings: impl Iterator<Item = MessageDescriptor>,
    message: &MessageDescriptor,
    without_maps: bool,
) -> Vec<i64> {
    let mut place = place(outer, without_maps);
    let mut counted = siblings.filter(|one| !without_maps || !one.is_map_entry());
    place.push(counted.position(|one| one == *message).map_or(-1, |at| at as i64));
    place
}

/// How often a field occurs among those that were read before.
#[cold]
fn count(bytes: &[u8], number: u32) -> usize {
    let mut input = Input { bytes, at: 0 };
    let (mut count, mut open) = (0, 0_usize);
    while let Some(tag) = input.varint() {
        count += usize::from(open == 0 && tag >> 3 == u64::from(number));
        let passed = match tag & 7 {
            0 => input.varint().map(drop),
            1 => input.take(8).map(drop),
            2 => input.varint().and_then(|length| input.take(length)).map(drop),
            3 => {
                open += 1;
                Some(())
            }
            4 => {
                open = open.saturating_sub(1);
                Some(())
            }
            _ => input.take(4).map(drop),
        };
        if passed.is_none() {
            break;
        }
    }
    count
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..usize::try_from(length).ok()?)?;
        self.at += taken.len();
        Some(taken)
    }

    fn counted(&mut self, field: &Field) -> Step<&'a [u8]> {
        let taken = self.varint().and_then(|length| self.take(length));
        taken.ok_or_else(|| Fault::new(field.kind.word(), "a length beyond the end of the bytes"))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }
}
