//! A change of the catalogue on its way into the journal.
//!
//! ```text
//! begin ─ the gate is closed to other changes ─ validate against the view ─ collect controls
//! commit ─ one entry, with its audit record ─► journal ─► (durable) view changes ─► gate opens ─► the caller is answered
//! ```
//!
//! Readers never wait for the gate. The view changes in the callback of the append, not in the
//! caller's future: a caller that goes away leaves no durable change unseen.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::{Control, Entry, Policy, StreamId};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::Catalogue;
use super::audit::{Act, Told};
use super::searching::Touched;
use super::stored::{Chain, Counters, Key, StoredSchema};
use super::view::state_keys;
use crate::Caller;
use crate::error::{Error, Reason, Result};
use crate::schema::{Fingerprint, Schema};
use crate::time::proto_time;

/// One change, holding the gate.
pub(super) struct Mutation<'a> {
    catalogue: &'a Catalogue,
    gate: OwnedMutexGuard<()>,
    counters: Counters,
    controls: Vec<Control>,
    schemas: Vec<Fingerprint>,
    then: Vec<Box<dyn FnOnce(bool) + Send>>,
}

impl Catalogue {
    /// Waits until no other change is under way.
    pub(super) async fn begin(&self) -> Mutation<'_> {
        let gate = Arc::clone(&self.inner.gate).lock_owned().await;
        let counters = self.inner.view.read().counters;
        Mutation {
            catalogue: self,
            gate,
            counters,
            controls: Vec::new(),
            schemas: Vec::new(),
            then: Vec::new(),
        }
    }
}

impl Catalogue {
    /// Writes records into the audit log that tell of no change of the catalogue, in one entry:
    /// after the change under way, before the next.
    ///
    /// # Errors
    /// Those of the engine.
    pub(crate) async fn tell(&self, told: &[Told<'_>]) -> Result<()> {
        let mut mutation = self.begin().await;
        let entry = mutation.told(told, "")?;
        mutation.append(entry).await
    }

    /// Where the chain of the audit log stands.
    pub(crate) fn audit_chain(&self) -> Chain {
        self.inner.view.read().chain.clone()
    }
}

/// The etag of what a change touches.
pub(super) fn etag_of(change: u64) -> String {
    format!("{change:x}")
}

impl<'a> Mutation<'a> {
    /// What it changes.
    pub(super) fn catalogue(&self) -> &'a Catalogue {
        self.catalogue
    }

    pub(super) fn controls(&mut self) -> &mut Vec<Control> {
        &mut self.controls
    }

    /// Is called when the outcome is known, with whether the change is durable; after the view has
    /// changed, before others may change it. A change that is never committed drops it uncalled.
    pub(super) fn then(&mut self, work: impl FnOnce(bool) + Send + 'static) {
        self.then.push(Box::new(work));
    }

    /// The etag of everything that this change touches.
    pub(super) fn etag(&self) -> String {
        etag_of(self.counters.changes + 1)
    }

    /// The time of the change, by the storage's clock as everything that is stored.
    pub(super) fn now(&self) -> prost_types::Timestamp {
        proto_time(self.catalogue.inner.storage.now())
    }

    pub(super) fn next_product_number(&mut self) -> u64 {
        self.counters.products += 1;
        self.counters.products
    }

    pub(super) fn next_storage_id(&mut self) -> Result<u32> {
        let next = self.counters.schema_versions.checked_add(1).ok_or_else(|| {
            Error::new(Reason::Internal, "all numbers for schema versions are used up")
        })?;
        self.counters.schema_versions = next;
        Ok(next)
    }

    pub(super) fn create_stream(&mut self) -> StreamId {
        let stream = self.catalogue.inner.storage.allocate_stream();
        self.controls.push(Control::CreateStream(stream));
        stream
    }

    /// Records of these streams stay so long from here on.
    pub(super) fn set_policy(&mut self, streams: &[StreamId], policy: Policy) {
        let controls = streams.iter().map(|stream| Control::SetPolicy(*stream, policy));
        self.controls.extend(controls);
    }

