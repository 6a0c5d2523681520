//! One value, written with one schema and read with another, without making it.

use std::cell::RefCell;
use std::collections::HashMap;

use super::types::{Shape, Types};
use super::{Check, by_name, find, name_of, promotes};
use crate::schema::{AvroInput, Broken, Rejection};

/// Reads values of the writer's schema with the reader's.
pub(crate) struct Resolver {
    reader: Types,
    writer: Types,
    /// The branch of a reader's union that reads a type.
    branches: RefCell<HashMap<(usize, usize), Option<usize>>>,
}

impl Resolver {
    pub(crate) fn new(reader: Types, writer: Types) -> Self {
        Self { reader, writer, branches: RefCell::default() }
    }

    /// Whether the bytes are one value of the writer's schema that the reader can read.
    ///
    /// # Errors
    /// With the first place that it cannot.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<(), Rejection> {
        let mut input = AvroInput::of(bytes);
        self.value(Some(self.reader.root), self.writer.root, &mut input, 0, "")?;
        match input.rest.len() {
            0 => Ok(()),
            more => Err(refused("", "the end of the value", format!("{more} bytes more"))),
        }
    }

    /// `r`: `None` to pass over what the reader does not want.
    fn value(
        &self,
        r: Option<usize>,
        w: usize,
        input: &mut AvroInput<'_>,
        depth: usize,
        path: &str,
    ) -> Result<(), Rejection> {
        let expected = || r.map_or_else(String::new, |r| self.reader.word(r));
        let broken = |what: &str| refused(path, expected(), what.to_owned());
        input
            .visit(depth)
            .ok_or_else(|| broken("a value nested too deeply, or with too many items"))?;
        let end = "the end of the bytes, or a length that is none";
        if let Shape::Union(branches) = &self.writer.all[w].shape {
            let at = input.long().and_then(|at| usize::try_from(at).ok());
            let branch = at.and_then(|at| branches.get(at).copied());
            let branch = branch.ok_or_else(|| broken("a branch that the union does not have"))?;
            return self.value(r, branch, input, depth + 1, path);
        }
        let r = match r {
            Some(r) if matches!(self.reader.all[r].shape, Shape::Union(_)) => Some(
                self.branch(r, w)
                    .ok_or_else(|| refused(path, self.reader.word(r), self.writer.word(w)))?,
            ),
            r => r,
        };
        if let Some(r) = r {
            self.fits(r, w, path)?;
        }
        match &self.writer.all[w].shape {
            Shape::Primitive(primitive) => {
                use super::Primitive as P;
                let read = match primitive {
                    P::Null => Some(()),
                    P::Boolean => input.take(1).filter(|byte| byte[0] < 2).map(drop),
                    P::Int => input.long().filter(|long| i32::try_from(*long).is_ok()).map(drop),
                    P::Long => input.long().map(drop),
                    P::Float => input.take(4).map(drop),
                    P::Double => input.take(8).map(drop),
                    P::Bytes | P::String => {
                        let bytes = input.counted().ok_or_else(|| broken(end))?;
                        let is_text = *primitive == P::String
                            || r.is_some_and(|r| {
                                matches!(self.reader.all[r].shape, Shape::Primitive(P::String))
                            });
                        if is_text && std::str::from_utf8(bytes).is_err() {
                            return Err(broken("bytes that are not UTF-8"));
                        }
                        Some(())
                    }
                };
                read.ok_or_else(|| broken(end))
            }
            Shape::Fixed { size, .. } => {
                let size = usize::try_from(*size).unwrap_or(usize::MAX);
                input.take(size).map(drop).ok_or_else(|| broken(end))
            }
            Shape::Enum { symbols, .. } => {
                let at = input.long().and_then(|at| usize::try_from(at).ok());
                let symbol = at.and_then(|at| symbols.get(at));
                let symbol =
                    symbol.ok_or_else(|| broken("a symbol that the enum does not have"))?;
                if let Some(Shape::Enum { symbols: known, default, .. }) =
                    r.map(|r| &self.reader.all[r].shape)
                    && default.is_none()
                    && !known.contains(symbol)
                {
                    return Err(refused(path, known.join(", "), symbol.clone()));
                }
                Ok(())
            }
            Shape::Array(items) | Shape::Map(items) => {
                let (items, is_map) = (*items, matches!(self.writer.all[w].shape, Shape::Map(_)));
                let inner = match r.map(|r| &self.reader.all[r].shape) {
                    Some(Shape::Array(inner) | Shape::Map(inner)) => Some(*inner),
                    _ => None,
                };
                let at = format!("{path}{}", if is_map { "{}" } else { "[]" });
                while let Some(count) = input.block().ok_or_else(|| broken(end))? {
                    for _ in 0..count {
                        if is_map {
                            let key = input.counted().ok_or_else(|| broken(end))?;
                            std::str::from_utf8(key)
                                .map_err(|_| broken("a key that is not UTF-8"))?;
                        }
                        self.value(inner, items, input, depth + 1, &at)?;
                    }
                }
                Ok(())
            }
            Shape::Record { fields, .. } => {
                let wanted: Vec<Option<usize>> = match r.map(|r| &self.reader.all[r].shape) {
                    Some(Shape::Record { fields: known, .. }) => {
                        let mut wanted = vec![None; fields.len()];
                        for field in known {
                            let names: Vec<&String> =
                                std::iter::once(&field.name).chain(&field.aliases).collect();
                            let from = names.iter().find_map(|name| {
                                fields.iter().position(|written| written.name == **name)
                            });
                            if let Some(from) = from {
                                wanted[from] = Some(field.at);
                            }
                        }
                        wanted
                    }
                    _ => vec![None; fields.len()],
                };
                for (field, wanted) in fields.iter().zip(wanted) {
                    let inner = match path {
                        "" => field.name.clone(),
                        _ => format!("{path}.{}", field.name),
                    };
                    self.value(wanted, field.at, input, depth + 1, &inner)?;
                }
                Ok(())
            }
            Shape::Union(_) => Err(broken("a union in a union")),
        }
    }

    /// Whether the types go together at all, whatever the value.
    fn fits(&self, r: usize, w: usize, path: &str) -> Result<(), Rejection> {
        let (rs, ws) = (&self.reader.all[r].shape, &self.writer.all[w].shape);
        let named = || match (name_of(rs), name_of(ws)) {
            (Some(r), Some(w)) => r.reads(w),
            _ => true,
        };
        let fits = match (rs, ws) {
            (Shape::Primitive(r), Shape::Primitive(w)) => promotes(*r, *w),
            (Shape::Fixed { size, .. }, Shape::Fixed { size: written, .. }) => {
                size == written && named()
            }
            (Shape::Record { fields, .. }, Shape::Record { fields: written, .. }) => {
                let by_name = by_name(written);
                let missing = fields.iter().find(|f| !f.has_default && find(f, &by_name).is_none());
                if let Some(field) = missing {
                    let inner = match path {
                        "" => field.name.clone(),
                        _ => format!("{path}.{}", field.name),
                    };
                    let expected = format!("{}, which has no default", self.reader.word(field.at));
                    return Err(refused(&inner, expected, "no such field".to_owned()));
                }
                named()
            }
            _ => std::mem::discriminant(rs) == std::mem::discriminant(ws) && named(),
        };
        match fits {
            true => Ok(()),
            false => Err(refused(path, self.reader.word(r), self.writer.word(w))),
        }
    }

    /// The branch of a reader's union that reads a type; if none reads all of it, one of its kind.
    fn branch(&self, union: usize, w: usize) -> Option<usize> {
        if let Some(known) = self.branches.borrow().get(&(union, w)) {
            return *known;
        }
        let Shape::Union(branches) = &self.reader.all[union].shape else { return Some(union) };
        let mut check = Check::new(&self.reader, &self.writer);
        let reads = branches.iter().find(|branch| check.reads(**branch, w).unwrap_or(false));
        let alike = || branches.iter().find(|branch| self.fits(**branch, w, "").is_ok());
        let found = reads.or_else(alike).copied();
        self.branches.borrow_mut().insert((union, w), found);
        found
    }
}

fn refused(path: &str, expected: impl Into<String>, found: String) -> Rejection {
    Rejection { path: path.to_owned(), expected: expected.into(), found, broken: Broken::Schema }
}
