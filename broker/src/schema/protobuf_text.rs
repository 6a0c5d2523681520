//! A compiled Protobuf file written as text again.
//!
//! Serializers of Confluent know their schema only compiled, as an encoded `FileDescriptorProto`; what
//! is stored and shown is the text of a `.proto` file. What is written is compiled again by
//! [`super::protobuf::text_of`] and compared, so nothing that cannot be said here is lost silently.

use std::collections::HashMap;
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::field_options::{CType, JsType};
use prost_types::file_options::OptimizeMode;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileOptions,
    ServiceDescriptorProto,
};

use super::Malformed;

/// Behind the last number of a field.
const FIELD_NUMBERS_END: i32 = 536_870_912;

/// The text of this file. With `dotted` every name of a type begins with a dot, which means the same
/// whatever the names around it.
pub(super) fn write(file: &FileDescriptorProto, dotted: bool) -> Result<String, Malformed> {
    let syntax = match file.syntax() {
        "" | "proto2" => "proto2",
        "proto3" => "proto3",
        other => return Err(unwritable(&format!("the syntax `{other}`"))),
    };
    let mut text = Text { out: String::new(), depth: 0, dotted, syntax };
    text.line(format_args!("syntax = \"{syntax}\";"));
    if !file.package().is_empty() {
        text.blank();
        text.line(format_args!("package {};", file.package()));
    }
    for (index, name) in file.dependency.iter().enumerate() {
        if index == 0 {
            text.blank();
        }
        let index = index as i32;
        let kind = match () {
            () if file.public_dependency.contains(&index) => "public ",
            () if file.weak_dependency.contains(&index) => "weak ",
            () => "",
        };
        text.line(format_args!("import {kind}{};", quoted(name)));
    }
    if let Some(options) = &file.options {
        text.options(&file_options(options));
    }
    for one in &file.enum_type {
        text.blank();
        text.enumeration(one);
    }
    for message in &file.message_type {
        text.blank();
        text.message(message)?;
    }
    text.extensions(&file.extension)?;
    for service in &file.service {
        text.blank();
        text.service(service);
    }
    Ok(text.out)
}

/// What the text of a file cannot say here.
fn unwritable(what: &str) -> Malformed {
    Malformed::whole(format!(
        "the compiled file has {what}, which cannot be written as text; send the text of the .proto file"
    ))
}

struct Text {
    out: String,
    depth: usize,
    dotted: bool,
    syntax: &'static str,
}

impl Text {
    fn line(&mut self, what: std::fmt::Arguments<'_>) {
        let indent = 2 * self.depth;
        _ = writeln!(self.out, "{:indent$}{what}", "");
    }

    fn blank(&mut self) {
        self.out.push('\n');
    }

    fn open(&mut self, what: std::fmt::Arguments<'_>) {
        self.line(format_args!("{what} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line(format_args!("}}"));
    }

    fn options(&mut self, options: &[(&str, String)]) {
        for (index, (name, value)) in options.iter().enumerate() {
            if index == 0 && self.depth == 0 {
                self.blank();
            }
            self.line(format_args!("option {name} = {value};"));
        }
    }

