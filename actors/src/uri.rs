//! AMQP URIs: `amqp://user:password@host:port/vhost?parameter=value`.
//!
//! This module parses a URI as the RabbitMQ URI specification defines it, strictly: a malformed or unknown
//! part is an error that names the part, and no default replaces it. No error and no output contains the
//! password or repeats the URI. The text is split here because general URL parsers resolve dots in paths,
//! refuse `amqp://:@/`, and do not support IPv6 zones.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::secret::Secret;

pub use error::UriError;
pub use parameters::{UriParameters, Verify};

mod error;
mod parameters;

/// Selects plain TCP or TLS.
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::Scheme;
/// assert_eq!((Scheme::Amqp.port(), Scheme::Amqps.port()), (5672, 5671));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// `amqp`: plain TCP, port 5672 by default.
    #[default]
    Amqp,
    /// `amqps`: TLS, port 5671 by default.
    Amqps,
}

/// Holds the parts of an AMQP URI: the broker's host, the login, the virtual host and the parameters.
///
/// Percent-encoding is decoded in every part. An empty virtual host is `/`, and so is `/%2F`. `Debug` and
/// `Display` print `***` instead of the password.
///
/// # Errors
/// Parsing fails with a [`UriError`] that names the part and repeats nothing of the text.
///
/// Source: <https://www.rabbitmq.com/docs/uri-spec>; <https://www.rabbitmq.com/docs/uri-query-parameters>
///
/// # Examples
/// ```
/// # use actix_pika_actors::uri::AmqpUri;
/// let uri: AmqpUri = "amqp://alice:secret@broker.example/orders?heartbeat=10".parse()?;
/// assert_eq!((uri.port, uri.vhost.as_str(), uri.parameters.heartbeat), (5672, "orders", Some(10)));
/// assert_eq!(uri.to_string(), "amqp://alice:***@broker.example/orders?heartbeat=10");
/// # Ok::<(), actix_pika_actors::uri::UriError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AmqpUri {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Name or IP address. An IPv6 address has no brackets, and may have a zone after a `%`.
    pub host: String,
    /// Port; the default port of the scheme if the URI has none.
    pub port: u16,
    /// User; `guest` if the URI has none.
    pub user: String,
    /// Password; `guest` if the URI has none.
    pub password: Secret,
    /// Virtual host; `/` if the URI has none.
    pub vhost: String,
    /// Parameters after the question mark.
    pub parameters: UriParameters,
}

impl Default for AmqpUri {
    fn default() -> Self {
        Self {
            scheme: Scheme::Amqp,
            host: "localhost".into(),
            port: Scheme::Amqp.port(),
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            parameters: UriParameters::default(),
        }
    }
}

impl Scheme {
    /// Returns the default port of the scheme.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::uri::Scheme;
    /// assert_eq!(Scheme::Amqps.port(), 5671);
    /// ```
    pub fn port(self) -> u16 {
        match self {
            Self::Amqp => 5672,
            Self::Amqps => 5671,
        }
    }

    /// Returns the scheme as it is written in a URI.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::uri::Scheme;
    /// assert_eq!(Scheme::Amqps.as_str(), "amqps");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Amqps => "amqps",
        }
    }
}

impl FromStr for AmqpUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(UriError::Whitespace);
        }
        if text.contains('#') {
            return Err(UriError::Fragment);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UriError::Scheme)?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("amqp") => Scheme::Amqp,
            _ if scheme.eq_ignore_ascii_case("amqps") => Scheme::Amqps,
            _ => return Err(UriError::Scheme),
        };
        check_login(rest)?;
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').map_or((None, authority), |(l, a)| (Some(l), a));

        let mut uri = Self { scheme, port: scheme.port(), ..Self::default() };
        uri.set_address(address)?;
        uri.set_login(login)?;
        if !path.is_empty() {
            uri.vhost = decode(path, UriError::Vhost)?;
        }
        if let Some(query) = query {
            uri.parameters = query.parse()?;
        }
        Ok(uri)
    }
}

