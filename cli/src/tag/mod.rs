//! `meshlog tag`: the vocabulary, keys that tags of domains, products and fields may have; and how
//! a tag is written.

mod text;

use std::ffi::OsStr;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use jiff::Timestamp;
use meshlog_client::{
    Catalog,
    proto::{CreateTagKeyRequest, DeleteTagKeyRequest, TagKey, TagValueType, UpdateTagKeyRequest},
};
use serde::Serialize;

pub(crate) use text::{FieldTag, FieldTagKey, WholeTag, put, remove, text};

use crate::{
    change::{Change, ChangeArgs, DryRunArgs},
    completion,
    exit::Result,
    noun::{self, Noun},
    output::{Out, OutputArgs, Row},
    settings::ServerArgs,
    words,
};

/// Create, list, show, update and delete keys of the tag vocabulary.
#[derive(Debug, Subcommand)]
pub(crate) enum TagCommand {
    /// Add a key to the vocabulary; tags can use it from then on
    #[command(before_help = "Examples:
  meshlog tag create aviation --owner reference-data \\
    --description 'About flying'
  meshlog tag create region --type enum --allowed nyc,chicago \\
    --owner reference-data --description 'Where it was observed'")]
    Create(Create),
    /// List the vocabulary
    #[command(before_help = "Examples:
  meshlog tag list
  meshlog tag list -o wide")]
    List(noun::List),
    /// Show one key
    #[command(before_help = "Examples:
  meshlog tag show region
  meshlog search tag:region=nyc      which products have it")]
    Show(noun::Show<TagKeys>),
    /// Change a key; refused while tags in use would no longer fit
    #[command(before_help = "Examples:
  meshlog tag update region --add-allowed boston
  meshlog tag update region --type string --dry-run")]
    Update(Update),
    /// Delete a key that no tag uses
    #[command(before_help = "Example:
  meshlog tag delete region")]
    Delete(noun::Delete<TagKeys>),
}

/// What the values of a key are.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ValueType {
    /// A plain tag; it has no value
    None,
    /// One of the allowed values
    Enum,
    /// Any text
    String,
    /// A decimal number
    Number,
}

impl From<ValueType> for TagValueType {
    fn from(value_type: ValueType) -> Self {
        match value_type {
            ValueType::None => Self::None,
            ValueType::Enum => Self::Enum,
            ValueType::String => Self::String,
            ValueType::Number => Self::Number,
        }
    }
}

