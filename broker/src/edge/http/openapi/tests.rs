//! Writes the document: from the table of routes, the descriptors, the comments of the `.proto`
//! files, and `own.json` for what has a form of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use serde_json::{Map, Value, json};

use super::super::route::{Operation, Route, Rpc};
use super::super::table::routes;
use super::DOCUMENT;

const OWN: &str = include_str!("own.json");

/// The routes for clients of Confluent's Schema Registry, in short: see [`registry`].
const REGISTRY: &str = include_str!("registry.json");

/// The media types of those routes.
const REGISTRY_TYPES: [&str; 3] = [
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
];

/// Services whose unary calls all have a route.
const SERVICES: [&str; 7] = [
    "RecordService",
    "CatalogService",
    "SchemaService",
    "SubscriptionService",
    "LineageService",
    "GovernanceService",
    "AdminService",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The contract with its comments.
struct Contract {
    pool: DescriptorPool,
    /// File and path of a location, and the comment before it.
    comments: HashMap<(String, Vec<i32>), String>,
}

impl Contract {
    fn read() -> Self {
        let proto = root().join("proto");
        let files: Vec<PathBuf> = std::fs::read_dir(proto.join("meshlog/v1"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "proto"))
            .collect();
        let mut compiler = protox::Compiler::new([proto]).unwrap();
        compiler.include_imports(true).include_source_info(true).open_files(files).unwrap();
        let set = compiler.file_descriptor_set();
        let mut comments = HashMap::new();
        for file in &set.file {
            for location in file.source_code_info.iter().flat_map(|info| &info.location) {
                if let Some(text) = &location.leading_comments {
                    let lines: Vec<&str> = text.lines().map(str::trim).collect();
                    let key = (file.name().to_owned(), location.path.clone());
                    comments.insert(key, lines.join(" ").trim().to_owned());
                }
            }
        }
        let pool = DescriptorPool::from_file_descriptor_set(set).unwrap();
        Self { pool, comments }
    }

    fn comment(&self, file: &FileDescriptor, path: &[i32]) -> String {
        self.comments.get(&(file.name().to_owned(), path.to_vec())).cloned().unwrap_or_default()
    }

    fn message(&self, name: &str) -> MessageDescriptor {
        self.pool.get_message_by_name(&format!("meshlog.v1.{name}")).unwrap()
    }

    fn method(&self, rpc: &str) -> (String, String) {
        let (service, method) = rpc.split_once('/').unwrap();
        let service = self.pool.get_service_by_name(&format!("meshlog.v1.{service}")).unwrap();
        let method = service.methods().find(|one| one.name() == method).unwrap();
        (method.name().to_owned(), self.comment(&service.parent_file(), method.path()))
    }
}

/// The document, as it is put together.
struct Document {
    contract: Contract,
    schemas: BTreeMap<String, Value>,
}

impl Document {
    fn write() -> Value {
        let own: Value = serde_json::from_str(OWN).unwrap();
        let mut document = Self { contract: Contract::read(), schemas: BTreeMap::new() };
        let of_registry: Value = serde_json::from_str(REGISTRY).unwrap();
        for file in [&own, &of_registry] {
            for (name, schema) in file["schemas"].as_object().unwrap() {
                document.schemas.insert(name.clone(), schema.clone());
            }
        }
        for name in ["AppendResponse", "PartitionState", "Notice"] {
            document.message(&document.contract.message(name));
        }
        let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for route in routes() {
            let (tag, mut operation) = match &route.operation {
                Operation::Message(rpc) => {
                    (rpc.name.split('/').next().unwrap(), document.operation(&route, rpc))
                }
                Operation::Own(name, _) => {
                    let tag = match route.path {
                        path if path.starts_with("/v1") => "RecordService",
                        path if path.starts_with("/schema-registry") => "SchemaRegistry",
                        _ => "Server",
                    };
                    let operation = match tag {
                        "SchemaRegistry" => registry(&of_registry["operations"][name]),
                        _ => own["operations"][name].clone(),
                    };
                    (tag, operation)
                }
            };
            if let Operation::Own(name, _) = &route.operation {
                operation["operationId"] = json!(name);
            }
            operation["tags"] = json!([tag]);
            let method = route.method.as_str().to_lowercase();
            let before = paths.entry(route.path).or_default().insert(method, operation);
            assert!(before.is_none(), "two operations at {}", route.path);
        }
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Meshlog",
                "version": env!("CARGO_PKG_VERSION"),
                "summary": "A log broker whose topics are data products.",
                "description": "The same calls as in gRPC, on the same port. Messages are the standard JSON of protobuf with the names of the .proto files: 64-bit numbers and times are strings, bytes are base64, enums are names. Fields that have their default are left out of answers.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
            },
            "servers": [{"url": "http://127.0.0.1:7420"}],
            "paths": paths,
            "components": {
                "schemas": document.schemas,
                "responses": {
                    "RegistryError": {
                        "description": "It failed.",
                        "content": of_types(&json!({"$ref": "#/components/schemas/RegistryError"}))
                    },
                    "Problem": {
                        "description": "It failed.",
                        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
                    }
                }
            }
        })
    }

    fn operation(&mut self, route: &Route, rpc: &Rpc) -> Value {
        let (name, comment) = self.contract.method(rpc.name);
        let request = self.contract.message(rpc.request);
        let mut parameters = Vec::new();
        let placed = route.path.split('/').filter_map(|part| part.strip_prefix('{'));
        for (parameter, field) in placed.zip(rpc.path_fields) {
            let field = field_at(&request, field);
            parameters.push(json!({
                "name": parameter.trim_end_matches('}'), "in": "path", "required": true,
                "schema": self.kind(&field), "description": self.describe(&field),
            }));
        }
        if !rpc.has_body {
            for field in request.fields() {
                let scalar = !matches!(field.kind(), Kind::Message(inner) if !is_text(&inner));
                if scalar && !rpc.path_fields.contains(&field.name()) {
                    let search = rpc.name.ends_with("/SearchProducts") && field.name() == "query";
                    parameters.push(json!({
                        "name": if search { "q" } else { field.name() }, "in": "query",
                        "schema": self.field(&field), "description": self.describe(&field),
                    }));
                }
            }
        }
        let response = self.contract.message(rpc.response);
        let answer = self.message(&response);
        let mut operation = json!({
            "operationId": name,
            "summary": comment.split_inclusive(". ").next().unwrap_or_default().trim(),
            "description": comment,
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": self.contract.comment(&response.parent_file(), response.path()),
                    "content": {"application/json": {"schema": answer}}
                },
                "default": {"$ref": "#/components/responses/Problem"}
            }
        });
        if rpc.has_body {
            let body = self.message(&request);
            operation["requestBody"] = json!({"content": {"application/json": {"schema": body}}});
        }
        operation
    }

    fn describe(&self, field: &FieldDescriptor) -> String {
        self.contract.comment(&field.parent_file(), field.path())
    }

    /// A reference to a message, which is described too.
    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let name = message.name().to_owned();
        let reference = json!({"$ref": format!("#/components/schemas/{name}")});
        if self.schemas.contains_key(&name) {
            return reference;
        }
        self.schemas.insert(name.clone(), Value::Null);
        let mut properties = Map::new();
        for field in message.fields() {
            let mut schema = self.field(&field);
            schema["description"] = self.describe(&field).into();
            properties.insert(field.name().to_owned(), schema);
        }
        let description = self.contract.comment(&message.parent_file(), message.path());
        let schema =
            json!({"type": "object", "description": description, "properties": properties});
        self.schemas.insert(name, schema);
        reference
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        match field.is_list() {
            true => json!({"type": "array", "items": self.kind(field)}),
            false => self.kind(field),
        }
    }

    fn kind(&mut self, field: &FieldDescriptor) -> Value {
        match field.kind() {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "pattern": "^[0-9]+$"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({"type": "string", "pattern": "^-?[0-9]+$"})
            }
            Kind::Enum(described) => self.enumeration(&described),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => json!({"type": "string", "format": "date-time"}),
                "google.protobuf.Duration" => {
                    json!({"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?s$", "examples": ["86400s"]})
                }
                "google.protobuf.FieldMask" => {
                    json!({"type": "string", "examples": ["description,settings.retentionAge"]})
                }
                _ => self.message(&message),
            },
        }
    }

    fn enumeration(&mut self, described: &EnumDescriptor) -> Value {
        let values: Vec<_> = described.values().map(|one| one.name().to_owned()).collect();
        let description = self.contract.comment(&described.parent_file(), described.path());
        let schema = json!({"type": "string", "description": description, "enum": values});
        self.schemas.insert(described.name().to_owned(), schema);
        json!({"$ref": format!("#/components/schemas/{}", described.name())})
    }
}

