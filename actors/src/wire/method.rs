//! Encoding and decoding of every method through `amq-protocol`, in both directions.
//!
//! The decoder of `amq-protocol` recurses as deep as a table nests, and its errors do not name what failed.
//! So class and method are looked up here, and tables are [scanned](super::scan::scan) first. Texts that only
//! people read are decoded by hand, because they need not be UTF-8: RabbitMQ truncates the text of `close` at
//! 255 bytes, possibly inside a character.
//! Methods that are sent once per message are in `basic_encode.rs` and `basic_decode.rs`.

pub use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue, tx};
use amq_protocol::protocol::{gen_class, parse_class};
use amq_protocol::types::ShortString;
use bytes::{BufMut, BytesMut};

use super::{
    cursor::Cursor,
    fault::Fault,
    frame::{FRAME_END, FRAME_OVERHEAD, METHOD},
    method_names::{UNKNOWN, method_name},
    scan::scan,
    short::short_truncated,
};

/// Appends the frame of a method to `buf`. On an error `buf` is left unchanged.
///
/// Cannot fail for a method whose strings come from [`short`](super::short::short) and whose tables come from
/// [`to_field_table`](super::field_table::to_field_table).
///
/// # Errors
/// [`Fault`] with 502 or 501 for a method that cannot be encoded.
pub fn put_method(buf: &mut BytesMut, channel: u16, method: &AMQPClass) -> Result<(), Fault> {
    // Encode into a vector: `amq-protocol` panics on a slice that is too short.
    let written = gen_class(method)(Vec::with_capacity(128).into());
    let (payload, _) = written.map_err(|_| Fault::syntax("method cannot be written"))?.into_inner();
    let size = u32::try_from(payload.len()).map_err(|_| Fault::frame("method of 4 GiB"))?;
    buf.reserve(payload.len() + FRAME_OVERHEAD);
    buf.put_u8(METHOD);
    buf.put_u16(channel);
    buf.put_u32(size);
    buf.put_slice(&payload);
    buf.put_u8(FRAME_END);
    Ok(())
}

/// Returns the class id and the method id of a method.
pub fn ids(method: &AMQPClass) -> (u16, u16) {
    (method.get_amqp_class_id(), method.get_amqp_method_id())
}

/// Decodes the payload of a method frame. Octets after the last argument are ignored.
///
/// # Errors
/// [`Fault`] with 503 for a method that AMQP 0-9-1 does not have, and with 502 for arguments that cannot be
/// decoded, both with the ids of the method.
pub fn read_method(payload: &[u8]) -> Result<AMQPClass, Fault> {
    let mut cursor = Cursor::new(payload);
    let ids = cursor.short().zip(cursor.short());
    let (class_id, method_id) = ids.ok_or_else(|| Fault::syntax("method frame without class and method"))?;
    if method_name(class_id, method_id) == UNKNOWN {
        let text = format!("unknown method {method_id} of class {class_id}");
        return Err(Fault::command(text).with_method(class_id, method_id));
    }
    let broken = |text: &'static str| Fault::syntax(text).with_method(class_id, method_id);
    let method = match (class_id, method_id) {
        (10, 50) => read_close(cursor).map(|(reply_code, reply_text, class_id, method_id)| {
            let close = connection::Close { reply_code, reply_text, class_id, method_id };
            AMQPClass::Connection(connection::AMQPMethod::Close(close))
        }),
        (20, 40) => read_close(cursor).map(|(reply_code, reply_text, class_id, method_id)| {
            let close = channel::Close { reply_code, reply_text, class_id, method_id };
            AMQPClass::Channel(channel::AMQPMethod::Close(close))
        }),
        (10, 41) => read_text(cursor)
            .map(|_| AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))),
        (10, 60) => read_text(cursor).map(|reason| {
            AMQPClass::Connection(connection::AMQPMethod::Blocked(connection::Blocked { reason }))
        }),
        ids => {
            if let Some(before) = before_table(ids) {
                let table = before.skip(cursor).and_then(|at| payload.get(at..));
                scan(table.ok_or_else(|| broken("arguments cut short"))?)
                    .map_err(|fault| fault.with_method(class_id, method_id))?;
            }
            parse_class(payload).ok().map(|(_, method)| method)
        }
    };
    method.ok_or_else(|| broken("arguments cannot be read"))
}

/// Decodes code, text, class and method.
fn read_close(mut cursor: Cursor<'_>) -> Option<(u16, ShortString, u16, u16)> {
    let code = cursor.short()?;
    let text = lossy(cursor.shortstr()?);
    Some((code, text, cursor.short()?, cursor.short()?))
}

