//! The client's side of opening a connection: start, tune, open.
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
//! A [`Handshake`] is fed with frames and appends its answers to a buffer. `start-ok` is written by hand, into that
//! buffer at once, so that the password is in no second place, and the handshake forgets it then. Whoever owns the
//! buffer wipes it after writing it out.

use std::{error, fmt};

use bytes::{BufMut, BytesMut};

use crate::secret::Secret;

use super::{
    fault::Fault,
    frame::{FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, Frame, FrameKind},
    method::{AMQPClass, connection, name, put_method, read_method},
    short::{SHORT_MAX, TooLong, check_short, short},
    table::{Refused, Table},
    tune,
    value::Value,
};

const CLASS: u16 = 10;
const START_OK: u16 = 11;
/// Keys of a field table with the type of their values, which are long strings.
const LOGIN: &[u8] = b"\x05LOGINS";
const PASSWORD: &[u8] = b"\x08PASSWORDS";

/// Says how the client tells who it is (SASL).
///
/// Source: <https://www.rabbitmq.com/docs/access-control#mechanisms>
///
/// # Examples
/// ```
/// # use actix_pika_actors::Mechanism;
/// assert_eq!(Mechanism::named("external"), Some(Mechanism::External));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mechanism {
    /// `PLAIN`: user and password, as they are.
    Plain,
    /// `AMQPLAIN`: user and password in a field table.
    AmqPlain,
    /// `EXTERNAL`: what the broker knows already, such as the client's certificate; nothing is sent.
    External,
}

/// Holds what the client asks for in the handshake.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How to log in: the first of these that the server offers.
    pub mechanisms: Vec<Mechanism>,
    /// Who logs in.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// The virtual host to open.
    pub vhost: String,
    /// Language of texts, `en_US`.
    pub locale: String,
    /// The most channels; 0: as many as the server allows.
    pub channel_max: u16,
    /// The largest frame; 0: [`FRAME_MAX`](tune::FRAME_MAX).
    pub frame_max: u32,
    /// Seconds between heartbeats; `None`: the server's, `Some(0)`: none.
    pub heartbeat: Option<u16>,
    /// Added to what the client says of itself; an equal key replaces it.
    pub client_properties: Table,
}

/// Holds what both sides agreed on.
///
/// Of two limits the lower one holds, and 0 is no limit; RabbitMQ since 4.1 wants frames of 8,192 bytes at
/// least.
///
/// **Over a reconnect**: it is agreed on anew.
///
/// Source: AMQP 0-9-1 sections 1.4.2.5 and 1.4.2.6; <https://www.rabbitmq.com/docs/configure>
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::Negotiated;
/// fn describe(agreed: &Negotiated) -> String {
///     format!("{} channels, frames of {} bytes", agreed.channel_max, agreed.frame_max)
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Negotiated {
    /// The highest channel number, never 0.
    pub channel_max: u16,
    /// The largest frame, never 0.
    pub frame_max: u32,
    /// Seconds between heartbeats, 0 for none.
    pub heartbeat: u16,
    /// What the server says of itself.
    pub server_properties: Table,
}

/// Tells where a handshake is after a frame.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::Progress;
/// fn is_open(progress: &Progress) -> bool {
///     matches!(progress, Progress::Open(_))
/// }
/// assert!(!is_open(&Progress::More));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// More frames are due.
    More,
    /// The connection is open.
    Open(Negotiated),
}

/// Tells why a connection does not open.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::HandshakeError;
/// let error = HandshakeError::Mechanism { offered: "KERBEROS".into() };
/// assert_eq!(error.to_string(), "server offers none of our mechanisms, only \"KERBEROS\"");
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server closed it; the answer to that was appended.
    Refused {
        /// Reply code: 403 for the login, 530 for the virtual host.
        code: u16,
        /// Reply text.
        text: String,
        /// Class of the method that was refused, 0 if none.
        class_id: u16,
        /// The method that was refused, 0 if none.
        method_id: u16,
    },
    /// The server broke the protocol.
    Fault(Fault),
    /// The server offers none of the mechanisms; nothing was sent.
    Mechanism {
        /// The mechanisms it offers.
        offered: String,
    },
    /// The server does not offer the locale; nothing was sent.
    Locale {
        /// The locales it offers.
        offered: String,
    },
    /// A limit that one side cannot keep to.
    Limit(String),
}

