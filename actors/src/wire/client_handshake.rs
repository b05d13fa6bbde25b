//! The client side of opening a connection.
//!
//! ```text
//! client                                server
//!   "AMQP" 0 0 9 1            -->
//!                             <--         start
//!   start-ok                  -->
//!                             <--         tune, or close 403
//!   tune-ok, open             -->
//!                             <--         open-ok, or close 530
//! ```
//!
//! A [`HandshakeMachine`] takes frames and appends its replies to a buffer. `start-ok` is encoded by hand,
//! directly into that buffer, so that the password is in no other place; the handshake then drops its own
//! copy. The owner of the buffer wipes it after the write.

use bytes::{BufMut, BytesMut};

use super::{
    client_properties::client_properties,
    fault::Fault,
    field::{check_table, put_table, table_len},
    field_table::from_field_table,
    frame::{FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameKind, METHOD},
    handshake_error::HandshakeError,
    handshake_options::HandshakeOptions,
    mechanism::Mechanism,
    method::{AMQPClass, connection, put_method, read_method},
    method_names::method_name,
    short::{SHORT_MAX, check_short, short},
    table::Table,
    tune::{Negotiated, negotiate},
    value::Value,
};
use crate::secret::Secret;

const CONNECTION: u16 = 10;
const START: u16 = 10;
const START_OK: u16 = 11;

/// The state of a handshake after a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum HandshakeStatus {
    /// More frames are needed.
    Pending,
    /// The connection is open.
    Open(Negotiated),
}

/// The client side of a handshake, without a socket.
#[derive(Debug)]
pub struct HandshakeMachine {
    options: HandshakeOptions,
    state: HandshakeState,
}

#[derive(Debug)]
enum HandshakeState {
    AwaitStart,
    AwaitTune { server_properties: Table },
    AwaitOpenOk(Negotiated),
    Finished,
}

impl HandshakeMachine {
    /// Creates a handshake.
    pub fn new(options: HandshakeOptions) -> Self {
        Self { options, state: HandshakeState::AwaitStart }
    }

    /// Appends the protocol header, which is the first thing to send.
    pub fn start(&mut self, out: &mut BytesMut) {
        out.put_slice(b"AMQP\0\0\x09\x01");
    }

    /// Processes a frame of the server and appends the reply.
    ///
    /// # Errors
    /// [`HandshakeError`]. What was appended, if anything, should still be sent.
    pub fn advance(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<HandshakeStatus, HandshakeError> {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(HandshakeStatus::Pending);
        }
        if frame.channel != 0 {
            return Err(Fault::channel(format!("channel {} is not open", frame.channel)).into());
        }
        if frame.kind != FrameKind::Method {
            return Err(Fault::unexpected("content on channel 0").into());
        }
        let method = match read_method(&frame.payload)? {
            AMQPClass::Connection(method) => method,
            _ => return Err(self.unexpected(&frame.payload)),
        };
        match (std::mem::replace(&mut self.state, HandshakeState::Finished), method) {
            (_, connection::AMQPMethod::Close(close)) => {
                put(out, connection::AMQPMethod::CloseOk(connection::CloseOk {}))?;
                Err(HandshakeError::Closed {
                    code: close.reply_code,
                    text: close.reply_text.into(),
                    class_id: close.class_id,
                    method_id: close.method_id,
                })
            }
            (HandshakeState::AwaitStart, connection::AMQPMethod::Start(start)) => {
                self.answer_start(&start, out)?;
                let server_properties = from_field_table(&start.server_properties);
                self.state = HandshakeState::AwaitTune { server_properties };
                Ok(HandshakeStatus::Pending)
            }
            (HandshakeState::AwaitTune { server_properties }, connection::AMQPMethod::Tune(tune)) => {
                let negotiated = negotiate(&self.options, &tune, server_properties)?;
                self.answer_tune(&negotiated, out)?;
                self.state = HandshakeState::AwaitOpenOk(negotiated);
                Ok(HandshakeStatus::Pending)
            }
            (HandshakeState::AwaitOpenOk(negotiated), connection::AMQPMethod::OpenOk(_)) => {
                Ok(HandshakeStatus::Open(negotiated))
            }
            (state, _) => {
                self.state = state;
                Err(self.unexpected(&frame.payload))
            }
        }
    }