    fn type_name<'a>(&self, full: &'a str) -> &'a str {
        match self.dotted {
            true => full,
            false => full.strip_prefix('.').unwrap_or(full),
        }
    }

    /// Fields and nested messages come in an order in which the compiler counts the nested messages, the
    /// entries of maps among them, as the file did.
    fn message(&mut self, message: &DescriptorProto) -> Result<(), Malformed> {
        self.open(format_args!("message {}", message.name()));
        let flags = message.options.as_ref().map(|set| {
            [
                ("message_set_wire_format", set.message_set_wire_format),
                ("no_standard_descriptor_accessor", set.no_standard_descriptor_accessor),
                ("deprecated", set.deprecated),
            ]
        });
        self.options(&bools(flags.as_ref().map_or(&[][..], |flags| flags)));
        for one in &message.enum_type {
            self.enumeration(one);
        }
        let entries: HashMap<&str, usize> = message
            .nested_type
            .iter()
            .enumerate()
            .filter(|(_, nested)| is_entry(nested))
            .map(|(at, nested)| (nested.name(), at))
            .collect();
        let mut next = 0;
        let mut open = None;
        for field in &message.field {
            let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
            if oneof != open {
                if open.is_some() {
                    self.close();
                }
                if let Some(index) = oneof {
                    let declared = usize::try_from(index).ok();
                    let declared = declared.and_then(|at| message.oneof_decl.get(at));
                    self.open(format_args!("oneof {}", declared.map_or("", |one| one.name())));
                }
                open = oneof;
            }
            let short = field.type_name().rsplit('.').next().unwrap_or_default();
            let entry = entries.get(short).filter(|_| field.r#type() == Type::Message);
            let entry = entry.copied().filter(|_| field.label() == Label::Repeated);
            if let Some(at) = entry {
                for nested in message.nested_type[next.min(at)..at].iter().filter(|n| !is_entry(n))
                {
                    self.message(nested)?;
                }
                next = at + 1;
            }
            let entry = entry.map(|at| &message.nested_type[at]);
            self.field(field, entry, oneof.is_some())?;
        }
        if open.is_some() {
            self.close();
        }
        for nested in message.nested_type.iter().skip(next).filter(|nested| !is_entry(nested)) {
            self.message(nested)?;
        }
        self.extensions(&message.extension)?;
        for range in &message.extension_range {
            let (from, to) = (range.start(), range.end());
            self.line(format_args!(
                "extensions {};",
                numbers(from, to.saturating_sub(1), FIELD_NUMBERS_END - 1)
            ));
        }
        for range in &message.reserved_range {
            let (from, to) = (range.start(), range.end());
            self.line(format_args!(
                "reserved {};",
                numbers(from, to.saturating_sub(1), FIELD_NUMBERS_END - 1)
            ));
        }
        self.reserved(&message.reserved_name);
        self.close();
        Ok(())
    }

    fn reserved(&mut self, names: &[String]) {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            self.line(format_args!("reserved {};", names.join(", ")));
        }
    }

    fn field(
        &mut self,
        field: &FieldDescriptorProto,
        entry: Option<&DescriptorProto>,
        in_oneof: bool,
    ) -> Result<(), Malformed> {
        let label = match field.label() {
            _ if entry.is_some() || in_oneof => "",
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if field.proto3_optional() || self.syntax == "proto2" => "optional ",
            Label::Optional => "",
        };
        let kind = match entry {
            Some(entry) => {
                let inner = entry.field.iter().map(|one| self.kind(one));
                format!("map<{}>", inner.collect::<Result<Vec<_>, _>>()?.join(", "))
            }
            None => self.kind(field)?,
        };
        let mut options = Vec::new();
        if let Some(value) = &field.default_value {
            let value = match field.r#type() {
                Type::String => quoted(value),
                // Escaped already.
                Type::Bytes => format!("\"{value}\""),
                _ => value.clone(),
            };
            options.push(("default", value));
        }
        if let Some(name) =
            field.json_name.as_deref().filter(|name| *name != json_name(field.name()))
        {
            options.push(("json_name", quoted(name)));
        }
        if let Some(set) = &field.options {
            if let Some(value) = set.ctype.and_then(|value| CType::try_from(value).ok()) {
                options.push(("ctype", value.as_str_name().to_owned()));
            }
            if let Some(value) = set.jstype.and_then(|value| JsType::try_from(value).ok()) {
                options.push(("jstype", value.as_str_name().to_owned()));
            }
            let flags = [
                ("packed", set.packed),
                ("lazy", set.lazy),
                ("deprecated", set.deprecated),
                ("weak", set.weak),
            ];
            options.extend(bools(&flags));
        }
        self.line(format_args!(
            "{label}{kind} {} = {}{};",
            field.name(),
            field.number(),
            bracketed(&options)
        ));
        Ok(())
    }

    fn kind(&self, field: &FieldDescriptorProto) -> Result<String, Malformed> {
        Ok(match field.r#type() {
            Type::Group => return Err(unwritable("a group")),
            Type::Message | Type::Enum => self.type_name(field.type_name()).to_owned(),
            scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase(),
        })
    }

    fn extensions(&mut self, fields: &[FieldDescriptorProto]) -> Result<(), Malformed> {
        for field in fields {
            self.open(format_args!("extend {}", self.type_name(field.extendee()).to_owned()));
            self.field(field, None, false)?;
            self.close();
        }
        Ok(())
    }

    fn enumeration(&mut self, one: &EnumDescriptorProto) {
        self.open(format_args!("enum {}", one.name()));
        if let Some(set) = &one.options {
            self.options(&bools(&[
                ("allow_alias", set.allow_alias),
                ("deprecated", set.deprecated),
            ]));
        }
        for value in &one.value {
            let deprecated = value.options.as_ref().and_then(|set| set.deprecated);
            let options = bools(&[("deprecated", deprecated)]);
            let (name, number) = (value.name(), value.number());
            self.line(format_args!("{name} = {number}{};", bracketed(&options)));
        }
        for range in &one.reserved_range {
            let (from, to) = (range.start(), range.end());
            self.line(format_args!("reserved {};", numbers(from, to, i32::MAX)));
        }
        self.reserved(&one.reserved_name);
        self.close();
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        self.open(format_args!("service {}", service.name()));
        let deprecated = service.options.as_ref().and_then(|set| set.deprecated);
        self.options(&bools(&[("deprecated", deprecated)]));
        for method in &service.method {
            let stream = |is_stream| if is_stream { "stream " } else { "" };
            let rpc = format!(
                "rpc {}({}{}) returns ({}{})",
                method.name(),
                stream(method.client_streaming()),
                self.type_name(method.input_type()),
                stream(method.server_streaming()),
                self.type_name(method.output_type()),
            );
            let mut options = Vec::new();
            if let Some(set) = &method.options {
                options.extend(bools(&[("deprecated", set.deprecated)]));
                let level = set.idempotency_level.map(IdempotencyLevel::try_from);
                if let Some(Ok(level)) = level {
                    options.push(("idempotency_level", level.as_str_name().to_owned()));
                }
            }
            match options.is_empty() {
                true => self.line(format_args!("{rpc};")),
                false => {
                    self.open(format_args!("{rpc}"));
                    self.options(&options);
                    self.close();
                }
            }
        }
        self.close();
    }
}

