//! The query parameters of a URI: those of the RabbitMQ specification, and those of aio-pika that apply here.
//!
//! Each parameter has a type and may occur once; only `auth_mechanism` may be repeated. An empty value is a
//! value, not an absent parameter.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::{UriError, decode, escape, number};
use crate::secret::Secret;

/// Holds the query parameters of an [`AmqpUri`](super::AmqpUri); `None` for absent ones.
///
/// # Errors
/// Parsing fails with a [`UriError`] for an unknown parameter, for one that occurs twice (except
/// `auth_mechanism`), and for an invalid value.
///
/// Source: <https://www.rabbitmq.com/docs/uri-query-parameters>
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::UriParameters;
/// let parameters: UriParameters = "heartbeat=10&name=orders".parse()?;
/// assert_eq!((parameters.heartbeat, parameters.name.as_deref()), (Some(10), Some("orders")));
/// assert_eq!(parameters.to_string(), "?heartbeat=10&name=orders");
/// # Ok::<(), actix_pika_actors::uri::UriError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct UriParameters {
    /// `heartbeat`: interval in seconds; 0 turns heartbeats off.
    pub heartbeat: Option<u16>,
    /// `connection_timeout`: limit of a connect in milliseconds.
    pub connection_timeout: Option<Duration>,
    /// `channel_max`: limit of channels; 0 for no limit.
    pub channel_max: Option<u16>,
    /// `frame_max`: limit of a frame in bytes; 0 for no limit.
    pub frame_max: Option<u32>,
    /// `name`: the connection name that the broker's management shows.
    pub name: Option<String>,
    /// `auth_mechanism`, or `auth` as in aio-pika: mechanisms in order of preference.
    pub auth_mechanism: Vec<String>,
    /// `cacertfile`: file with the certificates of trusted authorities.
    pub cacertfile: Option<PathBuf>,
    /// `certfile`: file with the client's certificate.
    pub certfile: Option<PathBuf>,
    /// `keyfile`: file with the client's private key.
    pub keyfile: Option<PathBuf>,
    /// `verify`: whether the server's certificate is verified.
    pub verify: Option<Verify>,
    /// `server_name_indication`: the server name that is sent in TLS and verified.
    pub server_name_indication: Option<String>,
    /// `reconnect_interval`: seconds, possibly with a fraction.
    pub reconnect_interval: Option<Duration>,
    /// `fail_fast`: whether the first connect fails at once instead of being retried.
    pub fail_fast: Option<bool>,
    /// `timeout`: seconds, possibly with a fraction.
    pub timeout: Option<Duration>,
    /// `interleave`: how many addresses of the first family precede those of the other.
    pub interleave: Option<usize>,
    /// `happy_eyeballs_delay`: seconds, possibly with a fraction.
    pub happy_eyeballs_delay: Option<Duration>,
    /// `cafile`: same as `cacertfile`.
    pub cafile: Option<PathBuf>,
    /// `capath`: directory with the certificates of trusted authorities.
    pub capath: Option<PathBuf>,
    /// `cadata`: certificates of trusted authorities, DER or PEM, in base64. They are not shown, because
    /// something else may have been put there.
    pub cadata: Option<Secret>,
    /// `no_verify_ssl`: whether the server's certificate is accepted without verification.
    pub no_verify_ssl: Option<bool>,
}

/// Selects whether the server's certificate is verified.
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::{AmqpUri, Verify};
/// let uri: AmqpUri = "amqps://broker.example?verify=verify_peer".parse()?;
/// assert_eq!(uri.parameters.verify, Some(Verify::Peer));
/// # Ok::<(), actix_pika_actors::uri::UriError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// `verify_peer`: the certificate is verified.
    Peer,
    /// `verify_none`: any certificate is accepted.
    None,
}

impl FromStr for UriParameters {
    type Err = UriError;

