//! What is said about a product, a domain, a team or a tag key: a value for each path. The base of
//! provenance, and of what the audit log says was changed.
//!
//! Paths are those of the contract: fields of the message, `settings.enforcement`,
//! `tags[key]`, `tags[key@field.path]`. What is not said has no path.

use std::collections::BTreeMap;

use meshlog_proto::v1::{self, Tag, access_scope::What};
use serde_json::{Value, json};

/// Values by path.
pub(super) type Facts = BTreeMap<String, Value>;

/// One value that is different, new (without `before`) or gone (without `after`).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

/// What is different between two states of a thing, by path.
pub(super) fn differences(before: &Facts, after: &Facts) -> Vec<Difference> {
    let gone = before.iter().filter(|(path, _)| !after.contains_key(*path));
    let gone = gone.map(|(path, value)| Difference {
        path: path.clone(),
        before: Some(value.clone()),
        after: None,
    });
    let set = after.iter().filter(|(path, value)| before.get(*path) != Some(value));
    let set = set.map(|(path, value)| Difference {
        path: path.clone(),
        before: before.get(path).cloned(),
        after: Some(value.clone()),
    });
    let mut all: Vec<Difference> = gone.chain(set).collect();
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// Of a product, with names of other products and not their ids.
pub(super) fn of_product(product: &v1::Product) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "name", &product.name);
    put_text(&mut facts, "owner", &product.owner);
    put_text(&mut facts, "description", &product.description);
    if product.classification != 0 {
        facts.insert("classification".to_owned(), product.classification().as_str_name().into());
    }
    if product.kind != 0 {
        facts.insert("kind".to_owned(), product.kind().as_str_name().into());
    }
    facts.insert("state".to_owned(), product.state().as_str_name().into());
    facts.insert("schema_version".to_owned(), product.schema_version.into());
    facts.insert("partitions".to_owned(), product.partitions.into());
    if let Some(settings) = &product.settings {
        if settings.enforcement != 0 {
            let value = settings.enforcement().as_str_name();
            facts.insert("settings.enforcement".to_owned(), value.into());
        }
        if settings.minimum_durability != 0 {
            let value = settings.minimum_durability().as_str_name();
            facts.insert("settings.minimum_durability".to_owned(), value.into());
        }
        if settings.compatibility != 0 {
            let value = settings.compatibility().as_str_name();
            facts.insert("settings.compatibility".to_owned(), value.into());
        }
        if settings.protobuf_profile != 0 {
            let value = settings.protobuf_profile().as_str_name();
            facts.insert("settings.protobuf_profile".to_owned(), value.into());
        }
        if settings.on_fail != 0 {
            let value = settings.on_fail().as_str_name();
            facts.insert("settings.on_fail".to_owned(), value.into());
        }
        if settings.framing != 0 {
            let value = settings.framing().as_str_name();
            facts.insert("settings.framing".to_owned(), value.into());
        }
        put_limits(&mut facts, settings);
    }
    if let Some(key) = &product.key {
        put_text(&mut facts, "key.field", &key.field);
    }
    for rule in &product.rules {
        let said = json!({
            "expression": rule.expression,
            "message": rule.message,
            "disabled": rule.disabled,
            "version": rule.version,
        });
        facts.insert(format!("rules[{}]", rule.name), said);
    }
    put_text(&mut facts, "docs", &product.docs);
    let links = product.links.iter();
    let links = links.map(|link| json!({"title": link.title, "url": link.url}));
    put_list(&mut facts, "links", links.collect());
    put_text(&mut facts, "support", &product.support);
    put_list(&mut facts, "inputs", product.inputs.iter().cloned().map(Value::from).collect());
    put_list(&mut facts, "aliases", product.aliases.iter().cloned().map(Value::from).collect());
    put_text(&mut facts, "successor", &product.successor);
    if let Some(time) = &product.sunset_time {
        facts.insert("sunset_time".to_owned(), time.to_string().into());
    }
    put_text(&mut facts, "deprecation_reason", &product.deprecation_reason);
    if let Some(pending) = &product.pending_transfer {
        let pending = json!({"new_owner": pending.new_owner, "reason": pending.reason});
        facts.insert("pending_transfer".to_owned(), pending);
    }
    put_text(&mut facts, "managed_by", &product.managed_by);
    put_tags(&mut facts, &product.tags);
    facts
}

/// Of a domain.
pub(super) fn of_domain(domain: &v1::Domain) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "owner", &domain.owner);
    put_text(&mut facts, "description", &domain.description);
    put_text(&mut facts, "managed_by", &domain.managed_by);
    put_tags(&mut facts, &domain.tags);
    facts
}

/// Of a team.
pub(super) fn of_team(team: &v1::Team) -> Facts {
    let mut facts = Facts::new();
    put_list(&mut facts, "contacts", team.contacts.iter().cloned().map(Value::from).collect());
    put_text(&mut facts, "description", &team.description);
    put_text(&mut facts, "managed_by", &team.managed_by);
    facts
}

