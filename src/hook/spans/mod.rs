//! Spans of `tracing` around publishes and handlers.

use tracing::Span as TracingSpan;

use super::{Hook, Incoming, Outgoing, PublishEnd, PublishKind, PublishOutcome, Span, TaskEnd, TraceContext};
use crate::message::Properties;

mod names;

/// The addresses of direct replies begin with this; the rest is another one for each client.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to";

/// Makes spans of `tracing`: `publish` from the call to the confirm, and `process` around the handler of a task, at the level
/// `INFO` and with the target `actix_pika`.
///
/// They have the attributes of OpenTelemetry's conventions for messaging: system, destination, operation, message id,
/// conversation id (the correlation id) and body size, and when they have ended the outcome and the type of an error.
/// Never the body, a header, or the text of an error.
///
/// A span of a publish is a child of the current span. For the trace to be continued by the consumers of the message, add
/// it after [`TracePropagation`](super::TracePropagation), as in the example. A span of a task has the field `trace_id` then;
/// that of a retry or of one in a batch has `link.trace_id` and `link.span_id` of its message in place of a parent.
/// With the feature `opentelemetry`, and `tracing-opentelemetry` as a layer of the subscriber, a span of a task is a child of
/// the span that has published the message, and a message carries the span of its publish.
///
/// # Examples
/// ```no_run
/// use actix_pika::{Connector, hook::{TracePropagation, TracingSpans}};
///
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = Connector::new("amqp://localhost")?
///     .hook(TracePropagation::new())
///     .hook(TracingSpans::new())
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingSpans(());

impl TracingSpans {
    /// Creates the hook.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TracingSpans;
    ///
    /// let hook = TracingSpans::new();
    /// ```
    pub fn new() -> Self {
        Self(())
    }
}

impl Hook for TracingSpans {
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        let span = names::publish();
        if span.is_disabled() {
            return None;
        }
        let routing_key = match message.kind() {
            PublishKind::Reply if message.routing_key().starts_with(DIRECT_REPLY) => DIRECT_REPLY,
            _ => message.routing_key(),
        };
        name(&span, "publish", [message.exchange(), routing_key, ""]);
        span.record(names::ROUTING_KEY, routing_key);
        describe(&span, Some(message.properties()), message.body().len());
        span.record(names::PUBLISH_KIND, message.kind().as_str());
        Some(Box::new(Entered(span)))
    }

    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        let span = names::process();
        if span.is_disabled() {
            return None;
        }
        let content = message.content();
        name(&span, "process", [content.exchange(), content.routing_key(), message.queue()]);
        span.record(names::ROUTING_KEY, content.routing_key());
        describe(&span, message.properties(), content.body().len());
        span.record(names::QUEUE, message.queue());
        span.record(names::ATTEMPT, message.attempt());
        span.record(names::REDELIVERED, message.redelivered());
        if let Some(context) = TraceContext::current() {
            span.record(
                names::TRACE_ID,
                tracing::field::display(format_args!("{:032x}", context.trace_id())),
            );
            if let Some(link) = context.link() {
                let (trace_id, span_id) = (link.trace_id(), link.span_id());
                span.record(names::LINK_TRACE_ID, tracing::field::display(format_args!("{trace_id:032x}")));
                span.record(names::LINK_SPAN_ID, tracing::field::display(format_args!("{span_id:016x}")));
            }
        }
        Some(Box::new(Entered(span)))
    }
}

fn name(span: &TracingSpan, operation: &str, destination: [&str; 3]) {
    let destination = names::destination(destination);
    span.record(names::NAME, tracing::field::display(format_args!("{operation} {destination}")));
    span.record(names::DESTINATION, destination);
}

fn describe(span: &TracingSpan, properties: Option<&Properties>, size: usize) {
    if let Some(id) = properties.and_then(Properties::message_id) {
        span.record(names::MESSAGE_ID, id);
    }
    if let Some(id) = properties.and_then(Properties::correlation_id) {
        span.record(names::CONVERSATION_ID, id);
    }
    span.record(names::BODY_SIZE, size);
}

fn fail(span: &TracingSpan, error: &str) {
    span.record(names::ERROR_TYPE, error);
    span.record(names::STATUS, "ERROR");
}

/// A span that is entered for each poll.
struct Entered(TracingSpan);

impl Span for Entered {
    fn within(&self, run: &mut dyn FnMut()) {
        self.0.in_scope(run);
    }

    fn published(&self, end: &PublishEnd<'_>) {
        if let PublishOutcome::Failed(error) = end.outcome() {
            fail(&self.0, &format!("{:?}", error.kind()));
        }
    }

    fn ended(&self, end: &TaskEnd<'_>) {
        self.0.record(names::OUTCOME, end.outcome().as_str());
        if let Some(cause) = end.cause() {
            fail(&self.0, cause.as_str());
        }
    }
}
