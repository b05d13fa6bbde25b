//! Methods that are not written by hand: declare, bind, consume, open, close and the rest, by `amq-protocol`.
//!
//! Its parser descends as deep as a table nests and its error says nothing of what failed, so the class and method
//! are looked up here, and tables are [scanned](super::table::scan) before it sees them. The texts of `close` are read by
//! hand: RabbitMQ cuts them at 255 bytes, in the middle of a character if it has to.

pub use amq_protocol::protocol::{
    AMQPClass, access, basic, channel, confirm, connection, exchange, queue, tx,
};
use amq_protocol::protocol::{gen_class, parse_class};
pub use amq_protocol::types::{FieldTable, LongString, ShortString};
use bytes::{BufMut, BytesMut};

use super::{cursor::Cursor, fault::Fault, frame::FRAME_END, scan::scan, short::SHORT_MAX};

/// Appends the frame of a method.
///
/// Fails on nothing that a program can build without going round [`short`](super::short::short) and
/// [`Table`](super::table::Table); leaves `buf` as it was when it does.
///
/// # Errors
/// [`Fault`] with 502 or 501 for what cannot be written.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::{AMQPClass, channel, put_method, read_method};
/// let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
/// let mut buf = BytesMut::new();
/// put_method(&mut buf, 1, &open)?;
/// assert_eq!(read_method(&buf[7..buf.len() - 1])?, open);
/// # Ok::<(), actix_pika_actors::wire::Fault>(())
/// ```
pub fn put_method(buf: &mut BytesMut, channel: u16, method: &AMQPClass) -> Result<(), Fault> {
    // Into a vector, because the writers of `amq-protocol` panic on slices that are too short.
    let written = gen_class(method)(Vec::with_capacity(128).into());
    let (payload, _) = written.map_err(|_| Fault::syntax("method cannot be written"))?.into_inner();
    let size = u32::try_from(payload.len()).map_err(|_| Fault::frame("method of 4 GiB"))?;
    buf.reserve(payload.len() + super::frame::FRAME_OVERHEAD);
    buf.put_u8(1);
    buf.put_u16(channel);
    buf.put_u32(size);
    buf.put_slice(&payload);
    buf.put_u8(FRAME_END);
    Ok(())
}

/// Tells the class and method ids of a method.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::{AMQPClass, channel, ids};
/// assert_eq!(ids(&AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))), (20, 10));
/// ```
pub fn ids(method: &AMQPClass) -> (u16, u16) {
    (method.get_amqp_class_id(), method.get_amqp_method_id())
}