    fn from_str(query: &str) -> Result<Self, UriError> {
        // An unescaped `?` or `@` belongs to a password, which must not appear as the name of a parameter.
        if query.contains(['?', '@']) {
            return Err(UriError::Query);
        }
        let mut parameters = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (key, value) = (decode(key, UriError::Query)?, decode(value, UriError::Query)?);
            parameters.set(&key, value)?;
        }
        Ok(parameters)
    }
}

impl UriParameters {
    /// Returns the first parameter here that applies to TLS only.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::uri::UriParameters;
    /// let parameters: UriParameters = "certfile=me.pem".parse()?;
    /// assert_eq!(parameters.needs_tls(), Some("certfile"));
    /// # Ok::<(), actix_pika_actors::uri::UriError>(())
    /// ```
    pub fn needs_tls(&self) -> Option<&'static str> {
        [
            ("cacertfile", self.cacertfile.is_some()),
            ("certfile", self.certfile.is_some()),
            ("keyfile", self.keyfile.is_some()),
            ("verify", self.verify.is_some()),
            ("server_name_indication", self.server_name_indication.is_some()),
            ("cafile", self.cafile.is_some()),
            ("capath", self.capath.is_some()),
            ("cadata", self.cadata.is_some()),
            ("no_verify_ssl", self.no_verify_ssl.is_some()),
        ]
        .into_iter()
        .find_map(|(key, given)| given.then_some(key))
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), UriError> {
        match key {
            "heartbeat" => set_once("heartbeat", &mut self.heartbeat, SECONDS, number(&value)),
            "connection_timeout" => {
                let timeout = number(&value).map(Duration::from_millis);
                set_once("connection_timeout", &mut self.connection_timeout, MILLISECONDS, timeout)
            }
            "channel_max" => set_once("channel_max", &mut self.channel_max, CHANNELS, number(&value)),
            "frame_max" => {
                let frame_max = number(&value).filter(|&bytes| bytes == 0 || bytes >= 4096);
                set_once("frame_max", &mut self.frame_max, FRAME_MAX, frame_max)
            }
            "name" => set_once("name", &mut self.name, TEXT, Some(value)),
            "auth_mechanism" | "auth" if value.is_empty() => {
                let key = if key == "auth" { "auth" } else { "auth_mechanism" };
                Err(UriError::InvalidParameter { key, expected: TEXT })
            }
            "auth_mechanism" | "auth" => {
                self.auth_mechanism.push(value);
                Ok(())
            }
            "cacertfile" => set_once("cacertfile", &mut self.cacertfile, PATH, path(value)),
            "certfile" => set_once("certfile", &mut self.certfile, PATH, path(value)),
            "keyfile" => set_once("keyfile", &mut self.keyfile, PATH, path(value)),
            "verify" => set_once("verify", &mut self.verify, VERIFY, verify(&value)),
            "server_name_indication" => {
                // For Erlang, `disable` turns the verification of the name off.
                let name = Some(value).filter(|name| !name.is_empty() && name != "disable");
                set_once("server_name_indication", &mut self.server_name_indication, NAME, name)
            }
            "reconnect_interval" => {
                set_once("reconnect_interval", &mut self.reconnect_interval, FRACTION, seconds(&value))
            }
            "fail_fast" => set_once("fail_fast", &mut self.fail_fast, WORD, word(&value)),
            "timeout" => set_once("timeout", &mut self.timeout, FRACTION, seconds(&value)),
            "interleave" => set_once("interleave", &mut self.interleave, COUNT, number(&value)),
            "happy_eyeballs_delay" => {
                set_once("happy_eyeballs_delay", &mut self.happy_eyeballs_delay, FRACTION, seconds(&value))
            }
            "cafile" => set_once("cafile", &mut self.cafile, PATH, path(value)),
            "capath" => set_once("capath", &mut self.capath, PATH, path(value)),
            "cadata" => set_once(
                "cadata",
                &mut self.cadata,
                TEXT,
                Some(value).filter(|data| !data.is_empty()).map(Secret::new),
            ),
            "no_verify_ssl" => set_once("no_verify_ssl", &mut self.no_verify_ssl, WORD, word(&value)),
            _ => Err(UriError::UnknownParameter { key: key.escape_debug().to_string() }),
        }
    }
}

