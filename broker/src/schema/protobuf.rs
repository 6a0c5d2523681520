//! Protobuf schemas: the text of one `.proto` file.

use std::collections::HashMap;

use meshlog_proto::v1::SchemaSource;
use prost::Message as _;
use prost_reflect::MessageDescriptor;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::source_code_info::Location;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, EnumValueOptions, FieldDescriptorProto,
    FieldOptions, FileDescriptorProto, FileOptions, MessageOptions, MethodOptions,
};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use super::{Field, MAX_DEPTH, MAX_FIELDS, MAX_TEXT_BYTES, Malformed, protobuf_text};

/// The name the text goes by in error messages.
const FILE_NAME: &str = "schema.proto";

/// The canonical form: the descriptor, normalised, with the full name of the record's message.
pub(super) fn canonical(text: &str, message_name: &str) -> Result<(Vec<u8>, String), Malformed> {
    let mut file = compile(text)?;
    let message = record_message(&file, message_name)?;
    file.name = None;
    file.source_code_info = None;
    file.dependency.sort();
    normalise(&mut file.message_type, &mut file.enum_type);
    Ok((file.encode_to_vec(), message))
}

/// The fields of the record's message.
pub(super) fn fields(text: &str, message_name: &str) -> Result<Vec<Field>, Malformed> {
    let file = compile(text)?;
    let message = record_message(&file, message_name)?;
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    let docs = locations.map(|location| (location.path.as_slice(), location)).collect();
    let mut walk = Walk { file: &file, messages: HashMap::new(), docs, rows: Vec::new() };
    let package = match file.package() {
        "" => String::new(),
        package => format!(".{package}"),
    };
    for (index, message) in file.message_type.iter().enumerate() {
        walk.messages(message, &package, vec![4, index as i32]);
    }
    walk.message(&format!(".{message}"), "", &mut Vec::new());
    Ok(walk.rows)
}

/// The text of a compiled file, an encoded `FileDescriptorProto`. What it compiles to is compared with
/// the file, so nothing gets lost.
pub(crate) fn text_of(compiled: &[u8]) -> Result<String, Malformed> {
    if compiled.len() > MAX_TEXT_BYTES {
        return Err(Malformed::whole(format!(
            "the compiled file has {} bytes; at most {MAX_TEXT_BYTES} are allowed",
            compiled.len()
        )));
    }
    let file = FileDescriptorProto::decode(compiled)
        .map_err(|error| Malformed::whole(format!("not a compiled .proto file: {error}")))?;
    let mut first = None;
    let meant = comparable(file.clone());
    for dotted in [false, true] {
        let text = protobuf_text::write(&file, dotted)?;
        match compile(&text).map(comparable) {
            Ok(again) if again == meant => return Ok(text),
            Ok(_) => {}
            Err(malformed) => first = Some(malformed),
        }
    }
    Err(first.unwrap_or_else(|| {
        Malformed::whole(
            "the compiled file says something that cannot be written as text; send the text of the \
             .proto file",
        )
    }))
}

/// The compiled form of a schema, as serializers of Confluent ask for it; `None` if the text is no
/// longer accepted.
pub(crate) fn compiled(source: &SchemaSource) -> Option<Vec<u8>> {
    let mut file = compile(&source.text).ok()?;
    file.source_code_info = None;
    Some(file.encode_to_vec())
}

/// The messages that stand beside one another at the top of the text, in its order.
pub(crate) fn top_messages(text: &str) -> Result<Vec<String>, Malformed> {
    let file = compile(text)?;
    let package = file.package();
    let full = |message: &DescriptorProto| match package {
        "" => message.name().to_owned(),
        _ => format!("{package}.{}", message.name()),
    };
    Ok(file.message_type.iter().map(full).collect())
}

