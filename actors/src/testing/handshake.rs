//! The handshake on the server's side: as a broker runs it, or with one step changed.

use std::{collections::BTreeMap, fmt};

use super::{
    PeerSocket, TestError,
    protocol::connection,
    types::{AMQPValue, FieldTable, ShortString},
};

const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// The capabilities of a current broker.
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

/// The steps of the handshake in which the server sends something.
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
    /// After start-ok, the first `connection.secure`; only in a script with a
    /// [challenge](HandshakeScript::challenge).
    Secure,
    /// After the last response, `connection.tune`. Here a broker refuses credentials.
    Tune,
    /// After tune-ok and open, `connection.open-ok`. Here a broker refuses the virtual host.
    OpenOk,
}

/// What the client sent in the handshake, as far as it went.
///
/// `Debug` omits the responses, which hold credentials.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, PeerSocket};
/// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
/// let client = socket.handshake().await?;
/// assert_eq!((client.mechanism.as_str(), client.vhost.as_str()), ("PLAIN", "/"));
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct ClientHandshake {
    /// The SASL mechanism that it chose.
    pub mechanism: String,
    /// Its first SASL response: for `PLAIN`, a zero, the user, a zero, the password.
    pub response: Vec<u8>,
    /// Its responses to the challenges, in order.
    pub answers: Vec<Vec<u8>>,
    /// The locale that it chose.
    pub locale: String,
    /// Its client properties, with the table `capabilities`.
    pub properties: FieldTable,
    /// The negotiated `channel_max`.
    pub channel_max: u16,
    /// The negotiated `frame_max`.
    pub frame_max: u32,
    /// The negotiated heartbeat interval in seconds.
    pub heartbeat: u16,
    /// The virtual host.
    pub vhost: String,
}

/// The server's side of a handshake. By default it does what RabbitMQ does; one step can be replaced.
///
/// # Examples
///
/// ```
/// # use actix_pika_actors::testing::{HandshakeScript, TestError, PeerSocket, HandshakeStep};
/// # async fn scripts(socket: &mut PeerSocket) -> Result<(), TestError> {
/// // A broker of another protocol version replies with its own header.
/// socket.handshake_with(&HandshakeScript::new().raw_at(HandshakeStep::Start, *b"AMQP\0\x01\0\0")).await?;
/// // A broker refuses the password.
/// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
/// socket.handshake_with(&refused).await?;
/// // A broker offers one channel, small frames, and a short heartbeat.
/// socket.handshake_with(&HandshakeScript::new().tune(1, 4096, 1)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct HandshakeScript {
    start: connection::Start,
    challenges: Vec<Vec<u8>>,
    tune: connection::Tune,
    replaced: Option<(HandshakeStep, Replacement)>,
}

/// What the peer does instead of a step. The script ends with it.
#[derive(Clone, Debug)]
enum Replacement {
    Silence,
    Raw(Vec<u8>),
    Refuse(u16, String),
}

impl HandshakeScript {
    /// Creates the script of a broker that accepts everything: `PLAIN AMQPLAIN`, all capabilities,
    /// `channel_max` 2047, `frame_max` 131,072, heartbeat 60.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new();
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
            replaced: None,
        }
    }

    /// Sets the protocol version of `connection.start`, 0 and 9 by default.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().version(0, 8);
    /// ```
    #[must_use]
    pub fn version(mut self, major: u8, minor: u8) -> Self {
        (self.start.version_major, self.start.version_minor) = (major, minor);
        self
    }

    /// Sets the SASL mechanisms of `connection.start`, separated by spaces.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().mechanisms("EXTERNAL");
    /// ```
    #[must_use]
    pub fn mechanisms(mut self, mechanisms: &str) -> Self {
        self.start.mechanisms = mechanisms.into();
        self
    }

    /// Sets the locales of `connection.start`, separated by spaces.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().locales("de_DE");
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
    /// let script = HandshakeScript::new().server_property("version", AMQPValue::LongString("9.9.9".into()));
    /// ```
    #[must_use]
    pub fn server_property(mut self, name: &str, value: AMQPValue) -> Self {
        self.start.server_properties.insert(name.into(), value);
        self
    }

    /// Sets the capabilities of the server, each with the value true.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().capabilities(&["basic.nack"]); // no confirms
    /// ```
    #[must_use]
    pub fn capabilities(self, names: &[&str]) -> Self {
        let table: BTreeMap<_, _> =
            names.iter().map(|name| ((*name).into(), AMQPValue::Boolean(true))).collect();
        self.server_property("capabilities", AMQPValue::FieldTable(table.into()))
    }

    /// Adds a `connection.secure` with a challenge.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().challenge(*b"who are you?");
    /// ```
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<Vec<u8>>) -> Self {
        self.challenges.push(challenge.into());
        self
    }

    /// Sets what `connection.tune` proposes; 0 means no limit. The heartbeat is in seconds.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::HandshakeScript;
    /// let script = HandshakeScript::new().tune(1, 4096, 1);
    /// ```
    #[must_use]
    pub fn tune(mut self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Self {
        self.tune = connection::Tune { channel_max, frame_max, heartbeat };
        self
    }

    /// Sends nothing at a step. The script ends there, and the socket stays open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let script = HandshakeScript::new().silent_at(HandshakeStep::Tune);
    /// ```
    #[must_use]
    pub fn silent_at(self, step: HandshakeStep) -> Self {
        self.replace(step, Replacement::Silence)
    }

    /// Sends bytes instead of a step, such as an HTTP response or another protocol header. The script ends
    /// there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let script = HandshakeScript::new().raw_at(HandshakeStep::Start, *b"HTTP/1.1 400 Bad Request\r\n\r\n");
    /// ```
    #[must_use]
    pub fn raw_at(self, step: HandshakeStep, bytes: impl Into<Vec<u8>>) -> Self {
        self.replace(step, Replacement::Raw(bytes.into()))
    }

    /// Sends `connection.close` instead of a step, and waits for `connection.close-ok`. The script ends
    /// there.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{HandshakeScript, HandshakeStep};
    /// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
    /// ```
    #[must_use]
    pub fn refuse_at(self, step: HandshakeStep, code: u16, text: &str) -> Self {
        self.replace(step, Replacement::Refuse(code, text.to_owned()))
    }

    fn replace(mut self, step: HandshakeStep, replacement: Replacement) -> Self {
        self.replaced = Some((step, replacement));
        self
    }
}

