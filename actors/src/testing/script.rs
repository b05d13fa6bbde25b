//! The handshake from the server's side, as a broker does it or with one step changed.

use std::{collections::BTreeMap, fmt};

use super::{
    PeerSocket, TestError,
    protocol::connection,
    types::{AMQPValue, FieldTable, ShortString},
};

const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// What a broker of these days says that it can do.
const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// Names the points of the handshake at which the server speaks.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
/// let refused = HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, "NOT_ALLOWED - vhost not found");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeStep {
    /// After the protocol header, `connection.start`.
    Start,
    /// After start-ok, the first `connection.secure`; only in a script with a [challenge](HandshakeScript::challenge).
    Secure,
    /// When the client's answers are complete, `connection.tune`. Here a broker refuses credentials.
    Tune,
    /// After tune-ok and open, `connection.open-ok`. Here a broker refuses the vhost.
    OpenOk,
}

/// Holds what the client said in the handshake, as far as it went.
///
/// `Debug` leaves out the answers, which carry credentials.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
/// let terms = socket.handshake().await?;
/// assert_eq!((terms.mechanism.as_str(), terms.vhost.as_str()), ("PLAIN", "/"));
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ClientHandshake {
    /// The SASL mechanism of its choice.
    pub mechanism: String,
    /// Its first SASL response: for `PLAIN`, a zero, the user, a zero, the password.
    pub response: Vec<u8>,
    /// Its answers to the challenges, in order.
    pub answers: Vec<Vec<u8>>,
    /// The locale of its choice.
    pub locale: String,
    /// Its properties, with a table `capabilities` among them.
    pub properties: FieldTable,
    /// The channels it agreed to.
    pub channel_max: u16,
    /// The length of frames it agreed to.
    pub frame_max: u32,
    /// The heartbeat interval it agreed to, in seconds.
    pub heartbeat: u16,
    /// The vhost it asked for.
    pub vhost: String,
}

/// A script for the server's side of a handshake, which by default does what RabbitMQ does.
///
/// # Examples
///
/// ```
/// # use actix_pika_actors::testing::{HandshakeScript, TestError, PeerSocket, HandshakeStep};
/// # async fn scripts(socket: &mut PeerSocket) -> Result<(), TestError> {
/// // A broker of another protocol version, which answers with its own header.
/// socket.handshake_with(&HandshakeScript::new().raw_at(HandshakeStep::Start, *b"AMQP\0\x01\0\0")).await?;
/// // A broker that refuses the password.
/// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
/// socket.handshake_with(&refused).await?;
/// // A broker that grants next to nothing.
/// socket.handshake_with(&HandshakeScript::new().tune(1, 4096, 1)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct HandshakeScript {
    start: connection::Start,
    challenges: Vec<Vec<u8>>,
    tune: connection::Tune,
    change: Option<(HandshakeStep, Turn)>,
}

/// What the peer does in place of a step; the script ends with it.
#[derive(Clone, Debug)]
enum Turn {
    Mute,
    Raw(Vec<u8>),
    Refuse(u16, String),
}

impl HandshakeScript {
    /// Begins with the script of a willing broker: `PLAIN AMQPLAIN`, all capabilities, tune 2047 / 131072 / 60.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let willing = HandshakeScript::new();
    /// ```
    pub fn new() -> Self {
        let capabilities = CAPABILITIES.map(|name| (ShortString::from(name), AMQPValue::Boolean(true)));
        let server_properties = BTreeMap::from([
            ("product".into(), AMQPValue::LongString("scripted peer".into())),
            ("version".into(), AMQPValue::LongString(env!("CARGO_PKG_VERSION").into())),
            ("capabilities".into(), AMQPValue::FieldTable(BTreeMap::from(capabilities).into())),
        ]);
        Self {
            start: connection::Start {
                version_major: 0,
                version_minor: 9,
                server_properties: server_properties.into(),
                mechanisms: "PLAIN AMQPLAIN".into(),
                locales: "en_US".into(),
            },
            challenges: Vec::new(),
            tune: connection::Tune { channel_max: 2047, frame_max: 131_072, heartbeat: 60 },
            change: None,
        }
    }

    /// Sets the protocol version of `connection.start`, 0 and 9 by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let old = HandshakeScript::new().version(0, 8);
    /// ```
    #[must_use]
    pub fn version(mut self, major: u8, minor: u8) -> Self {
        (self.start.version_major, self.start.version_minor) = (major, minor);
        self
    }

    /// Sets the SASL mechanisms on offer, separated by spaces.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let strange = HandshakeScript::new().mechanisms("KERBEROS NTLM");
    /// ```
    #[must_use]
    pub fn mechanisms(mut self, mechanisms: &str) -> Self {
        self.start.mechanisms = mechanisms.into();
        self
    }

    /// Sets the locales on offer, separated by spaces.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let foreign = HandshakeScript::new().locales("de_DE");
    /// ```
    #[must_use]
    pub fn locales(mut self, locales: &str) -> Self {
        self.start.locales = locales.into();
        self
    }

    /// Adds or replaces one server property.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, types::AMQPValue};
    /// let future = HandshakeScript::new().server_property("version", AMQPValue::LongString("9.9.9".into()));
    /// ```
    #[must_use]
    pub fn server_property(mut self, name: &str, value: AMQPValue) -> Self {
        self.start.server_properties.insert(name.into(), value);
        self
    }

