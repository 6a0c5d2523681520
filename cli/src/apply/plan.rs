//! What is different between the files and the broker, and the calls that make it the same, in their
//! order:
//!
//! ```text
//! teams → tag keys → domains → products, inputs before what is made of them → what leads back,
//! deprecations → products that go → domains that go → tag keys that go → teams that go
//! ```

use std::collections::BTreeSet;

use meshlog_client::{Catalog, proto};
use serde::Serialize;

use super::{
    document::{Domain, TagKey, Team},
    order, product,
    read::Given,
    there::There,
    work::{Etags, Planned, Work},
};
use crate::{
    change::{self, Line},
    exit::{Exit, Failure, Result},
    words,
};

/// What the command line says about a plan.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// Remove what carries the name of a file and is no longer in it.
    pub(super) prune: bool,
    /// Products that hold records, too.
    pub(super) prune_data: bool,
    /// Take what other files look after.
    pub(super) take_over: bool,
}

/// What happens to one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Create,
    Change,
    Delete,
    Same,
}

impl Action {
    /// As the plan begins its line.
    pub(super) fn sign(self) -> char {
        match self {
            Self::Create => '+',
            Self::Change => '~',
            Self::Delete => '-',
            Self::Same => '=',
        }
    }
}

/// One thing, what happens to it, and how.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) action: Action,
    pub(super) kind: &'static str,
    pub(super) name: String,
    /// Value by value.
    pub(super) lines: Vec<Line>,
    /// Sentences for a person.
    pub(super) remarks: Vec<String>,
    /// Done in the order of the steps.
    pub(super) work: Vec<Work>,
    /// Done when every step has done its work, and before anything is deleted.
    pub(super) late: Vec<Work>,
}

impl Step {
    /// A thing that is as it shall be, until something is added.
    pub(super) fn of(kind: &'static str, name: &str) -> Self {
        Self {
            action: Action::Same,
            kind,
            name: name.to_owned(),
            lines: Vec::new(),
            remarks: Vec::new(),
            work: Vec::new(),
            late: Vec::new(),
        }
    }

    /// As one says it.
    pub(super) fn title(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// Whether something goes that does not come back.
    fn is_destructive(&self) -> bool {
        self.action == Action::Delete
            || self.late.iter().any(|work| matches!(work, Work::Retire(_)))
    }
}

/// Why a plan cannot be carried out.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) exit: Exit,
    pub(super) text: String,
}

impl Problem {
    /// Something that is there stands against it.
    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self { exit: Exit::Conflict, text: text.into() }
    }

    /// The broker says no.
    pub(super) fn of(title: &str, failure: &Failure) -> Self {
        Self { exit: failure.exit(), text: format!("{title}: {failure}") }
    }
}

/// Everything that is to be done, or why it cannot be.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<String>,
    pub(super) planned: Planned,
    pub(super) etags: Etags,
}

impl Plan {
    /// Compares the files with what there is.
    pub(super) async fn make(
        catalog: &Catalog,
        given: &Given,
        there: &There,
        options: Options,
    ) -> Result<Self> {
        let mut plan = Self { remarks: given.remarks.clone(), ..Self::default() };
        let products = &there.products;
        plan.etags = products
            .iter()
            .map(|(name, found)| (name.clone(), found.product.etag.clone()))
            .collect();
        plan.teams(given, there, options)?;
        plan.tag_keys(given, there, options)?;
        plan.domains(given, there, options)?;
        let (sorted, leading_back) = order::of(&given.document.products);
        for circle in &leading_back {
            plan.remarks.push(format!(
                "{} are made of each other; the inputs that close the circle are set last",
                circle.circle.join(" → ")
            ));
        }
        for wanted in &sorted {
            if !there.products.contains_key(&wanted.name) {
                plan.planned.products.insert(wanted.name.clone());
            }
        }
        for wanted in sorted {
            let later: Vec<&str> = leading_back
                .iter()
                .filter(|edge| edge.from == wanted.name)
                .map(|edge| &*edge.to)
                .collect();
            product::plan(catalog, wanted, &later, there, options, &mut plan).await?;
        }
        if options.prune {
            plan.prune(catalog, given, there, options).await?;
        }
        Ok(plan)
    }

