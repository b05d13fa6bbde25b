//! Answers as text.

use actix_pika_actors::{
    Value,
    wire::{
        method::{AMQPClass, basic, channel, queue},
        property_codec::decode_properties,
    },
};

/// The body, `[key:value ..]` of the headers, `reply` and an address, `again` if redelivered, and `via` exchange and key if the exchange
/// is not the default one.
pub(super) fn content_text(
    properties: &[u8],
    body: &[u8],
    redelivered: bool,
    exchange: &str,
    key: &str,
) -> String {
    let mut text = String::from_utf8_lossy(body).into_owned();
    let properties = decode_properties(properties).unwrap();
    if let Some(headers) = properties.headers() {
        let mut headers: Vec<String> =
            headers.iter().map(|(key, value)| format!("{key}:{}", value_text(value))).collect();
        headers.sort();
        text.push_str(&format!(" [{}]", headers.join(" ")));
    }
    if let Some(reply_to) = properties.reply_to() {
        text.push_str(&format!(" reply {reply_to}"));
    }
    if redelivered {
        text.push_str(" again");
    }
    if !exchange.is_empty() {
        text.push_str(&format!(" via {exchange} {key}"));
    }
    text
}

fn value_text(value: &Value) -> String {
    match value {
        Value::LongString(text) => text.to_string_lossy().into_owned(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(value_text).collect();
            format!("({})", values.join(" "))
        }
        Value::Table(table) => {
            let mut entries: Vec<String> =
                table.iter().map(|(key, value)| format!("{key}={}", value_text(value))).collect();
            entries.sort();
            format!("{{{}}}", entries.join(","))
        }
        Value::Timestamp(_) => "time".into(),
        Value::Boolean(value) => value.to_string(),
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |value| value.to_string()),
    }
}

pub(super) fn method_text(method: &AMQPClass) -> String {
    use {basic::AMQPMethod as Basic, channel::AMQPMethod as Channel, queue::AMQPMethod as Queue};
    match method {
        AMQPClass::Channel(Channel::Close(close)) => {
            format!(
                "close {} {} at {} {}",
                close.reply_code, close.reply_text, close.class_id, close.method_id
            )
        }
        AMQPClass::Channel(Channel::CloseOk(_)) => "closed".into(),
        AMQPClass::Queue(Queue::DeclareOk(ok)) => {
            format!("declared {} {} {}", ok.queue, ok.message_count, ok.consumer_count)
        }
        AMQPClass::Queue(Queue::DeleteOk(ok)) => format!("deleted {}", ok.message_count),
        AMQPClass::Queue(Queue::PurgeOk(ok)) => format!("purged {}", ok.message_count),
        AMQPClass::Basic(Basic::ConsumeOk(ok)) => format!("consuming {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::CancelOk(ok)) => format!("cancelled {}", ok.consumer_tag),
        AMQPClass::Basic(Basic::Cancel(cancel)) => format!("cancel {}", cancel.consumer_tag),
        AMQPClass::Basic(Basic::GetEmpty(_)) => "empty".into(),
        _ => "ok".into(),
    }
}

/// Shortens the headers to `[..]` where that is expected.
pub(super) fn abridged(answers: Vec<String>, expected: &[&str]) -> Vec<String> {
    let shorten = |(at, answer): (usize, String)| {
        let headers = answer.find('[').zip(answer.rfind(']'));
        match headers.filter(|_| expected.get(at).is_some_and(|expected| expected.contains("[..]"))) {
            Some((from, to)) => format!("{}[..]{}", &answer[..from], &answer[to + 1..]),
            None => answer,
        }
    };
    answers.into_iter().enumerate().map(shorten).collect()
}

/// Orders answers by channel, since those of different ones come in any order, and makes generated names alike.
pub(super) fn normal(mut answers: Vec<String>) -> Vec<String> {
    answers.sort_by_key(|answer| answer.split(' ').next().map(str::to_owned));
    for answer in &mut answers {
        for prefix in ["amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."] {
            if let Some(at) = answer.find(prefix) {
                let from = at + prefix.len();
                let len = answer[from..].find([' ', '\'', ']', ',']).unwrap_or(answer.len() - from);
                answer.replace_range(from..from + len, "*");
            }
        }
    }
    answers
}
