//! What the scanner passes, `amq-protocol` and our own reader read, to the same length and the same entries.
#![no_main]

use actix_pika_actors::wire::table::{Table, scan};
use amq_protocol::types::parsing::parse_field_table;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let own = Table::decode_front(data);
    if let Ok(len) = scan(data) {
        let (rest, fields) = parse_field_table(data).expect("amq-protocol reads what was scanned");
        let (table, own_len) = own.as_ref().expect("we read what was scanned");
        assert_eq!((data.len() - rest.len(), *own_len), (len, len));
        for (key, _) in &fields {
            assert!(table.contains_key(key.as_str()));
        }
        assert!(table.iter().all(|(key, _)| key.as_str().is_some_and(|key| fields.contains_key(key))));
    }
    let Ok((table, len)) = own else { return };
    let _ = (format!("{table} {table:?}"), table.to_field_table());
    let mut again = BytesMut::new();
    if table.encode(&mut again).is_ok() {
        assert_eq!((again.len(), table.encoded_len()), (len, len));
        assert_eq!(Table::decode(&again).expect("what we wrote"), table);
    } else {
        assert!(again.is_empty());
    }
});
