//! Every method that this client sends or receives, encoded and decoded again.

use actix_pika_actors::{
    Table, Value,
    wire::{
        field_table::to_field_table,
        frame::FRAME_MIN_SIZE,
        frame_decoder::FrameDecoder,
        method::{
            AMQPClass, basic, channel, confirm, connection, exchange, put_method, queue, read_method, tx,
        },
        method_names::method_name,
    },
};
use amq_protocol::types::{FieldTable, ShortString};
use bytes::BytesMut;
use proptest::prelude::*;

/// Random arguments for methods.
#[derive(Clone, Debug)]
struct Arguments {
    texts: [ShortString; 4],
    flags: [bool; 5],
    small: u16,
    large: u32,
    table: FieldTable,
}

fn arguments() -> impl Strategy<Value = Arguments> {
    let text = prop_oneof!["\\PC{0,40}", "x{255}"];
    let value = prop_oneof![any::<i32>().prop_map(Value::from), ".{0,20}".prop_map(Value::from)];
    let table = prop::collection::vec(("[a-z-]{1,12}", value), 0..4).prop_map(Table::from_iter);
    (prop::array::uniform4(text), any::<[bool; 5]>(), any::<u16>(), any::<u32>(), table).prop_map(
        |(texts, flags, small, large, table)| Arguments {
            texts: texts.map(|text| text.as_str().into()),
            flags,
            small,
            large,
            table: to_field_table(&table).unwrap(),
        },
    )
}

