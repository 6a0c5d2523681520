//! Names of applications, each with a number that frames store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::{Control, Entry, Storage};
use parking_lot::RwLock;
use tokio::sync::{Mutex, oneshot};

use super::stored::{self, Key};
use crate::error::{Error, Reason, Result};

/// Most applications that get a number.
const MAX_APPLICATIONS: usize = 100_000;

const MAX_NAME_BYTES: usize = 128;

/// Numbers of applications: from 1, without gaps, never taken back. 0 means unknown.
#[derive(Default)]
pub(super) struct Applications {
    names: Arc<RwLock<Names>>,
    gate: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<Arc<str>, u32>,
    by_number: Vec<Arc<str>>,
}

impl Names {
    fn add(&mut self, name: Arc<str>) {
        self.by_number.push(Arc::clone(&name));
        self.by_name.insert(name, self.by_number.len() as u32);
    }
}

impl Applications {
    /// From the storage state.
    pub(super) fn open<'a>(state: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Result<Self> {
        let mut found: Vec<(u32, Arc<str>)> = Vec::new();
        for (key, value) in state {
            if let Some(key @ Key::Application(number)) = Key::parse(key) {
                let name = std::str::from_utf8(value)
                    .map_err(|_| stored::unreadable(key, "the name is not UTF-8"))?;
                found.push((number, Arc::from(name)));
            }
        }
        found.sort_by_key(|(number, _)| *number);
        let applications = Self::default();
        let mut names = applications.names.write();
        for (at, (number, name)) in found.into_iter().enumerate() {
            if number as usize != at + 1 {
                let key = Key::Application(number);
                return Err(stored::unreadable(key, "the numbers before it have a gap"));
            }
            names.add(name);
        }
        drop(names);
        Ok(applications)
    }

    pub(super) fn name(&self, number: u32) -> Option<Arc<str>> {
        let at = (number as usize).checked_sub(1)?;
        self.names.read().by_number.get(at).cloned()
    }

    /// The number that a name has.
    pub(super) fn known(&self, name: &str) -> Option<u32> {
        self.names.read().by_name.get(name).copied()
    }

    /// The number of a name, durable before it is first given. A name that is too long or has odd
    /// characters, and any new one over the limit, is unknown: 0.
    pub(super) async fn number(&self, storage: &Storage, name: &str) -> Result<u32> {
        if let Some(number) = self.known(name) {
            return Ok(number);
        }
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(safe) {
            return Ok(0);
        }
        if self.names.read().by_number.len() >= MAX_APPLICATIONS {
            return Ok(0);
        }
        let gate = Arc::clone(&self.gate).lock_owned().await;
        let number = {
            let names = self.names.read();
            if let Some(number) = names.by_name.get(name) {
                return Ok(*number);
            }
            if names.by_number.len() >= MAX_APPLICATIONS {
                return Ok(0);
            }
            names.by_number.len() as u32 + 1
        };
        let control = Control::SetState {
            key: Key::Application(number).bytes(),
            value: Some(Bytes::copy_from_slice(name.as_bytes())),
        };
        let (answer, answered) = oneshot::channel();
        let (names, name) = (Arc::clone(&self.names), Arc::<str>::from(name));
        let entry = Entry { controls: vec![control], ..Entry::default() };
        storage.append(entry, move |result| {
            if result.is_ok() {
                names.write().add(name);
            }
            drop(gate);
            drop(answer.send(result));
        });
        match answered.await {
            Ok(result) => result.map(|_| number).map_err(Error::from),
            Err(_) => Err(Error::new(Reason::ShuttingDown, "the broker is shutting down")),
        }
    }
}