    /// Replaces the capabilities by these, each true.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let plain = HandshakeScript::new().capabilities(&["basic.nack"]); // no confirms
    /// ```
    #[must_use]
    pub fn capabilities(self, names: &[&str]) -> Self {
        let table: BTreeMap<_, _> =
            names.iter().map(|name| ((*name).into(), AMQPValue::Boolean(true))).collect();
        self.server_property("capabilities", AMQPValue::FieldTable(table.into()))
    }

    /// Adds a round of `connection.secure` with this challenge.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let curious = HandshakeScript::new().challenge(*b"who are you?");
    /// ```
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<Vec<u8>>) -> Self {
        self.challenges.push(challenge.into());
        self
    }

    /// Sets what `connection.tune` proposes; 0 stands for no limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let tight = HandshakeScript::new().tune(1, 4096, 1);
    /// ```
    #[must_use]
    pub fn tune(mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Self {
        self.tune = connection::Tune { channel_max, frame_max, heartbeat };
        self
    }

    /// Says nothing at this step: the script ends there, and the socket stays open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let silent = HandshakeScript::new().silent_at(HandshakeStep::Tune);
    /// ```
    #[must_use]
    pub fn silent_at(self, step: HandshakeStep) -> Self {
        self.change(step, Turn::Mute)
    }

    /// Sends these bytes in place of this step: garbage, an HTTP response, another protocol header. The script ends
    /// there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let web = HandshakeScript::new().raw_at(HandshakeStep::Start, *b"HTTP/1.1 400 Bad Request\r\n\r\n");
    /// ```
    #[must_use]
    pub fn raw_at(self, step: HandshakeStep, bytes: impl Into<Vec<u8>>) -> Self {
        self.change(step, Turn::Raw(bytes.into()))
    }

    /// Sends `connection.close` in place of this step, and awaits close-ok. The script ends there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
    /// ```
    #[must_use]
    pub fn refuse_at(self, step: HandshakeStep, code: u16, text: &str) -> Self {
        self.change(step, Turn::Refuse(code, text.to_owned()))
    }

    fn change(mut self, step: HandshakeStep, turn: Turn) -> Self {
        self.change = Some((step, turn));
        self
    }
}

impl Default for HandshakeScript {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerSocket {
    /// Shakes hands as a willing broker does, and returns what the client said.
    ///
    /// # Errors
    /// Those of [`handshake_with`](Self::handshake_with).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.handshake().await?.vhost, "/");
    /// # Ok(()) }
    /// ```
    pub async fn handshake(&mut self) -> Result<ClientHandshake, TestError> {
        self.handshake_with(&HandshakeScript::new()).await
    }

    /// Shakes hands by this script, and returns what the client said until it ended.
    ///
    /// For an order of things that no script has, say it line by line, from
    /// [`expect_header`](Self::expect_header) on.
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected) where the client says something else,
    /// [`Disconnected`](super::TestErrorKind::Disconnected) or [`TimedOut`](super::TestErrorKind::TimedOut) where it says
    /// nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, HandshakeScript, HandshakeStep};
    /// # async fn said(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
    /// socket.handshake_with(&refused).await?;
    /// # Ok(()) }
    /// ```
    pub async fn handshake_with(&mut self, script: &HandshakeScript) -> Result<ClientHandshake, TestError> {
        let mut terms = ClientHandshake::default();

        let header = self.expect_header().await?;
        if header != HEADER {
            return Err(self.other_header(header));
        }
        if self.takes_turn(script, HandshakeStep::Start).await? {
            return Ok(terms);
        }
        self.send(0, script.start.clone()).await?;
        let start_ok: connection::StartOk = self.expect(0).await?;
        terms.mechanism = start_ok.mechanism.into();
        terms.response = start_ok.response.as_bytes().to_vec();
        terms.locale = start_ok.locale.into();
        terms.properties = start_ok.client_properties;

        for challenge in &script.challenges {
            if self.takes_turn(script, HandshakeStep::Secure).await? {
                return Ok(terms);
            }
            self.send(0, connection::Secure { challenge: challenge.clone().into() }).await?;
            let secure_ok: connection::SecureOk = self.expect(0).await?;
            terms.answers.push(secure_ok.response.as_bytes().to_vec());
        }

        if self.takes_turn(script, HandshakeStep::Tune).await? {
            return Ok(terms);
        }
        self.send(0, script.tune.clone()).await?;
        let tune_ok: connection::TuneOk = self.expect(0).await?;
        (terms.channel_max, terms.frame_max) = (tune_ok.channel_max, tune_ok.frame_max);
        terms.heartbeat = tune_ok.heartbeat;
        if tune_ok.frame_max > 0 {
            self.frame_max = tune_ok.frame_max;
        }
        let open: connection::Open = self.expect(0).await?;
        terms.vhost = open.virtual_host.into();

        if !self.takes_turn(script, HandshakeStep::OpenOk).await? {
            self.send(0, connection::OpenOk {}).await?;
        }
        Ok(terms)
    }

    /// Does what the script wants in place of this step, if anything.
    async fn takes_turn(&mut self, script: &HandshakeScript, at: HandshakeStep) -> Result<bool, TestError> {
        match &script.change {
            Some((step, turn)) if *step == at => match turn {
                Turn::Mute => {}
                Turn::Raw(bytes) => self.send_raw(bytes).await?,
                Turn::Refuse(code, text) => self.close_connection(*code, text).await?,
            },
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("mechanism", &self.mechanism)
            .field("locale", &self.locale)
            .field("properties", &self.properties)
            .field("channel_max", &self.channel_max)
            .field("frame_max", &self.frame_max)
            .field("heartbeat", &self.heartbeat)
            .field("vhost", &self.vhost)
            .finish_non_exhaustive()
    }
}
