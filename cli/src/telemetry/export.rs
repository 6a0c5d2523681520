//! The exporters: spans of calls, and log lines with the trace they belong to.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    trace::{Sampler, SdkTracerProvider},
};
use tracing_subscriber::{Layer as _, filter::Targets};

use super::{Layers, Settings};
use crate::exit::{Exit, Failure, Result};

/// How long the end waits for what is left to be exported.
const PATIENCE: Duration = Duration::from_secs(5);

/// What exports in the background.
pub(crate) struct Exporters {
    traces: SdkTracerProvider,
    logs: SdkLoggerProvider,
}

/// Begins to export to a collector; its being away is no error.
pub(super) fn begin(endpoint: &str, settings: &Settings) -> Result<(Layers, Exporters)> {
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Usage,
            format!("telemetry.otlp_endpoint {endpoint} cannot be used: {error}"),
        )
    };
    let spans = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let spans = spans.map_err(|error| unusable(&error))?;
    let lines = LogExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let lines = lines.map_err(|error| unusable(&error))?;
    let resource = Resource::builder().with_service_name(settings.service_name.clone()).build();
    let sampler = Sampler::TraceIdRatioBased(settings.sample_ratio.clamp(0.0, 1.0));
    let traces = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(sampler)))
        .with_resource(resource.clone())
        .with_batch_exporter(spans)
        .build();
    let logs =
        SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(lines).build();
    // The exporter's own calls must not be exported again, so only what is ours is.
    let ours = |level| {
        let names = ["meshlog_broker", "meshlog_storage", "meshlog"];
        names.into_iter().fold(Targets::new(), |targets, name| targets.with_target(name, level))
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer("meshlog"))
        .with_filter(ours(tracing::Level::DEBUG));
    let lines = OpenTelemetryTracingBridge::new(&logs).with_filter(ours(tracing::Level::INFO));
    Ok((vec![spans.boxed(), lines.boxed()], Exporters { traces, logs }))
}

impl Exporters {
    /// Exports what is left.
    pub(super) async fn finish(self) {
        let flush = tokio::task::spawn_blocking(move || {
            // Nobody is left to be told of a failure.
            let _ = self.traces.shutdown_with_timeout(PATIENCE);
            let _ = self.logs.shutdown_with_timeout(PATIENCE);
        });
        let _ = tokio::time::timeout(2 * PATIENCE, flush).await;
    }
}
