//! Avro values, binary encoding without a header.
//!
//! Read here and not with the library: a value of a recursive type may nest as deeply as it is long,
//! an array of nulls may have more items than there is memory, and neither may end the broker.

use std::collections::HashMap;

use serde_json::Value;

use super::super::profile::Number;
use super::protobuf::{float, shortest};
use super::{Listener, Parts, Paths, Place, Scalar};
use crate::schema::AvroInput as Input;

/// The types of one schema.
pub(crate) struct Reader {
    types: Vec<Type>,
    record: usize,
}

enum Type {
    Null,
    Boolean,
    /// `int` and `long`.
    Integer,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Record(Vec<(String, usize)>),
}

impl Reader {
    /// `None`: not a schema; the catalogue has let none in.
    pub(super) fn new(text: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(text).ok()?;
        let mut compiler = Compiler::default();
        let record = compiler.compile(&document, "")?;
        Some(Self { types: compiler.types, record })
    }

    /// Whether the bytes are one value of the schema, and nothing after it.
    pub(super) fn can_read(&self, bytes: &[u8]) -> bool {
        let mut input = Input::of(bytes);
        self.walk::<Nobody>(self.record, &mut input, &mut None, 0).is_some()
            && input.rest.is_empty()
    }

    /// Tells a value that can be read.
    pub(super) fn tell(&self, bytes: &[u8], listener: &mut impl Listener) {
        let mut told = Some((listener, Paths::RECORD));
        let _read_before = self.walk(self.record, &mut Input::of(bytes), &mut told, 0);
    }

    /// `told`: to whom, and where the value stands; `None` to pass over it.
    fn walk<L: Listener>(
        &self,
        at: usize,
        input: &mut Input<'_>,
        told: &mut Option<(&mut L, Place)>,
        depth: usize,
    ) -> Option<()> {
        input.visit(depth)?;
        let scalar = match &self.types[at] {
            Type::Null => Scalar::Null,
            Type::Boolean => match input.take(1)? {
                [0] => Scalar::Boolean(false),
                [1] => Scalar::Boolean(true),
                _ => return None,
            },
            Type::Integer => Scalar::Number(Number::Integer(input.long()?.into())),
            Type::Float => float(shortest(f32::from_le_bytes(input.take(4)?.try_into().ok()?))),
            Type::Double => float(f64::from_le_bytes(input.take(8)?.try_into().ok()?)),
            Type::Bytes => Scalar::Bytes(input.counted()?),
            Type::Text => Scalar::Text(std::str::from_utf8(input.counted()?).ok()?),
            Type::Fixed(size) => Scalar::Bytes(input.take(*size)?),
            Type::Enum(symbols) => Scalar::Text(symbols.get(usize::try_from(input.long()?).ok()?)?),
            Type::Union(branches) => {
                let branch = *branches.get(usize::try_from(input.long()?).ok()?)?;
                return self.walk(branch, input, told, depth + 1);
            }
            Type::Record(fields) => {
                if let Some((listener, place)) = told {
                    listener.parts(*place, Parts::Object);
                }
                for (name, field) in fields {
                    let mut inner = told.as_mut().and_then(|(listener, place)| {
                        let place = listener.member(*place, name)?;
                        Some((&mut **listener, place))
                    });
                    self.walk(*field, input, &mut inner, depth + 1)?;
                }
                return Some(());
            }
            Type::Array(items) => {
                let mut place_of_items = None;
                if let Some((listener, place)) = told {
                    listener.parts(*place, Parts::Array);
                    place_of_items = listener.items(*place);
                }
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        let mut inner = told.as_mut().and_then(|(listener, _)| {
                            let place = place_of_items?;
                            listener.item(place);
                            Some((&mut **listener, place))
                        });
                        self.walk(*items, input, &mut inner, depth + 1)?;
                    }
                }
                return Some(());
            }
            // Its members have no rows in the field table.
            Type::Map(values) => {
                if let Some((listener, place)) = told {
                    listener.parts(*place, Parts::Object);
                }
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        std::str::from_utf8(input.counted()?).ok()?;
                        self.walk::<L>(*values, input, &mut None, depth + 1)?;
                    }
                }
                return Some(());
            }
        };
        if let Some((listener, place)) = told {
            listener.scalar(*place, scalar);
        }
        Some(())
    }
}

