//! Avro: whether a reader with one schema resolves what was written with another, by the rules of
//! *Schema Resolution* in the specification.
//!
//! | Written | Read |
//! |---|---|
//! | a union | every branch must be readable |
//! | anything else, the reader has a union | some branch must read it |
//! | `int` | `int long float double` |
//! | `long` | `long float double` |
//! | `float` | `float double` |
//! | `string`, `bytes` | `string bytes` |
//! | a record, an enum, a fixed | one of the same unqualified name, or with the full name as an alias |
//! | an enum | with every symbol, or with a default |
//! | a record | every field of the reader is written (its name or an alias), or has a default |
//!
//! Decimals need the same precision and scale. Another change of a logical type is read without an
//! error and taken for something else: a warning.
//!
//! The comparison works on resolved types, so it does not matter where a type is defined. A pair that
//! is being compared already is taken to be readable; if a pair turns out not to be, what was
//! concluded from it is forgotten.

mod resolve;
mod types;

use std::collections::HashMap;

pub(crate) use resolve::Resolver;
pub(in crate::schema) use types::{Primitive, RecordField, Shape, Types};

use super::budget::{Budget, TooComplex};
use super::difference::{Comparison, Difference, Weight};

/// Whether `reader` reads everything that `writer` writes.
pub(super) fn compare(reader: &Types, writer: &Types) -> Result<Comparison, TooComplex> {
    let mut check = Check::new(reader, writer);
    check.tell(reader.root, writer.root, "")?;
    Ok(check.found)
}

struct Check<'a> {
    reader: &'a Types,
    writer: &'a Types,
    budget: Budget,
    /// Pairs that were compared, or are being compared (then `true`).
    known: HashMap<(usize, usize), bool>,
    /// Pairs known to be readable, in the order in which that was concluded.
    trail: Vec<(usize, usize)>,
    /// Pairs whose differences are told already, or are being told.
    told: HashMap<(usize, usize), ()>,
    found: Comparison,
}

impl<'a> Check<'a> {
    fn new(reader: &'a Types, writer: &'a Types) -> Self {
        Self {
            reader,
            writer,
            budget: Budget::default(),
            known: HashMap::new(),
            trail: Vec::new(),
            told: HashMap::new(),
            found: Comparison::default(),
        }
    }

    /// Whether one type reads the other; nothing is told.
    fn reads(&mut self, r: usize, w: usize) -> Result<bool, TooComplex> {
        if let Some(known) = self.known.get(&(r, w)) {
            return Ok(*known);
        }
        self.budget.enter()?;
        let mark = self.trail.len();
        self.known.insert((r, w), true);
        self.trail.push((r, w));
        let reads = self.reads_parts(r, w)?;
        if !reads {
            for pair in self.trail.drain(mark..) {
                self.known.remove(&pair);
            }
            self.known.insert((r, w), false);
        }
        self.budget.leave();
        Ok(reads)
    }