/// Decodes a text that is the only argument of its method.
fn read_text(mut cursor: Cursor<'_>) -> Option<ShortString> {
    cursor.shortstr().map(lossy)
}

/// Converts a text with invalid UTF-8 replaced, which may make it too long.
fn lossy(text: &[u8]) -> ShortString {
    short_truncated(&String::from_utf8_lossy(text))
}

/// The size of the arguments in front of a method's table: octets, then short strings, then octets.
struct BeforeTable {
    octets: usize,
    strings: usize,
    more_octets: usize,
}

impl BeforeTable {
    /// Returns where the table starts.
    fn skip(self, mut cursor: Cursor<'_>) -> Option<usize> {
        cursor.take(self.octets)?;
        for _ in 0..self.strings {
            cursor.shortstr()?;
        }
        cursor.take(self.more_octets)?;
        Some(cursor.at())
    }
}

/// Returns what precedes the table of a method, or `None` for a method without a table.
fn before_table(ids: (u16, u16)) -> Option<BeforeTable> {
    let (octets, strings, more_octets) = match ids {
        (10, 10) => (2, 0, 0),
        (10, 11) => (0, 0, 0),
        (40, 10) => (2, 2, 1),
        (40, 30 | 40) => (2, 3, 1),
        (50, 10) => (2, 1, 1),
        (50, 20) => (2, 3, 1),
        (50, 50) => (2, 3, 0),
        (60, 20) => (2, 2, 1),
        _ => return None,
    };
    Some(BeforeTable { octets, strings, more_octets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_does_not_exist_is_a_503() {
        for payload in [&b"\0\x3c\0\xc8"[..], b"\0\x63\0\x0a"] {
            let fault = read_method(payload).unwrap_err();
            assert_eq!(fault.code, 503);
            assert_ne!(fault.method_id, 0);
        }
    }

    #[test]
    fn arguments_cut_short_are_a_502() {
        for payload in
            [&b""[..], b"\0\x3c", b"\0\x32\0\x0b\x05q", b"\0\x32\0\x0a\0\0\x01q\0", b"\0\x14\0\x28\x01"]
        {
            assert_eq!(read_method(payload).unwrap_err().code, 502, "{payload:?}");
        }
    }

    /// PRO-13
    #[test]
    fn a_close_keeps_its_code_and_the_valid_part_of_its_text() {
        let read = read_method(b"\0\x0a\0\x32\x02\x57\x04caf\xc3\0\0\0\0").unwrap();
        let AMQPClass::Connection(connection::AMQPMethod::Close(close)) = read else { panic!() };
        assert_eq!((close.reply_code, close.reply_text.as_str()), (599, "caf\u{fffd}"));

        let mut payload = b"\0\x14\0\x28\x01\x94\xff".to_vec();
        payload.extend([0xFF; 255]);
        payload.extend(b"\0\x32\0\x0a");
        let AMQPClass::Channel(channel::AMQPMethod::Close(close)) = read_method(&payload).unwrap() else {
            panic!()
        };
        assert_eq!(close.reply_text.as_str(), "\u{fffd}".repeat(85));
        assert_eq!((close.class_id, close.method_id), (50, 10));
    }

    #[test]
    fn a_text_that_is_not_utf8_is_taken() {
        let read = read_method(b"\0\x0a\0\x3c\x05low \xff").unwrap();
        let AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) = read else { panic!() };
        assert_eq!(blocked.reason.as_str(), "low \u{fffd}");
        assert_eq!(ids(&read_method(b"\0\x0a\0\x29\x01\xc3").unwrap()), (10, 41));
        assert_eq!(read_method(b"\0\x0a\0\x3c\x05low").unwrap_err().code, 502);
    }

    #[test]
    fn a_table_too_deep_is_refused_before_amq_protocol_decodes_it() {
        let mut body = b"\x01k".to_vec();
        for level in (0..26_000u32).rev() {
            body.push(b'A');
            body.extend((5 * level).to_be_bytes());
        }
        let mut payload = b"\0\x0a\0\x0a\0\x09".to_vec();
        payload.extend((body.len() as u32).to_be_bytes());
        payload.extend(body);
        payload.extend(b"\0\0\0\x05PLAIN\0\0\0\x05en_US");
        let fault = read_method(&payload).unwrap_err();
        assert_eq!((fault.code, fault.class_id, fault.method_id), (502, 10, 10));
    }
}
