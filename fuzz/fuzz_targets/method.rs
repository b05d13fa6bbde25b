//! Decodes random methods with both decoders. The results are equal, and encoding does not change them.
#![no_main]

use actix_pika_actors::wire::{
    basic_decode::{Inbound, parse_method},
    method::{AMQPClass, basic, put_method, read_method},
    method_names::method_name,
};
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let inbound = parse_method(data);
    let method = match read_method(data) {
        Ok(method) => method,
        Err(fault) => {
            assert!(fault.code == 502 || fault.code == 503);
            let _ = fault.to_string();
            return;
        }
    };
    let mut buf = BytesMut::new();
    put_method(&mut buf, 1, &method).expect("a decoded method");
    let again = read_method(&buf[7..buf.len() - 1]).expect("an encoded method");
    // NaN is not equal to itself.
    assert_eq!(format!("{again:?}"), format!("{method:?}"));
    match (inbound.expect("decoded by read_method"), method) {
        (Inbound::Deliver(deliver), AMQPClass::Basic(basic::AMQPMethod::Deliver(theirs))) => {
            assert_eq!(
                (deliver.delivery_tag, deliver.redelivered),
                (theirs.delivery_tag, theirs.redelivered)
            );
            assert_eq!(deliver.consumer_tag.of(data), theirs.consumer_tag.as_str().as_bytes());
            assert_eq!(deliver.exchange.of(data), theirs.exchange.as_str().as_bytes());
            assert_eq!(deliver.routing_key.of(data), theirs.routing_key.as_str().as_bytes());
        }
        (Inbound::GetOk(get_ok), AMQPClass::Basic(basic::AMQPMethod::GetOk(theirs))) => {
            assert_eq!((get_ok.delivery_tag, get_ok.redelivered), (theirs.delivery_tag, theirs.redelivered));
            assert_eq!(get_ok.message_count, theirs.message_count);
            assert_eq!(get_ok.routing_key.of(data), theirs.routing_key.as_str().as_bytes());
        }
        (Inbound::Return(head), AMQPClass::Basic(basic::AMQPMethod::Return(theirs))) => {
            assert_eq!(head.code, theirs.reply_code);
            assert_eq!(head.text.of(data), theirs.reply_text.as_str().as_bytes());
        }
        (Inbound::Ack { tag, multiple }, AMQPClass::Basic(basic::AMQPMethod::Ack(theirs))) => {
            assert_eq!((tag, multiple), (theirs.delivery_tag, theirs.multiple));
        }
        (Inbound::Nack { tag, multiple, requeue }, AMQPClass::Basic(basic::AMQPMethod::Nack(theirs))) => {
            assert_eq!((tag, multiple, requeue), (theirs.delivery_tag, theirs.multiple, theirs.requeue));
        }
        (Inbound::GetEmpty, AMQPClass::Basic(basic::AMQPMethod::GetEmpty(_))) => {}
        (Inbound::Other { class_id, method_id }, _) => {
            assert_ne!(method_name(class_id, method_id), "unknown")
        }
        (inbound, method) => panic!("{inbound:?} is not {method:?}"),
    }
});
