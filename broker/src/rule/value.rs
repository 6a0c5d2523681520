//! Values while a rule is evaluated: what lies in the record is borrowed, what is made is shared.

use std::cmp::Ordering;
use std::ops::Deref;
use std::rc::Rc;

use serde_json::Value;

use super::Data;
use super::budget::{Budget, Stop};

/// The value of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    Json(&'a Value),
    Data(&'a Data),
}

#[derive(Clone, Debug)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Blob<'a>),
    List(List<'a>),
    Map(Map<'a>),
}

#[derive(Clone, Debug)]
pub(super) enum Text<'a> {
    There(&'a str),
    Made(Rc<str>),
}

#[derive(Clone, Debug)]
pub(super) enum Blob<'a> {
    There(&'a [u8]),
    Made(Rc<[u8]>),
}

#[derive(Clone, Debug)]
pub(super) enum List<'a> {
    Json(&'a [Value]),
    Data(&'a [Data]),
    Made(Rc<[Val<'a>]>),
}

#[derive(Clone, Debug)]
pub(super) enum Map<'a> {
    Json(&'a serde_json::Map<String, Value>),
    Data(&'a [(String, Data)]),
    Made(Rc<[(Val<'a>, Val<'a>)]>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::There(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl Deref for Blob<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::There(bytes) => bytes,
            Self::Made(bytes) => bytes,
        }
    }
}

impl<'a> From<Source<'a>> for Val<'a> {
    fn from(source: Source<'a>) -> Self {
        match source {
            Source::Json(json) => json.into(),
            Source::Data(data) => data.into(),
        }
    }
}

impl<'a> From<&'a Value> for Val<'a> {
    fn from(json: &'a Value) -> Self {
        match json {
            Value::Null => Self::Null,
            Value::Bool(boolean) => Self::Bool(*boolean),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number),
                (None, Some(number)) => Self::Uint(number),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Text(Text::There(text)),
            Value::Array(items) => Self::List(List::Json(items)),
            Value::Object(members) => Self::Map(Map::Json(members)),
        }
    }
}

impl<'a> From<&'a Data> for Val<'a> {
    fn from(data: &'a Data) -> Self {
        match data {
            Data::Null => Self::Null,
            Data::Bool(boolean) => Self::Bool(*boolean),
            Data::Int(number) => Self::Int(*number),
            Data::Uint(number) => Self::Uint(*number),
            Data::Double(number) => Self::Double(*number),
            Data::Text(text) => Self::Text(Text::There(text)),
            Data::Bytes(bytes) => Self::Bytes(Blob::There(bytes)),
            Data::List(items) => Self::List(List::Data(items)),
            Data::Map(members) => Self::Map(Map::Data(members)),
        }
    }
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(items) => items.len(),
            Self::Data(items) => items.len(),
            Self::Made(items) => items.len(),
        }
    }

    pub(super) fn at(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Json(items) => items.get(index).map(Val::from),
            Self::Data(items) => items.get(index).map(Val::from),
            Self::Made(items) => items.get(index).cloned(),
        }
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Json(members) => members.len(),
            Self::Data(members) => members.len(),
            Self::Made(members) => members.len(),
        }
    }

    /// A member by the name of a field.
    pub(super) fn field(&self, name: &str, budget: &mut Budget) -> Result<Option<Val<'a>>, Stop> {
        budget.spend_bytes(name.len())?;
        Ok(match self {
            Self::Json(members) => members.get(name).map(Val::from),
            Self::Data(members) => {
                budget.spend(members.len() / 16)?;
                let found = members.iter().find(|(key, _)| key == name);
                found.map(|(_, value)| value.into())
            }
            Self::Made(members) => {
                budget.spend(members.len())?;
                let is = |key: &Val<'_>| matches!(key, Val::Text(key) if **key == *name);
                members.iter().find(|(key, _)| is(key)).map(|(_, value)| value.clone())
            }
        })
    }

    pub(super) fn member(
        &self,
        key: &Val<'a>,
        budget: &mut Budget,
    ) -> Result<Option<Val<'a>>, Stop> {
        if let Val::Text(name) = key {
            return self.field(name, budget);
        }
        let Self::Made(members) = self else { return Ok(None) };
        for (one, value) in members.iter() {
            if equal(one, key, budget)? {
                return Ok(Some(value.clone()));
            }
        }
        Ok(None)
    }

    /// Keys, as items to go through.
    pub(super) fn keys(&self) -> List<'a> {
        let name = |name: &'a String| Val::Text(Text::There(name));
        List::Made(match self {
            Self::Json(members) => members.keys().map(name).collect(),
            Self::Data(members) => members.iter().map(|(key, _)| name(key)).collect(),
            Self::Made(members) => members.iter().map(|(key, _)| key.clone()).collect(),
        })
    }
}

impl Val<'_> {
    /// The word for its type.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}

/// Whether two values are the same; those of different types are not, except numbers.
pub(super) fn equal(a: &Val<'_>, b: &Val<'_>, budget: &mut Budget) -> Result<bool, Stop> {
    budget.spend(1)?;
    Ok(match (a, b) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Text(a), Val::Text(b)) => {
            budget.spend_bytes(a.len().min(b.len()))?;
            **a == **b
        }
        (Val::Bytes(a), Val::Bytes(b)) => {
            budget.spend_bytes(a.len().min(b.len()))?;
            **a == **b
        }
        (Val::List(a), Val::List(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for index in 0..a.len() {
                let (Some(a), Some(b)) = (a.at(index), b.at(index)) else { return Ok(false) };
                if !equal(&a, &b, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (Val::Map(a), Val::Map(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            budget.spend(a.len())?;
            let keys = a.keys();
            for index in 0..keys.len() {
                let Some(key) = keys.at(index) else { return Ok(false) };
                let (Some(a), Some(b)) = (a.member(&key, budget)?, b.member(&key, budget)?) else {
                    return Ok(false);
                };
                if !equal(&a, &b, budget)? {
                    return Ok(false);
                }
            }
            true
        }
        (a, b) => numbers(a, b) == Some(Ordering::Equal),
    })
}

/// The order of two numbers; `None`: they have none.
pub(super) fn numbers(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => against(a, double(b)?),
        (None, Some(b)) => against(b, double(a)?).map(Ordering::reverse),
        (None, None) => double(a)?.partial_cmp(&double(b)?),
    }
}

/// Exact: a double may lie between two whole numbers, or far beyond them.
fn against(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Within 2^65 the floor of a double is a whole number of 128 bits.
    let bound = 2_f64.powi(65);
    if double >= bound {
        return Some(Ordering::Less);
    }
    if double <= -bound {
        return Some(Ordering::Greater);
    }
    let floor = double.floor();
    Some(whole.cmp(&(floor as i128)).then(match double > floor {
        true => Ordering::Less,
        false => Ordering::Equal,
    }))
}

pub(super) fn whole(value: &Val<'_>) -> Option<i128> {
    match value {
        Val::Int(number) => Some((*number).into()),
        Val::Uint(number) => Some((*number).into()),
        _ => None,
    }
}

/// A number as a double.
pub(super) fn double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(number) => Some(*number as f64),
        Val::Uint(number) => Some(*number as f64),
        Val::Double(number) => Some(*number),
        _ => None,
    }
}
