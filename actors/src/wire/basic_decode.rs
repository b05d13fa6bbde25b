//! Decoding of the frames that are received once per message: `basic.deliver`, confirms and content headers.
//!
//! No string is copied: a [`Span`] marks its position in the payload, which the caller keeps. Strings need
//! not be UTF-8, because RabbitMQ relays what was published.

use bytes::Bytes;

use super::{
    basic_ids::{ACK, BASIC, CONTENT_HEADER_LEN, DELIVER, GET_EMPTY, GET_OK, NACK, RETURN},
    cursor::Cursor,
    fault::Fault,
    span::Span,
};

/// A received method, as far as [`parse_method`] decodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// `basic.deliver`, followed by content.
    Deliver(Deliver),
    /// `basic.get-ok`, followed by content.
    GetOk(GetOk),
    /// `basic.get-empty`
    GetEmpty,
    /// `basic.return`, followed by content.
    Return(ReturnHead),
    /// `basic.ack`
    Ack {
        /// The delivery tag.
        tag: u64,
        /// Whether all earlier tags are acked too.
        multiple: bool,
    },
    /// `basic.nack`
    Nack {
        /// The delivery tag.
        tag: u64,
        /// Whether all earlier tags are nacked too.
        multiple: bool,
        /// Whether to requeue. Without meaning when the broker sends it.
        requeue: bool,
    },
    /// Any other method, for [`read_method`](super::method::read_method).
    Other {
        /// The class id.
        class_id: u16,
        /// The method id.
        method_id: u16,
    },
}

/// A `basic.deliver`. Spans refer to the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliver {
    /// The delivery tag.
    pub delivery_tag: u64,
    /// Whether the message was delivered before.
    pub redelivered: bool,
    /// The tag of the consumer.
    pub consumer_tag: Span,
    /// The exchange that the message was published to.
    pub exchange: Span,
    /// The routing key of the message.
    pub routing_key: Span,
}

/// A `basic.get-ok`. Spans refer to the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetOk {
    /// The delivery tag.
    pub delivery_tag: u64,
    /// Whether the message was delivered before.
    pub redelivered: bool,
    /// The exchange that the message was published to.
    pub exchange: Span,
    /// The routing key of the message.
    pub routing_key: Span,
    /// The number of messages left in the queue.
    pub message_count: u32,
}

/// A `basic.return`. Spans refer to the method payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnHead {
    /// The reply code, such as 312 for no route.
    pub code: u16,
    /// The reply text.
    pub text: Span,
    /// The exchange that the message was published to.
    pub exchange: Span,
    /// The routing key of the message.
    pub routing_key: Span,
}

/// A content header with its properties still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHeader {
    /// The size of the body in octets.
    pub body_size: u64,
    /// The property flags and the property list, for
    /// [`decode_properties`](super::property_codec::decode_properties).
    pub properties: Bytes,
}

/// Decodes the payload of a method frame if the method is in [`Inbound`]. Octets after the last argument are
/// ignored.
///
/// # Errors
/// [`Fault`] with 502 for a payload that ends too early.
#[inline]
pub fn parse_method(payload: &[u8]) -> Result<Inbound, Fault> {
    let mut cursor = Cursor::new(payload);
    let ids = cursor.short().zip(cursor.short());
    let (class_id, method_id) = ids.ok_or_else(|| Fault::syntax("method frame without class and method"))?;
    if class_id != BASIC {
        return Ok(Inbound::Other { class_id, method_id });
    }
    let inbound = match method_id {
        DELIVER => deliver(cursor).map(Inbound::Deliver),
        ACK => settle(cursor).map(|(tag, bits)| Inbound::Ack { tag, multiple: bits & 1 != 0 }),
        NACK => settle(cursor).map(|(tag, bits)| Inbound::Nack {
            tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        }),
        GET_OK => get_ok(cursor).map(Inbound::GetOk),
        GET_EMPTY => Some(Inbound::GetEmpty),
        RETURN => return_head(cursor).map(Inbound::Return),
        _ => Some(Inbound::Other { class_id, method_id }),
    };
    inbound.ok_or_else(|| Fault::syntax("arguments cut short").with_method(class_id, method_id))
}