/// Plays the client's side of a handshake under way, without a socket.
///
/// # Examples
/// ```
/// # use bytes::BytesMut;
/// # use actix_pika_actors::wire::{Handshake, Mechanism, Table, Terms};
/// let mut handshake = Handshake::new(Terms {
///     mechanisms: vec![Mechanism::Plain],
///     user: "guest".into(),
///     password: "guest".into(),
///     vhost: "/".into(),
///     locale: "en_US".into(),
///     channel_max: 0,
///     frame_max: 0,
///     heartbeat: None,
///     client_properties: Table::new(),
/// });
/// let mut out = BytesMut::new();
/// handshake.start(&mut out);
/// assert_eq!(&out[..], b"AMQP\0\0\x09\x01");
/// assert_eq!(handshake.stage(), "waiting for connection.start");
/// ```
#[derive(Debug)]
pub struct Handshake {
    terms: Terms,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Start,
    Tune { server_properties: Table },
    OpenOk(Negotiated),
    Done,
}

impl Handshake {
    /// Starts with what the client asks for.
    pub fn new(terms: Terms) -> Self {
        Self { terms, stage: Stage::Start }
    }

    /// Appends the protocol header.
    pub fn start(&mut self, out: &mut BytesMut) {
        out.put_slice(b"AMQP\0\0\x09\x01");
    }

    /// Takes a frame of the server's and appends the answer.
    ///
    /// # Errors
    /// [`HandshakeError`]; what was appended for it (a close-ok, if anything) should still be written out.
    pub fn advance(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<Progress, HandshakeError> {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(Progress::More);
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
        match (std::mem::replace(&mut self.stage, Stage::Done), method) {
            (_, connection::AMQPMethod::Close(close)) => {
                put(out, connection::AMQPMethod::CloseOk(connection::CloseOk {}))?;
                Err(HandshakeError::Refused {
                    code: close.reply_code,
                    text: close.reply_text.into(),
                    class_id: close.class_id,
                    method_id: close.method_id,
                })
            }
            (Stage::Start, connection::AMQPMethod::Start(start)) => {
                self.answer_start(&start, out)?;
                let server_properties = Table::from_field_table(&start.server_properties);
                self.stage = Stage::Tune { server_properties };
                Ok(Progress::More)
            }
            (Stage::Tune { server_properties }, connection::AMQPMethod::Tune(tune)) => {
                let negotiated = tune::negotiate(&self.terms, &tune, server_properties)?;
                self.answer_tune(&negotiated, out)?;
                self.stage = Stage::OpenOk(negotiated);
                Ok(Progress::More)
            }
            (Stage::OpenOk(negotiated), connection::AMQPMethod::OpenOk(_)) => Ok(Progress::Open(negotiated)),
            (stage, _) => {
                self.stage = stage;
                Err(self.unexpected(&frame.payload))
            }
        }
    }

    /// Tells what the handshake is at, for the message of a timeout.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Handshake;
    /// fn late(handshake: &Handshake) -> String {
    ///     format!("timed out, {}", handshake.stage())
    /// }
    /// ```
    pub fn stage(&self) -> &'static str {
        match self.stage {
            Stage::Start => "waiting for connection.start",
            Stage::Tune { .. } => "waiting for connection.tune",
            Stage::OpenOk(_) => "waiting for connection.open-ok",
            Stage::Done => "over",
        }
    }

