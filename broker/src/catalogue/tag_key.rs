//! The tag vocabulary: which keys tags may have, and what values each key takes.

use std::collections::HashSet;
use std::sync::Arc;

use meshlog_proto::v1::{self, Tag, TagValueType};

use super::audit::{Act, Kind};
use super::in_use::Users;
use super::name::{check_managed_by, check_tag_key, reserved, shown};
use super::page::Page;
use super::stored::Key;
use super::tag::{MAX_VALUE_BYTES, place};
use super::team::MAX_DESCRIPTION_BYTES;
use super::view::View;
use super::{Catalogue, builtin, check_etag, check_length, facts, invalid, mask, team};
use crate::Caller;
use crate::access::{Resource, Rpc};
use crate::error::{Error, Reason, Result};

const MAX_KEYS: usize = 10_000;
const MAX_ALLOWED_VALUES: usize = 1000;
/// Allowed values listed in an error.
const MAX_LISTED_VALUES: usize = 20;
/// Keys looked at for one that was meant.
const MAX_COMPARED: usize = 2000;

impl Catalogue {
    /// Adds a key to the vocabulary.
    ///
    /// # Errors
    /// `NAME_INVALID`, `FIELD_MISSING` (the owner), `TEAM_NOT_FOUND`, `TAG_KEY_EXISTS`,
    /// `INVALID_ARGUMENT`, `LIMIT_REACHED`.
    pub async fn create_tag_key(
        &self,
        caller: &Caller,
        request: v1::CreateTagKeyRequest,
    ) -> Result<v1::CreateTagKeyResponse> {
        self.allow(caller, Rpc::CreateTagKey, Resource::Broker)?;
        let key = given(request.tag_key.ok_or_else(|| invalid("tag_key", "it is missing"))?);
        check_tag_key(&key.name)?;
        check_values(&key)?;
        let mut mutation = self.begin().await;
        {
            let view = self.inner.view.read();
            check_new(&view, &key)?;
            team::check_owner(&view, &key.owner)?;
        }
        if request.validate_only {
            return Ok(v1::CreateTagKeyResponse { tag_key: Some(key) });
        }
        let key = v1::TagKey {
            etag: mutation.etag(),
            create_time: Some(mutation.now()),
            created_by: caller.principal(),
            update_time: Some(mutation.now()),
            updated_by: caller.principal(),
            ..key
        };
        mutation.set(Key::TagKey(&key.name), &key);
        let act = Act::new("create_tag_key", Kind::TagKey, &key.name)
            .changes(facts::differences(&facts::Facts::new(), &facts::of_tag_key(&key)));
        mutation.commit(caller, act).await?;
        Ok(v1::CreateTagKeyResponse { tag_key: Some(key) })
    }

    /// One key of the vocabulary.
    ///
    /// # Errors
    /// `TAG_KEY_NOT_FOUND`.
    pub fn get_tag_key(
        &self,
        _caller: &Caller,
        request: v1::GetTagKeyRequest,
    ) -> Result<v1::GetTagKeyResponse> {
        let view = self.inner.view.read();
        let key = view.tag_key(&request.name).ok_or_else(|| not_found(&view, &request.name))?;
        Ok(v1::GetTagKeyResponse { tag_key: Some(Arc::unwrap_or_clone(key)) })
    }

    /// The vocabulary by name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a page token of another list.
    pub fn list_tag_keys(
        &self,
        _caller: &Caller,
        request: v1::ListTagKeysRequest,
    ) -> Result<v1::ListTagKeysResponse> {
        let page = Page::asked("tag keys", request.page_size, &request.page_token)?;
        let (tag_keys, next_page_token) =
            page.of(&self.inner.view.read().tag_keys, builtin::tag_key(builtin::PII), |key| {
                &key.name
            });
        Ok(v1::ListTagKeysResponse { tag_keys, next_page_token })
    }

