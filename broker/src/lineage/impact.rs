//! Who would notice a change of a field.
//!
//! ```text
//!  product.field ─► reader ─► product it appends to ─► its readers ─► …
//!        which versions      same values? same name? same tag? or only seen to go through?
//! ```
//!
//! What the broker sees is who reads which product in which schema version. That a field goes from
//! one product into another it knows of copies alone, whose values are the same; of others it says
//! what speaks for it, and otherwise that it may be. An application that has only read versions
//! without the field passes nothing of it on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use meshlog_proto::v1::{self, Impact, ImpactEvidence};

use super::copy::Copy;
use super::graph::{MAX_DEPTH, MAX_NODES, depth, invalid};
use super::traffic::Flow;
use super::{Direction, Who, timestamp};
use crate::access::Rpc;
use crate::caller::Caller;
use crate::catalogue::{Catalogue, ProductHandle};
use crate::error::Result;
use crate::schema::Schema;

impl Catalogue {
    /// Who reads a field, and what is made of it, of those products that the caller may see.
    ///
    /// # Errors
    /// `PRODUCT_NOT_FOUND`, `INVALID_ARGUMENT` for a field that no version of the product has.
    pub fn get_impact(
        &self,
        caller: &Caller,
        request: v1::GetImpactRequest,
    ) -> Result<v1::GetImpactResponse> {
        let depth = depth(request.depth, MAX_DEPTH)?;
        let product = self.resolve_for(caller, Rpc::GetImpact, &request.product, "")?;
        let versions = versions_with(&product, &request.field)?;
        let fields: BTreeSet<String> = match request.field.as_str() {
            "" => BTreeSet::new(),
            field => [field.to_owned()].into(),
        };
        let begin = Reached {
            product: Arc::clone(&product),
            distance: 0,
            via: String::new(),
            applications: BTreeSet::new(),
            evidence: Vec::new(),
            fields,
        };
        let whole = request.field.is_empty();
        let mut search = Search { catalogue: self, caller, whole, found: Vec::new() };
        let truncated = search.run(begin, depth)?;
        Ok(v1::GetImpactResponse {
            product: product.name.to_string(),
            field: request.field,
            versions,
            products: search.found,
            truncated,
        })
    }
}

/// A product that the field reaches, or may reach.
struct Reached {
    product: Arc<ProductHandle>,
    distance: u32,
    via: String,
    applications: BTreeSet<Who>,
    evidence: Vec<ImpactEvidence>,
    /// The fields it goes on in; none: not known.
    fields: BTreeSet<String>,
}

struct Search<'a> {
    catalogue: &'a Catalogue,
    caller: &'a Caller,
    /// No field was named: all of the product counts.
    whole: bool,
    found: Vec<v1::ImpactedProduct>,
}

