//! Decodes random properties and encodes them again. `amq-protocol` decodes the result, too.
#![no_main]

use actix_pika_actors::{
    Table,
    wire::{
        field::encode_table,
        property_codec::{check_properties, decode_properties, properties_len, put_properties},
        scan::scan,
    },
};
use amq_protocol::protocol::basic::parse_properties;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(properties) = decode_properties(data) else { return };
    let _ = (format!("{properties:?}"), properties.timestamp(), properties.expiration());
    let mut buf = BytesMut::new();
    put_properties(&mut buf, &properties);
    assert_eq!(buf.len(), properties_len(&properties));
    if check_properties(&properties).is_err() {
        return;
    }
    assert_eq!(decode_properties(&buf).expect("encoded properties"), properties);
    let texts = [
        (properties.content_type_bytes(), properties.content_type()),
        (properties.content_encoding_bytes(), properties.content_encoding()),
        (properties.correlation_id_bytes(), properties.correlation_id()),
        (properties.reply_to_bytes(), properties.reply_to()),
        (properties.message_id_bytes(), properties.message_id()),
        (properties.message_type_bytes(), properties.message_type()),
        (properties.user_id_bytes(), properties.user_id()),
        (properties.app_id_bytes(), properties.app_id()),
        (properties.cluster_id_bytes(), properties.cluster_id()),
    ];
    for (bytes, text) in texts {
        assert_eq!(bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()), text);
    }
    let whole = properties.headers_error().is_none()
        && properties.invalid_expiration().is_none()
        && texts.iter().all(|(bytes, text)| bytes.is_none() || text.is_some());
    if whole && properties.headers().is_none_or(all_keys_are_utf8) {
        let (rest, theirs) = parse_properties(&buf[..]).expect("encoded properties");
        assert!(rest.is_empty());
        assert_eq!(theirs.message_id().as_ref().map(|id| id.as_str()), properties.message_id());
        assert_eq!(theirs.priority(), &properties.priority());
    }
});

/// Returns whether all keys are UTF-8, those of nested tables included, as `amq-protocol` requires.
fn all_keys_are_utf8(table: &Table) -> bool {
    let mut buf = BytesMut::new();
    encode_table(&mut buf, table).is_ok() && scan(&buf).is_ok()
}