    /// Changes the fields that the mask names; without a mask, those that are not empty.
    ///
    /// # Errors
    /// `TAG_KEY_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `TEAM_NOT_FOUND`, `IN_USE` while
    /// tags would no longer fit, `INVALID_ARGUMENT`.
    pub async fn update_tag_key(
        &self,
        caller: &Caller,
        request: v1::UpdateTagKeyRequest,
    ) -> Result<v1::UpdateTagKeyResponse> {
        let asked = request.tag_key.ok_or_else(|| invalid("tag_key", "it is missing"))?;
        let given = [
            ("description", !asked.description.is_empty()),
            ("owner", !asked.owner.is_empty()),
            ("value_type", asked.value_type != 0),
            ("allowed_values", !asked.allowed_values.is_empty()),
            ("managed_by", !asked.managed_by.is_empty()),
        ];
        let paths = mask::paths(request.update_mask, &given)?;
        let mut mutation = self.begin().await;
        let before = self.own_tag_key(caller, Rpc::UpdateTagKey, &asked.name, &asked.etag)?;
        let mut key = before.clone();
        for path in &paths {
            match path.as_str() {
                "description" => key.description.clone_from(&asked.description),
                "owner" => key.owner.clone_from(&asked.owner),
                "value_type" => key.value_type = asked.value_type,
                "allowed_values" => key.allowed_values.clone_from(&asked.allowed_values),
                "managed_by" => key.managed_by.clone_from(&asked.managed_by),
                other => return Err(mask::unknown(other, &given)),
            }
        }
        // A key that has become another type has no use for its list.
        if key.value_type() != TagValueType::Enum
            && !paths.iter().any(|path| path == "allowed_values")
        {
            key.allowed_values.clear();
        }
        let mut key = v1::TagKey { ..key };
        if key.value_type == 0 {
            key.value_type = TagValueType::None.into();
        }
        check_values(&key)?;
        if key.owner != before.owner {
            team::check_owner(&self.inner.view.read(), &key.owner)?;
        }
        if (key.value_type, &key.allowed_values) != (before.value_type, &before.allowed_values) {
            self.users_of_tag_key(&key.name, |tag| check_value(&key, tag).is_err())?.refuse(
                "with this change the values do not fit; the tag key",
                &key.name,
                "change those tags first",
            )?;
        }
        key.etag = mutation.etag();
        key.update_time = Some(mutation.now());
        key.updated_by = caller.principal();
        if request.validate_only {
            key.etag.clear();
            return Ok(v1::UpdateTagKeyResponse { tag_key: Some(key) });
        }
        mutation.set(Key::TagKey(&key.name), &key);
        let changes = facts::differences(&facts::of_tag_key(&before), &facts::of_tag_key(&key));
        let act = Act::new("update_tag_key", Kind::TagKey, &key.name)
            .etag_before(&before.etag)
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::UpdateTagKeyResponse { tag_key: Some(key) })
    }

    /// Deletes a key that no tag uses.
    ///
    /// # Errors
    /// `TAG_KEY_NOT_FOUND`, `NAME_RESERVED`, `ETAG_MISMATCH`, `IN_USE` naming where.
    pub async fn delete_tag_key(
        &self,
        caller: &Caller,
        request: v1::DeleteTagKeyRequest,
    ) -> Result<v1::DeleteTagKeyResponse> {
        let mut mutation = self.begin().await;
        let before = self.own_tag_key(caller, Rpc::DeleteTagKey, &request.name, &request.etag)?;
        self.users_of_tag_key(&before.name, |_| true)?.refuse(
            "the tag key",
            &before.name,
            "take those tags away first",
        )?;
        if request.validate_only {
            return Ok(v1::DeleteTagKeyResponse {});
        }
        mutation.remove(Key::TagKey(&before.name));
        let changes = facts::differences(&facts::of_tag_key(&before), &facts::Facts::new());
        let act = Act::new("delete_tag_key", Kind::TagKey, &before.name)
            .etag_before(&before.etag)
            .gone()
            .changes(changes);
        mutation.commit(caller, act).await?;
        Ok(v1::DeleteTagKeyResponse {})
    }

    /// A key that can be changed.
    fn own_tag_key(&self, caller: &Caller, rpc: Rpc, name: &str, etag: &str) -> Result<v1::TagKey> {
        self.allow(caller, rpc, Resource::TagKey(name))?;
        if builtin::tag_key(name).is_some() {
            let what = format!("the tag key `{name}` belongs to the broker and stays as it is");
            return Err(reserved(name, what));
        }
        let view = self.inner.view.read();
        let key = view.tag_keys.get(name).ok_or_else(|| not_found(&view, name))?;
        check_etag(&format!("the tag key `{name}`"), etag, &key.etag)?;
        Ok(v1::TagKey::clone(key))
    }

    /// Where tags of this key stand that `concerned` says yes to.
    fn users_of_tag_key(&self, key: &str, concerned: impl Fn(&Tag) -> bool) -> Result<Users> {
        let (domains, handles) = {
            let view = self.inner.view.read();
            let domains: Vec<_> = view.domains.values().cloned().collect();
            let handles = view.by_tag_key.of(key).filter_map(|id| view.product_of(id).cloned());
            (domains, handles.collect::<Vec<_>>())
        };
        let mut users = Users::default();
        let of_key = |tag: &&Tag| tag.key == key && concerned(tag);
        for domain in domains {
            for _ in domain.tags.iter().filter(of_key) {
                users.add(format!("the domain {}", domain.name));
            }
        }
        for handle in handles {
            let product = handle.stored()?.product.unwrap_or_default();
            product.tags.iter().filter(of_key).for_each(|tag| users.add(place(&product.name, tag)));
        }
        Ok(users)
    }
}