impl Search<'_> {
    /// Finds everything within the depth; says whether there was more.
    fn run(&mut self, begin: Reached, depth: u32) -> Result<bool> {
        let mut seen: BTreeSet<Arc<str>> = [Arc::clone(&begin.product.id)].into();
        let mut waiting = VecDeque::from([begin]);
        let mut truncated = false;
        while let Some(reached) = waiting.pop_front() {
            let flows = reached.product.traffic.flows(Direction::Read);
            let readers: Vec<(Flow, Impact)> = flows
                .into_iter()
                .map(|flow| {
                    let impact = self.impact(&reached, &flow);
                    (flow, impact)
                })
                .collect();
            let mut next = self.next(&reached, &readers)?;
            self.found.push(self.message(&reached, &readers));
            next.retain(|one| !seen.contains(&one.product.id));
            if reached.distance == depth || seen.len() + next.len() > MAX_NODES {
                truncated |= !next.is_empty();
                continue;
            }
            seen.extend(next.iter().map(|one| Arc::clone(&one.product.id)));
            waiting.extend(next);
        }
        Ok(truncated)
    }

    /// Whether a reader of a product notices.
    fn impact(&self, reached: &Reached, flow: &Flow) -> Impact {
        let is_sure = matches!(reached.evidence[..], [] | [ImpactEvidence::SameValues, ..]);
        if self.whole && is_sure {
            return Impact::Reached;
        }
        if reached.fields.is_empty() || !is_sure {
            return Impact::Possible;
        }
        let mut with_field = BTreeSet::new();
        for (version, schema) in reached.product.value_schemas() {
            match paths_of(schema) {
                Some(paths) if !reached.fields.iter().any(|field| has(&paths, field)) => {}
                // Values without a field table may have it.
                None => return Impact::Possible,
                Some(_) => drop(with_field.insert(version)),
            }
        }
        let read = |which: &dyn Fn(u32) -> bool| flow.versions.iter().any(|(one, _)| which(*one));
        if read(&|version| with_field.contains(&version)) {
            return Impact::Reached;
        }
        // 0 stands for versions that are no longer told apart.
        if read(&|version| version == 0) { Impact::Possible } else { Impact::NotReached }
    }

    /// The products that its readers make of it.
    fn next(&self, reached: &Reached, readers: &[(Flow, Impact)]) -> Result<Vec<Reached>> {
        let from = &reached.product;
        let mut applications: BTreeMap<Arc<str>, (Arc<ProductHandle>, BTreeSet<Who>)> =
            BTreeMap::new();
        for (flow, impact) in readers {
            if *impact == Impact::NotReached {
                continue;
            }
            for id in self.catalogue.index().touched(&flow.who).appends {
                let Some(product) = self.catalogue.find_seen(self.caller, &id) else { continue };
                let is_copy = |copy: &Copy| copy.who == flow.who && copy.source == from.id;
                let is_copied = product.traffic.copies.lock().iter().any(is_copy);
                if !is_copied && flow.who.is_shared() {
                    continue;
                }
                let mut appends = product.traffic.flows(Direction::Append).into_iter();
                if appends.any(|append| append.who == flow.who) {
                    let entry = applications.entry(id).or_insert((product, BTreeSet::new()));
                    entry.1.insert(flow.who.clone());
                }
            }
        }
        let mut declared = BTreeSet::new();
        let made = self.catalogue.made_of(from)?.into_iter();
        for product in made.filter(|product| self.catalogue.sees(self.caller, product)) {
            declared.insert(Arc::clone(&product.id));
            let id = Arc::clone(&product.id);
            applications.entry(id).or_insert((product, BTreeSet::new()));
        }
        let mut next: Vec<Reached> = applications
            .into_iter()
            .map(|(id, (product, applications))| {
                let (evidence, fields) = self.evidence(
                    reached,
                    &product,
                    !applications.is_empty(),
                    declared.contains(&id),
                );
                Reached {
                    product,
                    distance: reached.distance + 1,
                    via: from.name.to_string(),
                    applications,
                    evidence,
                    fields,
                }
            })
            .collect();
        next.sort_by(|a, b| a.product.name.cmp(&b.product.name));
        Ok(next)
    }

    /// What speaks for it that the field goes on, and in which fields.
    fn evidence(
        &self,
        reached: &Reached,
        product: &ProductHandle,
        observed: bool,
        declared: bool,
    ) -> (Vec<ImpactEvidence>, BTreeSet<String>) {
        let mut evidence = Vec::new();
        let mut fields = BTreeSet::new();
        let copies = product.traffic.copies.lock().clone();
        let copy = copies.iter().find(|copy| copy.source == reached.product.id);
        if let Some(copy) = copy {
            let copied = copy.fields.iter().filter(|(source, _)| {
                reached.fields.iter().any(|field| covers(field, source) || covers(source, field))
            });
            fields.extend(copied.map(|(_, copy)| copy.clone()));
            if self.whole || !fields.is_empty() || copy.fields.is_empty() {
                evidence.push(ImpactEvidence::SameValues);
            }
        } else if !reached.fields.is_empty() {
            let paths = product.value_schema(0).and_then(|schema| paths_of(&schema));
            let paths = paths.unwrap_or_default();
            let same = reached.fields.iter().filter(|field| has(&paths, field));
            let same: Vec<String> = same.cloned().collect();
            if !same.is_empty() {
                evidence.push(ImpactEvidence::SameName);
                fields.extend(same);
            }
            let tagged = same_tags(&reached.product, &reached.fields, product);
            if !tagged.is_empty() {
                evidence.push(ImpactEvidence::SameTag);
                fields.extend(tagged);
            }
        }
        if observed {
            evidence.push(ImpactEvidence::Observed);
        }
        if declared {
            evidence.push(ImpactEvidence::Declared);
        }
        (evidence, fields)
    }

    fn message(&self, reached: &Reached, readers: &[(Flow, Impact)]) -> v1::ImpactedProduct {
        let owner = reached.product.owner();
        let readers = readers.iter().map(|(flow, impact)| v1::ImpactedReader {
            application: Some(flow.who.message()),
            impact: (*impact).into(),
            versions: flow.versions.iter().map(|(version, _)| *version).collect(),
            last_time: timestamp(flow.total.last),
            records: flow.total.records,
        });
        v1::ImpactedProduct {
            name: reached.product.name.to_string(),
            owner: owner.to_owned(),
            contacts: self.catalogue.contacts_of(owner),
            distance: reached.distance,
            via: reached.via.clone(),
            applications: reached.applications.iter().map(Who::message).collect(),
            evidence: reached.evidence.iter().map(|evidence| (*evidence).into()).collect(),
            fields: reached.fields.iter().cloned().collect(),
            readers: readers.collect(),
        }
    }
}

