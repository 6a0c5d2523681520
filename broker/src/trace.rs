//! Where a call or a record belongs in a trace: the `traceparent` of W3C Trace Context.
//!
//! A record keeps the header `traceparent` that its producer gave it, from append to delivery, as
//! every header; whoever handles the record goes on from there.

use std::fmt;

/// `00-<trace id>-<span id>-<flags>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// Reads a `traceparent`; nothing for what is not one, as the standard asks.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let hex =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let mut parts = text.splitn(4, '-');
        let (version, trace) = (parts.next()?, parts.next()?);
        let (span, rest) = (parts.next()?, parts.next()?);
        // Later versions may say more behind the flags.
        let flags = match version {
            "00" => rest,
            _ => rest.split('-').next().unwrap_or_default(),
        };
        let lengths = (version.len(), trace.len(), span.len(), flags.len());
        if lengths != (2, 32, 16, 2) || version == "ff" {
            return None;
        }
        if ![version, trace, span, flags].into_iter().all(hex) {
            return None;
        }
        let parent = Self {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }

    /// The beginning of a new trace, which nobody records.
    #[must_use]
    pub fn random() -> Self {
        let random = ulid::Ulid::generate().0;
        // The lower 80 bits are random, the upper are a time: also a good id.
        Self { trace: random.max(1), span: (random as u64).max(1), flags: 0 }
    }

    /// Id of the trace, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Id of the span, 16 hexadecimal digits.
    #[must_use]
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// As the parent of a span of OpenTelemetry.
    #[cfg(feature = "otlp")]
    pub(crate) fn context(self) -> opentelemetry::Context {
        use opentelemetry::trace::{
            SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
        };
        let context = SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        );
        opentelemetry::Context::new().with_remote_span_context(context)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let parent = TraceParent::from_text(text).unwrap();
        assert_eq!(parent.to_string(), text);
        assert_eq!(parent.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span_id(), "b7ad6b7169203331");
        let later = format!("cc{}-what-comes", &text[2..]);
        assert_eq!(TraceParent::from_text(&later), Some(parent));
        for wrong in [
            "",
            "00",
            &text[1..],
            &text.to_uppercase(),
            &format!("{text}-more"),
            &format!("ff{}", &text[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(TraceParent::from_text(wrong), None, "{wrong}");
        }
        assert_ne!(TraceParent::random(), TraceParent::random());
    }
}