fn is_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

fn bools<'a>(flags: &[(&'a str, Option<bool>)]) -> Vec<(&'a str, String)> {
    flags.iter().filter_map(|(name, set)| Some((*name, (*set)?.to_string()))).collect()
}

fn bracketed(options: &[(&str, String)]) -> String {
    match options.is_empty() {
        true => String::new(),
        false => {
            let options: Vec<String> =
                options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            format!(" [{}]", options.join(", "))
        }
    }
}

fn numbers(from: i32, to: i32, most: i32) -> String {
    match to {
        _ if to == most => format!("{from} to max"),
        _ if to == from => from.to_string(),
        _ => format!("{from} to {to}"),
    }
}

#[expect(deprecated, reason = "files from before may set it, and must say what they said")]
fn file_options(set: &FileOptions) -> Vec<(&'static str, String)> {
    let texts = [
        ("java_package", &set.java_package),
        ("java_outer_classname", &set.java_outer_classname),
        ("go_package", &set.go_package),
        ("objc_class_prefix", &set.objc_class_prefix),
        ("csharp_namespace", &set.csharp_namespace),
        ("swift_prefix", &set.swift_prefix),
        ("php_class_prefix", &set.php_class_prefix),
        ("php_namespace", &set.php_namespace),
        ("php_metadata_namespace", &set.php_metadata_namespace),
        ("ruby_package", &set.ruby_package),
    ];
    let texts = texts.into_iter().filter_map(|(name, set)| Some((name, quoted(set.as_ref()?))));
    let flags = [
        ("java_multiple_files", set.java_multiple_files),
        ("java_generate_equals_and_hash", set.java_generate_equals_and_hash),
        ("java_string_check_utf8", set.java_string_check_utf8),
        ("cc_generic_services", set.cc_generic_services),
        ("java_generic_services", set.java_generic_services),
        ("py_generic_services", set.py_generic_services),
        ("deprecated", set.deprecated),
        ("cc_enable_arenas", set.cc_enable_arenas),
    ];
    let mode = set.optimize_for.and_then(|mode| OptimizeMode::try_from(mode).ok());
    let mode = mode.map(|mode| ("optimize_for", mode.as_str_name().to_owned()));
    texts.chain(bools(&flags)).chain(mode).collect()
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for one in text.chars() {
        match one {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_ascii_control() => _ = write!(out, "\\{:03o}", control as u32),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The name that a field has in JSON if nothing else is said.
pub(super) fn json_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for one in name.chars() {
        match one {
            '_' => upper = true,
            other if upper => {
                out.push(other.to_ascii_uppercase());
                upper = false;
            }
            other => out.push(other),
        }
    }
    out
}
