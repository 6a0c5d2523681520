//! What lineage asks the catalogue: which products name one another, and what they say of themselves.

use std::sync::Arc;

use meshlog_proto::v1;
use prost_types::Timestamp;

use super::Catalogue;
use super::product::ProductHandle;
use crate::Caller;
use crate::access::{Resource, Rpc};
use crate::error::Result;
use crate::lineage;
use crate::schema::Schema;

impl Catalogue {
    /// Which products an application touches.
    pub(crate) fn index(&self) -> Arc<lineage::Index> {
        Arc::clone(self.inner.view.read().index())
    }

    /// The inputs that a product declares.
    pub(crate) fn inputs_of(&self, product: &ProductHandle) -> Result<Vec<Arc<ProductHandle>>> {
        let inputs = product.stored()?.product.unwrap_or_default().inputs;
        let view = self.inner.view.read();
        Ok(inputs.iter().filter_map(|id| view.product_of(id).cloned()).collect())
    }

    /// The products that declare this one an input.
    pub(crate) fn made_of(&self, product: &ProductHandle) -> Result<Vec<Arc<ProductHandle>>> {
        let naming = self.inner.view.read().naming(&product.id);
        let mut made = Vec::new();
        for other in naming {
            let inputs = other.stored()?.product.unwrap_or_default().inputs;
            if inputs.iter().any(|id| **id == *product.id) {
                made.push(other);
            }
        }
        Ok(made)
    }

    /// Whether a caller may know that a product exists.
    pub(crate) fn sees(&self, caller: &Caller, product: &ProductHandle) -> bool {
        self.allows(caller, Rpc::GetProduct, Resource::Product(product))
    }

    /// The product with this id, if the caller may know that it exists.
    pub(crate) fn find_seen(&self, caller: &Caller, id: &str) -> Option<Arc<ProductHandle>> {
        self.find(id).filter(|product| self.sees(caller, product))
    }

    /// Contacts of a team.
    pub(crate) fn contacts_of(&self, team: &str) -> Vec<String> {
        let team = self.inner.view.read().team(team);
        team.map(|team| team.contacts.clone()).unwrap_or_default()
    }
}

impl ProductHandle {
    /// What its owner says of it; ids stand in it for other products.
    pub(crate) fn described(&self) -> v1::Product {
        // It was decoded when the handle was made.
        self.stored().ok().and_then(|stored| stored.product).unwrap_or_default()
    }

    /// When its inputs were declared.
    pub(crate) fn inputs_declared(&self) -> Result<Option<Timestamp>> {
        let product = self.stored()?.product.unwrap_or_default();
        let declared = product.provenance.into_iter().find(|value| value.path == "inputs");
        Ok(declared.and_then(|value| value.time))
    }

    /// The schemas of its values by version, oldest first.
    pub(crate) fn value_schemas(&self) -> impl Iterator<Item = (u32, &Arc<Schema>)> {
        self.versions().iter().map(|version| (version.number, &version.value))
    }
}