fn methods(arguments: &Arguments) -> Vec<AMQPClass> {
    let Arguments { texts: [a, b, c, d], flags: [p, q, r, s, t], small, large, table } = arguments.clone();
    let long = || a.as_str().into();
    let connection = [
        connection::AMQPMethod::Start(connection::Start {
            version_major: 0,
            version_minor: 9,
            server_properties: table.clone(),
            mechanisms: long(),
            locales: long(),
        }),
        connection::AMQPMethod::StartOk(connection::StartOk {
            client_properties: table.clone(),
            mechanism: a.clone(),
            response: long(),
            locale: b.clone(),
        }),
        connection::AMQPMethod::Secure(connection::Secure { challenge: long() }),
        connection::AMQPMethod::Tune(connection::Tune {
            channel_max: small,
            frame_max: large,
            heartbeat: small,
        }),
        connection::AMQPMethod::TuneOk(connection::TuneOk {
            channel_max: small,
            frame_max: large,
            heartbeat: small,
        }),
        connection::AMQPMethod::Open(connection::Open { virtual_host: a.clone() }),
        connection::AMQPMethod::OpenOk(connection::OpenOk {}),
        connection::AMQPMethod::Close(connection::Close {
            reply_code: small,
            reply_text: a.clone(),
            class_id: small,
            method_id: small,
        }),
        connection::AMQPMethod::CloseOk(connection::CloseOk {}),
        connection::AMQPMethod::Blocked(connection::Blocked { reason: a.clone() }),
        connection::AMQPMethod::Unblocked(connection::Unblocked {}),
        connection::AMQPMethod::UpdateSecret(connection::UpdateSecret {
            new_secret: long(),
            reason: b.clone(),
        }),
        connection::AMQPMethod::UpdateSecretOk(connection::UpdateSecretOk {}),
    ];
    let channel = [
        channel::AMQPMethod::Open(channel::Open {}),
        channel::AMQPMethod::OpenOk(channel::OpenOk {}),
        channel::AMQPMethod::Flow(channel::Flow { active: p }),
        channel::AMQPMethod::FlowOk(channel::FlowOk { active: p }),
        channel::AMQPMethod::Close(channel::Close {
            reply_code: small,
            reply_text: a.clone(),
            class_id: small,
            method_id: small,
        }),
        channel::AMQPMethod::CloseOk(channel::CloseOk {}),
    ];
    let exchange = [
        exchange::AMQPMethod::Declare(exchange::Declare {
            exchange: a.clone(),
            kind: b.clone(),
            passive: p,
            durable: q,
            auto_delete: r,
            internal: s,
            nowait: t,
            arguments: table.clone(),
        }),
        exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}),
        exchange::AMQPMethod::Delete(exchange::Delete { exchange: a.clone(), if_unused: p, nowait: q }),
        exchange::AMQPMethod::DeleteOk(exchange::DeleteOk {}),
        exchange::AMQPMethod::Bind(exchange::Bind {
            destination: a.clone(),
            source: b.clone(),
            routing_key: c.clone(),
            nowait: p,
            arguments: table.clone(),
        }),
        exchange::AMQPMethod::BindOk(exchange::BindOk {}),
        exchange::AMQPMethod::Unbind(exchange::Unbind {
            destination: a.clone(),
            source: b.clone(),
            routing_key: c.clone(),
            nowait: p,
            arguments: table.clone(),
        }),
        exchange::AMQPMethod::UnbindOk(exchange::UnbindOk {}),
    ];
    let queue = [
        queue::AMQPMethod::Declare(queue::Declare {
            queue: a.clone(),
            passive: p,
            durable: q,
            exclusive: r,
            auto_delete: s,
            nowait: t,
            arguments: table.clone(),
        }),
        queue::AMQPMethod::DeclareOk(queue::DeclareOk {
            queue: a.clone(),
            message_count: large,
            consumer_count: large,
        }),
        queue::AMQPMethod::Bind(queue::Bind {
            queue: a.clone(),
            exchange: b.clone(),
            routing_key: c.clone(),
            nowait: p,
            arguments: table.clone(),
        }),
        queue::AMQPMethod::BindOk(queue::BindOk {}),
        queue::AMQPMethod::Purge(queue::Purge { queue: a.clone(), nowait: p }),
        queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count: large }),
        queue::AMQPMethod::Delete(queue::Delete { queue: a.clone(), if_unused: p, if_empty: q, nowait: r }),
        queue::AMQPMethod::DeleteOk(queue::DeleteOk { message_count: large }),
        queue::AMQPMethod::Unbind(queue::Unbind {
            queue: a.clone(),
            exchange: b.clone(),
            routing_key: d.clone(),
            arguments: table.clone(),
        }),
        queue::AMQPMethod::UnbindOk(queue::UnbindOk {}),
    ];
    let basic = [
        basic::AMQPMethod::Qos(basic::Qos { prefetch_count: small, global: p }),
        basic::AMQPMethod::QosOk(basic::QosOk {}),
        basic::AMQPMethod::Consume(basic::Consume {
            queue: a.clone(),
            consumer_tag: b.clone(),
            no_local: p,
            no_ack: q,
            exclusive: r,
            nowait: s,
            arguments: table,
        }),
        basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: a.clone() }),
        basic::AMQPMethod::Cancel(basic::Cancel { consumer_tag: a.clone(), nowait: p }),
        basic::AMQPMethod::CancelOk(basic::CancelOk { consumer_tag: a.clone() }),
        basic::AMQPMethod::Get(basic::Get { queue: a.clone(), no_ack: p }),
        basic::AMQPMethod::Recover(basic::Recover { requeue: p }),
        basic::AMQPMethod::RecoverOk(basic::RecoverOk {}),
    ];
    let confirm = [
        confirm::AMQPMethod::Select(confirm::Select { nowait: p }),
        confirm::AMQPMethod::SelectOk(confirm::SelectOk {}),
    ];
    let tx = [
        tx::AMQPMethod::Select(tx::Select {}),
        tx::AMQPMethod::SelectOk(tx::SelectOk {}),
        tx::AMQPMethod::Commit(tx::Commit {}),
        tx::AMQPMethod::CommitOk(tx::CommitOk {}),
        tx::AMQPMethod::Rollback(tx::Rollback {}),
        tx::AMQPMethod::RollbackOk(tx::RollbackOk {}),
    ];
    let mut methods = Vec::new();
    methods.extend(connection.map(AMQPClass::Connection));
    methods.extend(channel.map(AMQPClass::Channel));
    methods.extend(exchange.map(AMQPClass::Exchange));
    methods.extend(queue.map(AMQPClass::Queue));
    methods.extend(basic.map(AMQPClass::Basic));
    methods.extend(confirm.map(AMQPClass::Confirm));
    methods.extend(tx.map(AMQPClass::Tx));
    methods
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn methods_decode_to_what_was_encoded(arguments in arguments()) {
        let methods = methods(&arguments);
        let mut buf = BytesMut::new();
        for method in &methods {
            put_method(&mut buf, 5, method).unwrap();
        }
        let batch = FrameDecoder::new(FRAME_MIN_SIZE).next_batch(&mut buf).unwrap().unwrap();
        prop_assert_eq!(batch.frames, methods.len());
        for (frame, method) in batch.iter().zip(&methods) {
            prop_assert_eq!(&read_method(&frame.payload).unwrap(), method);
            let ids = (frame.payload[1].into(), frame.payload[3].into());
            prop_assert_ne!(method_name(ids.0, ids.1), "unknown");
            for end in 4..frame.payload.len() {
                prop_assert_eq!(read_method(&frame.payload[..end]).unwrap_err().code, 502);
            }
        }
    }
}
