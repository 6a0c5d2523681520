//! Avro values, decoded without being made.
//!
//! A value conforms if its bytes are the binary encoding of the schema, whole and with nothing after
//! it: lengths within the bytes, numbers within their type, text in UTF-8, branches and symbols that
//! exist, blocks as long as they say. `float` and `double` may be anything, NaN included. A
//! `logicalType` adds nothing, as the specification has it for readers that do not know it.
//!
//! Nothing is allocated unless something is wrong.

use super::compatibility::{
    AvroPrimitive as Primitive, AvroRecordField as RecordField, AvroShape as Shape, AvroTypes,
};
use super::fault::{Fault, Step};
use super::{AvroInput, Rejection};
use crate::rule::{Data, MAX_PARTS};

/// Checks values against one schema.
pub(crate) struct AvroCheck {
    types: AvroTypes,
}

/// What is found where bytes are missing.
const CUT: &str = "the end of the bytes";

impl AvroCheck {
    pub(super) fn new(types: AvroTypes) -> Self {
        Self { types }
    }

    /// Whether the bytes are one value of the schema.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), Rejection> {
        let mut input = AvroInput::of(bytes);
        let decoded = self.value(self.types.root, &mut input, 0);
        let whole = decoded.and_then(|()| match input.rest.len() {
            0 => Ok(()),
            more => Err(Fault::new("the end of the value", format!("{more} bytes more"))),
        });
        whole.map_err(|fault| fault.into_rejection())
    }

    /// A value that conforms, as rules see it; `None`: it has too many parts.
    pub(super) fn data(&self, bytes: &[u8]) -> Option<Data> {
        self.data_at(self.types.root, &mut AvroInput::of(bytes), &mut MAX_PARTS.clone())
    }

    /// The depth was bounded when the value was checked.
    fn data_at(&self, at: usize, input: &mut AvroInput<'_>, left: &mut usize) -> Option<Data> {
        *left = left.checked_sub(1)?;
        let text = |bytes: &[u8]| Some(std::str::from_utf8(bytes).ok()?.to_owned());
        Some(match &self.types.all[at].shape {
            Shape::Primitive(primitive) => match primitive {
                Primitive::Null => Data::Null,
                Primitive::Boolean => Data::Bool(input.take(1)? == [1]),
                Primitive::Int | Primitive::Long => Data::Int(input.long()?),
                Primitive::Float => {
                    Data::Double(f32::from_le_bytes(input.take(4)?.try_into().ok()?).into())
                }
                Primitive::Double => {
                    Data::Double(f64::from_le_bytes(input.take(8)?.try_into().ok()?))
                }
                Primitive::Bytes => Data::Bytes(input.counted()?.to_vec()),
                Primitive::String => Data::Text(text(input.counted()?)?),
            },
            Shape::Fixed { size, .. } => {
                Data::Bytes(input.take(usize::try_from(*size).ok()?)?.to_vec())
            }
            Shape::Enum { symbols, .. } => {
                Data::Text(symbols.get(usize::try_from(input.long()?).ok()?)?.clone())
            }
            Shape::Union(branches) => {
                let branch = *branches.get(usize::try_from(input.long()?).ok()?)?;
                self.data_at(branch, input, left)?
            }
            Shape::Record { fields, .. } => {
                let field = |field: &RecordField| {
                    Some((field.name.clone(), self.data_at(field.at, input, left)?))
                };
                Data::Map(fields.iter().map(field).collect::<Option<_>>()?)
            }
            Shape::Array(items) => {
                let mut list = Vec::new();
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        list.push(self.data_at(*items, input, left)?);
                    }
                }
                Data::List(list)
            }
            Shape::Map(values) => {
                let mut members = Vec::new();
                while let Some(count) = input.block()? {
                    for _ in 0..count {
                        let key = text(input.counted()?)?;
                        members.push((key, self.data_at(*values, input, left)?));
                    }
                }
                Data::Map(members)
            }
        })
    }

    fn value(&self, at: usize, input: &mut AvroInput<'_>, depth: usize) -> Step {
        if input.visit(depth).is_none() {
            let what = "a value nested too deeply, or with too many items for its length";
            return Err(self.fault(at, what));
        }
        match &self.types.all[at].shape {
            Shape::Primitive(primitive) => self.primitive(*primitive, at, input),
            Shape::Fixed { size, .. } => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                input.take(size).map(drop).ok_or_else(|| self.fault(at, CUT))
            }
            Shape::Enum { symbols, .. } => {
                let symbol = input.long().ok_or_else(|| self.fault(at, CUT))?;
                match usize::try_from(symbol).is_ok_and(|symbol| symbol < symbols.len()) {
                    true => Ok(()),
                    false => Err(self.fault(at, &format!("symbol number {symbol}"))),
                }
            }
            Shape::Union(branches) => {
                let number = input.long().ok_or_else(|| self.fault(at, CUT))?;
                let branch = usize::try_from(number).ok().and_then(|number| branches.get(number));
                match branch {
                    Some(branch) => self.value(*branch, input, depth + 1),
                    None => Err(self.fault(at, &format!("branch number {number}"))),
                }
            }
            Shape::Record { fields, .. } => {
                for field in fields {
                    self.value(field.at, input, depth + 1)
                        .map_err(|fault| fault.inside(&field.name))?;
                }
                Ok(())
            }
            Shape::Array(items) => self.blocks(at, input, |input, index| {
                self.value(*items, input, depth + 1).map_err(|fault| fault.inside(index))
            }),
            Shape::Map(values) => self.blocks(at, input, |input, index| {
                let key = input.counted().ok_or_else(|| self.fault(at, CUT))?;
                let Ok(key) = std::str::from_utf8(key) else {
                    return Err(self.fault(at, &format!("a key {index} that is not UTF-8")));
                };
                self.value(*values, input, depth + 1).map_err(|fault| fault.inside(key))
            }),
        }
    }

    fn primitive(&self, primitive: Primitive, at: usize, input: &mut AvroInput<'_>) -> Step {
        let cut = || self.fault(at, CUT);
        match primitive {
            Primitive::Null => Ok(()),
            Primitive::Boolean => match input.take(1).ok_or_else(cut)? {
                [0 | 1] => Ok(()),
                other => Err(self.fault(at, &format!("the byte {}", other[0]))),
            },
            Primitive::Int => {
                let number = input.long().ok_or_else(cut)?;
                match i32::try_from(number) {
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.fault(at, &format!("the number {number}"))),
                }
            }
            Primitive::Long => input.long().map(drop).ok_or_else(cut),
            Primitive::Float => input.take(4).map(drop).ok_or_else(cut),
            Primitive::Double => input.take(8).map(drop).ok_or_else(cut),
            Primitive::Bytes => input.counted().map(drop).ok_or_else(cut),
            Primitive::String => match std::str::from_utf8(input.counted().ok_or_else(cut)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(self.fault(at, "bytes that are not UTF-8")),
            },
        }
    }

    /// The blocks of an array or a map. One that says how long it is must be so long: readers pass
    /// over it by that.
    fn blocks<'a>(
        &self,
        at: usize,
        input: &mut AvroInput<'a>,
        mut item: impl FnMut(&mut AvroInput<'a>, u64) -> Step,
    ) -> Step {
        let mut index = 0;
        loop {
            let cut = || self.fault(at, CUT);
            let count = input.long().ok_or_else(cut)?;
            let ends = match count {
                0 => return Ok(()),
                1.. => None,
                _ => {
                    input.visit(0).ok_or_else(cut)?;
                    let size = input.long().and_then(|size| usize::try_from(size).ok());
                    let left = size.and_then(|size| input.rest.len().checked_sub(size));
                    Some(left.ok_or_else(cut)?)
                }
            };
            for _ in 0..count.unsigned_abs() {
                item(input, index)?;
                index += 1;
            }
            if ends.is_some_and(|left| left != input.rest.len()) {
                return Err(self.fault(at, "a block that is not as long as it says"));
            }
        }
    }

    #[cold]
    fn fault(&self, at: usize, found: &str) -> Box<Fault> {
        Fault::new(self.types.word(at), found)
    }
}
