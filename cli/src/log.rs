//! What a broker says while it runs, on standard error.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    output,
    telemetry::{self, Telemetry},
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Text on a terminal, else JSON
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Whether a program reads the lines; then nothing else may stand between them.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Self::Auto => !output::stderr_is_terminal(),
            Self::Text => false,
            Self::Json => true,
        }
    }
}

/// Logs from `level` on, or as `MESHLOG_LOG` says, to standard error; and exports traces and logs if
/// that is set. What is returned is kept until the end.
pub(crate) fn begin(
    level: &str,
    format: LogFormat,
    settings: &telemetry::Settings,
) -> crate::exit::Result<Telemetry> {
    let filter = EnvFilter::try_from_env("MESHLOG_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let colour = output::stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format.is_json() {
        true => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
        false => lines.with_ansi(colour).boxed(),
    };
    let (layers, telemetry) = telemetry::layers(settings)?;
    let subscriber = tracing_subscriber::registry()
        .with((!layers.is_empty()).then_some(layers))
        .with(lines.with_filter(filter));
    // A subscriber that is already there stays.
    let _ = subscriber.try_init();
    Ok(telemetry)
}

/// Settings as they may be logged: whatever is called a secret, a password or a token is left out.
pub(crate) fn masked(mut settings: Value) -> Value {
    mask(&mut settings);
    settings
}

fn mask(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.to_ascii_lowercase();
                let is_secret = ["secret", "password", "token", "key"]
                    .iter()
                    .any(|word| name == *word || name.ends_with(&format!("_{word}")));
                match member {
                    Value::String(text) if is_secret && !text.is_empty() => {
                        *text = "(masked)".to_owned();
                    }
                    member => mask(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_among_settings_are_masked_and_files_that_hold_them_are_named() {
        let settings = json!({
            "oidc": {"client_secret": "s3cret", "issuer": "https://i"},
            "tls": {"key_file": "/etc/key.pem", "password": "p"},
            "list": [{"token": "t"}],
            "key": "k",
            "limit": 3,
        });
        let text = masked(settings).to_string();
        for secret in ["s3cret", "\"p\"", "\"t\"", "\"k\""] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("/etc/key.pem") && text.contains("https://i"), "{text}");
    }
}
