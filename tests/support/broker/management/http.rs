//! A blocking client of the management API: one request for each connection.

use std::{
    fmt::Display,
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use url::Url;

/// Percent-encodes one segment of a path: a vhost `/` becomes `%2F`.
pub fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, NON_ALPHANUMERIC).to_string()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// An address and the credentials to use there.
#[derive(Debug, Clone)]
pub(in super::super) struct Endpoint {
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
    pub(in super::super) user: String,
    pub(in super::super) password: String,
}

impl Endpoint {
    pub(in super::super) fn parse(url: &str, default_port: u16) -> Self {
        let url = Url::parse(url).unwrap_or_else(|e| panic!("not a URL ({e}): {url}"));
        let or_guest = |text: &str| match text {
            "" => "guest".to_owned(),
            text => decode(text),
        };
        Self {
            host: url.host_str().unwrap_or("localhost").to_owned(),
            port: url.port().unwrap_or(default_port),
            user: or_guest(url.username()),
            password: or_guest(url.password().unwrap_or_default()),
        }
    }

    pub(in super::super) fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]" | "::1")
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut last = None;
        for address in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
                Ok(stream) => return Ok(stream),
                Err(e) => last = Some(e),
            }
        }
        Err(last.unwrap_or_else(|| ErrorKind::NotFound.into()))
    }

    /// Sends bytes and reads until the peer closes the connection.
    fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let limit = Some(Duration::from_secs(20));
        let mut stream = self.connect()?;
        stream.set_read_timeout(limit)?;
        stream.set_write_timeout(limit)?;
        stream.write_all(request)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends one request. A request that times out is sent again once unless it is a POST, because a cluster that just
    /// formed may leave a request unanswered.
    pub(in super::super) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Response, String> {
        let Self { host, port, user, password } = self;
        let unreachable = |e: &dyn Display| {
            format!(
                "the management API of the broker does not answer at {host}:{port} ({e}). \
                 Run the tests with `make test`, which starts a broker that has it, or enable \
                 the plugin rabbitmq_management and set MANAGEMENT_URL."
            )
        };
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\
             Authorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            base64(format!("{user}:{password}").as_bytes()),
            body.len()
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(&body);

        let timed_out = |e: &std::io::Error| e.kind() == ErrorKind::WouldBlock;
        let bytes = match self.exchange(request.as_bytes()) {
            Err(error) if timed_out(&error) && method != "POST" => self.exchange(request.as_bytes()),
            result => result,
        };
        let bytes = bytes.map_err(|e| unreachable(&e))?;
        let response = Response::parse(&bytes).ok_or_else(|| unreachable(&"not HTTP"))?;
        if response.status == 401 {
            return Err(unreachable(&format!("it refuses the user {user}")));
        }
        Ok(response)
    }
}

/// A response of the management API.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|e| panic!("the management API did not return JSON ({e}): {self:?}"))
    }

    /// Parses a whole HTTP/1.1 response.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let split = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
        let rest = &bytes[split + 4..];
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        let body = if head.contains("transfer-encoding: chunked") { unchunk(rest)? } else { rest.to_vec() };
        Some(Self { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..end]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        rest = rest.get(end + 2..)?;
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Base64, for basic authentication.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits =
            three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            if digit <= three.len() {
                text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}