/// One schema in every media type of the schema registry.
fn of_types(schema: &Value) -> Value {
    let types = REGISTRY_TYPES.map(|kind| (kind.to_owned(), json!({"schema": schema})));
    Value::Object(types.into_iter().collect())
}

/// What `registry.json` says in short, as OpenAPI has it.
fn registry(short: &Value) -> Value {
    let mut operation = json!({
        "summary": short["summary"],
        "parameters": short.get("parameters").unwrap_or(&json!([])),
        "responses": {
            "200": {"description": short["told"], "content": of_types(&short["answer"])},
            "default": {"$ref": "#/components/responses/RegistryError"}
        }
    });
    if let Some(description) = short.get("description") {
        operation["description"] = description.clone();
    }
    if let Some(body) = short.get("body") {
        operation["requestBody"] = json!({"required": true, "content": of_types(body)});
    }
    operation
}

/// Whether the standard mapping writes the message as a string.
fn is_text(message: &MessageDescriptor) -> bool {
    message.full_name().starts_with("google.protobuf.")
}

fn field_at(message: &MessageDescriptor, path: &str) -> FieldDescriptor {
    match path.split_once('.') {
        None => message.get_field_by_name(path).unwrap(),
        Some((name, rest)) => match message.get_field_by_name(name).unwrap().kind() {
            Kind::Message(inner) => field_at(&inner, rest),
            other => panic!("{other:?} has no fields"),
        },
    }
}

