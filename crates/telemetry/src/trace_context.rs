//! W3C Trace Context, which carries a trace from one node to the next.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Returns the `traceparent` of the current span, to be sent to other nodes: 55 characters. `None` if the current span is not traced;
/// without an OTLP endpoint always `None`.
pub fn current_traceparent() -> Option<String> {
    let span = Span::current();
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| {
        format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8())
    })
}

/// Makes a span the child of the span that a `traceparent` names. Must be called before the span is entered. An invalid
/// `traceparent` is ignored, as the standard requires: the span then begins its own trace.
pub fn set_parent(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = read(traceparent) {
        // Fails for a span that is not traced; then there is nothing to do.
        let _ = span.set_parent(context);
    }
}

/// Links a span to the span that a `traceparent` names. This is for work that serves several traces at once but can be a child in
/// only one of them. An invalid `traceparent` is ignored.
pub fn link_to(span: &Span, traceparent: &str) {
    if span.is_disabled() {
        return;
    }
    if let Some(context) = read(traceparent) {
        span.add_link(context.span().span_context().clone());
    }
}

/// Parses a `traceparent`; `None` if it is invalid.
fn read(traceparent: &str) -> Option<Context> {
    // The propagator is lenient about the first field's length.
    if traceparent.as_bytes().get(2) != Some(&b'-') {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&OneHeader(traceparent));
    context.span().span_context().is_valid().then_some(context)
}

struct OneHeader<'a>(&'a str);

impl Extractor for OneHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn traced<T>(work: impl FnOnce() -> T) -> T {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work)
    }

    #[test]
    fn a_trace_goes_on_where_it_came_from() {
        traced(|| {
            let span = tracing::info_span!("receive");
            set_parent(&span, PARENT);
            let here = span.in_scope(current_traceparent).unwrap();
            assert_eq!(here.len(), PARENT.len());
            assert_eq!(here[..36], PARENT[..36], "the same trace");
            assert_ne!(here[36..52], PARENT[36..52], "another span");
            assert_eq!(here[52..], PARENT[52..], "sampled as the parent was");
        });
    }

    #[test]
    fn what_can_not_be_read_is_ignored() {
        traced(|| {
            for broken in
                ["", "00", &PARENT[1..], &PARENT.replace("4bf9", "xxxx"), &format!("ff{}", &PARENT[2..])]
            {
                let span = tracing::info_span!("receive");
                set_parent(&span, broken);
                let here = span.in_scope(current_traceparent).unwrap();
                assert_ne!(here[3..35], PARENT[3..35], "{broken:?}");
            }
        });
    }

    #[test]
    fn without_traces_there_is_nothing_to_send() {
        let span = tracing::info_span!("receive");
        set_parent(&span, PARENT);
        assert_eq!(span.in_scope(current_traceparent), None);
        traced(|| assert_eq!(current_traceparent(), None, "outside of any span"));
    }
}