    /// Asks the broker about everything, and adds what it says no to.
    pub(super) async fn validate(&mut self, catalog: &Catalog) -> Result<()> {
        for step in &self.steps {
            let mut has_new_schema = false;
            let mut has_new_state = false;
            for work in step.work.iter().chain(&step.late) {
                let mut work = work.clone();
                match &mut work {
                    Work::AddSchema(_) => has_new_schema = true,
                    // Only the new schema may have the fields.
                    Work::UpdateProduct(product, _) if has_new_schema => {
                        product.tags.retain(|tag| tag.field_path.is_empty());
                    }
                    // What comes after a change of state begins in a state that is not there yet.
                    Work::Activate(_) | Work::Deprecate(_) | Work::Retire(_)
                        if std::mem::replace(&mut has_new_state, true) =>
                    {
                        continue;
                    }
                    _ => {}
                }
                if let Err(failure) = work.validate(catalog, &self.planned, &self.etags).await {
                    if failure.exit() == Exit::Unavailable {
                        return Err(failure);
                    }
                    self.problems.push(Problem::of(&step.title(), &failure));
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many steps do this.
    pub(super) fn count(&self, action: Action) -> usize {
        self.steps.iter().filter(|step| step.action == action).count()
    }

    /// Whether the broker is as the files say.
    pub(super) fn is_done(&self) -> bool {
        self.count(Action::Same) == self.steps.len()
    }

    /// What goes for good, in words; nothing if nothing does.
    pub(super) fn losses(&self) -> Option<String> {
        let gone: Vec<_> = self.steps.iter().filter(|step| step.is_destructive()).collect();
        let named = |step: &&Step| match step.action {
            Action::Delete => format!("delete {}", step.title()),
            _ => format!("retire {}", step.title()),
        };
        let named: Vec<_> = gone.iter().take(10).map(named).collect();
        match gone.len() {
            0 => None,
            count if count > named.len() => Some(format!("{} and more", named.join(", "))),
            _ => Some(named.join(", ")),
        }
    }

    fn teams(&mut self, given: &Given, there: &There, options: Options) -> Result<()> {
        for wanted in &given.document.teams {
            let mut step = Step::of("team", &wanted.name);
            let found = there.teams.get(&wanted.name);
            let before = found.map(Team::from);
            self.manager(
                &step,
                before.as_ref().map(|team| &*team.managed_by),
                &wanted.managed_by,
                options,
            );
            if before.as_ref() != Some(wanted) {
                step.lines = change::lines(before.as_ref(), Some(wanted))?;
                let etag = found.map(|team| team.etag.clone()).unwrap_or_default();
                let wire = proto::Team { etag, ..wanted.wire() };
                match found {
                    Some(found) => {
                        let time = words::when(words::time(found.update_time));
                        drift(
                            &mut step,
                            &found.managed_by,
                            &wanted.managed_by,
                            &found.updated_by,
                            &time,
                        );
                        step.change(Work::UpdateTeam(wire));
                    }
                    None => {
                        self.planned.teams.insert(wanted.name.clone(), wire.clone());
                        step.create(Work::CreateTeam(wire));
                    }
                }
            }
            self.steps.push(step);
        }
        Ok(())
    }

    fn tag_keys(&mut self, given: &Given, there: &There, options: Options) -> Result<()> {
        for wanted in &given.document.tag_keys {
            let mut step = Step::of("tag key", &wanted.name);
            let found = there.keys.get(&wanted.name);
            let before = found.map(TagKey::from);
            self.manager(
                &step,
                before.as_ref().map(|key| &*key.managed_by),
                &wanted.managed_by,
                options,
            );
            if before.as_ref() != Some(wanted) {
                step.lines = change::lines(before.as_ref(), Some(wanted))?;
                let etag = found.map(|key| key.etag.clone()).unwrap_or_default();
                let wire = proto::TagKey { etag, ..wanted.wire() };
                match found {
                    Some(found) => {
                        let time = words::when(words::time(found.update_time));
                        drift(
                            &mut step,
                            &found.managed_by,
                            &wanted.managed_by,
                            &found.updated_by,
                            &time,
                        );
                        step.change(Work::UpdateTagKey(wire));
                    }
                    None => {
                        self.planned.keys.insert(wanted.name.clone());
                        step.create(Work::CreateTagKey(wire));
                    }
                }
            }
            self.steps.push(step);
        }
        Ok(())
    }

    fn domains(&mut self, given: &Given, there: &There, options: Options) -> Result<()> {
        for wanted in &given.document.domains {
            let mut step = Step::of("domain", &wanted.name);
            let found = there.domains.get(&wanted.name);
            let before = found.map(Domain::from);
            self.manager(
                &step,
                before.as_ref().map(|domain| &*domain.managed_by),
                &wanted.managed_by,
                options,
            );
            if before.as_ref() != Some(wanted) {
                step.lines = change::lines(before.as_ref(), Some(wanted))?;
                let etag = found.map(|domain| domain.etag.clone()).unwrap_or_default();
                let wire = proto::Domain { etag, ..wanted.wire()? };
                match found {
                    Some(found) => {
                        let time = words::when(words::time(found.update_time));
                        drift(
                            &mut step,
                            &found.managed_by,
                            &wanted.managed_by,
                            &found.updated_by,
                            &time,
                        );
                        step.change(Work::UpdateDomain(wire));
                    }
                    None => {
                        self.planned.domains.insert(wanted.name.clone(), wire.clone());
                        step.create(Work::CreateDomain(wire));
                    }
                }
            }
            self.steps.push(step);
        }
        Ok(())
    }

    /// Refuses to take what another file looks after, unless it shall be.
    pub(super) fn manager(
        &mut self,
        step: &Step,
        before: Option<&str>,
        wanted: &str,
        options: Options,
    ) {
        let before = before.unwrap_or_default();
        if !before.is_empty() && before != wanted && !options.take_over {
            let here = match wanted {
                "" => "no name".to_owned(),
                name => format!("the name `{name}`"),
            };
            self.problems.push(Problem::conflict(format!(
                "{}: it is managed by `{before}`, and the file here has {here}; change it there, \
                 or take it with --take-over",
                step.title()
            )));
        }
    }

    async fn prune(
        &mut self,
        catalog: &Catalog,
        given: &Given,
        there: &There,
        options: Options,
    ) -> Result<()> {
        if given.managers.is_empty() {
            return Err(Failure::usage(
                "--prune removes what carries the name of a file, and none of the files has one; \
                 write `managed_by: NAME` at its top",
            ));
        }
        let ours = |by: &String| given.managers.contains(by);
        let named: BTreeSet<&str> =
            given.document.products.iter().map(|product| &*product.name).collect();
        for (name, found) in &there.products {
            if ours(&found.product.managed_by) && !named.contains(&**name) {
                self.prune_product(catalog, name, &found.product, options).await?;
            }
        }
        let named: BTreeSet<&str> =
            given.document.domains.iter().map(|domain| &*domain.name).collect();
        for domain in there.domains.values() {
            if ours(&domain.managed_by) && !named.contains(&*domain.name) {
                let (name, etag) = (domain.name.clone(), domain.etag.clone());
                let request = proto::DeleteDomainRequest { name, etag, validate_only: false };
                self.delete("domain", &domain.name, Work::DeleteDomain(request));
            }
        }
        let named: BTreeSet<&str> = given.document.tag_keys.iter().map(|key| &*key.name).collect();
        for key in there.keys.values() {
            if ours(&key.managed_by) && !named.contains(&*key.name) {
                let (name, etag) = (key.name.clone(), key.etag.clone());
                let request = proto::DeleteTagKeyRequest { name, etag, validate_only: false };
                self.delete("tag key", &key.name, Work::DeleteTagKey(request));
            }
        }
        let named: BTreeSet<&str> = given.document.teams.iter().map(|team| &*team.name).collect();
        for team in there.teams.values() {
            if ours(&team.managed_by) && !named.contains(&*team.name) {
                let (name, etag) = (team.name.clone(), team.etag.clone());
                let request = proto::DeleteTeamRequest { name, etag, validate_only: false };
                self.delete("team", &team.name, Work::DeleteTeam(request));
            }
        }
        Ok(())
    }

    async fn prune_product(
        &mut self,
        catalog: &Catalog,
        name: &str,
        product: &proto::Product,
        options: Options,
    ) -> Result<()> {
        let offsets = catalog.list_offsets(name, &[], None).await?;
        let records: u64 = offsets.iter().map(|part| part.durable_end - part.start_offset).sum();
        let readers = product.r#use.iter().flat_map(|used| &used.live_readers);
        let readers: Vec<&str> = readers.map(|reader| &*reader.application).collect();
        if !readers.is_empty() {
            self.problems.push(Problem::conflict(format!(
                "product {name}: it is not pruned while it is read by {}; tell them, or keep it in \
                 the file",
                readers.join(", ")
            )));
        } else if records > 0 && !options.prune_data {
            self.problems.push(Problem::conflict(format!(
                "product {name}: it is not pruned, it holds {}; to lose them too, add --prune-data",
                words::counted(records, "record")
            )));
        }
        let request = proto::DeleteProductRequest {
            name: name.to_owned(),
            product_id: product.id.clone(),
            etag: product.etag.clone(),
            only_unread: true,
            only_empty: !options.prune_data,
            ..proto::DeleteProductRequest::default()
        };
        self.delete("product", name, Work::DeleteProduct(request));
        if let Some(step) = self.steps.last_mut() {
            step.remarks.push(format!("with {}", words::counted(records, "record")));
        }
        Ok(())
    }

    fn delete(&mut self, kind: &'static str, name: &str, work: Work) {
        let mut step = Step::of(kind, name);
        step.action = Action::Delete;
        step.work.push(work);
        self.steps.push(step);
    }
}

impl Step {
    /// It is not there yet.
    pub(super) fn create(&mut self, work: Work) {
        self.action = Action::Create;
        self.work.push(work);
    }

    /// It is there and differs.
    pub(super) fn change(&mut self, work: Work) {
        self.action = Action::Change;
        self.work.push(work);
    }
}

/// Says who changed last what the file looks after: it may have been somebody else.
fn drift(step: &mut Step, before: &str, wanted: &str, by: &str, time: &str) {
    if !wanted.is_empty() && before == wanted {
        step.remarks.push(format!("last changed by {by} at {time}"));
    }
}
