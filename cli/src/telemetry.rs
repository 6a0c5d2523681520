//! Traces and logs for OpenTelemetry, over OTLP. Built with the cargo feature `otlp`; without it a
//! broker that is told to export refuses to start rather than being silent.

#[cfg(feature = "otlp")]
mod export;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{Layer, Registry};

use crate::exit::Result;

/// Where traces and logs go beside standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Address of a collector that speaks OTLP over gRPC, for instance `http://127.0.0.1:4317`.
    /// Absent: nothing is exported. Needs a program built with the cargo feature `otlp`.
    pub(crate) otlp_endpoint: Option<String>,
    /// What the broker is called there. Default: meshlog.
    pub(crate) service_name: String,
    /// Part of the calls whose spans are exported, where their caller has not decided: from 0 to 1.
    /// Default 1.
    pub(crate) sample_ratio: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { otlp_endpoint: None, service_name: "meshlog".to_owned(), sample_ratio: 1.0 }
    }
}

/// What is kept until the process ends, so that what was begun is exported.
#[derive(Default)]
pub(crate) struct Telemetry {
    #[cfg(feature = "otlp")]
    exporters: Option<export::Exporters>,
}

impl Telemetry {
    /// Exports what is left; waits some seconds at most.
    pub(crate) async fn finish(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporters) = self.exporters {
            exporters.finish().await;
        }
    }
}

type Layers = Vec<Box<dyn Layer<Registry> + Send + Sync>>;

/// The layers that export, if that is set.
pub(crate) fn layers(settings: &Settings) -> Result<(Layers, Telemetry)> {
    let Some(endpoint) = &settings.otlp_endpoint else { return Ok(Default::default()) };
    #[cfg(feature = "otlp")]
    {
        let (layers, exporters) = export::begin(endpoint, settings)?;
        Ok((layers, Telemetry { exporters: Some(exporters) }))
    }
    #[cfg(not(feature = "otlp"))]
    Err(crate::exit::Failure::usage(format!(
        "telemetry.otlp_endpoint is {endpoint}, and this program was built without the cargo \
         feature `otlp`; remove the setting, or build it with `cargo build --features otlp`"
    )))
}
