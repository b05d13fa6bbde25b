//! What a broker says, as text.

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, connection, queue};

use super::{operation::At, values::value_text};

/// One thing that a broker says on a channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) at: At,
    pub(crate) said: Said,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// The reply to a method, or what is none of the others.
    Reply(String),
    /// Something about a consumer: consume-ok, cancel-ok, cancel.
    Consumer {
        tag: String,
        text: String,
    },
    Deliver {
        consumer: String,
        delivery: u64,
        text: String,
    },
    Got {
        delivery: u64,
        text: String,
    },
    Returned(String),
    /// A publish is confirmed, or refused.
    Confirm {
        number: u64,
        refused: bool,
    },
    ChannelClosed(String),
    ConnectionClosed(String),
    /// The socket has ended, which nobody asked for.
    Ended,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.at)?;
        match &self.said {
            Said::Reply(text) => write!(f, "{text}"),
            Said::Consumer { tag, text } => write!(f, "{text} {tag}"),
            Said::Deliver { consumer, delivery, text } => write!(f, "deliver {consumer} {delivery} {text}"),
            Said::Got { delivery, text } => write!(f, "got {delivery} {text}"),
            Said::Returned(text) => write!(f, "return {text}"),
            Said::Confirm { number, refused: false } => write!(f, "ack {number}"),
            Said::Confirm { number, refused: true } => write!(f, "nack {number}"),
            Said::ChannelClosed(text) | Said::ConnectionClosed(text) => write!(f, "close {text}"),
            Said::Ended => write!(f, "ended"),
        }
    }
}

/// A method without content, if it is not for the driver itself.
pub(crate) fn said(method: AMQPClass, short: impl Fn(&str) -> String) -> Said {
    use {basic::AMQPMethod as Basic, channel::AMQPMethod as Channel, queue::AMQPMethod as Queue};
    let consumer = |tag: &str, text: &str| Said::Consumer { tag: short(tag), text: text.to_owned() };
    let close = |code: u16, text: &str, class: u16, method: u16| {
        format!("{code} {} at {class} {method}", short(text))
    };
    match method {
        AMQPClass::Channel(Channel::Close(at)) => {
            Said::ChannelClosed(close(at.reply_code, at.reply_text.as_str(), at.class_id, at.method_id))
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(at)) => {
            Said::ConnectionClosed(close(at.reply_code, at.reply_text.as_str(), at.class_id, at.method_id))
        }
        AMQPClass::Channel(Channel::CloseOk(_)) => Said::Reply("closed".into()),
        AMQPClass::Queue(Queue::DeclareOk(ok)) => Said::Reply(format!(
            "declared {} {} {}",
            short(ok.queue.as_str()),
            ok.message_count,
            ok.consumer_count
        )),
        AMQPClass::Queue(Queue::DeleteOk(ok)) => Said::Reply(format!("deleted {}", ok.message_count)),
        AMQPClass::Queue(Queue::PurgeOk(ok)) => Said::Reply(format!("purged {}", ok.message_count)),
        AMQPClass::Basic(Basic::ConsumeOk(ok)) => consumer(ok.consumer_tag.as_str(), "consuming"),
        AMQPClass::Basic(Basic::CancelOk(ok)) => consumer(ok.consumer_tag.as_str(), "cancelled"),
        AMQPClass::Basic(Basic::Cancel(at)) => consumer(at.consumer_tag.as_str(), "cancel"),
        AMQPClass::Basic(Basic::GetEmpty(_)) => Said::Reply("empty".into()),
        other => {
            let text = format!("{other:?}");
            // `Queue(BindOk(BindOk))`: what is in the middle.
            let name = text.split(['(', ')']).nth(1).unwrap_or(&text);
            Said::Reply(if name.ends_with("Ok") { "ok".into() } else { text.clone() })
        }
    }
}

