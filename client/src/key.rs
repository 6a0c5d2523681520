//! What says who calls.

use std::fmt;

use zeroize::Zeroize;

/// A key of a broker (`mlk_…`), or a token of the issuer that the broker trusts.
///
/// It is wiped from memory when it is dropped, and its `Debug` does not show it. What is sent is a
/// copy of it, which the transport keeps as long as the client lives.
///
/// ```
/// use meshlog_client::{ClientConfig, Key};
///
/// # let read = || String::from("mlk_01_x");
/// let config = ClientConfig { key: Some(Key::from(read())), ..ClientConfig::default() };
/// assert!(!format!("{config:?}").contains("mlk_"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Box<str>);

impl Key {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Key {
    fn from(mut text: String) -> Self {
        let key = Self::from(text.as_str());
        text.zeroize();
        key
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
