//! The AMQP 0-9-1 wire format: plain encoders and decoders of bytes.
//!
//! Nothing here uses a socket, a clock or an actor, so everything is tested and fuzzed without a runtime.
//! What is sent or received once per message (`basic_encode`, `basic_decode`, `content`, `frame`) is written
//! by hand and does not allocate. All other methods go through `amq-protocol` (`method`). Bytes from the
//! network are checked before any recursive decoder sees them; invalid ones produce a `Fault`, never a panic.
//!
//! The modules are private to the crate. The feature `unstable-wire` makes them public for tests, fuzzing and
//! tools of this repository, outside semver.

#![cfg_attr(not(feature = "unstable-wire"), allow(unreachable_pub))]

pub mod basic_decode;
pub mod basic_encode;
pub mod client_handshake;
pub mod content;
pub mod decode_error;
pub mod encode_error;
pub mod fault;
pub mod field;
pub mod field_table;
pub mod frame;
pub mod frame_decoder;
pub mod handshake_error;
pub mod handshake_options;
pub mod mechanism;
pub mod method;
pub mod method_names;
pub mod other_protocol;
pub mod partial_body;
pub mod peer_text;
pub mod properties;
pub mod property_codec;
pub mod scan;
pub mod short;
pub mod single_frame;
pub mod span;
pub mod table;
pub mod text;
pub mod tune;
pub mod update_secret;
pub mod value;

mod basic_ids;
mod client_properties;
mod cursor;
mod property_field;

pub(crate) use self::{
    basic_decode::{Deliver, Inbound, parse_method},
    basic_encode::{
        header_len, put_ack, put_body, put_body_head, put_encoded_header, put_header, put_heartbeat,
        put_nack, put_publish, put_reject,
    },
    client_handshake::{HandshakeMachine, HandshakeStatus},
    content::{AssembledContent, Assembler, ContentMethod},
    encode_error::EncodeError,
    fault::Fault,
    field_table::to_field_table,
    frame::{FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameBatch, FrameKind, FrameViews, HEAD_LEN},
    frame_decoder::FrameDecoder,
    handshake_error::HandshakeError,
    handshake_options::HandshakeOptions,
    method::{
        AMQPClass, basic, channel, confirm, connection, exchange, ids, put_method, queue, read_method, tx,
    },
    method_names::method_name,
    other_protocol::{other_protocol_detected, tls_detected},
    partial_body::{PartialBodies, SkippedBody},
    peer_text::Escaping,
    property_codec::{check_properties, decode_properties, properties_len, put_properties},
    short::{NameError, TooLong, check_short, name, short, short_truncated},
    single_frame::single_frame_delivery,
    span::{LongSpan, Span},
    tune::Negotiated,
    update_secret::update_secret,
};
// These are part of the public API, at the root of the crate.
pub use self::{
    decode_error::DecodeError,
    mechanism::Mechanism,
    peer_text::PeerText,
    properties::{DeliveryMode, Properties},
    table::Table,
    text::Text,
    value::Value,
};
