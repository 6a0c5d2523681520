//! Compiles the public `.proto` files twice: once as they are, and once for the server, which
//! reads and stores record batches as the raw bytes they arrived in, and for clients that encode
//! their batches themselves.
//!
//! The second variant is not written down anywhere. It is the public descriptor with the type of
//! two fields changed, so the two cannot drift apart; `tests/variants.rs` pins that both encode to
//! the same bytes.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use prost::Message as _;
use prost_types::{
    FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// The public contract, relative to this folder.
const FILES: [&str; 7] = [
    "meshlog/v1/admin.proto",
    "meshlog/v1/catalog.proto",
    "meshlog/v1/governance.proto",
    "meshlog/v1/lineage.proto",
    "meshlog/v1/record.proto",
    "meshlog/v1/schema.proto",
    "meshlog/v1/subscription.proto",
];

/// Messages of `record.proto` that contain a patched field, directly or through another message.
/// Only these exist twice.
const SERVER_MESSAGES: [&str; 5] =
    ["AppendRequest", "AppendStreamRequest", "StoredBatch", "ReadResponse", "SubscribeResponse"];

/// Holds a secret, so its `Debug` is written by hand, in `src/lib.rs`.
const SECRET: &str = ".meshlog.v1.CreateKeyResponse";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=meshlog");
    println!("cargo::rerun-if-changed=google");

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(FILES)?;
    let public = compiler.file_descriptor_set();

    fs::write(out.join("descriptors.bin"), without_comments(public.clone()).encode_to_vec())?;
    generate_public(&public, &out.join("public"))?;
    generate_server(&public, &out.join("server"))?;
    Ok(())
}

/// What reflection serves: comments stay in the `.proto` files.
fn without_comments(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}

fn config(out: &Path) -> Result<prost_build::Config, Box<dyn Error>> {
    fs::create_dir_all(out)?;
    let mut config = prost_build::Config::new();
    config.out_dir(out).bytes(["."]).extern_path(".google.rpc", "::tonic_types::pb");
    config.skip_debug([SECRET]);
    Ok(config)
}

fn generate_public(set: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    config(out)?
        .service_generator(Box::new(PublicStubs {
            client_only: stubs(true, false),
            client_and_server: stubs(true, true),
        }))
        .compile_fds(set.clone())?;
    Ok(())
}

fn generate_server(set: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    let mut set = set.clone();
    set.file
        .retain(|file| file.package() != "meshlog.v1" || file.name() == "meshlog/v1/record.proto");
    let record = set
        .file
        .iter_mut()
        .find(|file| file.name() == "meshlog/v1/record.proto")
        .ok_or("record.proto is missing")?;
    // Repeated, so that the server sees a second occurrence and can refuse it: a single `bytes`
    // field would silently keep the last one, where a message field would merge them.
    read_as_bytes(record, "AppendRequest", "batch", Label::Repeated)?;
    read_as_bytes(record, "StoredBatch", "batch", Label::Optional)?;

    let mut config = config(out)?;
    let shared = record.message_type.iter().map(|message| message.name().to_owned());
    let shared = shared.chain(record.enum_type.iter().map(|one| one.name().to_owned()));
    for name in shared.filter(|name| !SERVER_MESSAGES.contains(&name.as_str())) {
        config.extern_path(format!(".meshlog.v1.{name}"), format!("crate::v1::{name}"));
    }
    config.service_generator(stubs(true, true)).compile_fds(set)?;
    Ok(())
}

/// Turns a field of message type into raw bytes: the same tag and the same wire type.
fn read_as_bytes(
    file: &mut FileDescriptorProto,
    message: &str,
    field: &str,
    label: Label,
) -> Result<(), Box<dyn Error>> {
    let field = file
        .message_type
        .iter_mut()
        .find(|candidate| candidate.name() == message)
        .and_then(|found| found.field.iter_mut().find(|candidate| candidate.name() == field))
        .filter(|field| field.r#type() == Type::Message)
        .ok_or_else(|| format!("{message}.{field} is not a field of message type"))?;
    field.set_type(Type::Bytes);
    field.set_label(label);
    field.type_name = None;
    Ok(())
}

fn stubs(client: bool, server: bool) -> Box<dyn prost_build::ServiceGenerator> {
    tonic_prost_build::configure().build_client(client).build_server(server).service_generator()
}

/// Client stubs for every service; server traits for all but the record service, whose server
/// trait belongs to the server's variant of the messages.
struct PublicStubs {
    client_only: Box<dyn prost_build::ServiceGenerator>,
    client_and_server: Box<dyn prost_build::ServiceGenerator>,
}

impl prost_build::ServiceGenerator for PublicStubs {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        let generator = match service.proto_name.as_str() {
            "RecordService" => &mut self.client_only,
            _ => &mut self.client_and_server,
        };
        generator.generate(service, out);
    }
}