    pub(super) fn delete_stream(&mut self, stream: StreamId) {
        self.controls.push(Control::DeleteStream(stream));
    }

    pub(super) fn set(&mut self, key: Key<'_>, value: &impl prost::Message) {
        let value = Some(Bytes::from(value.encode_to_vec()));
        self.controls.push(Control::SetState { key: key.bytes(), value });
    }

    pub(super) fn remove(&mut self, key: Key<'_>) {
        self.controls.push(Control::SetState { key: key.bytes(), value: None });
    }

    /// Stores a schema unless it is stored already; gives its digest.
    pub(super) fn store_schema(&mut self, schema: &Schema) -> Bytes {
        let digest = schema.digest();
        let known = self.catalogue.inner.view.read().schema(&digest).is_some();
        if !known && !self.schemas.contains(&digest) {
            self.schemas.push(digest);
            let stored = StoredSchema {
                fingerprint: Bytes::copy_from_slice(schema.fingerprint().as_bytes()),
                source: schema.encoded().clone(),
            };
            self.set(Key::Schema(&digest.to_string()), &stored);
        }
        Bytes::copy_from_slice(digest.as_bytes())
    }

    /// Makes the change durable, together with its record in the audit log, then visible.
    ///
    /// # Errors
    /// Those of the engine; then nothing has changed, unless the error says that it is not known.
    pub(super) async fn commit(mut self, caller: &Caller, act: Act) -> Result<()> {
        let told = Told { caller, act: &act, time: self.now() };
        let etag = self.etag();
        let entry = self.told(&[told], &etag)?;
        self.commit_with(entry).await
    }

    /// As [`Mutation::commit`], together with what the entry holds already.
    pub(super) async fn commit_with(mut self, entry: Entry) -> Result<()> {
        self.counters.changes += 1;
        let counters = self.counters;
        self.set(Key::Counters, &counters);
        self.append(entry).await
    }

    /// An entry with the records of these acts, and the place in the chain that goes with them.
    fn told(&mut self, told: &[Told<'_>], etag: &str) -> Result<Entry> {
        let inner = &self.catalogue.inner;
        let mut chain = inner.view.read().chain.clone();
        if chain.sequence == 0 {
            // The gate is closed: nothing else is on its way into this stream.
            chain.first_offset = inner.storage.bounds(inner.audit.stream())?.durable_end.0;
        }
        let (records, chain) = inner.audit.batch(told, etag, chain);
        self.set(Key::Chain, &chain);
        Ok(Entry { batches: vec![records], ..Entry::default() })
    }

    async fn append(mut self, mut entry: Entry) -> Result<()> {
        let view = Arc::clone(&self.catalogue.inner.view);
        let revision = self.catalogue.inner.revision.clone();
        let searching = Arc::clone(&self.catalogue.inner.searching);
        let epoch = Arc::clone(&self.catalogue.inner.epoch);
        let now = self.catalogue.inner.storage.now();
        let changes = view.read().decode(state_keys(&self.controls))?;
        let (answer, answered) = oneshot::channel();
        entry.controls.append(&mut self.controls);
        let (gate, then) = (self.gate, self.then);
        self.catalogue.inner.storage.append(entry, move |result| {
            if result.is_ok() {
                let touched = Touched::by(&changes);
                let mut view = view.write();
                let before = view.rights.changes;
                view.apply(changes);
                let latest = view.recent.revision();
                if view.rights.changes != before {
                    epoch.raise(view.rights.is_protected, view.rights.next_end(now));
                }
                drop(view);
                searching.touch(touched);
                revision.send_replace(latest);
            }
            then.into_iter().for_each(|work| work(result.is_ok()));
            drop(gate);
            drop(answer.send(result));
        });
        let answered = answered.await;
        self.catalogue.index_many();
        match answered {
            Ok(result) => result.map(drop).map_err(Error::from),
            Err(_) => Err(Error::new(Reason::ShuttingDown, "the broker is shutting down")),
        }
    }
}

#[cfg(test)]
mod tests {
    use meshlog_proto::v1;
    use meshlog_storage::{Applied, Batch};