/// Nobody listens while it is only looked whether a value can be read.
struct Nobody;

impl Listener for Nobody {
    fn member(&mut self, _object: Place, _name: &str) -> Option<Place> {
        None
    }

    fn items(&mut self, _array: Place) -> Option<Place> {
        None
    }

    fn item(&mut self, _items: Place) {}

    fn scalar(&mut self, _place: Place, _scalar: Scalar<'_>) {}

    fn parts(&mut self, _place: Place, _parts: Parts) {}
}

#[derive(Default)]
struct Compiler {
    types: Vec<Type>,
    /// Places of named types, by full name.
    named: HashMap<String, usize>,
}

impl Compiler {
    fn add(&mut self, one: Type) -> usize {
        self.types.push(one);
        self.types.len() - 1
    }

    fn compile(&mut self, schema: &Value, namespace: &str) -> Option<usize> {
        match schema {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.compile(branch, namespace));
                let branches = branches.collect::<Option<Vec<_>>>()?;
                Some(self.add(Type::Union(branches)))
            }
            Value::Object(members) => {
                let inner = members.get("type")?;
                let Some(kind) = inner.as_str() else { return self.compile(inner, namespace) };
                match kind {
                    "record" | "error" => {
                        let (at, namespace) = self.declare(schema, namespace, Type::Null)?;
                        let fields = members.get("fields")?.as_array()?;
                        let field = |field: &Value| {
                            let name = field.get("name")?.as_str()?.to_owned();
                            Some((name, self.compile(field.get("type")?, &namespace)?))
                        };
                        let fields = fields.iter().map(field).collect::<Option<Vec<_>>>()?;
                        self.types[at] = Type::Record(fields);
                        Some(at)
                    }
                    "enum" => {
                        let symbols = members.get("symbols")?.as_array()?.iter();
                        let symbols = symbols.map(|symbol| Some(symbol.as_str()?.to_owned()));
                        let symbols = Type::Enum(symbols.collect::<Option<Vec<_>>>()?);
                        self.declare(schema, namespace, symbols).map(|(at, _)| at)
                    }
                    "fixed" => {
                        let size = usize::try_from(members.get("size")?.as_u64()?).ok()?;
                        self.declare(schema, namespace, Type::Fixed(size)).map(|(at, _)| at)
                    }
                    "array" => {
                        let items = self.compile(members.get("items")?, namespace)?;
                        Some(self.add(Type::Array(items)))
                    }
                    "map" => {
                        let values = self.compile(members.get("values")?, namespace)?;
                        Some(self.add(Type::Map(values)))
                    }
                    name => self.by_name(name, namespace),
                }
            }
            _ => None,
        }
    }

    /// A named type, known before its fields are; and the namespace inside of it.
    fn declare(&mut self, schema: &Value, namespace: &str, one: Type) -> Option<(usize, String)> {
        let name = schema.get("name")?.as_str()?;
        let own = schema.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let full = full_name(name, own);
        let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
        let at = self.add(one);
        self.named.insert(full, at);
        Some((at, inner))
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Option<usize> {
        let primitive = match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" | "long" => Type::Integer,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::Text,
            _ => {
                let full = full_name(name, namespace);
                return self.named.get(&full).or_else(|| self.named.get(name)).copied();
            }
        };
        Some(self.add(primitive))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match namespace {
        _ if name.contains('.') => name.to_owned(),
        "" => name.to_owned(),
        _ => format!("{namespace}.{name}"),
    }
}
