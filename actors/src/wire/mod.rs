//! Bytes to meaning and back: AMQP 0-9-1 as plain structs that are fed with bytes and asked for values.
//!
//! Nothing in here reads a socket, a clock or a mailbox, so that all of it is tested and fuzzed without a runtime.
//! What a connection reads and writes for every message ([`basic_frames`], [`content`], [`frame`]) is written by hand and
//! allocates nothing; the rest of the methods goes through `amq-protocol` ([`method`]). Bytes from the network are
//! checked before anything recursive sees them, and what is wrong with them is a [`fault::Fault`], never a panic.

pub mod basic_frames;
pub mod content;
pub mod fault;
pub mod frame;
pub mod handshake;
pub mod method;
pub mod properties;
pub mod short;
pub mod single_frame;
pub mod table;
pub mod text;
pub mod tune;
pub mod update_secret;
pub mod value;

mod cursor;
mod field;
mod field_table;
mod greeting;
mod property_list;
mod scan;

pub use self::{
    basic_frames::{
        Deliver, GetOk, Inbound, ReturnHead, Span, header_len, parse_method, put_ack, put_body,
        put_body_head, put_header, put_header_again, put_heartbeat, put_nack, put_publish, put_reject,
    },
    content::{Assembler, Content, ContentMethod},
    fault::Fault,
    frame::{
        FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameBatch, FrameDecoder, FrameKind, FrameViews,
        HEAD_LEN, other_protocol_detected,
    },
    handshake::{Handshake, HandshakeError, Mechanism, Negotiated, Progress, Terms},
    method::{
        AMQPClass, FieldTable, ShortString, basic, channel, confirm, connection, exchange, ids,
        name as method_name, put_method, queue, read_method, tx,
    },
    properties::{DeliveryMode, Properties},
    short::{TooLong, check_short, cut_short, short},
    single_frame::{Place, SingleFrameDelivery, single_frame_delivery},
    table::{Refused, Table},
    update_secret::update_secret,
    value::Value,
};