    /// Tells what a server that hangs up at this stage, without a word, may not have liked.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Handshake;
    /// fn why(handshake: &Handshake) -> &'static str {
    ///     handshake.suspect().unwrap_or("unknown")
    /// }
    /// ```
    pub fn suspect(&self) -> Option<&'static str> {
        match self.stage {
            Stage::Tune { .. } => Some("the login"),
            Stage::OpenOk(_) => Some("the limits of tune-ok"),
            Stage::Start | Stage::Done => None,
        }
    }

    fn answer_start(&mut self, start: &connection::Start, out: &mut BytesMut) -> Result<(), HandshakeError> {
        if (start.version_major, start.version_minor) != (0, 9) {
            let text = format!("server speaks AMQP {}-{}", start.version_major, start.version_minor);
            return Err(Fault::command(text).with_method(CLASS, 10).into());
        }
        let offers =
            |offered: &str, wanted: &str| offered.split_ascii_whitespace().any(|word| word == wanted);
        let offered = start.mechanisms.to_string();
        let common = self.terms.mechanisms.iter().copied().find(|ours| offers(&offered, ours.name()));
        let Some(mechanism) = common else { return Err(HandshakeError::Mechanism { offered }) };
        let offered = start.locales.to_string();
        if !offers(&offered, &self.terms.locale) {
            return Err(HandshakeError::Locale { offered });
        }
        self.put_start_ok(mechanism, out)?;
        self.terms.password = Secret::default();
        Ok(())
    }

    fn put_start_ok(&self, mechanism: Mechanism, out: &mut BytesMut) -> Result<(), HandshakeError> {
        let locale = &self.terms.locale;
        check_short("virtual host", &self.terms.vhost)?;
        check_short("locale", locale)?;
        let properties = client_properties(&self.terms.client_properties);
        properties.check()?;
        let response = mechanism.response_len(&self.terms)?;
        let strings = 1 + mechanism.name().len() + 4 + response + 1 + locale.len();
        let payload = 4 + properties.encoded_len() + strings;
        let most = FRAME_MIN_SIZE as usize;
        if payload + FRAME_OVERHEAD > most {
            let len = payload + FRAME_OVERHEAD;
            return Err(HandshakeError::Limit(format!(
                "client properties and login make start-ok {len} bytes long, before tune {most} are allowed"
            )));
        }
        // All of it at once: growing would leave a copy of the password behind.
        out.reserve(payload + FRAME_OVERHEAD);
        out.put_slice(&[1, 0, 0]);
        out.put_u32(payload as u32);
        out.put_u16(CLASS);
        out.put_u16(START_OK);
        properties.encode(out)?;
        put_short(out, mechanism.name());
        out.put_u32(response as u32);
        mechanism.put_response(&self.terms, out);
        put_short(out, locale);
        out.put_u8(FRAME_END);
        Ok(())
    }

    fn answer_tune(&self, negotiated: &Negotiated, out: &mut BytesMut) -> Result<(), HandshakeError> {
        let Negotiated { channel_max, frame_max, heartbeat, .. } = *negotiated;
        let virtual_host = short("virtual host", &self.terms.vhost)?;
        put(out, connection::AMQPMethod::TuneOk(connection::TuneOk { channel_max, frame_max, heartbeat }))?;
        put(out, connection::AMQPMethod::Open(connection::Open { virtual_host }))
    }

    fn unexpected(&self, payload: &[u8]) -> HandshakeError {
        let ids = payload
            .split_first_chunk::<4>()
            .map(|(&[c1, c0, m1, m0], _)| (u16::from_be_bytes([c1, c0]), u16::from_be_bytes([m1, m0])));
        let (class_id, method_id) = ids.unwrap_or_default();
        let text = format!("{} while {}", name(class_id, method_id), self.stage());
        Fault::command(text).with_method(class_id, method_id).into()
    }
}

