//! What a product is made of: what its owner declares beside what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshlog_proto::v1;

use super::copy::Copy;
use super::{Direction, timestamp};
use crate::caller::Caller;
use crate::catalogue::{Catalogue, ProductHandle};
use crate::error::Result;

impl Catalogue {
    /// Adds to the use of a product what it is a copy of, and how its inputs differ from what was
    /// seen. Products that the caller may not see are left out.
    pub(crate) fn add_lineage(
        &self,
        caller: &Caller,
        product: &ProductHandle,
        usage: &mut v1::ProductUse,
    ) -> Result<()> {
        usage.copies = self.copies_of(caller, product);
        let declared = self.inputs_of(product)?;
        let declared: BTreeMap<&str, &ProductHandle> =
            declared.iter().map(|input| (&*input.id, &**input)).collect();
        let observed = self.observed_inputs(product);
        let unobserved = declared.iter().filter(|(id, _)| !observed.contains_key(**id));
        usage.unobserved_inputs = unobserved.map(|(_, input)| input.name.to_string()).collect();
        usage.unobserved_inputs.sort();
        let undeclared = observed.iter().filter(|(id, _)| !declared.contains_key(&***id));
        usage.undeclared_inputs = undeclared
            .filter_map(|(id, applications)| {
                Some(v1::ObservedInput {
                    product: self.find_seen(caller, id)?.name.to_string(),
                    applications: applications.iter().map(ToString::to_string).collect(),
                })
            })
            .collect();
        usage.undeclared_inputs.sort_by(|a, b| a.product.cmp(&b.product));
        Ok(())
    }

    /// The products it is a copy of, of those that still exist and the caller may see.
    pub(super) fn copies_of(
        &self,
        caller: &Caller,
        product: &ProductHandle,
    ) -> Vec<v1::ProductCopy> {
        let copies = product.traffic.copies.lock().clone();
        let copies = copies.into_iter().filter_map(|copy| {
            let source = self.find_seen(caller, &copy.source)?.name.to_string();
            Some(message(copy, source))
        });
        copies.collect()
    }

    /// Ids of the products that an application reads which appends to this one, with the names of
    /// the applications.
    fn observed_inputs(&self, product: &ProductHandle) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
        let mut observed: BTreeMap<Arc<str>, BTreeSet<Arc<str>>> = BTreeMap::new();
        let mut add = |id: &Arc<str>, application: &Arc<str>| {
            if **id != *product.id {
                observed.entry(Arc::clone(id)).or_default().insert(Arc::clone(application));
            }
        };
        for flow in product.traffic.flows(Direction::Append) {
            if !flow.who.is_shared() {
                let reads = self.index().touched(&flow.who).reads;
                reads.iter().for_each(|id| add(id, &flow.who.application));
            }
        }
        // Equal values connect two products also where the name of the application does not.
        for copy in product.traffic.copies.lock().iter() {
            add(&copy.source, &copy.who.application);
        }
        observed
    }
}

/// As clients see it.
fn message(copy: Copy, source: String) -> v1::ProductCopy {
    let fields = copy.fields.into_iter();
    v1::ProductCopy {
        source,
        application: copy.who.application.to_string(),
        team: copy.who.team().to_owned(),
        percent: copy.percent,
        records: copy.records,
        fields: fields.map(|(source, copy)| v1::CopiedField { source, copy }).collect(),
        check_time: timestamp(copy.time),
    }
}
