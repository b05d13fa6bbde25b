//! Malformed input from a hostile or broken server. Case numbers refer to the catalogue of malformed peers.

use actix_pika_actors::wire::{
    basic_decode::{Inbound, parse_header, parse_method},
    fault::Fault,
    field::{decode_table, encode_table},
    field_table::to_field_table,
    frame::FrameBatch,
    frame_decoder::FrameDecoder,
    method::read_method,
    other_protocol::other_protocol_detected,
    property_codec::{decode_properties, put_properties},
    scan::scan,
    table::MAX_DEPTH,
};
use bytes::{Bytes, BytesMut};

fn decode(bytes: &[u8]) -> Result<Option<FrameBatch>, Fault> {
    FrameDecoder::new(131_072).next_batch(&mut BytesMut::from(bytes))
}

fn table(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

/// Returns an encoded table with one entry: arrays nested this deep.
fn nested_arrays(levels: u32) -> Vec<u8> {
    let mut body = b"\x01k".to_vec();
    for level in (0..levels).rev() {
        body.push(b'A');
        body.extend((5 * level).to_be_bytes());
    }
    table(&body)
}

fn headers(table: &[u8]) -> Vec<u8> {
    [b"\x20\0", table].concat()
}

// Cases 01 and 02
#[test]
fn nesting_never_uses_more_stack_than_the_limit() {
    let thread = std::thread::Builder::new().stack_size(256 << 10).spawn(|| {
        for levels in [1_000, 4_000, 26_000] {
            let bytes = nested_arrays(levels);
            assert_eq!(scan(&bytes).unwrap_err().code, 502);
            assert_eq!(decode_table(&bytes).unwrap_err().code, 502);
            let properties = decode_properties(&headers(&bytes)).unwrap();
            let error = properties.headers_error().expect("an error").to_string();
            assert!(error.contains("headers") && properties.headers().is_none(), "{error}");
        }
        let bytes = nested_arrays(MAX_DEPTH as u32);
        assert_eq!(scan(&bytes), Ok(bytes.len()));
        let (table, _) = decode_table(&bytes).unwrap();
        assert!(to_field_table(&table).is_ok());
        let mut again = BytesMut::new();
        encode_table(&mut again, &table).unwrap();
        assert_eq!(again, bytes);
    });
    thread.unwrap().join().unwrap();
}

// Case 03
#[test]
fn a_routing_key_that_is_not_utf8_is_accepted() {
    let payload = b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x01\0\0\x02\xc3\x28";
    let Inbound::Deliver(deliver) = parse_method(payload).unwrap() else { panic!() };
    assert_eq!(deliver.routing_key.of(payload), b"\xc3\x28");
}

// Case 04
#[test]
fn a_header_key_that_is_not_utf8_is_kept() {
    let bytes = table(b"\x02\xc3\x28t\x01\x02okt\x01");
    assert_eq!(scan(&bytes).unwrap_err().code, 502);
    let properties = decode_properties(&headers(&bytes)).unwrap();
    let table = properties.headers().unwrap();
    assert_eq!(table.get("ok").and_then(|value| value.as_bool()), Some(true));
    assert_eq!(table.iter().next().unwrap().0.as_bytes(), b"\xc3\x28");
    assert!(to_field_table(table).is_err());
    let mut again = BytesMut::new();
    put_properties(&mut again, &properties);
    assert_eq!(again, headers(&bytes));
}

// Cases 05 and 06
#[test]
fn a_property_that_cannot_be_decoded_is_kept_as_bytes() {
    for bytes in [&b"\x04\0\x02\xc3\x28"[..], &headers(&table(b"\x01kZ"))] {
        let properties = decode_properties(bytes).unwrap();
        let mut again = BytesMut::new();
        put_properties(&mut again, &properties);
        assert_eq!(again, bytes);
        assert_eq!((properties.correlation_id(), properties.headers()), (None, None));
    }
}

// FT-03
#[test]
fn lengths_beyond_the_end_are_refused() {
    for kind in *b"SxAF" {
        for len in [5u32, 1 << 31, u32::MAX] {
            let bytes = table(&[b"\x01k", &[kind][..], &len.to_be_bytes(), b"abcd"].concat());
            assert_eq!(scan(&bytes).unwrap_err().code, 502);
            assert_eq!(decode_table(&bytes).unwrap_err().code, 502);
        }
    }
}

// PRO-16
#[test]
fn decoding_stops_at_the_end_of_a_table() {
    // The inner table claims a byte of what follows the outer one.
    let bytes = [table(b"\x01kF\0\0\0\x04\x01kt"), b"\x01".to_vec()].concat();
    assert_eq!(scan(&bytes).unwrap_err().code, 502);
    assert_eq!(decode_table(&bytes).unwrap_err().code, 502);
    let bytes = [table(b"\x01kt\x01"), b"\x01xt\x01".to_vec()].concat();
    assert_eq!(decode_table(&bytes).unwrap().1, 8);
    assert_eq!(decode_table(&bytes).unwrap().0.len(), 1);
}

// Cases 10 and 11
#[test]
fn methods_that_do_not_exist_are_503() {
    for payload in [&b"\0\x3c\0\xc8"[..], b"\0\xff\0\x0a"] {
        assert!(matches!(parse_method(payload), Ok(Inbound::Other { .. })));
        assert_eq!(read_method(payload).unwrap_err().code, 503);
    }
}

// Cases 12, 13, 14, 18, 19 and 27
#[test]
fn broken_framing_is_501() {
    for bytes in [
        &b"\x01\0\x01\0\0\0\x01x\x00"[..],
        b"\x07\0\x01\0\0\0\0",
        b"\x03\0\x01\xff\xff\xff\xff",
        b"\x03\0\x01\0\x03\x0d\x40",
        b"\x08\0\x01\0\0\0\0\xce",
        b"\x08\0\0\0\0\0\x01x\xce",
    ] {
        assert_eq!(decode(bytes).unwrap_err().code, 501, "{bytes:?}");
    }
}

// Case 25
#[test]
fn a_header_of_another_class_is_501() {
    let payload = Bytes::from_static(b"\0\x32\0\0\0\0\0\0\0\0\0\x01\0\0");
    assert_eq!(parse_header(&payload).unwrap_err().code, 501);
}

// Case 26
#[test]
fn arguments_cut_short_are_502() {
    for payload in [&b"\0\x32\0\x0b\x03q"[..], b"\0\x3c\0\x50\0\0\0", b"\0\x3c\0\x47\0", b"\0\x3c\0\x32\x01"]
    {
        let read = parse_method(payload).and_then(|inbound| match inbound {
            Inbound::Other { .. } => read_method(payload).map(|_| ()),
            _ => Ok(()),
        });
        assert_eq!(read.unwrap_err().code, 502, "{payload:?}");
    }
}

// PRO-07
#[test]
fn another_protocol_is_detected() {
    for (bytes, text) in [
        (&b"AMQP\0\x01\0\0"[..], "0-1-0-0"),
        (b"AMQP\x03\x01\0\0", "3-1-0-0"),
        (b"HTTP/1.1 400 Bad Request", "HTTP/1.1"),
        (b"\x15\x03\x01\0\x02", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH-2.0"),
        (b"\xff\xfb\x01", "..."),
    ] {
        let fault = other_protocol_detected(bytes).unwrap();
        assert!(fault.code == 501 && fault.text.contains(text), "{fault}");
    }
}