/// The versions of a product that have a field; all of them for none.
fn versions_with(product: &ProductHandle, field: &str) -> Result<Vec<u32>> {
    let (mut versions, mut known, mut is_free) = (Vec::new(), BTreeSet::new(), false);
    for (version, schema) in product.value_schemas() {
        match paths_of(schema) {
            _ if field.is_empty() => versions.push(version),
            Some(paths) if has(&paths, field) => versions.push(version),
            Some(paths) => known.extend(paths),
            None => is_free = true,
        }
    }
    if !versions.is_empty() || is_free {
        return Ok(versions);
    }
    let near = known.iter().min_by_key(|path| strsim::osa_distance(path, field));
    let near = near.map(|path| format!("; did you mean `{path}`?")).unwrap_or_default();
    let what = format!(
        "no schema version of {} has the field `{}`{near}",
        product.name,
        field.chars().take(200).flat_map(char::escape_debug).collect::<String>()
    );
    Err(invalid("field", what))
}

/// The paths of a schema; `None` if it says nothing of fields.
fn paths_of(schema: &Schema) -> Option<BTreeSet<String>> {
    let fields = schema.fields().ok()?;
    let paths: BTreeSet<String> = fields.into_iter().map(|field| field.path).collect();
    (!paths.is_empty()).then_some(paths)
}

/// Whether a path is there, or one that contains it or lies in it.
fn has(paths: &BTreeSet<String>, field: &str) -> bool {
    paths.iter().any(|path| covers(field, path))
}

/// Whether a path is another one, or contains it.
fn covers(path: &str, inner: &str) -> bool {
    match inner.strip_prefix(path) {
        Some("") => true,
        Some(rest) => rest.starts_with('.') || rest.starts_with("[]"),
        None => false,
    }
}

/// Fields of a product that have a tag of these fields of another one.
fn same_tags(
    from: &ProductHandle,
    fields: &BTreeSet<String>,
    product: &ProductHandle,
) -> BTreeSet<String> {
    let tags = from.described().tags.into_iter();
    let wanted: BTreeSet<(String, Option<String>)> = tags
        .filter(|tag| fields.contains(&tag.field_path))
        .map(|tag| (tag.key, tag.value))
        .collect();
    let tags = product.described().tags.into_iter();
    tags.filter(|tag| !tag.field_path.is_empty())
        .filter(|tag| wanted.contains(&(tag.key.clone(), tag.value.clone())))
        .map(|tag| tag.field_path)
        .collect()
}