const SECONDS: &str = "a number of seconds from 0 to 65535";
const MILLISECONDS: &str = "a number of milliseconds";
const CHANNELS: &str = "a number from 0 to 65535";
const FRAME_MAX: &str = "0 or a number of bytes from 4096 to 4294967295";
const COUNT: &str = "a number of addresses";
const FRACTION: &str = "a number of seconds, such as 1.5";
const WORD: &str = "1, true, yes, y, enable, 0, false, no, n or disable";
const VERIFY: &str = "verify_peer or verify_none";
const TEXT: &str = "text";
const NAME: &str = "a host name or an IP address";
const PATH: &str = "a path";

fn set_once<T>(
    key: &'static str,
    slot: &mut Option<T>,
    expected: &'static str,
    value: Option<T>,
) -> Result<(), UriError> {
    let value = value.ok_or(UriError::InvalidParameter { key, expected })?;
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::RepeatedParameter { key }),
    }
}

fn path(value: String) -> Option<PathBuf> {
    if value.is_empty() { None } else { Some(value.into()) }
}

fn verify(value: &str) -> Option<Verify> {
    match value {
        "verify_peer" => Some(Verify::Peer),
        "verify_none" => Some(Verify::None),
        _ => None,
    }
}

fn word(value: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if is(&["1", "true", "yes", "y", "enable", "enabled", "on"]) {
        Some(true)
    } else if is(&["0", "false", "no", "n", "disable", "disabled", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Parses digits with at most one point among them: no sign, no exponent, no `inf`.
fn seconds(value: &str) -> Option<Duration> {
    if !value.bytes().all(|octet| octet.is_ascii_digit() || octet == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// Writes the query as in a URI, with a leading `?`, or nothing if there are no parameters.
impl fmt::Display for UriParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mark = '?';
        let mut put = |key: &str, value: Option<String>| match value {
            None => Ok(()),
            Some(value) => {
                write!(f, "{mark}{key}={}", escape(&value))?;
                mark = '&';
                Ok(())
            }
        };
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64().to_string());
        put("heartbeat", self.heartbeat.map(|seconds| seconds.to_string()))?;
        put("connection_timeout", self.connection_timeout.map(|time| time.as_millis().to_string()))?;
        put("channel_max", self.channel_max.map(|channels| channels.to_string()))?;
        put("frame_max", self.frame_max.map(|bytes| bytes.to_string()))?;
        put("name", self.name.clone())?;
        for mechanism in &self.auth_mechanism {
            put("auth_mechanism", Some(mechanism.clone()))?;
        }
        put("cacertfile", file(&self.cacertfile))?;
        put("certfile", file(&self.certfile))?;
        put("keyfile", file(&self.keyfile))?;
        let verify = |verify| if verify == Verify::Peer { "verify_peer" } else { "verify_none" };
        put("verify", self.verify.map(|wanted| verify(wanted).to_owned()))?;
        put("server_name_indication", self.server_name_indication.clone())?;
        put("reconnect_interval", seconds(self.reconnect_interval))?;
        put("fail_fast", self.fail_fast.map(|wanted| u8::from(wanted).to_string()))?;
        put("timeout", seconds(self.timeout))?;
        put("interleave", self.interleave.map(|count| count.to_string()))?;
        put("happy_eyeballs_delay", seconds(self.happy_eyeballs_delay))?;
        put("cafile", file(&self.cafile))?;
        put("capath", file(&self.capath))?;
        put("cadata", self.cadata.as_ref().map(|_| "***".to_owned()))?;
        put("no_verify_ssl", self.no_verify_ssl.map(|wanted| u8::from(wanted).to_string()))
    }
}