/// Reads the payload of a method frame.
///
/// A method that AMQP 0-9-1 does not have is a 503, one whose arguments cannot be read a 502. Octets behind the
/// last argument are not looked at.
///
/// # Errors
/// [`Fault`] with 503 or 502, and the ids of the method.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::read_method;
/// assert_eq!(read_method(b"\0\x07\0\x07").unwrap_err().code, 503);
/// ```
pub fn read_method(payload: &[u8]) -> Result<AMQPClass, Fault> {
    let mut cursor = Cursor::new(payload);
    let ids = cursor.short().zip(cursor.short());
    let (class_id, method_id) = ids.ok_or_else(|| Fault::syntax("method frame without class and method"))?;
    if name(class_id, method_id) == UNKNOWN {
        let text = format!("unknown method {method_id} of class {class_id}");
        return Err(Fault::command(text).with_method(class_id, method_id));
    }
    let broken = |text: &'static str| Fault::syntax(text).with_method(class_id, method_id);
    let close = match (class_id, method_id) {
        (10, 50) => read_close(cursor).map(|(reply_code, reply_text, class_id, method_id)| {
            let close = connection::Close { reply_code, reply_text, class_id, method_id };
            AMQPClass::Connection(connection::AMQPMethod::Close(close))
        }),
        (20, 40) => read_close(cursor).map(|(reply_code, reply_text, class_id, method_id)| {
            let close = channel::Close { reply_code, reply_text, class_id, method_id };
            AMQPClass::Channel(channel::AMQPMethod::Close(close))
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
    close.ok_or_else(|| broken("arguments cannot be read"))
}

/// Code, text, class and method; the text with what is not UTF-8 replaced.
fn read_close(mut cursor: Cursor<'_>) -> Option<(u16, ShortString, u16, u16)> {
    let code = cursor.short()?;
    let mut text = String::from_utf8_lossy(cursor.shortstr()?).into_owned();
    let mut end = text.len().min(SHORT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    Some((code, ShortString::try_new(text).ok()?, cursor.short()?, cursor.short()?))
}

/// The arguments in front of a method's table: so many octets, so many short strings, so many octets.
struct Before(usize, usize, usize);

impl Before {
    fn skip(self, mut cursor: Cursor<'_>) -> Option<usize> {
        cursor.take(self.0)?;
        for _ in 0..self.1 {
            cursor.shortstr()?;
        }
        cursor.take(self.2)?;
        Some(cursor.at())
    }
}

fn before_table(ids: (u16, u16)) -> Option<Before> {
    Some(match ids {
        (10, 10) => Before(2, 0, 0),
        (10, 11) => Before(0, 0, 0),
        (40, 10) => Before(2, 2, 1),
        (40, 30 | 40) => Before(2, 3, 1),
        (50, 10) => Before(2, 1, 1),
        (50, 20) => Before(2, 3, 1),
        (50, 50) => Before(2, 3, 0),
        (60, 20) => Before(2, 2, 1),
        _ => return None,
    })
}

const UNKNOWN: &str = "unknown";

/// Names a method, such as `"queue.declare"`, or `"unknown"`.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::method_name;
/// assert_eq!(method_name(50, 10), "queue.declare");
/// ```
pub fn name(class_id: u16, method_id: u16) -> &'static str {
    match (class_id, method_id) {
        (10, 10) => "connection.start",
        (10, 11) => "connection.start-ok",
        (10, 20) => "connection.secure",
        (10, 21) => "connection.secure-ok",
        (10, 30) => "connection.tune",
        (10, 31) => "connection.tune-ok",
        (10, 40) => "connection.open",
        (10, 41) => "connection.open-ok",
        (10, 50) => "connection.close",
        (10, 51) => "connection.close-ok",
        (10, 60) => "connection.blocked",
        (10, 61) => "connection.unblocked",
        (10, 70) => "connection.update-secret",
        (10, 71) => "connection.update-secret-ok",
        (20, 10) => "channel.open",
        (20, 11) => "channel.open-ok",
        (20, 20) => "channel.flow",
        (20, 21) => "channel.flow-ok",
        (20, 40) => "channel.close",
        (20, 41) => "channel.close-ok",
        (30, 10) => "access.request",
        (30, 11) => "access.request-ok",
        (40, 10) => "exchange.declare",
        (40, 11) => "exchange.declare-ok",
        (40, 20) => "exchange.delete",
        (40, 21) => "exchange.delete-ok",
        (40, 30) => "exchange.bind",
        (40, 31) => "exchange.bind-ok",
        (40, 40) => "exchange.unbind",
        (40, 51) => "exchange.unbind-ok",
        (50, 10) => "queue.declare",
        (50, 11) => "queue.declare-ok",
        (50, 20) => "queue.bind",
        (50, 21) => "queue.bind-ok",
        (50, 30) => "queue.purge",
        (50, 31) => "queue.purge-ok",
        (50, 40) => "queue.delete",
        (50, 41) => "queue.delete-ok",
        (50, 50) => "queue.unbind",
        (50, 51) => "queue.unbind-ok",
        (60, 10) => "basic.qos",
        (60, 11) => "basic.qos-ok",
        (60, 20) => "basic.consume",
        (60, 21) => "basic.consume-ok",
        (60, 30) => "basic.cancel",
        (60, 31) => "basic.cancel-ok",
        (60, 40) => "basic.publish",
        (60, 50) => "basic.return",
        (60, 60) => "basic.deliver",
        (60, 70) => "basic.get",
        (60, 71) => "basic.get-ok",
        (60, 72) => "basic.get-empty",
        (60, 80) => "basic.ack",
        (60, 90) => "basic.reject",
        (60, 100) => "basic.recover-async",
        (60, 110) => "basic.recover",
        (60, 111) => "basic.recover-ok",
        (60, 120) => "basic.nack",
        (85, 10) => "confirm.select",
        (85, 11) => "confirm.select-ok",
        (90, 10) => "tx.select",
        (90, 11) => "tx.select-ok",
        (90, 20) => "tx.commit",
        (90, 21) => "tx.commit-ok",
        (90, 30) => "tx.rollback",
        (90, 31) => "tx.rollback-ok",
        _ => UNKNOWN,
    }
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
    fn a_close_keeps_its_number_and_as_much_of_its_text_as_is_text() {
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
    fn a_table_too_deep_never_reaches_the_parser() {
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
