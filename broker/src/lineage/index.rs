//! Which products an application appends to, and which it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Direction, Who};

/// Edges by application; the [`super::Traffic`] of each product has them by product. Changes only
/// when an edge comes or goes, never when one is counted.
#[derive(Debug, Default)]
pub(crate) struct Index(RwLock<BTreeMap<Who, Touched>>);

/// Ids of products.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    pub(super) appends: BTreeSet<Arc<str>>,
    pub(super) reads: BTreeSet<Arc<str>>,
}

impl Touched {
    fn of(&mut self, direction: Direction) -> &mut BTreeSet<Arc<str>> {
        match direction {
            Direction::Append => &mut self.appends,
            Direction::Read => &mut self.reads,
        }
    }
}

impl Index {
    pub(super) fn add(&self, who: &Who, direction: Direction, product_id: &Arc<str>) {
        let mut applications = self.0.write();
        let touched = match applications.get_mut(who) {
            Some(touched) => touched,
            None => applications.entry(who.clone()).or_default(),
        };
        touched.of(direction).insert(Arc::clone(product_id));
    }

    pub(super) fn remove(&self, who: &Who, direction: Direction, product_id: &str) {
        let mut applications = self.0.write();
        if let Some(touched) = applications.get_mut(who) {
            touched.of(direction).remove(product_id);
            if *touched == Touched::default() {
                applications.remove(who);
            }
        }
    }

    /// What one application touches.
    pub(super) fn touched(&self, who: &Who) -> Touched {
        self.0.read().get(who).cloned().unwrap_or_default()
    }

    /// Everybody who goes by this name.
    pub(super) fn named(&self, application: &str) -> Vec<Who> {
        let applications = self.0.read();
        let first = Who { application: Arc::from(application), team: None };
        let named = applications.range(first..).map(|(who, _)| who);
        named.take_while(|who| *who.application == *application).cloned().collect()
    }
}