    fn reads_parts(&mut self, r: usize, w: usize) -> Result<bool, TooComplex> {
        let (reader, writer) = (self.reader, self.writer);
        let (rt, wt) = (&reader.all[r], &writer.all[w]);
        Ok(match (&rt.shape, &wt.shape) {
            (_, Shape::Union(branches)) => {
                for branch in branches {
                    if !self.reads(r, *branch)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Shape::Union(branches), _) => {
                for branch in branches {
                    if self.reads(*branch, w)? {
                        return Ok(true);
                    }
                }
                false
            }
            (Shape::Primitive(r), Shape::Primitive(w)) => {
                promotes(*r, *w) && !decimals_differ(rt, wt)
            }
            (Shape::Array(r), Shape::Array(w)) | (Shape::Map(r), Shape::Map(w)) => {
                self.reads(*r, *w)?
            }
            (Shape::Fixed { name: r, size }, Shape::Fixed { name: w, size: written }) => {
                r.reads(w) && size == written && !decimals_differ(rt, wt)
            }
            (
                Shape::Enum { name: r, symbols, default },
                Shape::Enum { name: w, symbols: written, .. },
            ) => {
                self.budget.spend(written.len())?;
                r.reads(w) && (default.is_some() || missing(symbols, written).is_empty())
            }
            (Shape::Record { name: r, fields }, Shape::Record { name: w, fields: written }) => {
                if !r.reads(w) {
                    return Ok(false);
                }
                let by_name = by_name(written);
                for field in fields {
                    let reads = match find(field, &by_name) {
                        Some(from) => self.reads(field.at, from)?,
                        None => field.has_default,
                    };
                    if !reads {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }

    /// Tells every difference of a pair, the readable ones only for their warnings.
    fn tell(&mut self, r: usize, w: usize, path: &str) -> Result<(), TooComplex> {
        if self.told.insert((r, w), ()).is_some() {
            return Ok(());
        }
        self.budget.enter()?;
        self.tell_parts(r, w, path)?;
        self.budget.leave();
        Ok(())
    }

    fn tell_parts(&mut self, r: usize, w: usize, path: &str) -> Result<(), TooComplex> {
        let (reader, writer) = (self.reader, self.writer);
        let (rt, wt) = (&reader.all[r], &writer.all[w]);
        match (&rt.shape, &wt.shape) {
            (_, Shape::Union(branches)) => {
                for branch in branches {
                    self.tell(r, *branch, path)?;
                }
            }
            (Shape::Union(branches), _) => return self.tell_branch(branches, r, w, path),
            (Shape::Primitive(a), Shape::Primitive(b)) if promotes(*a, *b) => {
                self.tell_logical(r, w, path);
            }
            (Shape::Array(r), Shape::Array(w)) => self.tell(*r, *w, &format!("{path}[]"))?,
            (Shape::Map(r), Shape::Map(w)) => self.tell(*r, *w, &format!("{path}{{}}"))?,
            (Shape::Fixed { name: a, size }, Shape::Fixed { name: b, size: written }) => {
                if a.reads(b) && size != written {
                    self.found.push(Difference::breaking(
                        path,
                        "AVRO_FIXED_SIZE_MISMATCH",
                        reader.word(r),
                        writer.word(w),
                        "a fixed keeps its size; use `bytes`, or add a field with a new fixed type",
                    ));
                } else if !self.tell_name(a.reads(b), r, w, path) {
                    self.tell_logical(r, w, path);
                }
            }
            (
                Shape::Enum { name: a, symbols, default },
                Shape::Enum { name: b, symbols: written, .. },
            ) => {
                self.budget.spend(written.len())?;
                if self.tell_name(a.reads(b), r, w, path) {
                    return Ok(());
                }
                let missing = missing(symbols, written);
                if default.is_none() && !missing.is_empty() {
                    self.found.push(Difference::breaking(
                        path,
                        "AVRO_MISSING_ENUM_SYMBOLS",
                        format!("enum {} without {}", a.full, missing.join(", ")),
                        format!("enum {} with {}", b.full, written.join(", ")),
                        "keep the symbols, or give the enum that reads a `default` symbol for those \
                         that it does not know",
                    ));
                }
            }
            (Shape::Record { name: a, fields }, Shape::Record { name: b, fields: written }) => {
                if self.tell_name(a.reads(b), r, w, path) {
                    return Ok(());
                }
                let by_name = by_name(written);
                for field in fields {
                    let inner = match path {
                        "" => field.name.clone(),
                        _ => format!("{path}.{}", field.name),
                    };
                    match find(field, &by_name) {
                        Some(from) => self.tell(field.at, from, &inner)?,
                        None if field.has_default => {}
                        None => self.found.push(Difference::breaking(
                            &inner,
                            "AVRO_READER_FIELD_MISSING_DEFAULT",
                            format!("{} without a default", reader.word(field.at)),
                            format!("no such field in record {}", b.full),
                            format!(
                                "give `{0}` a `default`; if another field was renamed, name it in the \
                                 `aliases` of `{0}`",
                                field.name
                            ),
                        )),
                    }
                }
            }
            _ => self.found.push(Difference::breaking(
                path,
                "AVRO_TYPE_MISMATCH",
                reader.word(r),
                writer.word(w),
                hint_of_types(&rt.shape, &wt.shape),
            )),
        }
        Ok(())
    }

    /// A reader's union against one type: what is wrong with the branch that was meant, if there is one.
    fn tell_branch(
        &mut self,
        branches: &[usize],
        r: usize,
        w: usize,
        path: &str,
    ) -> Result<(), TooComplex> {
        let mut meant = None;
        for branch in branches {
            if self.reads(*branch, w)? {
                return self.tell(*branch, w, path);
            }
            let alike = std::mem::discriminant(&self.reader.all[*branch].shape)
                == std::mem::discriminant(&self.writer.all[w].shape);
            let is_primitive = matches!(self.writer.all[w].shape, Shape::Primitive(_));
            let named = name_of(&self.reader.all[*branch].shape)
                .zip(name_of(&self.writer.all[w].shape))
                .is_none_or(|(a, b)| a.reads(b));
            if alike && named && !is_primitive && meant.is_none() {
                meant = Some(*branch);
            }
        }
        if let Some(branch) = meant {
            return self.tell(branch, w, path);
        }
        self.found.push(Difference::breaking(
            path,
            "AVRO_MISSING_UNION_BRANCH",
            self.reader.word(r),
            self.writer.word(w),
            format!("add {} to the union that reads", self.writer.word(w)),
        ));
        Ok(())
    }

    /// Whether the names do not go together, which is told.
    fn tell_name(&mut self, reads: bool, r: usize, w: usize, path: &str) -> bool {
        if !reads {
            let old = name_of(&self.writer.all[w].shape).map_or("", |name| &name.full);
            let difference = Difference::breaking(
                path,
                "AVRO_NAME_MISMATCH",
                self.reader.word(r),
                self.writer.word(w),
                format!("keep the name, or list `{old}` in the `aliases` of the type that reads"),
            );
            self.found.push(difference);
        }
        !reads
    }

    /// Logical types of types that are the same in bytes.
    fn tell_logical(&mut self, r: usize, w: usize, path: &str) {
        let (rt, wt) = (&self.reader.all[r], &self.writer.all[w]);
        if rt.logical == wt.logical {
            return;
        }
        let (reader, writer) = (self.reader.word(r), self.writer.word(w));
        let difference = if decimals_differ(rt, wt) {
            Difference::breaking(
                path,
                "AVRO_DECIMAL_MISMATCH",
                reader,
                writer,
                "a decimal keeps its precision and its scale; add a field with the new ones",
            )
        } else {
            Difference::breaking(
                path,
                "AVRO_LOGICAL_TYPE_CHANGED",
                reader,
                writer,
                "the bytes are read without an error and taken for something else; add a field \
                 instead if the meaning changes",
            )
            .weighing(Weight::Warning)
        };
        self.found.push(difference);
    }
}

fn name_of(shape: &Shape) -> Option<&types::Name> {
    match shape {
        Shape::Enum { name, .. } | Shape::Fixed { name, .. } | Shape::Record { name, .. } => {
            Some(name)
        }
        _ => None,
    }
}

fn promotes(reader: Primitive, writer: Primitive) -> bool {
    use Primitive::{Bytes, Double, Float, Int, Long, String};
    reader == writer
        || matches!(
            (writer, reader),
            (Int, Long | Float | Double)
                | (Long, Float | Double)
                | (Float, Double)
                | (String, Bytes)
                | (Bytes, String)
        )
}

fn decimals_differ(reader: &types::Type, writer: &types::Type) -> bool {
    match (&reader.logical, &writer.logical) {
        (Some(r), Some(w)) => r.name == "decimal" && w.name == "decimal" && r != w,
        _ => false,
    }
}

fn missing<'a>(known: &[String], written: &'a [String]) -> Vec<&'a str> {
    let known: std::collections::HashSet<&str> = known.iter().map(String::as_str).collect();
    written.iter().map(String::as_str).filter(|symbol| !known.contains(symbol)).collect()
}

fn by_name(fields: &[types::RecordField]) -> HashMap<&str, usize> {
    fields.iter().map(|field| (field.name.as_str(), field.at)).collect()
}

/// The written field that a reader's field is read from.
fn find(field: &types::RecordField, written: &HashMap<&str, usize>) -> Option<usize> {
    let names = std::iter::once(&field.name).chain(&field.aliases);
    names.into_iter().find_map(|name| written.get(name.as_str()).copied())
}

fn hint_of_types(reader: &Shape, writer: &Shape) -> String {
    use Primitive::{Double, Float, Int, Long};
    match (reader, writer) {
        (
            Shape::Primitive(r @ (Int | Long | Float)),
            Shape::Primitive(w @ (Long | Float | Double)),
        ) => {
            format!("`{}` cannot become `{}` again: only widening is read", w.word(), r.word())
        }
        _ => "keep the type, or add a field with the new type and a default".to_owned(),
    }
}
