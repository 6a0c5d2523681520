//! Refusing to take away what something else still needs.

use std::fmt::Display;

use crate::error::{Error, Reason};

/// Most users named in one error.
const MAX_NAMED: usize = 10;

/// Who needs something: the first few by name, and how many there are.
#[derive(Default)]
pub(super) struct Users {
    named: Vec<String>,
    count: usize,
}

impl Users {
    pub(super) fn add(&mut self, user: impl Display) {
        if self.count < MAX_NAMED {
            self.named.push(user.to_string());
        }
        self.count += 1;
    }

    /// `what` is kept, because these need it, until `next` is done.
    ///
    /// # Errors
    /// `IN_USE` if there is anybody.
    pub(super) fn refuse(self, what: &str, name: &str, next: &str) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        let mut users = self.named.join(", ");
        if self.count > self.named.len() {
            users += &format!(" and {} more", self.count - self.named.len());
        }
        Err(Error::new(Reason::InUse, format!("{what} `{name}` is in use by {users}; {next}"))
            .with("name", name)
            .with("used_by", users))
    }
}
