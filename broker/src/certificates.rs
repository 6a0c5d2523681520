//! What is known of the certificate that the port shows: when it ends, and what went wrong with the
//! last new one. The edge tells, whoever looks after the broker asks.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A certificate is worth a word this long before its end.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The certificate of the port, if it has one.
#[derive(Debug, Default)]
pub(crate) struct Certificates {
    asked: Notify,
    shown: Mutex<Option<Shown>>,
}

#[derive(Clone, Debug)]
struct Shown {
    file: String,
    expires: SystemTime,
    /// Why the newest files are not in use.
    problem: Option<String>,
}

impl Certificates {
    /// From now on new connections are shown this one.
    pub(crate) fn shows(&self, file: String, expires: SystemTime) {
        *self.shown.lock() = Some(Shown { file, expires, problem: None });
    }

    /// The files changed and cannot be used; the certificate before stays.
    pub(crate) fn keeps(&self, problem: String) {
        if let Some(shown) = &mut *self.shown.lock() {
            shown.problem = Some(problem);
        }
    }

    /// When the certificate in use ends.
    pub(crate) fn expires(&self) -> Option<SystemTime> {
        self.shown.lock().as_ref().map(|shown| shown.expires)
    }

    /// Asks for the files to be read again.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Resolves when somebody asks for the files to be read again.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// What whoever looks after the broker should know.
    pub(crate) fn notes(&self, now: SystemTime) -> Vec<String> {
        let Some(shown) = self.shown.lock().clone() else { return Vec::new() };
        let mut notes = Vec::new();
        match shown.expires.duration_since(now) {
            Err(_) => notes.push(format!(
                "the certificate {} has expired, so clients refuse the broker; replace the file, it \
                 is read without a restart",
                shown.file
            )),
            Ok(left) if left < SOON => notes.push(format!(
                "the certificate {} expires in {} days; replace the file, it is read without a \
                 restart",
                shown.file,
                left.as_secs() / (24 * 3600)
            )),
            Ok(_) => {}
        }
        if let Some(problem) = shown.problem {
            notes.push(format!(
                "the new certificate is not in use, the one before still is: {problem}"
            ));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_or_cannot_be_replaced_is_told() {
        let certificates = Certificates::default();
        let now = SystemTime::UNIX_EPOCH + 1_000 * SOON;
        assert!(certificates.notes(now).is_empty(), "no TLS, nothing to say");
        certificates.shows("server.pem".into(), now + 2 * SOON);
        assert!(certificates.notes(now).is_empty());
        assert!(certificates.notes(now + SOON + Duration::from_secs(1))[0].contains("in 29 days"));
        assert!(certificates.notes(now + 3 * SOON)[0].contains("has expired"));
        certificates.keeps("the key does not fit".into());
        assert!(certificates.notes(now)[0].contains("the key does not fit"));
        certificates.shows("server.pem".into(), now + 2 * SOON);
        assert!(certificates.notes(now).is_empty(), "a good one ends the complaint");
    }
}
