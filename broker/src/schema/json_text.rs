//! JSON text read strictly: a member name that occurs twice in one object is refused, because two
//! readers may see two different values; so is deeper nesting than the caller allows.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads one JSON text and nothing after it.
///
/// # Errors
/// With line and column, as the parser says it.
pub(crate) fn read(text: &[u8], max_depth: usize) -> Result<Value, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Strict { depth_left: max_depth }.deserialize(&mut parser)?;
    parser.end()?;
    Ok(value)
}

/// The same value with the members of every object sorted by name.
pub(super) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> =
                members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left =
            self.depth_left.checked_sub(1).ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match object.entry(name) {
                serde_json::map::Entry::Vacant(place) => {
                    place.insert(members.next_value_seed(inner)?);
                }
                serde_json::map::Entry::Occupied(place) => {
                    return Err(A::Error::custom(format!(
                        "the member `{}` occurs twice",
                        place.key()
                    )));
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_occurs_twice_is_refused_with_its_place() {
        let error = read(b"{\n \"a\": 1,\n \"a\": 2}", 8).unwrap_err();
        assert!(error.to_string().contains("`a` occurs twice"), "{error}");
        assert_eq!(error.line(), 3);
    }

    #[test]
    fn depth_is_bounded_and_text_after_the_value_refused() {
        assert!(read(b"[[1]]", 2).is_ok());
        assert!(read(b"[[[1]]]", 2).unwrap_err().to_string().contains("too deeply"));
        assert!(read(b"1 2", 2).is_err());
    }

    #[test]
    fn sorting_reaches_every_object() {
        let value = read(br#"{"b":[{"d":1,"c":2}],"a":0}"#, 8).unwrap();
        assert_eq!(sorted(value).to_string(), r#"{"a":0,"b":[{"c":2,"d":1}]}"#);
    }
}