/// Without what only the server says.
fn given(key: v1::TagKey) -> v1::TagKey {
    v1::TagKey {
        name: key.name,
        description: key.description,
        owner: key.owner,
        value_type: match key.value_type {
            0 => TagValueType::None.into(),
            value_type => value_type,
        },
        allowed_values: key.allowed_values,
        managed_by: key.managed_by,
        ..Default::default()
    }
}

fn check_new(view: &View, key: &v1::TagKey) -> Result<()> {
    if view.tag_key(&key.name).is_some() {
        return Err(Error::new(
            Reason::TagKeyExists,
            format!("the tag key `{0}` exists already; `meshlog tag show {0}` shows it", key.name),
        )
        .with("key", &key.name));
    }
    if view.tag_keys.len() >= MAX_KEYS {
        return Err(Error::new(
            Reason::LimitReached,
            format!("there are {MAX_KEYS} tag keys, the most there can be; delete some first"),
        )
        .with("limit", MAX_KEYS));
    }
    Ok(())
}

fn check_values(key: &v1::TagKey) -> Result<()> {
    check_length("tag_key.description", &key.description, MAX_DESCRIPTION_BYTES)?;
    check_managed_by("tag_key.managed_by", &key.managed_by)?;
    if key.owner.is_empty() {
        let what = format!(
            "the tag key `{0}` needs an owner: `meshlog tag create {0} --owner TEAM`",
            key.name
        );
        return Err(Error::new(Reason::FieldMissing, what.clone())
            .with("field", "owner")
            .with("key", &key.name)
            .with_violation("tag_key.owner", what));
    }
    let values = &key.allowed_values;
    let allowed = "tag_key.allowed_values";
    match TagValueType::try_from(key.value_type) {
        Ok(TagValueType::Enum) if values.is_empty() => {
            return Err(invalid(allowed, "a key of the type ENUM needs at least one value"));
        }
        Ok(TagValueType::Enum) => {}
        Ok(_) if values.is_empty() => {}
        Ok(_) => return Err(invalid(allowed, "only a key of the type ENUM has a list of values")),
        Err(_) => {
            return Err(invalid("tag_key.value_type", "use NONE, ENUM, STRING or NUMBER"));
        }
    }
    if values.len() > MAX_ALLOWED_VALUES {
        return Err(invalid(
            allowed,
            format!("at most {MAX_ALLOWED_VALUES}, there are {}", values.len()),
        ));
    }
    let mut seen = HashSet::new();
    for value in values {
        check_length(allowed, value, MAX_VALUE_BYTES)?;
        if value.trim().is_empty() || value.chars().any(char::is_control) {
            return Err(invalid(allowed, "a value is one line of text, not empty"));
        }
        if !seen.insert(value) {
            return Err(invalid(allowed, format!("`{}` stands there twice", shown(value))));
        }
    }
    Ok(())
}