impl AmqpUri {
    fn set_login(&mut self, login: Option<&str>) -> Result<(), UriError> {
        let Some(login) = login else { return Ok(()) };
        let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
        self.user = decode(user, UriError::User)?;
        if let Some(password) = password {
            self.password = decode(password, UriError::Password)?.into();
        }
        Ok(())
    }

    fn set_address(&mut self, address: &str) -> Result<(), UriError> {
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(UriError::Host)?;
                let port = match rest.strip_prefix(':') {
                    None if rest.is_empty() => None,
                    None => return Err(UriError::Host),
                    port => port,
                };
                (ipv6(host)?, port)
            }
            None => {
                let (host, port) = address.split_once(':').map_or((address, None), |(h, p)| (h, Some(p)));
                (name(host)?, port)
            }
        };
        if !host.is_empty() {
            self.host = host;
        }
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            self.port = number(port).filter(|&port| port != 0).ok_or(UriError::Port)?;
        }
        Ok(())
    }
}

/// Refuses a `/` or `?` that is likely to belong to a login: what follows it would be shown as the virtual
/// host.
///
/// If no `@` precedes it, every `@` behind it ends such a login. Behind a login, the virtual host may begin
/// with an `@`.
fn check_login(rest: &str) -> Result<(), UriError> {
    let Some(end) = rest.find(['/', '?']) else { return Ok(()) };
    let (authority, tail) = rest.split_at(end);
    let ambiguous = if authority.contains('@') {
        let vhost = tail.split('?').next().unwrap_or(tail).trim_start_matches('/');
        vhost.strip_prefix('@').unwrap_or(vhost).contains('@')
    } else {
        tail.contains('@')
    };
    match tail.chars().next() {
        Some(character) if ambiguous => Err(UriError::Unescaped { character }),
        _ => Ok(()),
    }
}

/// Parses a number that consists of digits only.
fn number<T: FromStr>(text: &str) -> Option<T> {
    if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn ipv6(text: &str) -> Result<String, UriError> {
    let host = decode(text, UriError::Host)?;
    let (address, zone) = host.split_once('%').map_or((&*host, None), |(a, z)| (a, Some(z)));
    address.parse::<Ipv6Addr>().map_err(|_| UriError::Host)?;
    match zone {
        Some("") => Err(UriError::Host),
        _ => Ok(host),
    }
}

/// Parses a host name or an IPv4 address. A name with non-ASCII letters is converted to its DNS form.
fn name(text: &str) -> Result<String, UriError> {
    let host = decode(text, UriError::Host)?;
    if host.chars().any(|c| c.is_whitespace() || c.is_control() || "/?#@[]:\\%<>^|".contains(c)) {
        return Err(UriError::Host);
    }
    if host.is_ascii() {
        return Ok(host);
    }
    match url::Host::parse(&host) {
        Ok(url::Host::Domain(domain)) => Ok(domain),
        _ => Err(UriError::Host),
    }
}

/// Decodes `%` escapes. An invalid escape is an error, and so is a result that is not UTF-8.
fn decode(text: &str, wrong: UriError) -> Result<String, UriError> {
    let mut escapes = text.split('%');
    escapes.next();
    for escape in escapes {
        match escape.as_bytes() {
            [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {}
            _ => return Err(wrong),
        }
    }
    match percent_encoding::percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(wrong),
    }
}

/// The characters that are escaped: all but those that RFC 3986 leaves unreserved.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'!')
    .add(b'"')
    .add(b'#')
    .add(b'$')
    .add(b'%')
    .add(b'&')
    .add(b'\'')
    .add(b'(')
    .add(b')')
    .add(b'*')
    .add(b'+')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

fn escape(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

impl fmt::Display for AmqpUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:***@", self.scheme.as_str(), escape(&self.user))?;
        match self.host.split_once('%') {
            Some((address, zone)) => write!(f, "[{address}%25{}]", escape(zone))?,
            None if self.host.contains(':') => write!(f, "[{}]", self.host)?,
            None => write!(f, "{}", escape(&self.host))?,
        }
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        write!(f, "/{}{}", escape(&self.vhost), self.parameters)
    }
}