    use super::super::tests::{catalogue, team};
    use super::*;

    #[tokio::test]
    async fn a_refused_append_leaves_everything_as_it_was() {
        let (storage, catalogue) = catalogue();
        catalogue.create_team(&Default::default(), team("ops")).await.unwrap();
        let before = storage.state();

        let mut mutation = catalogue.begin().await;
        let late = v1::Team { name: "late".to_owned(), ..Default::default() };
        mutation.set(Key::Team("late"), &late);
        mutation.next_product_number();
        let refused = Batch {
            stream: StreamId(u64::MAX),
            payload: Vec::new(),
            count: 1,
            schema: 0,
            application: 0,
            expected_offset: None,
        };
        let entry = Entry { batches: vec![refused], ..Entry::default() };
        let error = mutation.commit_with(entry).await.unwrap_err();
        assert_eq!(error.applied(), Applied::No);

        assert_eq!(storage.state(), before);
        let counters = catalogue.inner.view.read().counters;
        assert_eq!(counters, Counters { products: 0, schema_versions: 1, changes: 2 });
        let get = v1::GetTeamRequest { name: "late".to_owned() };
        assert_eq!(
            catalogue.get_team(&Caller::default(), get).unwrap_err().reason(),
            Reason::TeamNotFound
        );
        catalogue.create_team(&Default::default(), team("late")).await.unwrap();
    }

    #[tokio::test]
    async fn a_change_under_way_keeps_nobody_from_reading() {
        let (_, catalogue) = catalogue();
        catalogue.create_team(&Default::default(), team("ops")).await.unwrap();
        let under_way = catalogue.begin().await;
        let get = v1::GetTeamRequest { name: "ops".to_owned() };
        catalogue.get_team(&Caller::default(), get).unwrap();
        assert_eq!(catalogue.resolve("a.b", "").unwrap_err().reason(), Reason::ProductNotFound);
        assert_eq!(catalogue.application_id("reader").await.unwrap(), 1);
        drop(under_way);
        catalogue.create_team(&Default::default(), team("next")).await.unwrap();
    }

    /// The append answers after the caller is gone: what is durable is seen all the same, and the
    /// gate opens.
    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_no_durable_change_unseen() {
        let (storage, catalogue) = catalogue();
        for number in 0..50 {
            let name = format!("team-{number}");
            let (caller, request) = (Default::default(), team(&name));
            tokio::select! {
                biased;
                _ = catalogue.create_team(&caller, request) => {}
                () = std::future::ready(()) => {}
            }
            drop(catalogue.begin().await);
            let durable = storage.state().iter().any(|(key, _)| *key == Key::Team(&name).bytes());
            let get = v1::GetTeamRequest { name };
            assert_eq!(catalogue.get_team(&Caller::default(), get).is_ok(), durable);
            assert!(durable, "the first poll hands the entry to the journal");
        }
    }

    #[tokio::test]
    async fn after_the_storage_is_closed_changes_are_refused_and_reads_go_on() {
        let (storage, catalogue) = catalogue();
        catalogue.create_team(&Default::default(), team("ops")).await.unwrap();
        storage.close().unwrap();
        for _ in 0..2 {
            let late = catalogue.create_team(&Default::default(), team("late")).await;
            assert_eq!(late.unwrap_err().reason(), Reason::ShuttingDown);
        }
        let known = catalogue.application_id("late").await.unwrap_err();
        assert_eq!(known.reason(), Reason::ShuttingDown);
        let get = |name: &str| v1::GetTeamRequest { name: name.to_owned() };
        catalogue.get_team(&Caller::default(), get("ops")).unwrap();
        catalogue.get_team(&Caller::default(), get("late")).unwrap_err();
    }
}
