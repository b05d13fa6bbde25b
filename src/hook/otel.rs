//! OpenTelemetry: its active span, and its traits for headers.

use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    propagation::{Extractor, Injector},
    trace::{SpanContext, TraceContextExt, TraceState},
};

use super::{HeaderExtractor, HeaderInjector, TraceContext};

/// Returns the context of the active span, unless that is one of another process.
pub(super) fn active() -> Option<TraceContext> {
    Context::map_current(|context| {
        if !context.has_active_span() {
            return None;
        }
        let span = context.span();
        let of_here = Some(span.span_context()).filter(|span| !span.is_remote());
        of_here.and_then(of_span)
    })
}

fn of_span(span: &SpanContext) -> Option<TraceContext> {
    let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
    let span_id = u64::from_be_bytes(span.span_id().to_bytes());
    TraceContext::of_parts(trace_id, span_id, span.trace_flags().to_u8(), &span.trace_state().header())
}

/// Returns the context in which spans are children of a span of another process, or have no parent.
pub(super) fn parent(remote: Option<&TraceContext>) -> Context {
    match remote {
        Some(remote) => Context::new().with_remote_span_context(remote.into()),
        None => Context::new(),
    }
}

/// The span of another process, to be the parent of a span or linked to one.
impl From<&TraceContext> for SpanContext {
    fn from(context: &TraceContext) -> Self {
        let state = context.tracestate().and_then(|state| state.parse::<TraceState>().ok());
        SpanContext::new(
            TraceId::from_bytes(context.trace_id().to_be_bytes()),
            SpanId::from_bytes(context.span_id().to_be_bytes()),
            TraceFlags::new(context.flags()),
            true,
            state.unwrap_or_default(),
        )
    }
}

impl Injector for HeaderInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        HeaderInjector::set(self, key, value);
    }
}

impl Extractor for HeaderExtractor<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        HeaderExtractor::get(self, key)
    }

    fn keys(&self) -> Vec<&str> {
        HeaderExtractor::keys(self)
    }
}