/// Decodes the payload of a header frame.
///
/// # Errors
/// [`Fault`] with 502 for a payload that ends too early, and with 501 for a class other than `basic`.
#[inline]
pub fn parse_header(payload: &Bytes) -> Result<ContentHeader, Fault> {
    let Some(([c1, c0, _, _, size @ ..], properties)) = payload.split_first_chunk::<CONTENT_HEADER_LEN>()
    else {
        return Err(Fault::syntax("content header cut short"));
    };
    let class_id = u16::from_be_bytes([*c1, *c0]);
    if class_id != BASIC {
        return Err(Fault::frame(format!("content header of class {class_id}")));
    }
    let properties = payload.slice_ref(properties);
    Ok(ContentHeader { body_size: u64::from_be_bytes(*size), properties })
}

#[inline]
fn deliver(mut cursor: Cursor<'_>) -> Option<Deliver> {
    let consumer_tag = cursor.span()?;
    Some(Deliver {
        delivery_tag: cursor.longlong()?,
        redelivered: cursor.octet()? & 1 != 0,
        consumer_tag,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
    })
}

fn get_ok(mut cursor: Cursor<'_>) -> Option<GetOk> {
    Some(GetOk {
        delivery_tag: cursor.longlong()?,
        redelivered: cursor.octet()? & 1 != 0,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
        message_count: cursor.long()?,
    })
}

fn return_head(mut cursor: Cursor<'_>) -> Option<ReturnHead> {
    Some(ReturnHead {
        code: cursor.short()?,
        text: cursor.span()?,
        exchange: cursor.span()?,
        routing_key: cursor.span()?,
    })
}

#[inline]
fn settle(mut cursor: Cursor<'_>) -> Option<(u64, u8)> {
    cursor.longlong().zip(cursor.octet())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deliver_is_read_in_place() {
        let payload = b"\0\x3c\0\x3c\x03tag\0\0\0\0\0\0\0\x07\x01\x00\x02\xff\xfe";
        let Inbound::Deliver(deliver) = parse_method(payload).unwrap() else { panic!() };
        assert_eq!((deliver.delivery_tag, deliver.redelivered), (7, true));
        assert_eq!(deliver.consumer_tag.of(payload), b"tag");
        assert_eq!(deliver.exchange.of(payload), b"");
        assert_eq!(deliver.routing_key.of(payload), b"\xff\xfe");
        for end in 4..payload.len() {
            let fault = parse_method(&payload[..end]).unwrap_err();
            assert_eq!((fault.code, fault.class_id, fault.method_id), (502, 60, 60));
        }
    }

    #[test]
    fn a_method_that_is_not_decoded_here_keeps_its_ids() {
        assert_eq!(parse_method(b"\0\x32\0\x0b"), Ok(Inbound::Other { class_id: 50, method_id: 11 }));
        assert_eq!(parse_method(b"\0\x3c\0\x48\0"), Ok(Inbound::GetEmpty));
        assert_eq!(parse_method(b"\0").unwrap_err().code, 502);
    }

    #[test]
    fn a_header_of_another_class_is_a_frame_error() {
        let payload = Bytes::from_static(b"\0\x32\0\0\0\0\0\0\0\0\0\x05\0\0");
        assert_eq!(parse_header(&payload).unwrap_err().code, 501);
        let payload = Bytes::from_static(b"\0\x3c\xff\xff\0\0\0\0\0\0\0\x05\x80\0");
        let header = parse_header(&payload).unwrap();
        assert_eq!((header.body_size, &header.properties[..]), (5, &b"\x80\0"[..]));
    }
}
