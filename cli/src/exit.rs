//! How a command ends: its exit code, and the sentence that says why.
//!
//! | Code | Meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | any other error |
//! | 2 | the command line, the settings or an argument are wrong |
//! | 3 | not found |
//! | 4 | conflict with what is there |
//! | 5 | denied |
//! | 6 | unavailable or overloaded: the same command may work later |
//! | 7 | a record or a schema was rejected |
//! | 8 | stored data is damaged |
//! | 9 | `meshlog diff` found differences |
//! | 130 | interrupted |
//! | 141 | the reader of standard output went away before everything was sent |

use std::fmt;

use meshlog_client::Code;

/// The exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Anything without a code of its own.
    Error = 1,
    /// The command line, the settings or an argument are wrong.
    Usage = 2,
    /// What was named does not exist.
    NotFound = 3,
    /// It conflicts with what is there.
    Conflict = 4,
    /// Not allowed.
    Denied = 5,
    /// The broker cannot be reached, is overloaded or cannot take appends now.
    Unavailable = 6,
    /// A record or a schema was rejected.
    Rejected = 7,
    /// Stored data is damaged.
    Corruption = 8,
    /// There are differences, which is what was asked.
    Different = 9,
    /// Interrupted by the user.
    Interrupted = 130,
    /// Standard output was closed while there was more to send.
    BrokenPipe = 141,
}

impl Exit {
    /// The code for a reason of `docs/errors.md`; `None` for a reason this version does not know.
    pub(crate) fn of_reason(reason: &str) -> Option<Self> {
        Some(match reason {
            "INVALID_ARGUMENT"
            | "FIELD_MISSING"
            | "NAME_INVALID"
            | "NAME_RESERVED"
            | "SCHEMA_MALFORMED"
            | "RULE_INVALID"
            | "SCHEMA_TOO_COMPLEX"
            | "TAG_VALUE_INVALID"
            | "SUCCESSOR_CYCLE"
            | "QUERY_INVALID"
            | "UNENCRYPTED"
            | "SCHEMA_VERSION_REQUIRED" => Self::Usage,
            "PRODUCT_NOT_FOUND"
            | "TEAM_NOT_FOUND"
            | "DOMAIN_NOT_FOUND"
            | "TAG_KEY_NOT_FOUND"
            | "CURSOR_NOT_FOUND"
            | "KEY_NOT_FOUND"
            | "GRANT_NOT_FOUND"
            | "ACCESS_REQUEST_NOT_FOUND"
            | "PARTITION_NOT_FOUND"
            | "SCHEMA_VERSION_UNKNOWN" => Self::NotFound,
            "PRODUCT_EXISTS"
            | "TEAM_EXISTS"
            | "DOMAIN_EXISTS"
            | "TAG_KEY_EXISTS"
            | "PRODUCT_RECREATED"
            | "PRODUCT_READ_ONLY"
            | "IN_USE"
            | "STATE_INVALID"
            | "SCHEMA_VERSION_CLOSED"
            | "TRANSFER_NOT_PENDING"
            | "LIMIT_REACHED"
            | "OFFSET_MISMATCH"
            | "ETAG_MISMATCH"
            | "PRODUCER_FENCED" => Self::Conflict,
            "SCHEMA_REJECTED"
            | "RULE_FAILED"
            | "RULE_OVER_BUDGET"
            | "KEY_MISMATCH"
            | "TOMBSTONE_NOT_ALLOWED"
            | "SCHEMA_INCOMPATIBLE" => Self::Rejected,
            "OVERLOADED"
            | "DISK_FULL"
            | "JOURNAL_FAILED"
            | "SHUTTING_DOWN"
            | "UNREACHABLE"
            | "CONNECTION_LOST"
            | "KEY_SET_UNAVAILABLE"
            | "DELIVERY_TIMEOUT"
            | "BACKUP_EXPIRED"
            | "QUOTA_EXCEEDED"
            | "REQUEST_TIMEOUT" => Self::Unavailable,
            "PERMISSION_DENIED"
            | "HOST_REFUSED"
            | "ORIGIN_REFUSED"
            | "UNTRUSTED"
            | "CREDENTIAL_MISSING"
            | "CREDENTIAL_MALFORMED"
            | "CREDENTIAL_UNMAPPED"
            | "KEY_UNKNOWN"
            | "KEY_REVOKED"
            | "KEY_EXPIRED"
            | "TOKEN_EXPIRED"
            | "TOKEN_ISSUER"
            | "TOKEN_AUDIENCE"
            | "TOKEN_ALGORITHM"
            | "TOKEN_KEY_UNKNOWN"
            | "TOKEN_SIGNATURE" => Self::Denied,
            "DATA_LOSS" => Self::Corruption,
            "ROUTE_NOT_FOUND" | "METHOD_NOT_ALLOWED" | "MEDIA_TYPE_UNSUPPORTED" => Self::Error,
            "BATCH_MALFORMED"
            | "TOO_LARGE"
            | "OFFSET_OUT_OF_RANGE"
            | "PRODUCER_UNKNOWN"
            | "SEQUENCE_GAP"
            | "SEQUENCE_TOO_OLD"
            | "PRECEDING_FAILED"
            | "INTERNAL"
            | "DIRECTORY_UNAVAILABLE"
            | "ADDRESS_UNAVAILABLE"
            | "CERTIFICATE_UNUSABLE"
            | "CLOSED"
            | "PROTOCOL_VIOLATED" => Self::Error,
            _ => return None,
        })
    }

    fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => Self::Conflict,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::ResourceExhausted | Code::Unavailable | Code::DeadlineExceeded => {
                Self::Unavailable
            }
            Code::DataLoss => Self::Corruption,
            Code::Cancelled => Self::Interrupted,
            Code::Unknown | Code::Unimplemented | Code::Internal => Self::Error,
        }
    }
}

/// Why a command did not do what it was asked. `Display` is what the user reads, without `error: `.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// Of `docs/errors.md`, if a broker refused it.
    reason: Option<String>,
    message: String,
}

/// The result of a command or of a step of one.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// A failure with a sentence: what, where, what to do next.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, reason: None, message: message.into() }
    }

    /// A wrong argument.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// An end about which nothing is to be said.
    pub(crate) fn quiet(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// Why the broker refused it, if it did.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.message.is_empty()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<meshlog_client::Error> for Failure {
    fn from(error: meshlog_client::Error) -> Self {
        let exit = Exit::of_reason(error.reason()).unwrap_or_else(|| Exit::of_code(error.code()));
        let reason = Some(error.reason().to_owned());
        Self { reason, ..Self::new(exit, error.message()) }
    }
}

impl From<meshlog_broker::Error> for Failure {
    fn from(error: meshlog_broker::Error) -> Self {
        let exit = Exit::of_reason(error.reason().text()).unwrap_or(Exit::Error);
        let reason = Some(error.reason().text().to_owned());
        Self { reason, ..Self::new(exit, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_table_of_errors() {
        let table = include_str!("../../docs/errors.md");
        let mut rows = 0;
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let reason = cells[1].trim_matches('`');
            let exit = Exit::of_reason(reason).map(|exit| (exit as u8).to_string());
            assert_eq!(exit.as_deref(), Some(cells[6]), "{reason}");
            rows += 1;
        }
        assert_eq!(rows, meshlog_broker::Reason::ALL.len());
    }
}