/// `MESHLOG_WRITE_DOCS=1` writes it instead.
#[test]
fn what_is_published_and_served_is_what_the_routes_are() {
    let written = format!("{:#}\n", Document::write());
    let path = root().join("docs/openapi.json");
    if std::env::var_os("MESHLOG_WRITE_DOCS").is_some() {
        std::fs::write(&path, &written).unwrap();
    }
    let published = std::fs::read_to_string(&path).unwrap();
    assert!(published == written, "run it again with MESHLOG_WRITE_DOCS=1");
    assert!(DOCUMENT == published, "build again: another document was compiled in");
}

#[test]
fn the_document_is_valid_as_the_publishers_of_openapi_say() {
    let schema = std::fs::read(root().join("tests/data/schemas/openapi-3.1.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft202012);
    let validator = validator.build(&schema).unwrap();
    let errors: Vec<String> = validator.iter_errors(&document).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let broken = json!({"openapi": "3.1.0", "info": {"title": "x"}, "paths": {}});
    assert!(!validator.is_valid(&broken), "the schema refuses nothing");
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_one() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name}");
    }
}

#[test]
fn every_unary_call_has_a_route_and_every_route_is_published() {
    let contract = Contract::read();
    let routes = routes();
    let named: BTreeSet<String> = routes
        .iter()
        .map(|route| match &route.operation {
            Operation::Message(rpc) => rpc.name.to_owned(),
            Operation::Own(name, _) => format!("RecordService/{name}"),
        })
        .collect();
    for service in SERVICES {
        let described =
            contract.pool.get_service_by_name(&format!("meshlog.v1.{service}")).unwrap();
        for method in described.methods() {
            let streams = method.is_client_streaming() || method.is_server_streaming();
            let name = format!("{service}/{}", method.name());
            assert!(streams || named.contains(&name), "{name} has no route");
        }
    }
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let published: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    let served: BTreeSet<(String, String)> =
        routes.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(published, served);
}
