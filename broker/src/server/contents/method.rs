//! The methods of channels: which one it is, and what it says.

use actix_pika_actors::wire::method::read_method;
use bytes::Bytes;

use super::{
    super::frames::{BASIC, ids},
    Event, Published,
    layout::{Misfit, check},
};
use crate::core::{Close, print_binary};

pub(super) const PUBLISH: u16 = 40;

pub(super) fn cannot_decode(payload: &[u8]) -> Close {
    let (class_id, method_id) = ids(payload);
    let fields = payload.get(4..).unwrap_or_default();
    Close::new(501, format!("cannot decode {}", print_binary(fields))).at(class_id, method_id)
}

pub(super) fn decode(payload: &[u8]) -> Result<Event, Close> {
    match check(payload) {
        Ok(()) if let [0, 60, 0, method @ (200 | 201), ..] = payload => {
            // basic.credit and its reply, which only RabbitMQ has.
            return Err(Close::new(503, "unimplemented method").at(BASIC, u16::from(*method)));
        }
        Ok(()) => {}
        Err(Misfit::Text) => return Err(Close::new(501, "Malformed UTF-8 in shortstr")),
        Err(Misfit::Length) => return Err(cannot_decode(payload)),
        // Its process ends.
        Err(Misfit::Table) => return Ok(Event::Reset),
    }
    // The decoder drops the size.
    if let Some(&[0, 60, 0, 10, s3, s2, s1, s0]) = payload.first_chunk()
        && let size @ 1.. = u32::from_be_bytes([s3, s2, s1, s0])
    {
        return Err(Close::new(540, format!("prefetch_size!=0 ({size})")).at(BASIC, 10));
    }
    match read_method(payload) {
        Ok(method) => Ok(Event::Method(method)),
        Err(fault) if fault.code == 503 => Ok(Event::Reset),
        Err(_) => Err(cannot_decode(payload)),
    }
}

/// A method of a channel that the broker has closed. Publishes are dropped with their contents.
pub(super) fn closing_method(payload: &[u8]) -> Result<Event, Close> {
    if ids(payload) == (BASIC, PUBLISH) { Ok(Event::None) } else { decode(payload) }
}

pub(super) fn read_publish(payload: &Bytes) -> Option<Published> {
    let rest = payload.get(6..)?;
    let (exchange, rest) = read_short(rest)?;
    let (routing_key, rest) = read_short(rest)?;
    let &[bits] = rest else { return None };
    Some(Published {
        exchange: payload.slice_ref(exchange),
        routing_key: payload.slice_ref(routing_key),
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
        properties: Bytes::new(),
        body: Bytes::new(),
    })
}

/// Reads a short string. RabbitMQ does not look at those of a publish.
fn read_short(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(len.into())?;
    Some((text, rest))
}