/// Without what compilers fill in as they like.
fn comparable(mut file: FileDescriptorProto) -> FileDescriptorProto {
    fn of_field(field: &mut FieldDescriptorProto) {
        if field.json_name.is_none() {
            field.json_name = Some(protobuf_text::json_name(field.name()));
        }
        field.options = field.options.take().filter(|set| *set != FieldOptions::default());
        field.proto3_optional = field.proto3_optional.filter(|set| *set);
    }
    fn of_enum(one: &mut EnumDescriptorProto) {
        one.options = one.options.take().filter(|set| *set != EnumOptions::default());
        for value in &mut one.value {
            value.options = value.options.take().filter(|set| *set != EnumValueOptions::default());
        }
    }
    fn of_message(message: &mut DescriptorProto) {
        message.field.iter_mut().for_each(of_field);
        message.extension.iter_mut().for_each(of_field);
        message.enum_type.iter_mut().for_each(of_enum);
        message.nested_type.iter_mut().for_each(of_message);
        message.options = message.options.take().filter(|set| *set != MessageOptions::default());
    }
    file.name = None;
    file.source_code_info = None;
    file.syntax = file.syntax.filter(|syntax| !syntax.is_empty() && syntax != "proto2");
    file.package = file.package.filter(|package| !package.is_empty());
    file.options = file.options.take().filter(|set| *set != FileOptions::default());
    file.extension.iter_mut().for_each(of_field);
    file.enum_type.iter_mut().for_each(of_enum);
    file.message_type.iter_mut().for_each(of_message);
    for method in file.service.iter_mut().flat_map(|service| &mut service.method) {
        method.client_streaming = method.client_streaming.filter(|set| *set);
        method.server_streaming = method.server_streaming.filter(|set| *set);
        method.options = method.options.take().filter(|set| *set != MethodOptions::default());
    }
    file
}

/// The one file; nothing else can be opened.
struct OneFile(String);

impl FileResolver for OneFile {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match name {
            FILE_NAME => File::from_source(name, &self.0),
            _ => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The record's message, with everything it refers to; `None` if the text is no longer accepted.
pub(crate) fn message(source: &SchemaSource) -> Option<MessageDescriptor> {
    let compiler = compiler(&source.text).ok()?;
    let file = compiler.file_descriptor_set().file.into_iter().find(|f| f.name() == FILE_NAME)?;
    let name = record_message(&file, &source.message_name).ok()?;
    compiler.descriptor_pool().get_message_by_name(&name)
}

fn compile(text: &str) -> Result<FileDescriptorProto, Malformed> {
    let compiler = compiler(text)?;
    let file = compiler.file_descriptor_set().file.into_iter().find(|f| f.name() == FILE_NAME);
    file.ok_or_else(|| Malformed::whole("the text holds no declarations"))
}

fn compiler(text: &str) -> Result<protox::Compiler, Malformed> {
    check_depth(text)?;
    let mut resolver = ChainFileResolver::new();
    resolver.add(OneFile(text.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(false).include_source_info(true);
    compiler.open_file(FILE_NAME).map_err(|error| malformed(&error))?;
    Ok(compiler)
}

/// The compiler writes `file:line:column: what` (the debug form is its documented long form).
fn malformed(error: &protox::Error) -> Malformed {
    let text = format!("{error:?}");
    let text = text.lines().next().unwrap_or_default();
    let place = text.strip_prefix(FILE_NAME).and_then(|rest| rest.strip_prefix(':'));
    let mut parts = place.unwrap_or_default().splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(line), Some(column), Some(what))
            if line.parse::<u32>().is_ok() && column.parse::<u32>().is_ok() =>
        {
            let hint = match what.contains("import") {
                true => "; only `google/protobuf/*.proto` can be imported",
                false => "",
            };
            Malformed::new(
                format!("line {line} column {column}"),
                format!("not a .proto file: {}{hint}", what.trim()),
            )
        }
        _ => Malformed::whole(format!("not a .proto file: {error}")),
    }
}

/// Refuses nesting that a recursive parser should not meet; comments and strings do not count.
fn check_depth(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let (mut depth, mut line, mut at) = (0_usize, 1_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\n' => line += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text[at + 2..].find("*/").map_or(bytes.len(), |end| at + end + 4);
                line += bytes[at..end].iter().filter(|b| **b == b'\n').count();
                at = end;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\n' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                // A string that runs into the end of its line is the parser's to refuse.
                if bytes.get(at) == Some(&b'\n') {
                    continue;
                }
            }
            b'{' | b'[' | b'(' | b'<' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Malformed::new(
                        format!("line {line}"),
                        format!("nested more than {MAX_DEPTH} levels deep"),
                    ));
                }
            }
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn record_message(file: &FileDescriptorProto, asked: &str) -> Result<String, Malformed> {
    let mut names = Vec::new();
    let package = file.package();
    for message in &file.message_type {
        message_names(message, package, &mut names);
    }
    let top: Vec<&String> = {
        let depth = |name: &str| name.matches('.').count();
        let least = names.iter().map(|name| depth(name)).min().unwrap_or_default();
        names.iter().filter(|name| depth(name) == least).collect()
    };
    let choice = || {
        let some: Vec<String> = top.iter().take(8).map(|name| format!("`{name}`")).collect();
        some.join(", ")
    };
    match (asked, top.as_slice()) {
        (_, []) => Err(Malformed::whole("the file declares no message")),
        ("", [only]) => Ok((*only).clone()),
        ("", _) => Err(Malformed::new(
            "message_name",
            format!("the file declares several messages; say which is the record: {}", choice()),
        )),
        (asked, _) if names.iter().any(|name| name == asked) => Ok(asked.to_owned()),
        (asked, _) => Err(Malformed::new(
            "message_name",
            format!("the file declares no message `{asked}`; it has {}", choice()),
        )),
    }
}