impl Default for HandshakeScript {
    fn default() -> Self {
        Self::new()
    }
}

impl PeerSocket {
    /// Runs the handshake of a broker that accepts everything, and returns what the client sent.
    ///
    /// # Errors
    /// The same as [`handshake_with`](Self::handshake_with).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.handshake().await?.vhost, "/");
    /// # Ok(()) }
    /// ```
    pub async fn handshake(&mut self) -> Result<ClientHandshake, TestError> {
        self.handshake_with(&HandshakeScript::new()).await
    }

    /// Runs the handshake of a script, and returns what the client sent until the script ended.
    ///
    /// For what no script can do, send and expect each frame, starting with
    /// [`expect_header`](Self::expect_header).
    ///
    /// # Errors
    /// [`Unexpected`](super::TestErrorKind::Unexpected) when the client sends something else,
    /// [`Disconnected`](super::TestErrorKind::Disconnected) or [`TimedOut`](super::TestErrorKind::TimedOut)
    /// when it sends nothing.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, HandshakeScript, HandshakeStep};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// let refused = HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, "ACCESS_REFUSED");
    /// socket.handshake_with(&refused).await?;
    /// # Ok(()) }
    /// ```
    pub async fn handshake_with(&mut self, script: &HandshakeScript) -> Result<ClientHandshake, TestError> {
        let mut client = ClientHandshake::default();

        let header = self.expect_header().await?;
        if header != HEADER {
            return Err(self.other_header(header));
        }
        if self.is_replaced(script, HandshakeStep::Start).await? {
            return Ok(client);
        }
        self.send(0, script.start.clone()).await?;
        let start_ok: connection::StartOk = self.expect(0).await?;
        client.mechanism = start_ok.mechanism.into();
        client.response = start_ok.response.as_bytes().to_vec();
        client.locale = start_ok.locale.into();
        client.properties = start_ok.client_properties;

        for challenge in &script.challenges {
            if self.is_replaced(script, HandshakeStep::Secure).await? {
                return Ok(client);
            }
            self.send(0, connection::Secure { challenge: challenge.clone().into() }).await?;
            let secure_ok: connection::SecureOk = self.expect(0).await?;
            client.answers.push(secure_ok.response.as_bytes().to_vec());
        }

        if self.is_replaced(script, HandshakeStep::Tune).await? {
            return Ok(client);
        }
        self.send(0, script.tune.clone()).await?;
        let tune_ok: connection::TuneOk = self.expect(0).await?;
        (client.channel_max, client.frame_max) = (tune_ok.channel_max, tune_ok.frame_max);
        client.heartbeat = tune_ok.heartbeat;
        if tune_ok.frame_max > 0 {
            self.frame_max = tune_ok.frame_max;
        }
        let open: connection::Open = self.expect(0).await?;
        client.vhost = open.virtual_host.into();

        if !self.is_replaced(script, HandshakeStep::OpenOk).await? {
            self.send(0, connection::OpenOk {}).await?;
        }
        Ok(client)
    }

    /// Returns whether the script replaces a step; if so, does that instead.
    async fn is_replaced(&mut self, script: &HandshakeScript, at: HandshakeStep) -> Result<bool, TestError> {
        match &script.replaced {
            Some((step, replacement)) if *step == at => match replacement {
                Replacement::Silence => {}
                Replacement::Raw(bytes) => self.send_raw(bytes).await?,
                Replacement::Refuse(code, text) => self.close_connection(*code, text).await?,
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