    /// Returns the state for error messages, such as `"waiting for connection.tune"`.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            HandshakeState::AwaitStart => "waiting for connection.start",
            HandshakeState::AwaitTune { .. } => "waiting for connection.tune",
            HandshakeState::AwaitOpenOk(_) => "waiting for connection.open-ok",
            HandshakeState::Finished => "finished",
        }
    }

    /// Returns what the server probably rejected if it closes the socket in this state without a reply.
    pub fn likely_rejection(&self) -> Option<String> {
        match &self.state {
            HandshakeState::AwaitTune { .. } => Some("the login".into()),
            HandshakeState::AwaitOpenOk(Negotiated { channel_max, frame_max, .. }) => {
                Some(format!("the limits of tune-ok: channel_max {channel_max}, frame_max {frame_max}"))
            }
            HandshakeState::AwaitStart | HandshakeState::Finished => None,
        }
    }

    /// Returns whether the server refuses a login by closing the socket, as AMQP 0-9-1 has it, and is in the
    /// step in which it would. A server with the capability `authentication_failure_close` sends
    /// `connection.close`.
    pub fn is_login_refused_by_disconnect(&self) -> bool {
        let HandshakeState::AwaitTune { server_properties } = &self.state else { return false };
        let capabilities = server_properties.get("capabilities").and_then(Value::as_table);
        let announced = capabilities.and_then(|table| table.get("authentication_failure_close"));
        announced.and_then(Value::as_bool) != Some(true)
    }

    fn answer_start(&mut self, start: &connection::Start, out: &mut BytesMut) -> Result<(), HandshakeError> {
        if (start.version_major, start.version_minor) != (0, 9) {
            let text = format!("server uses AMQP {}-{}", start.version_major, start.version_minor);
            return Err(Fault::command(text).with_method(CONNECTION, START).into());
        }
        let offers =
            |offered: &str, wanted: &str| offered.split_ascii_whitespace().any(|word| word == wanted);
        let offered = start.mechanisms.to_string();
        let common = self.options.mechanisms.iter().copied().find(|ours| offers(&offered, ours.name()));
        let Some(mechanism) = common else { return Err(HandshakeError::Mechanism { offered }) };
        let offered = start.locales.to_string();
        if !offers(&offered, &self.options.locale) {
            return Err(HandshakeError::Locale { offered });
        }
        self.put_start_ok(mechanism, out)?;
        self.options.password = Secret::default();
        Ok(())
    }

    fn put_start_ok(&self, mechanism: Mechanism, out: &mut BytesMut) -> Result<(), HandshakeError> {
        let HandshakeOptions { user, password, locale, .. } = &self.options;
        check_short("virtual host", &self.options.vhost)?;
        check_short("locale", locale)?;
        let properties = client_properties(&self.options.client_properties);
        check_table(&properties)?;
        let response = mechanism.response_len(user, password)?;
        let strings = 1 + mechanism.name().len() + 4 + response + 1 + locale.len();
        let payload = 4 + table_len(&properties) + strings;
        let max = FRAME_MIN_SIZE as usize;
        if payload + FRAME_OVERHEAD > max {
            let len = payload + FRAME_OVERHEAD;
            return Err(HandshakeError::Limit(format!(
                "client properties and login make start-ok {len} bytes long, {max} are allowed before tune"
            )));
        }
        // Reserve all of it: growing the buffer would leave a copy of the password in freed memory.
        out.reserve(payload + FRAME_OVERHEAD);
        out.put_slice(&[METHOD, 0, 0]);
        out.put_u32(payload as u32);
        out.put_u16(CONNECTION);
        out.put_u16(START_OK);
        put_table(out, &properties);
        put_short(out, mechanism.name());
        out.put_u32(response as u32);
        mechanism.put_response(user, password, out);
        put_short(out, locale);
        out.put_u8(FRAME_END);
        Ok(())
    }

    fn answer_tune(&self, negotiated: &Negotiated, out: &mut BytesMut) -> Result<(), HandshakeError> {
        let Negotiated { channel_max, frame_max, heartbeat, .. } = *negotiated;
        let virtual_host = short("virtual host", &self.options.vhost)?;
        put(out, connection::AMQPMethod::TuneOk(connection::TuneOk { channel_max, frame_max, heartbeat }))?;
        put(out, connection::AMQPMethod::Open(connection::Open { virtual_host }))
    }

    fn unexpected(&self, payload: &[u8]) -> HandshakeError {
        let ids = payload
            .split_first_chunk::<4>()
            .map(|(&[c1, c0, m1, m0], _)| (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])));
        let (class_id, method_id) = ids.unwrap_or_default();
        let text = format!("{} while {}", method_name(class_id, method_id), self.state_name());
        Fault::command(text).with_method(class_id, method_id).into()
    }
}

fn put(out: &mut BytesMut, method: connection::AMQPMethod) -> Result<(), HandshakeError> {
    Ok(put_method(out, 0, &AMQPClass::Connection(method))?)
}

/// Appends a short string that was checked.
fn put_short(out: &mut BytesMut, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..SHORT_MAX).unwrap_or(text);
    out.put_u8(text.len() as u8);
    out.put_slice(text);
}
