//! Bytes to meaning and back: AMQP 0-9-1 as plain structs that are fed with bytes and asked for values.
//!
//! Nothing in here reads a socket, a clock or a mailbox, so that all of it is tested and fuzzed without a runtime.
//! What a connection reads and writes for every message ([`hot`], [`content`], [`frame`]) is written by hand and
//! allocates nothing; the rest of the methods goes through `amq-protocol` ([`method`]). Bytes from the network are
//! checked before anything recursive sees them, and what is wrong with them is a [`fault::Fault`], never a panic.

pub mod content;
pub mod fault;
pub mod frame;
pub mod handshake;
pub mod hot;
pub mod method;
pub mod properties;
pub mod short;
pub mod table;
pub mod text;
pub mod tune;
pub mod update_secret;
pub mod value;
pub mod whole;

mod cursor;
mod field;
mod field_table;
mod greeting;
mod property_list;
mod scan;

pub use self::{
    content::{Assembler, Content, ContentMethod},
    fault::Fault,
    frame::{
        Cutter, FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameKind, FrameRun, FrameViews, HEAD_LEN,
        foreign_greeting,
    },
    handshake::{Handshake, HandshakeError, Mechanism, Negotiated, Progress, Terms},
    hot::{
        Deliver, GetOk, Inbound, ReturnHead, Span, header_len, parse_method, put_ack, put_body,
        put_body_head, put_header, put_header_again, put_heartbeat, put_nack, put_publish, put_reject,
    },
    method::{
        AMQPClass, FieldTable, ShortString, basic, channel, confirm, connection, exchange, ids,
        name as method_name, put_method, queue, read_method, tx,
    },
    properties::{DeliveryMode, Properties},
    short::{TooLong, check_short, cut_short, short},
    table::{Refused, Table},
    update_secret::update_secret,
    value::Value,
    whole::{Place, Whole, whole_delivery},
};