impl Mechanism {
    /// Names the mechanism as it goes over the wire.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Mechanism;
    /// assert_eq!(Mechanism::AmqPlain.name(), "AMQPLAIN");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::AmqPlain => "AMQPLAIN",
            Self::External => "EXTERNAL",
        }
    }

    /// Finds the mechanism of this name, in whatever case; `None` for one that this client does not speak.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Mechanism;
    /// assert_eq!(Mechanism::named("plain"), Some(Mechanism::Plain));
    /// assert_eq!(Mechanism::named("SCRAM-SHA-256"), None);
    /// ```
    pub fn named(name: &str) -> Option<Self> {
        [Self::Plain, Self::AmqPlain, Self::External]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    fn response_len(self, terms: &Terms) -> Result<usize, HandshakeError> {
        match self {
            Self::Plain => {
                let (user, password) = (&terms.user, terms.password.expose());
                if user.contains('\0') || password.contains('\0') {
                    let text = "PLAIN allows no NUL in user and password";
                    return Err(HandshakeError::Limit(text.into()));
                }
                Ok(2 + user.len() + password.len())
            }
            Self::AmqPlain => {
                let (user, password) = (&terms.user, terms.password.expose());
                Ok(LOGIN.len() + 4 + user.len() + PASSWORD.len() + 4 + password.len())
            }
            Self::External => Ok(0),
        }
    }

    fn put_response(self, terms: &Terms, out: &mut BytesMut) {
        match self {
            Self::Plain => {
                out.put_u8(0);
                out.put_slice(terms.user.as_bytes());
                out.put_u8(0);
                out.put_slice(terms.password.expose().as_bytes());
            }
            Self::AmqPlain => {
                for (key, value) in [(LOGIN, terms.user.as_str()), (PASSWORD, terms.password.expose())] {
                    out.put_slice(key);
                    out.put_u32(value.len() as u32);
                    out.put_slice(value.as_bytes());
                }
            }
            Self::External => {}
        }
    }
}

/// What this client says of itself, with what the user adds. Capabilities are added to one by one.
fn client_properties(added: &Table) -> Table {
    let mut capabilities: Table = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ]
    .into_iter()
    .map(|capability| (capability, true))
    .collect();
    let mut properties = Table::new()
        .with("product", "actix-pika")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("platform", "Rust");
    for (key, value) in added.iter() {
        match value {
            Value::Table(more) if *key == "capabilities" => {
                capabilities.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                properties.insert(key.clone(), value.clone());
            }
        }
    }
    properties.insert("capabilities", capabilities);
    properties
}

fn put(out: &mut BytesMut, method: connection::AMQPMethod) -> Result<(), HandshakeError> {
    Ok(put_method(out, 0, &AMQPClass::Connection(method))?)
}

/// Of texts that were checked.
fn put_short(out: &mut BytesMut, text: &str) {
    let text = text.as_bytes();
    let text = text.get(..SHORT_MAX).unwrap_or(text);
    out.put_u8(text.len() as u8);
    out.put_slice(text);
}

impl From<Fault> for HandshakeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<TooLong> for HandshakeError {
    fn from(refused: TooLong) -> Self {
        Self::Limit(refused.to_string())
    }
}

impl From<Refused> for HandshakeError {
    fn from(refused: Refused) -> Self {
        Self::Limit(format!("client properties: {refused}"))
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, text, class_id: 0, .. } => write!(f, "server refused: {code} {text}"),
            Self::Refused { code, text, class_id, method_id } => {
                write!(f, "server refused {}: {code} {text}", name(*class_id, *method_id))
            }
            Self::Fault(fault) => write!(f, "server broke the protocol: {fault}"),
            Self::Mechanism { offered } => {
                write!(f, "server offers none of our mechanisms, only \"{offered}\"")
            }
            Self::Locale { offered } => write!(f, "server does not offer our locale, only \"{offered}\""),
            Self::Limit(text) => f.write_str(text),
        }
    }
}

impl error::Error for HandshakeError {}
