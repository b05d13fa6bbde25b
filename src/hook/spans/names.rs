//! The names and attributes of spans, by the conventions of OpenTelemetry for messaging. These are still marked as under
//! development: all of them are here.
//!
//! Source: <https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/>

use tracing::{Span, field::Empty, info_span};

/// With this, a span has an error.
pub(super) const ERROR_TYPE: &str = "error.type";
/// Read by `tracing-opentelemetry`, as are those that begin with it.
pub(super) const STATUS: &str = "otel.status_code";
pub(super) const NAME: &str = "otel.name";
const KIND: &str = "otel.kind";

const SYSTEM: &str = "messaging.system";
const OPERATION: &str = "messaging.operation.name";
const OPERATION_TYPE: &str = "messaging.operation.type";
pub(super) const DESTINATION: &str = "messaging.destination.name";
pub(super) const ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
pub(super) const MESSAGE_ID: &str = "messaging.message.id";
pub(super) const CONVERSATION_ID: &str = "messaging.message.conversation_id";
pub(super) const BODY_SIZE: &str = "messaging.message.body.size";

// These are ours: the conventions have none.
pub(super) const PUBLISH_KIND: &str = "messaging.rabbitmq.publish.kind";
pub(super) const QUEUE: &str = "messaging.rabbitmq.queue";
pub(super) const ATTEMPT: &str = "messaging.rabbitmq.attempt";
pub(super) const REDELIVERED: &str = "messaging.rabbitmq.redelivered";
pub(super) const OUTCOME: &str = "messaging.rabbitmq.outcome";
pub(super) const TRACE_ID: &str = "trace_id";
pub(super) const LINK_TRACE_ID: &str = "link.trace_id";
pub(super) const LINK_SPAN_ID: &str = "link.span_id";

/// Returns the span of a publish, without its attributes.
pub(super) fn publish() -> Span {
    info_span!(
        target: "actix_pika",
        "publish",
        { KIND } = "producer",
        { SYSTEM } = "rabbitmq",
        { OPERATION } = "publish",
        { OPERATION_TYPE } = "send",
        { NAME } = Empty,
        { STATUS } = Empty,
        { ERROR_TYPE } = Empty,
        { DESTINATION } = Empty,
        { ROUTING_KEY } = Empty,
        { MESSAGE_ID } = Empty,
        { CONVERSATION_ID } = Empty,
        { BODY_SIZE } = Empty,
        { PUBLISH_KIND } = Empty,
    )
}

/// Returns the span of a task, without its attributes.
pub(super) fn process() -> Span {
    info_span!(
        target: "actix_pika",
        "process",
        { KIND } = "consumer",
        { SYSTEM } = "rabbitmq",
        { OPERATION } = "process",
        { OPERATION_TYPE } = "process",
        { NAME } = Empty,
        { STATUS } = Empty,
        { ERROR_TYPE } = Empty,
        { DESTINATION } = Empty,
        { ROUTING_KEY } = Empty,
        { MESSAGE_ID } = Empty,
        { CONVERSATION_ID } = Empty,
        { BODY_SIZE } = Empty,
        { QUEUE } = Empty,
        { ATTEMPT } = Empty,
        { REDELIVERED } = Empty,
        { OUTCOME } = Empty,
        { TRACE_ID } = Empty,
        { LINK_TRACE_ID } = Empty,
        { LINK_SPAN_ID } = Empty,
    )
}

/// Returns the name of a destination: what is not empty of exchange, routing key and queue, each once.
pub(super) fn destination(parts: [&str; 3]) -> String {
    let mut name = String::new();
    for (place, part) in parts.into_iter().enumerate() {
        if part.is_empty() || parts[..place].contains(&part) {
            continue;
        }
        if !name.is_empty() {
            name.push(':');
        }
        name.push_str(part);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_has_each_name_once() {
        assert_eq!(destination(["shop", "order.placed", ""]), "shop:order.placed");
        assert_eq!(destination(["shop", "order.placed", "bills"]), "shop:order.placed:bills");
        assert_eq!(destination(["", "jobs", "jobs"]), "jobs");
        assert_eq!(destination(["ticks", "", ""]), "ticks");
        assert_eq!(destination(["", "", ""]), "");
    }
}
