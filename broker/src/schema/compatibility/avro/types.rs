//! An Avro schema with its names resolved.
//!
//! Made from the text and not from the library's form of it: the comparison needs aliases with their
//! name spaces, defaults as they stand, and every type at one place however often it is named.

use std::collections::HashMap;

use serde_json::Value;

/// All types of one schema; indexes are places in `all`.
pub(crate) struct Types {
    pub(in crate::schema) all: Vec<Type>,
    pub(in crate::schema) root: usize,
}

/// One type.
pub(in crate::schema) struct Type {
    pub(in crate::schema) shape: Shape,
    pub(in crate::schema) logical: Option<Logical>,
}

/// What a type is made of.
pub(in crate::schema) enum Shape {
    /// `null`, `boolean`, `int`, `long`, `float`, `double`, `bytes`, `string`.
    Primitive(Primitive),
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
    Enum {
        name: Name,
        symbols: Vec<String>,
        default: Option<String>,
    },
    Fixed {
        name: Name,
        size: u64,
    },
    Record {
        name: Name,
        fields: Vec<RecordField>,
    },
}

/// Types without parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::schema) enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

/// What a type means beyond its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::schema) struct Logical {
    pub(in crate::schema) name: String,
    /// Of a decimal.
    pub(in crate::schema) precision: u64,
    pub(in crate::schema) scale: u64,
}

/// The name of a record, an enum or a fixed, and what else it goes by.
pub(in crate::schema) struct Name {
    pub(in crate::schema) full: String,
    aliases: Vec<String>,
}

/// One field of a record.
pub(in crate::schema) struct RecordField {
    pub(in crate::schema) name: String,
    pub(in crate::schema) aliases: Vec<String>,
    pub(in crate::schema) has_default: bool,
    pub(in crate::schema) at: usize,
}

impl Name {
    /// Without its name space.
    pub(in crate::schema) fn short(&self) -> &str {
        self.full.rsplit_once('.').map_or(&*self.full, |(_, short)| short)
    }

    /// Whether a reader of this name reads what was written under the other one.
    pub(in crate::schema) fn reads(&self, writer: &Self) -> bool {
        self.short() == writer.short() || self.aliases.contains(&writer.full)
    }
}

impl Primitive {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "null" => Self::Null,
            "boolean" => Self::Boolean,
            "int" => Self::Int,
            "long" => Self::Long,
            "float" => Self::Float,
            "double" => Self::Double,
            "bytes" => Self::Bytes,
            "string" => Self::String,
            _ => return None,
        })
    }

    /// As the specification writes it.
    pub(in crate::schema) fn word(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }
}

impl Types {
    /// Of a document that the library has accepted; `None` if it makes no sense to us.
    pub(in crate::schema) fn of(document: &Value) -> Option<Self> {
        let mut reader = Reader::default();
        let root = reader.schema(document, "")?;
        Some(Self { all: reader.all, root })
    }

    /// What a type is called in an error text.
    pub(in crate::schema) fn word(&self, at: usize) -> String {
        let one = &self.all[at];
        let plain = match &one.shape {
            Shape::Primitive(primitive) => primitive.word().to_owned(),
            Shape::Array(items) => format!("array of {}", self.short_word(*items)),
            Shape::Map(values) => format!("map of {}", self.short_word(*values)),
            Shape::Union(branches) => {
                let words: Vec<_> = branches.iter().take(16).map(|b| self.short_word(*b)).collect();
                format!("union of {}", words.join(", "))
            }
            Shape::Enum { name, .. } => format!("enum {}", name.full),
            Shape::Fixed { name, size } => format!("fixed {} of {size} bytes", name.full),
            Shape::Record { name, .. } => format!("record {}", name.full),
        };
        match &one.logical {
            Some(logical) => format!("{plain} ({})", logical.word()),
            None => plain,
        }
    }

    fn short_word(&self, at: usize) -> String {
        match &self.all[at].shape {
            Shape::Array(_) => "array".to_owned(),
            Shape::Map(_) => "map".to_owned(),
            Shape::Union(_) => "union".to_owned(),
            _ => self.word(at),
        }
    }
}

impl Logical {
    /// With precision and scale where it has them.
    pub(in crate::schema) fn word(&self) -> String {
        match self.name.as_str() {
            "decimal" => format!("decimal({}, {})", self.precision, self.scale),
            name => name.to_owned(),
        }
    }
}

