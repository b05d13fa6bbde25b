//! Decodes random tables. `amq-protocol` and our decoder read the same length and keys from every table that `scan` accepts.
#![no_main]

use actix_pika_actors::wire::{
    field::{decode_table, encode_table, table_len},
    field_table::to_field_table,
    scan::scan,
};
use amq_protocol::types::parsing::parse_field_table;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let own = decode_table(data);
    if let Ok(len) = scan(data) {
        let (rest, fields) = parse_field_table(data).expect("a scanned table");
        let (table, own_len) = own.as_ref().expect("a scanned table");
        assert_eq!((data.len() - rest.len(), *own_len), (len, len));
        for (key, _) in &fields {
            assert!(table.contains_key(key.as_str()));
        }
        assert!(table.iter().all(|(key, _)| key.as_str().is_some_and(|key| fields.contains_key(key))));
    }
    let Ok((table, len)) = own else { return };
    let _ = (format!("{table} {table:?}"), to_field_table(&table));
    let mut again = BytesMut::new();
    if encode_table(&mut again, &table).is_ok() {
        assert_eq!((again.len(), table_len(&table)), (len, len));
        assert_eq!(decode_table(&again).expect("an encoded table"), (table, len));
    } else {
        assert!(again.is_empty());
    }
});
