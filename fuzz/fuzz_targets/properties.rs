//! Properties that were read are written and read again as they were, and `amq-protocol` reads them too.
#![no_main]

use actix_pika_actors::wire::{
    properties::Properties,
    table::{Table, scan},
};
use amq_protocol::protocol::basic::parse_properties;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(properties) = Properties::decode(data) else { return };
    let _ = (format!("{properties:?}"), properties.timestamp(), properties.expiration());
    let mut buf = BytesMut::new();
    properties.encode(&mut buf);
    assert_eq!(buf.len(), properties.encoded_len());
    if properties.check().is_err() {
        return;
    }
    assert_eq!(Properties::decode(&buf).expect("what we wrote"), properties);
    if properties.headers().is_none_or(all_text) {
        let (rest, theirs) = parse_properties(&buf[..]).expect("amq-protocol reads what we wrote");
        assert!(rest.is_empty());
        assert_eq!(theirs.message_id().as_ref().map(|id| id.as_str()), properties.message_id());
        assert_eq!(theirs.priority(), &properties.priority());
    }
});

/// Whether all keys are UTF-8, those of inner tables too: what `amq-protocol` asks for.
fn all_text(table: &Table) -> bool {
    let mut buf = BytesMut::new();
    table.encode(&mut buf).is_ok() && scan(&buf).is_ok()
}