#[derive(Default)]
struct Reader {
    all: Vec<Type>,
    named: HashMap<String, usize>,
}

impl Reader {
    fn add(&mut self, shape: Shape, logical: Option<Logical>) -> usize {
        self.all.push(Type { shape, logical });
        self.all.len() - 1
    }

    fn schema(&mut self, schema: &Value, space: &str) -> Option<usize> {
        match schema {
            Value::String(name) => self.by_name(name, space, None),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, space));
                let branches = branches.collect::<Option<_>>()?;
                Some(self.add(Shape::Union(branches), None))
            }
            Value::Object(members) => {
                let kind = match members.get("type")? {
                    Value::String(kind) => kind.as_str(),
                    inner => return self.schema(inner, space),
                };
                let logical = logical(schema);
                match kind {
                    "record" | "error" => {
                        let (name, inner) = name(schema, space)?;
                        // Known before its fields are: they may name it.
                        let at = self.add(Shape::Primitive(Primitive::Null), logical);
                        self.named.insert(name.full.clone(), at);
                        let fields = members.get("fields")?.as_array()?;
                        let fields = fields.iter().map(|field| {
                            Some(RecordField {
                                name: field.get("name")?.as_str()?.to_owned(),
                                aliases: texts(field.get("aliases")),
                                has_default: field.get("default").is_some(),
                                at: self.schema(field.get("type")?, &inner)?,
                            })
                        });
                        let fields = fields.collect::<Option<_>>()?;
                        self.all[at].shape = Shape::Record { name, fields };
                        Some(at)
                    }
                    "enum" => {
                        let (name, _) = name(schema, space)?;
                        let full = name.full.clone();
                        let symbols = texts(members.get("symbols"));
                        let default = members.get("default").and_then(Value::as_str);
                        let default = default.map(str::to_owned);
                        let at = self.add(Shape::Enum { name, symbols, default }, logical);
                        self.named.insert(full, at);
                        Some(at)
                    }
                    "fixed" => {
                        let (name, _) = name(schema, space)?;
                        let full = name.full.clone();
                        let size = members.get("size")?.as_u64()?;
                        let at = self.add(Shape::Fixed { name, size }, logical);
                        self.named.insert(full, at);
                        Some(at)
                    }
                    "array" => {
                        let items = self.schema(members.get("items")?, space)?;
                        Some(self.add(Shape::Array(items), logical))
                    }
                    "map" => {
                        let values = self.schema(members.get("values")?, space)?;
                        Some(self.add(Shape::Map(values), logical))
                    }
                    name => self.by_name(name, space, logical),
                }
            }
            _ => None,
        }
    }

    fn by_name(&mut self, name: &str, space: &str, logical: Option<Logical>) -> Option<usize> {
        if let Some(primitive) = Primitive::of(name) {
            return Some(self.add(Shape::Primitive(primitive), logical));
        }
        let full = full_name(name, space);
        self.named.get(&full).or_else(|| self.named.get(name)).copied()
    }
}

fn logical(schema: &Value) -> Option<Logical> {
    let name = schema.get("logicalType")?.as_str()?.to_owned();
    let number = |key: &str| schema.get(key).and_then(Value::as_u64).unwrap_or_default();
    let (precision, scale) = match name.as_str() {
        "decimal" => (number("precision"), number("scale")),
        _ => (0, 0),
    };
    Some(Logical { name, precision, scale })
}

/// The name of a named type, and the name space inside of it.
fn name(schema: &Value, space: &str) -> Option<(Name, String)> {
    let name = schema.get("name")?.as_str()?;
    let own = schema.get("namespace").and_then(Value::as_str).unwrap_or(space);
    let full = full_name(name, own);
    let inner = full.rsplit_once('.').map_or("", |(space, _)| space).to_owned();
    let aliases = texts(schema.get("aliases"));
    let aliases = aliases.iter().map(|alias| full_name(alias, &inner)).collect();
    Some((Name { full, aliases }, inner))
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn full_name(name: &str, space: &str) -> String {
    match space {
        _ if name.contains('.') => name.to_owned(),
        "" => name.to_owned(),
        _ => format!("{space}.{name}"),
    }
}
