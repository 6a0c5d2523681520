//! Protobuf: whether a program generated from one `.proto` file reads what one generated from another
//! has written.
//!
//! | Profile | What a reader relies on | Rules |
//! |---|---|---|
//! | `WIRE` | the bytes: numbers, types, cardinality | as buf's category WIRE |
//! | `WIRE_JSON` (the default) | names too: JSON, search, samples and masks use them | as buf's category WIRE_JSON |
//!
//! Names of messages, of packages and of files are in neither form; they may change. Where this
//! differs from buf, and why, `docs/conformance.md` says.
//!
//! Beside what can be read, a number once used must never mean something else: a field or a value
//! that goes must be reserved, and stay so ([`keeps`]).

use std::collections::HashSet;

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::budget::{Budget, TooComplex};
use super::difference::{Comparison, Difference, Weight};

/// What readers of a Protobuf product rely on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The bytes only.
    Wire,
    /// The bytes, and the names in the JSON form.
    #[default]
    WireJson,
}

/// Whether `reader` reads everything that `writer` writes.
pub(super) fn compare(
    reader: &MessageDescriptor,
    writer: &MessageDescriptor,
    profile: Profile,
) -> Result<Comparison, TooComplex> {
    let mut check = Check::new(profile);
    check.message(reader, writer, "")?;
    Ok(check.found)
}

/// Whether the newer schema reserves what it took out of the older one.
pub(super) fn keeps(
    new: &MessageDescriptor,
    old: &MessageDescriptor,
    profile: Profile,
) -> Result<Comparison, TooComplex> {
    let mut check = Check::new(profile);
    check.kept(new, old, "")?;
    Ok(check.found)
}

/// As [`compare`], of enums that no message need use.
#[cfg(test)]
pub(super) fn compare_enums(
    reader: &EnumDescriptor,
    writer: &EnumDescriptor,
    profile: Profile,
) -> Result<Comparison, TooComplex> {
    let mut check = Check::new(profile);
    check.values(reader, writer, "")?;
    Ok(check.found)
}

/// As [`keeps`], of enums that no message need use.
#[cfg(test)]
pub(super) fn keeps_enums(
    new: &EnumDescriptor,
    old: &EnumDescriptor,
    profile: Profile,
) -> Result<Comparison, TooComplex> {
    let mut check = Check::new(profile);
    check.kept_values(new, old, "")?;
    Ok(check.found)
}

struct Check {
    profile: Profile,
    budget: Budget,
    seen: HashSet<(String, String)>,
    found: Comparison,
}

impl Check {
    fn new(profile: Profile) -> Self {
        Self {
            profile,
            budget: Budget::default(),
            seen: HashSet::new(),
            found: Comparison::default(),
        }
    }

    fn names_matter(&self) -> bool {
        self.profile == Profile::WireJson
    }

    fn first_time(&mut self, reader: &str, writer: &str) -> bool {
        self.seen.insert((reader.to_owned(), writer.to_owned()))
    }

    fn message(
        &mut self,
        reader: &MessageDescriptor,
        writer: &MessageDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        if !self.first_time(reader.full_name(), writer.full_name()) {
            return Ok(());
        }
        self.budget.enter()?;
        for field in reader.fields() {
            self.budget.spend(1)?;
            let at = below(path, field.name());
            match writer.get_field(field.number()) {
                Some(written) => self.field(&field, &written, &at)?,
                None if field.is_required() => self.found.push(Difference::breaking(
                    &at,
                    "PROTOBUF_REQUIRED_FIELD_NOT_WRITTEN",
                    word(&field),
                    format!("no field {}", field.number()),
                    "make the field `optional`: what was written without it cannot be read",
                )),
                None => {}
            }
        }
        self.oneofs(reader, writer, path)?;
        self.budget.leave();
        Ok(())
    }