/// Of a tag key.
pub(super) fn of_tag_key(key: &v1::TagKey) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "owner", &key.owner);
    put_text(&mut facts, "description", &key.description);
    facts.insert("value_type".to_owned(), key.value_type().as_str_name().into());
    put_text(&mut facts, "managed_by", &key.managed_by);
    let allowed = key.allowed_values.iter().cloned().map(Value::from);
    put_list(&mut facts, "allowed_values", allowed.collect());
    facts
}

/// Of a key; its secret is known to nobody.
pub(super) fn of_api_key(key: &v1::ApiKey) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "team", &key.team);
    put_text(&mut facts, "application", &key.application);
    put_text(&mut facts, "description", &key.description);
    if key.admin {
        facts.insert("admin".to_owned(), true.into());
    }
    put_permissions(&mut facts, key.permissions());
    put_list(&mut facts, "products", key.products.iter().cloned().map(Value::from).collect());
    put_list(&mut facts, "domains", key.domains.iter().cloned().map(Value::from).collect());
    put_time(&mut facts, "expire_time", key.expire_time.as_ref());
    put_time(&mut facts, "revoke_time", key.revoke_time.as_ref());
    facts
}

/// Of a grant.
pub(super) fn of_grant(grant: &v1::Grant) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "team", &grant.team);
    put_text(&mut facts, "application", &grant.application);
    put_permissions(&mut facts, grant.permissions());
    if let Some(scope) = &grant.scope {
        match &scope.what {
            Some(What::Product(name)) => put_text(&mut facts, "scope.product", name),
            Some(What::Domain(name)) => put_text(&mut facts, "scope.domain", name),
            Some(What::Tag(tag)) => put_text(&mut facts, "scope.tag", tag),
            Some(What::Everything(_)) => {
                facts.insert("scope.everything".to_owned(), true.into());
            }
            None => {}
        }
    }
    put_text(&mut facts, "purpose", &grant.purpose);
    put_text(&mut facts, "request_id", &grant.request_id);
    put_time(&mut facts, "expire_time", grant.expire_time.as_ref());
    facts
}

/// Of a request for access.
pub(super) fn of_access_request(request: &v1::AccessRequest) -> Facts {
    let mut facts = Facts::new();
    put_text(&mut facts, "product", &request.product);
    put_text(&mut facts, "team", &request.team);
    put_text(&mut facts, "application", &request.application);
    put_permissions(&mut facts, request.permissions());
    put_text(&mut facts, "purpose", &request.purpose);
    facts.insert("state".to_owned(), request.state().as_str_name().into());
    put_text(&mut facts, "reason", &request.reason);
    put_text(&mut facts, "grant_id", &request.grant_id);
    put_time(&mut facts, "expire_time", request.expire_time.as_ref());
    facts
}

fn put_permissions(facts: &mut Facts, permissions: impl Iterator<Item = v1::Permission>) {
    let names = permissions.map(|permission| Value::from(permission.as_str_name()));
    put_list(facts, "permissions", names.collect());
}

fn put_time(facts: &mut Facts, path: &str, time: Option<&prost_types::Timestamp>) {
    if let Some(time) = time {
        facts.insert(path.to_owned(), time.to_string().into());
    }
}

fn put_limits(facts: &mut Facts, settings: &v1::ProductSettings) {
    let mut put = |path: &str, value: Option<Value>| {
        if let Some(value) = value {
            facts.insert(format!("settings.{path}"), value);
        }
    };
    put("retention_age", settings.retention_age.map(|age| age.to_string().into()));
    let limit = |value: u64| (value > 0).then(|| value.to_string().into());
    put("retention_bytes", limit(settings.retention_bytes));
    put("retention_count", limit(settings.retention_count));
    if let Some(compaction) = settings.compaction {
        put("compaction", Some(true.into()));
        let age = compaction.tombstone_min_age;
        put("compaction.tombstone_min_age", age.map(|age| age.to_string().into()));
    }
}

fn put_text(facts: &mut Facts, path: &str, text: &str) {
    if !text.is_empty() {
        facts.insert(path.to_owned(), text.into());
    }
}

fn put_list(facts: &mut Facts, path: &str, items: Vec<Value>) {
    if !items.is_empty() {
        facts.insert(path.to_owned(), items.into());
    }
}

fn put_tags(facts: &mut Facts, tags: &[Tag]) {
    for tag in tags {
        let value = tag.value.as_ref().map_or(Value::Bool(true), |value| value.as_str().into());
        facts.insert(tag_path(tag), value);
    }
}

/// The path of a tag.
pub(super) fn tag_path(tag: &Tag) -> String {
    match tag.field_path.as_str() {
        "" => format!("tags[{}]", tag.key),
        field => format!("tags[{}@{field}]", tag.key),
    }
}