/// A method with content.
pub(crate) fn content(
    method: basic::AMQPMethod,
    properties: &BasicProperties,
    body: &[u8],
    short: impl Fn(&str) -> String,
) -> Said {
    let text = |redelivered: bool, exchange: &str, key: &str| {
        short(&content_text(properties, body, redelivered, exchange, key))
    };
    match method {
        basic::AMQPMethod::Deliver(at) => Said::Deliver {
            consumer: short(at.consumer_tag.as_str()),
            delivery: at.delivery_tag,
            text: text(at.redelivered, at.exchange.as_str(), at.routing_key.as_str()),
        },
        basic::AMQPMethod::GetOk(at) => Said::Got {
            delivery: at.delivery_tag,
            text: format!(
                "{}, {} left",
                text(at.redelivered, at.exchange.as_str(), at.routing_key.as_str()),
                at.message_count
            ),
        },
        basic::AMQPMethod::Return(at) => Said::Returned(format!(
            "{} {} {}",
            at.reply_code,
            at.reply_text,
            text(false, at.exchange.as_str(), at.routing_key.as_str())
        )),
        other => Said::Reply(format!("{other:?}")),
    }
}

/// The body, `[key:value ..]` of the headers, the other properties, `again` if redelivered, and `via` exchange and key.
fn content_text(
    properties: &BasicProperties,
    body: &[u8],
    redelivered: bool,
    exchange: &str,
    key: &str,
) -> String {
    let mut text = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
    if body.len() > 40 {
        text.push_str(&format!("({} octets)", body.len()));
    }
    if let Some(headers) = properties.headers() {
        let headers: Vec<String> =
            headers.inner().iter().map(|(key, value)| format!("{key}:{}", value_text(value))).collect();
        text.push_str(&format!(" [{}]", headers.join(" ")));
    }
    let mut property = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name} {value}"));
        }
    };
    property("type", properties.content_type().as_ref().map(ToString::to_string));
    property("encoding", properties.content_encoding().as_ref().map(ToString::to_string));
    property("mode", properties.delivery_mode().map(|mode| mode.to_string()));
    property("priority", properties.priority().map(|priority| priority.to_string()));
    property("correlation", properties.correlation_id().as_ref().map(ToString::to_string));
    property("reply", properties.reply_to().as_ref().map(ToString::to_string));
    property("expiration", properties.expiration().as_ref().map(ToString::to_string));
    property("id", properties.message_id().as_ref().map(ToString::to_string));
    property("time", properties.timestamp().map(|time| time.to_string()));
    property("kind", properties.kind().as_ref().map(ToString::to_string));
    property("user", properties.user_id().as_ref().map(ToString::to_string));
    property("app", properties.app_id().as_ref().map(ToString::to_string));
    property("cluster", properties.cluster_id().as_ref().map(ToString::to_string));
    if redelivered {
        text.push_str(" again");
    }
    text.push_str(&format!(" via '{exchange}' '{key}'"));
    text
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::{AMQPValue, FieldTable};

    use super::*;

    #[test]
    fn a_delivery_is_shown_with_all_that_it_says() {
        let mut headers = FieldTable::default();
        headers.insert("a".into(), AMQPValue::LongInt(1));
        let properties = BasicProperties::default().with_headers(headers).with_priority(3);
        let deliver = basic::Deliver {
            consumer_tag: "c".into(),
            delivery_tag: 4,
            redelivered: true,
            exchange: "x_u1".into(),
            routing_key: "k".into(),
        };
        let short = |text: &str| text.replace("_u1", "");
        let said = content(basic::AMQPMethod::Deliver(deliver), &properties, b"m1", short);
        let at = At { connection: 'a', channel: 1 };
        let text = Answer { at, said }.to_string();
        assert_eq!(text, "a1 deliver c 4 m1 [a:LongInt(1)] priority 3 again via 'x' 'k'");
    }

    #[test]
    fn a_reply_without_news_is_ok() {
        let bound = AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {}));
        assert_eq!(said(bound, str::to_owned), Said::Reply("ok".into()));
    }
}