    fn field(
        &mut self,
        reader: &FieldDescriptor,
        writer: &FieldDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        let (says, said) = (word(reader), word(writer));
        if self.names_matter() && reader.name() != writer.name() {
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_FIELD_SAME_NAME",
                format!("{} = {}", reader.name(), reader.number()),
                format!("{} = {}", writer.name(), writer.number()),
                format!(
                    "keep the name `{}`, or reserve it with its number and add a field with a new \
                     number; profile WIRE lets names change",
                    writer.name()
                ),
            ));
        } else if self.names_matter() && reader.json_name() != writer.json_name() {
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_FIELD_SAME_JSON_NAME",
                format!("json_name {}", reader.json_name()),
                format!("json_name {}", writer.json_name()),
                "keep the `json_name`",
            ));
        }
        let (a, b) = (shape(reader), shape(writer));
        let same_shape = match (a, b) {
            // What is always there may be read as if it could be missing.
            (Shape::Singular, Shape::Required) => true,
            (Shape::Repeated, Shape::Map) | (Shape::Map, Shape::Repeated) => !self.names_matter(),
            _ => a == b,
        };
        if !same_shape {
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_FIELD_CARDINALITY",
                says,
                said,
                "keep the cardinality, or reserve the field and add one with a new number",
            ));
            return Ok(());
        }
        let (kind, written) = (reader.kind(), writer.kind());
        match (&kind, &written) {
            (Kind::Message(r), Kind::Message(w)) if reader.is_group() == writer.is_group() => {
                let inner = if matches!(a, Shape::Repeated) {
                    format!("{path}[]")
                } else {
                    path.to_owned()
                };
                return self.message(r, w, &inner);
            }
            (Kind::Enum(r), Kind::Enum(w)) => return self.values(r, w, path),
            _ => {}
        }
        let same = match self.profile {
            Profile::Wire => {
                wire_group(&kind) == wire_group(&written)
                    || matches!((&kind, &written), (Kind::Bytes, Kind::String))
            }
            Profile::WireJson => json_group(&kind) == json_group(&written),
        };
        if !same || is_composed(&kind) || is_composed(&written) {
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_FIELD_TYPE",
                says,
                said,
                hint_of_types(&kind, &written, self.profile),
            ));
        } else if width(&kind) < width(&written) || is_signed(&kind) != is_signed(&written) {
            self.found.push(
                Difference::breaking(
                    path,
                    "PROTOBUF_FIELD_NARROWED",
                    says,
                    said,
                    "values that do not fit are read as other values, without an error",
                )
                .weighing(Weight::Warning),
            );
        }
        Ok(())
    }

    /// Two fields that can both be written must not stand in one `oneof` of the reader: it would keep
    /// the last one only.
    fn oneofs(
        &mut self,
        reader: &MessageDescriptor,
        writer: &MessageDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        for oneof in reader.oneofs().filter(|oneof| !oneof.is_synthetic()) {
            let mut scopes: HashSet<String> = HashSet::new();
            let mut written = Vec::new();
            for field in oneof.fields() {
                self.budget.spend(1)?;
                let Some(other) = writer.get_field(field.number()) else { continue };
                let scope = match other.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                    Some(scope) => format!("oneof {}", scope.name()),
                    None => format!("{} outside of a oneof", other.name()),
                };
                scopes.insert(scope);
                written.push(other.name().to_owned());
            }
            if scopes.len() > 1 {
                let mut scopes: Vec<String> = scopes.into_iter().collect();
                scopes.sort_unstable();
                self.found.push(Difference::breaking(
                    &below(path, oneof.name()),
                    "PROTOBUF_FIELD_SAME_ONEOF",
                    format!("oneof {} of {}", oneof.name(), written.join(", ")),
                    scopes.join("; "),
                    "leave fields that could be set together out of a oneof: it keeps only one",
                ));
            }
        }
        Ok(())
    }

    fn values(
        &mut self,
        reader: &EnumDescriptor,
        writer: &EnumDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        if !self.first_time(reader.full_name(), writer.full_name()) {
            return Ok(());
        }
        let known: HashSet<(i32, String)> =
            reader.values().map(|value| (value.number(), value.name().to_owned())).collect();
        let numbers: HashSet<i32> = known.iter().map(|(number, _)| *number).collect();
        for value in writer.values() {
            self.budget.spend(1)?;
            let says = format!("{} = {}", value.name(), value.number());
            if !numbers.contains(&value.number()) {
                if is_closed(reader) {
                    let difference = Difference::breaking(
                        path,
                        "PROTOBUF_ENUM_VALUE_UNKNOWN",
                        format!("enum {} without {}", reader.full_name(), value.number()),
                        says,
                        "a closed enum (proto2) reads an unknown value as if the field were not set",
                    );
                    self.found.push(difference.weighing(Weight::Warning));
                }
            } else if self.names_matter()
                && !known.contains(&(value.number(), value.name().to_owned()))
            {
                let other = reader.get_value(value.number());
                let other = other.map(|other| format!("{} = {}", other.name(), other.number()));
                self.found.push(Difference::breaking(
                    path,
                    "PROTOBUF_ENUM_VALUE_SAME_NAME",
                    other.unwrap_or_default(),
                    says,
                    format!(
                        "keep the name `{}`, or add the new one beside it with `allow_alias`",
                        value.name()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn kept(
        &mut self,
        new: &MessageDescriptor,
        old: &MessageDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        if !self.first_time(new.full_name(), old.full_name()) {
            return Ok(());
        }
        self.budget.enter()?;
        for field in old.fields() {
            self.budget.spend(1)?;
            let at = below(path, field.name());
            let Some(now) = new.get_field(field.number()) else {
                let number = field.number();
                let numbered = new.reserved_ranges().any(|range| range.contains(&number));
                let named = new.reserved_names().any(|name| name == field.name())
                    || new.get_field_by_name(field.name()).is_some();
                self.gone(&at, &word(&field), numbered, named, field.name(), &number.to_string());
                continue;
            };
            match (now.kind(), field.kind()) {
                (Kind::Message(new), Kind::Message(old)) => self.kept(&new, &old, &at)?,
                (Kind::Enum(new), Kind::Enum(old)) => self.kept_values(&new, &old, &at)?,
                _ => {}
            }
        }
        let now: Vec<(i64, i64)> = new.reserved_ranges().map(|r| span(r.start, r.end)).collect();
        for range in old.reserved_ranges() {
            let (first, last) = span(range.start, range.end);
            self.still_reserved(&now, (first, last), path)?;
        }
        let names: HashSet<&str> = new.reserved_names().collect();
        for name in old.reserved_names() {
            self.still_named(&names, name, path);
        }
        self.budget.leave();
        Ok(())
    }

    fn kept_values(
        &mut self,
        new: &EnumDescriptor,
        old: &EnumDescriptor,
        path: &str,
    ) -> Result<(), TooComplex> {
        if !self.first_time(new.full_name(), old.full_name()) {
            return Ok(());
        }
        for value in old.values() {
            self.budget.spend(1)?;
            if new.get_value(value.number()).is_none() {
                let number = value.number();
                let numbered = new.reserved_ranges().any(|range| range.contains(&number));
                let named = new.reserved_names().any(|name| name == value.name())
                    || new.get_value_by_name(value.name()).is_some();
                let says = format!("{} = {number}", value.name());
                self.gone(path, &says, numbered, named, value.name(), &number.to_string());
            }
        }
        let now: Vec<(i64, i64)> = new
            .reserved_ranges()
            .map(|range| (i64::from(*range.start()), i64::from(*range.end())))
            .collect();
        for range in old.reserved_ranges() {
            let range = (i64::from(*range.start()), i64::from(*range.end()));
            self.still_reserved(&now, range, path)?;
        }
        let names: HashSet<&str> = new.reserved_names().collect();
        for name in old.reserved_names() {
            self.still_named(&names, name, path);
        }
        Ok(())
    }

    /// A field or a value that is not there any more.
    fn gone(
        &mut self,
        path: &str,
        old: &str,
        numbered: bool,
        named: bool,
        name: &str,
        number: &str,
    ) {
        let named = named || !self.names_matter();
        let missing = match (numbered, named) {
            (true, true) => return,
            (false, true) => format!("`reserved {number};`"),
            (true, false) => format!("`reserved \"{name}\";`"),
            (false, false) => format!("`reserved {number}; reserved \"{name}\";`"),
        };
        self.found.push(Difference::breaking(
            path,
            "PROTOBUF_DELETED_UNLESS_RESERVED",
            "not declared and not reserved",
            old,
            format!("add {missing}, so that nobody gives them another meaning"),
        ));
    }

    fn still_reserved(
        &mut self,
        now: &[(i64, i64)],
        range: (i64, i64),
        path: &str,
    ) -> Result<(), TooComplex> {
        self.budget.spend(now.len() + 1)?;
        if !covers(now, range) {
            let text = match range {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first} to {last}"),
            };
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_RESERVED_NO_DELETE",
                "not reserved any more",
                format!("reserved {text}"),
                format!("keep `reserved {text};`"),
            ));
        }
        Ok(())
    }

    fn still_named(&mut self, now: &HashSet<&str>, name: &str, path: &str) {
        if !now.contains(name) {
            self.found.push(Difference::breaking(
                path,
                "PROTOBUF_RESERVED_NO_DELETE",
                "not reserved any more",
                format!("reserved \"{name}\""),
                format!("keep `reserved \"{name}\";`"),
            ));
        }
    }
}

fn below(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

fn span(start: u32, end: u32) -> (i64, i64) {
    (i64::from(start), i64::from(end) - 1)
}

/// Whether the ranges together hold every number of `range`.
fn covers(ranges: &[(i64, i64)], range: (i64, i64)) -> bool {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable();
    let mut next = range.0;
    for (first, last) in sorted {
        if first > next {
            break;
        }
        next = next.max(last + 1);
    }
    next > range.1
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Required,
    Singular,
    Repeated,
    Map,
}

fn shape(field: &FieldDescriptor) -> Shape {
    match field.cardinality() {
        _ if field.is_map() => Shape::Map,
        Cardinality::Repeated => Shape::Repeated,
        Cardinality::Required => Shape::Required,
        Cardinality::Optional => Shape::Singular,
    }
}

/// What a field is called in an error text.
fn word(field: &FieldDescriptor) -> String {
    let kind = kind_word(&field.kind());
    let shape = match shape(field) {
        Shape::Map => {
            let entry = field.kind();
            let Some(entry) = entry.as_message() else { return kind };
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let (key, value) = (kind_word(&key.kind()), kind_word(&value.kind()));
            return format!("map<{key}, {value}> {} = {}", field.name(), field.number());
        }
        Shape::Required => "required ",
        Shape::Repeated => "repeated ",
        Shape::Singular => "",
    };
    format!("{shape}{kind} {} = {}", field.name(), field.number())
}

fn kind_word(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(names) => names.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn is_composed(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(_) | Kind::Enum(_))
}

fn wire_group(kind: &Kind) -> u8 {
    match kind {
        Kind::Int32 | Kind::Int64 | Kind::Uint32 | Kind::Uint64 | Kind::Bool => 1,
        Kind::Sint32 | Kind::Sint64 => 2,
        Kind::String => 3,
        Kind::Bytes => 4,
        Kind::Fixed32 | Kind::Sfixed32 => 5,
        Kind::Fixed64 | Kind::Sfixed64 => 6,
        Kind::Double => 7,
        Kind::Float => 8,
        Kind::Message(_) => 9,
        Kind::Enum(_) => 10,
    }
}

fn json_group(kind: &Kind) -> u8 {
    match kind {
        Kind::Int32 | Kind::Uint32 => 1,
        Kind::Int64 | Kind::Uint64 => 2,
        Kind::Fixed32 | Kind::Sfixed32 => 3,
        Kind::Fixed64 | Kind::Sfixed64 => 4,
        Kind::Bool => 5,
        Kind::Sint32 => 6,
        Kind::Sint64 => 7,
        Kind::String => 8,
        Kind::Bytes => 9,
        Kind::Double => 10,
        Kind::Float => 11,
        Kind::Message(_) => 12,
        Kind::Enum(_) => 13,
    }
}

fn width(kind: &Kind) -> u8 {
    match kind {
        Kind::Bool => 1,
        Kind::Int32 | Kind::Uint32 | Kind::Sint32 => 32,
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 => 64,
        _ => 0,
    }
}

fn is_signed(kind: &Kind) -> bool {
    matches!(kind, Kind::Int32 | Kind::Int64 | Kind::Sfixed32 | Kind::Sfixed64)
}

/// Whether a value that is not declared is read as if the field were not set.
fn is_closed(names: &EnumDescriptor) -> bool {
    matches!(names.parent_file().syntax(), prost_reflect::Syntax::Proto2)
}

fn hint_of_types(reader: &Kind, writer: &Kind, profile: Profile) -> String {
    if profile == Profile::WireJson && wire_group(reader) == wire_group(writer) {
        return "the bytes are read but their JSON form is not; keep the type, or give the product \
                the profile WIRE"
            .to_owned();
    }
    "keep the type, or reserve the field and add one with a new number".to_owned()
}