/// Arguments of `tag create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The key
    name: String,
    /// What its values are [default: enum with --allowed, none without]
    #[arg(long = "type", value_name = "TYPE")]
    value_type: Option<ValueType>,
    /// The values of an enum
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    allowed: Vec<String>,
    /// The team that owns the key
    #[arg(long, value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    owner: String,
    /// What it says about a product or a field
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of `tag update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The key
    #[arg(add = ArgValueCompleter::new(completion::tag_keys))]
    name: String,
    #[command(flatten)]
    values: Values,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What an update changes; at least one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Values {
    /// What its values are
    #[arg(long = "type", value_name = "TYPE")]
    value_type: Option<ValueType>,
    /// All values of an enum
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    allowed: Vec<String>,
    /// Further values of an enum
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    add_allowed: Vec<String>,
    /// Values of an enum that go
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    remove_allowed: Vec<String>,
    /// The team that owns the key
    #[arg(long, value_name = "TEAM", add = ArgValueCompleter::new(completion::teams))]
    owner: Option<String>,
    /// What it says about a product or a field
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

impl TagCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        match self {
            Self::Create(args) => create(args, out).await,
            Self::List(args) => args.run::<TagKeys>(out).await,
            Self::Show(args) => args.run(out).await,
            Self::Update(args) => update(args, out).await,
            Self::Delete(args) => args.run(out).await,
        }
    }
}

async fn create(args: Create, out: &mut Out) -> Result<()> {
    let value_type = match args.value_type {
        Some(value_type) => value_type.into(),
        None if args.allowed.is_empty() => TagValueType::None,
        None => TagValueType::Enum,
    };
    let tag_key = TagKey {
        name: args.name,
        description: args.description,
        owner: args.owner,
        value_type: value_type.into(),
        allowed_values: args.allowed,
        ..TagKey::default()
    };
    let dry_run = args.change.dry_run;
    let request = CreateTagKeyRequest { tag_key: Some(tag_key), validate_only: dry_run };
    let key = args.server.connect().await?.catalog().create_tag_key(request).await?;
    out.created(args.output.output, dry_run, &View::from(key))
}

async fn update(args: Update, out: &mut Out) -> Result<()> {
    let catalog = args.server.connect().await?.catalog();
    let mut key = catalog.get_tag_key(args.name.as_str()).await?;
    let before = View::from(key.clone());
    let mut mask = words::Mask::default();
    let values = args.values;
    if let Some(value_type) = values.value_type {
        key.value_type = TagValueType::from(value_type).into();
        mask.add("value_type");
        // Only an enum has values; those of one that becomes something else go with it.
        if !matches!(value_type, ValueType::Enum) && !key.allowed_values.is_empty() {
            key.allowed_values.clear();
            mask.add("allowed_values");
        }
    }
    if !values.allowed.is_empty() {
        key.allowed_values = values.allowed;
        mask.add("allowed_values");
    }
    if !values.add_allowed.is_empty() || !values.remove_allowed.is_empty() {
        words::remove_all("allowed value", &mut key.allowed_values, &values.remove_allowed)?;
        words::add_all(&mut key.allowed_values, values.add_allowed);
        mask.add("allowed_values");
    }
    if let Some(owner) = values.owner {
        key.owner = owner;
        mask.add("owner");
    }
    if let Some(description) = values.description {
        key.description = description;
        mask.add("description");
    }
    key.etag = args.change.etag(&key.etag);
    let dry_run = args.change.dry_run;
    let request = UpdateTagKeyRequest {
        tag_key: Some(key),
        update_mask: Some(mask.done()),
        validate_only: dry_run,
    };
    let after = View::from(catalog.update_tag_key(request).await?);
    let change = Change { dry_run, before: Some(&before), after: Some(&after) };
    change.show(args.output.output, out)
}

/// Tag keys among the things that have a name.
#[derive(Clone, Debug)]
pub(crate) struct TagKeys;

impl Noun for TagKeys {
    type View = View;

    const WORD: &'static str = "tag key";

    async fn list(catalog: &Catalog) -> Result<Vec<View>> {
        Ok(catalog.list_tag_keys().await?.into_iter().map(View::from).collect())
    }

    async fn find(catalog: &Catalog, name: &str) -> Result<View> {
        Ok(catalog.get_tag_key(name).await?.into())
    }

    async fn delete(catalog: &Catalog, name: &str, etag: String, dry_run: bool) -> Result<()> {
        let request = DeleteTagKeyRequest { name: name.into(), etag, validate_only: dry_run };
        Ok(catalog.delete_tag_key(request).await?)
    }

    fn etag(view: &View) -> &str {
        &view.etag
    }

    fn complete(word: &OsStr) -> Vec<CompletionCandidate> {
        completion::tag_keys(word)
    }
}

/// A tag key as the program shows it.
#[derive(Serialize)]
pub(crate) struct View {
    name: String,
    value_type: String,
    allowed_values: Vec<String>,
    owner: String,
    description: String,
    etag: String,
    create_time: Option<Timestamp>,
    created_by: String,
    update_time: Option<Timestamp>,
    updated_by: String,
}

impl From<TagKey> for View {
    fn from(key: TagKey) -> Self {
        Self {
            value_type: words::word(key.value_type().as_str_name(), "TAG_VALUE_TYPE_"),
            name: key.name,
            allowed_values: key.allowed_values,
            owner: key.owner,
            description: key.description,
            etag: key.etag,
            create_time: words::time(key.create_time),
            created_by: key.created_by,
            update_time: words::time(key.update_time),
            updated_by: key.updated_by,
        }
    }
}

impl Row for View {
    const PLURAL: &'static str = "tag keys";
    const HEADER: &'static [&'static str] = &["KEY", "TYPE", "OWNER", "DESCRIPTION"];
    const WIDE: &'static [&'static str] = &["ALLOWED VALUES", "CREATED", "BY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.value_type.clone(),
            self.owner.clone(),
            self.description.clone(),
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        vec![self.allowed_values.join(", "), words::when(self.create_time), self.created_by.clone()]
    }
}