/// Checks one tag against the vocabulary.
///
/// # Errors
/// `TAG_KEY_NOT_FOUND`, `TAG_VALUE_INVALID`.
pub(super) fn check(view: &View, tag: &Tag) -> Result<()> {
    let key = view.tag_key(&tag.key).ok_or_else(|| not_found(view, &tag.key))?;
    check_value(&key, tag).map_err(|wanted| {
        let found = match &tag.value {
            Some(value) => format!("`{}`", shown(value)),
            None => "no value".to_owned(),
        };
        let error = Error::new(
            Reason::TagValueInvalid,
            format!("the tag `{}` takes {wanted}, not {found}", tag.key),
        )
        .with("key", &tag.key)
        .with("field", "tags.value");
        match &tag.value {
            Some(value) => error.with("value", shown(value)),
            None => error,
        }
    })
}

/// What the key wants, if the tag has something else.
fn check_value(key: &v1::TagKey, tag: &Tag) -> Result<(), String> {
    let value = tag.value.as_deref();
    match key.value_type() {
        TagValueType::None | TagValueType::Unspecified => match value {
            None => Ok(()),
            Some(_) => Err("no value".to_owned()),
        },
        TagValueType::Enum => match value {
            Some(value) if key.allowed_values.iter().any(|allowed| allowed == value) => Ok(()),
            _ => Err(format!("one of {}", listed(&key.allowed_values))),
        },
        TagValueType::String => match value {
            Some(_) => Ok(()),
            None => Err(format!("any text: `{}=TEXT`", key.name)),
        },
        TagValueType::Number => match value {
            Some(value) if is_number(value) => Ok(()),
            _ => Err(format!("a decimal number, for instance `{}=12.5`", key.name)),
        },
    }
}

fn listed(values: &[String]) -> String {
    let mut text = values.iter().take(MAX_LISTED_VALUES).map(|value| format!("`{}`", shown(value)));
    let text = text.by_ref().collect::<Vec<_>>().join(", ");
    match values.len().saturating_sub(MAX_LISTED_VALUES) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Whether this is a number as JSON writes it: `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`.
fn is_number(text: &str) -> bool {
    fn digits(text: &str) -> Option<&str> {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
        (rest.len() < text.len()).then_some(rest)
    }
    let text = text.strip_prefix('-').unwrap_or(text);
    let whole = match text.strip_prefix('0') {
        Some(rest) => Some(rest),
        None => digits(text),
    };
    let Some(rest) = whole else { return false };
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => digits(fraction),
        None => Some(rest),
    };
    let Some(rest) = rest else { return false };
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            digits(exponent) == Some("")
        }
        None => rest.is_empty(),
    }
}

/// Names the key that was perhaps meant, and the command that adds this one.
pub(super) fn not_found(view: &View, name: &str) -> Error {
    let shown = shown(name);
    let mut what = format!("the tag vocabulary has no key `{shown}`");
    let near = |key: &&str| key.len().abs_diff(name.len()) <= 2;
    let keys = view.tag_keys.keys().map(|key| &**key).chain([builtin::PII]).filter(near);
    let nearest = keys
        .take(MAX_COMPARED)
        .map(|key| (strsim::osa_distance(key, name), key))
        .filter(|(distance, key)| *distance <= 2 && *distance < key.len())
        .min();
    if let Some((_, nearest)) = nearest {
        what += &format!("; did you mean `{nearest}`?");
    }
    what += &format!("; to add it: `meshlog tag create {shown} --owner TEAM --description …`");
    Error::new(Reason::TagKeyNotFound, what).with("key", &shown).with("field", "tags.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_json() {
        for number in ["0", "-0", "12", "-1.5", "0.25", "1e9", "1.5E-3", "10e+2"] {
            assert!(is_number(number), "{number}");
        }
        for other in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "0x1", " 1", "1 ", "NaN", "١"]
        {
            assert!(!is_number(other), "{other}");
        }
    }
}
