//! Who calls.

use std::sync::Arc;

/// Who makes a call: a principal, the team it works for and the program it uses. Without
/// authentication the name of the program is taken on trust, and what it does is recorded under a
/// principal that says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// Who is answerable: `unverified:<application>` unless somebody proved who it is.
    pub principal: Arc<str>,
    /// The team it works for; none if that was not proved.
    pub team: Option<Arc<str>>,
    /// The name of the program, as it gave it; at most [`Caller::MAX_APPLICATION_BYTES`].
    pub application: Arc<str>,
}

impl Caller {
    /// Longest name of an application; a longer one is cut.
    pub const MAX_APPLICATION_BYTES: usize = 128;

    /// The application of a caller that names none.
    pub const ANONYMOUS: &'static str = "unknown";

    /// A caller of whom no more is known than the name of its application.
    #[must_use]
    pub fn new(application: &str) -> Self {
        let mut end = application.len().min(Self::MAX_APPLICATION_BYTES);
        while !application.is_char_boundary(end) {
            end -= 1;
        }
        let name = application[..end].trim();
        let application = Arc::from(if name.is_empty() { Self::ANONYMOUS } else { name });
        Self { principal: format!("unverified:{application}").into(), team: None, application }
    }

    /// Who is recorded as the author of a change.
    #[must_use]
    pub fn principal(&self) -> String {
        self.principal.to_string()
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new(Self::ANONYMOUS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_without_a_name_is_recorded_as_unknown() {
        assert_eq!(Caller::new("  ").principal(), "unverified:unknown");
        assert_eq!(Caller::new("billing").principal(), "unverified:billing");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = "é".repeat(100);
        assert_eq!(Caller::new(&name).application.len(), 128);
        let odd = format!("a{name}");
        assert_eq!(Caller::new(&odd).application.len(), 127);
    }
}
