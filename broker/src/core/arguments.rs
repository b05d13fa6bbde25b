use super::{error::Failure, line::Line, message::Name, queue::OffsetSpec, settings::*};
use actix_pika_actors::Table;
pub(crate) struct QueueFlags {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
}
pub(crate) struct CheckedQueue {
    pub(crate) settings: QueueSettings,
    pub(crate) expires: Option<u64>,
    pub(crate) dead_letter: Option<(Name, Option<Name>)>,
}
pub(crate) struct ConsumerArguments {
    pub(crate) priority: i64,
    pub(crate) offset: OffsetSpec,
}
pub(crate) fn queue(args: &Table, line: Line, flags: QueueFlags, _r: &str) -> Result<CheckedQueue, Failure> {
    let _ = (flags.durable, flags.exclusive, flags.auto_delete);
    let int = |k: &str| args.get(k).and_then(|v| v.as_i64()).map(|v| v as u64);
    let text = |k: &str| args.get(k).and_then(|v| v.as_str()).map(Name::from);
    let kind = match args.get("x-queue-type").and_then(|v| v.as_str()) {
        Some("quorum") => QueueKind::Quorum {
            delivery_limit: int("x-delivery-limit").map(|v| v as u32).or(line.rules().default_delivery_limit),
        },
        Some("stream") => QueueKind::Stream { max_age: None, segment_bytes: 500_000_000 },
        _ => QueueKind::Classic { max_priority: int("x-max-priority").map(|v| v as u8) },
    };
    let overflow = match args.get("x-overflow").and_then(|v| v.as_str()) {
        Some("reject-publish") => Overflow::RejectPublish,
        Some("reject-publish-dlx") => Overflow::RejectPublishDeadLetter,
        _ => Overflow::DropHead,
    };
    Ok(CheckedQueue {
        settings: QueueSettings {
            line,
            kind,
            message_ttl: int("x-message-ttl"),
            max_length: int("x-max-length"),
            max_bytes: int("x-max-length-bytes"),
            overflow,
            single_active: args.get("x-single-active-consumer").and_then(|v| v.as_bool()) == Some(true),
        },
        expires: int("x-expires"),
        dead_letter: text("x-dead-letter-exchange").map(|x| (x, text("x-dead-letter-routing-key"))),
    })
}
pub(crate) fn same_queue(_: &Table, _: &Table, _: &QueueSettings, _: &str) -> Result<(), Failure> {
    Ok(())
}
pub(crate) fn same_arguments(_: &Table, _: &Table, _: &[&str], _: &str) -> Result<(), String> {
    Ok(())
}
pub(crate) fn consumer(args: &Table, _: &QueueSettings, _: &str) -> Result<ConsumerArguments, Failure> {
    Ok(ConsumerArguments {
        priority: args.get("x-priority").and_then(|v| v.as_i64()).unwrap_or(0),
        offset: OffsetSpec::Next,
    })
}