fn message_names(message: &DescriptorProto, scope: &str, names: &mut Vec<String>) {
    let full = match scope {
        "" => message.name().to_owned(),
        _ => format!("{scope}.{}", message.name()),
    };
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        message_names(nested, &full, names);
    }
    names.push(full);
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn normalise(messages: &mut [DescriptorProto], enums: &mut [EnumDescriptorProto]) {
    messages.sort_by(|a, b| a.name().cmp(b.name()));
    enums.sort_by(|a, b| a.name().cmp(b.name()));
    for message in messages {
        message.field.sort_by_key(FieldDescriptorProto::number);
        normalise(&mut message.nested_type, &mut message.enum_type);
    }
}

/// A message and its path in the source information.
type Declared<'a> = (&'a DescriptorProto, Vec<i32>);

struct Walk<'a> {
    file: &'a FileDescriptorProto,
    messages: HashMap<String, Declared<'a>>,
    docs: HashMap<&'a [i32], &'a Location>,
    rows: Vec<Field>,
}

impl<'a> Walk<'a> {
    fn messages(&mut self, message: &'a DescriptorProto, scope: &str, path: Vec<i32>) {
        let full = format!("{scope}.{}", message.name());
        for (index, nested) in message.nested_type.iter().enumerate() {
            let mut path = path.clone();
            path.extend([3, index as i32]);
            self.messages(nested, &full, path);
        }
        self.messages.insert(full, (message, path));
    }

    fn message(&mut self, name: &str, path: &str, open: &mut Vec<String>) {
        let Some((message, source)) = self.messages.get(name).cloned() else { return };
        if open.iter().any(|one| one == name) || open.len() >= MAX_DEPTH {
            return;
        }
        open.push(name.to_owned());
        for (index, field) in message.field.iter().enumerate() {
            if self.rows.len() >= MAX_FIELDS {
                break;
            }
            let mut source = source.clone();
            source.extend([2, index as i32]);
            self.field(field, path, &source, open);
        }
        open.pop();
    }

    fn field(
        &mut self,
        field: &'a FieldDescriptorProto,
        path: &str,
        source: &[i32],
        open: &mut Vec<String>,
    ) {
        let mut path = match path {
            "" => field.name().to_owned(),
            _ => format!("{path}.{}", field.name()),
        };
        let entry = self.messages.get(field.type_name()).map(|(message, _)| *message);
        let map = entry.filter(|message| is_map_entry(message));
        let repeated = field.label() == Label::Repeated;
        let type_name = match map {
            Some(entry) => {
                let inner: Vec<String> = entry.field.iter().map(type_name).collect();
                format!("map<{}>", inner.join(", "))
            }
            None if repeated => format!("repeated {}", type_name(field)),
            None => type_name(field),
        };
        let presence = field.r#type() == Type::Message
            || field.proto3_optional()
            || field.oneof_index.is_some()
            || self.file.syntax() != "proto3";
        self.rows.push(Field {
            path: path.clone(),
            type_name,
            optional: presence && !repeated && field.label() != Label::Required,
            docs: self.docs(source),
        });
        if map.is_none() && field.r#type() == Type::Message {
            if repeated {
                path.push_str("[]");
            }
            self.message(field.type_name(), &path, open);
        }
    }

    fn docs(&self, source: &[i32]) -> String {
        self.docs
            .get(source)
            .map(|l| match l.leading_comments().trim() {
                "" => l.trailing_comments().trim(),
                leading => leading,
            })
            .unwrap_or_default()
            .to_owned()
    }
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum | Type::Group => {
            field.type_name().trim_start_matches('.').to_owned()
        }
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
    }
}
