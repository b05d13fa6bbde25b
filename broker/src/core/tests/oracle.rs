//! A node of RabbitMQ that says what is right.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use actix_pika_actors::{
    Table, Value,
    wire::{
        field_table::to_field_table,
        method::{AMQPClass, basic, channel, connection, put_method, read_method},
        short::short_truncated,
    },
};
use bytes::{BufMut, BytesMut};

use super::{
    operation::{At, Content, Operation, PolicyText, operation},
    rig::{is_end, reply_address},
    show::{content_text, method_text, normal},
};
use crate::core::Line;

/// How long a node may be silent before an operation counts as answered.
const QUIET: Duration = Duration::from_millis(60);

pub(super) struct Oracle {
    address: String,
    vhost: String,
    connections: BTreeMap<char, Peer>,
    opened: Vec<At>,
    reply_address: String,
    users: Vec<String>,
}

/// A connection to the node.
struct Peer {
    socket: TcpStream,
    read: Vec<u8>,
    waiting: VecDeque<(u8, u16, Vec<u8>)>,
    /// The content that is being read on each channel.
    contents: BTreeMap<u16, Partial>,
}

struct Partial {
    method: AMQPClass,
    properties: Vec<u8>,
    size: u64,
    body: Vec<u8>,
}

impl Oracle {
    /// Returns the line of the node, if there is one.
    pub(super) fn line() -> Option<Line> {
        let node = std::env::var("BROKER_ORACLE").ok()?;
        let (_, line) = node.split_once(' ')?;
        [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3]
            .into_iter()
            .find(|known| format!("{known:?}") == line)
    }

    /// Returns the node of a line, if there is one.
    pub(super) fn of(line: Line) -> Option<Self> {
        static VHOSTS: AtomicU32 = AtomicU32::new(0);
        let node = std::env::var("BROKER_ORACLE").ok()?;
        let (address, of) = node.split_once(' ')?;
        if of != format!("{line:?}") {
            return None;
        }
        let vhost = format!("core-{}-{}", std::process::id(), VHOSTS.fetch_add(1, Ordering::Relaxed));
        let oracle = Self {
            address: address.to_owned(),
            vhost,
            connections: BTreeMap::new(),
            opened: Vec::new(),
            reply_address: String::new(),
            users: Vec::new(),
        };
        oracle.manage("PUT", &format!("vhosts/{}", oracle.vhost), "");
        Some(oracle)
    }

    /// Asks the management plug-in, whose port is 10000 above.
    fn manage(&self, verb: &str, path: &str, body: &str) {
        let (host, port) = self.address.split_once(':').unwrap();
        let port: u16 = port.parse().unwrap();
        let mut socket = TcpStream::connect((host, port + 10_000)).unwrap();
        let request = format!(
            "{verb} /api/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    }

    /// Makes a user, whose name at the node has that of the virtual host in front.
    fn add_user(&mut self, letter: char, [configure, write, read]: &[String; 3]) {
        let name = format!("{}-{letter}", self.vhost);
        self.manage("PUT", &format!("users/{name}"), r#"{"password":"p","tags":""}"#);
        let patterns = format!(r#"{{"configure":"{configure}","write":"{write}","read":"{read}"}}"#);
        self.manage("PUT", &format!("permissions/{}/{name}", self.vhost), &patterns);
        let peer = Peer::connect(&self.address, &self.vhost, &format!("\0{name}\0p"), true);
        self.connections.insert(letter, peer);
        self.users.push(name);
    }

    /// Says an operation and returns the answers, of which so many are expected.
    pub(super) fn say(&mut self, text: &str, expected: usize) -> Vec<String> {
        match operation(&text.replace("REPLY", &self.reply_address)) {
            Operation::Advance(millis) => std::thread::sleep(Duration::from_millis(millis)),
            Operation::Policy(policy) => self.set_policy(&policy),
            Operation::Drop(letter) => {
                self.connections.remove(&letter);
                self.opened.retain(|at| at.connection != letter);
                std::thread::sleep(QUIET);
            }
            Operation::User(letter, patterns) => self.add_user(letter, &patterns),
            Operation::Method(at, method) => {
                let end = is_end(&method);
                let peer = self.open(at, Some(&method));
                peer.send(at.channel, &method);
                if has_reply(&method) {
                    peer.wait();
                }
                if end {
                    self.opened.retain(|opened| *opened != at);
                }
            }
            Operation::Publish(at, content) => self.open(at, None).publish(at.channel, &content),
        }
        let answers = self.answers(expected);
        if let Some(address) = reply_address(&answers) {
            self.reply_address = address;
        }
        normal(answers)
    }

    /// Says an operation and returns the answers. Waits longer if they are not those that are expected.
    pub(super) fn say_until(&mut self, text: &str, expected: &[String]) -> Vec<String> {
        let mut answers = self.say(text, expected.len());
        for _ in 0..5 {
            if answers == expected {
                break;
            }
            std::thread::sleep(2 * QUIET);
            answers.extend(self.answers(0));
            answers = normal(answers);
        }
        answers
    }

    /// Sets or removes a policy, and waits until its queues have heard of it.
    fn set_policy(&self, policy: &PolicyText) {
        let kind = if policy.is_operator { "operator-policies" } else { "policies" };
        let path = format!("{kind}/{}/{}", self.vhost, policy.name);
        match &policy.set {
            None => self.manage("DELETE", &path, ""),
            Some(set) => {
                let definition: Vec<String> = set
                    .definition
                    .iter()
                    .map(|(key, value)| format!("{:?}:{}", key.to_string_lossy(), json(value)))
                    .collect();
                let body = format!(
                    "{{\"pattern\":{:?},\"apply-to\":{:?},\"priority\":{},\"definition\":{{{}}}}}",
                    set.pattern,
                    set.apply_to,
                    set.priority,
                    definition.join(",")
                );
                self.manage("PUT", &path, &body);
            }
        }
        std::thread::sleep(5 * QUIET);
    }

    /// Limits the queues of its virtual host.
    pub(super) fn limit_queues(&self, max: Option<u32>) {
        self.set_limit(&format!("vhost-limits/{}/max-queues", self.vhost), max);
    }

    /// Limits the channels of a user that an operation has made.
    pub(super) fn limit_channels_of(&self, user: char, max: Option<u32>) {
        self.set_limit(&format!("user-limits/{}-{user}/max-channels", self.vhost), max);
    }

    fn set_limit(&self, path: &str, max: Option<u32>) {
        match max {
            Some(max) => self.manage("PUT", path, &format!("{{\"value\":{max}}}")),
            None => self.manage("DELETE", path, ""),
        }
        std::thread::sleep(5 * QUIET);
    }

    /// Opens the channel of an operation on its first use, unless that is to open it.
    fn open(&mut self, at: At, method: Option<&AMQPClass>) -> &mut Peer {
        if !self.connections.contains_key(&at.connection) {
            let peer = Peer::connect(&self.address, &self.vhost, "\0guest\0guest", at.connection != 'z');
            self.connections.insert(at.connection, peer);
        }
        let peer = self.connections.get_mut(&at.connection).unwrap();
        if !self.opened.contains(&at) {
            self.opened.push(at);
            let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
            if method != Some(&open) {
                peer.send(at.channel, &open);
                peer.wait();
                peer.answers(at.connection);
            }
        }
        peer
    }

    /// Reads until all connections are silent. Names in texts are those of the virtual host `/`.
    fn answers(&mut self, expected: usize) -> Vec<String> {
        let mut answers = Vec::new();
        // A busy node may be late.
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let before = answers.len();
            for (letter, peer) in &mut self.connections {
                answers.extend(peer.answers(*letter));
            }
            if answers.len() == before && (answers.len() >= expected || Instant::now() > until) {
                break;
            }
        }
        let named = format!("vhost '{}'", self.vhost);
        let user = format!("user '{}-", self.vhost);
        let local = |answer: &String| {
            with_name_of_broker(answer.replace(&named, "vhost '/'").replace(&user, "user '"))
        };
        answers.iter().map(local).collect()
    }
}

/// A node of 4.0 names itself in place of a user: it gets the broker's name.
fn with_name_of_broker(answer: String) -> String {
    let Some((before, rest)) = answer.split_once("user '") else { return answer };
    match rest.split_once('\'') {
        Some((name, after)) if name.contains('@') => {
            format!("{before}user 'actix-pika-broker@localhost'{after}")
        }
        _ => answer,
    }
}

/// A value of a policy.
fn json(value: &Value) -> String {
    match value {
        Value::LongString(text) => format!("{:?}", text.to_string_lossy()),
        Value::Boolean(value) => value.to_string(),
        other => other.as_i64().unwrap().to_string(),
    }
}

/// Whether a method has an answer even if it does what it is for.
fn has_reply(method: &AMQPClass) -> bool {
    use basic::AMQPMethod as Basic;
    !matches!(
        method,
        AMQPClass::Basic(Basic::Ack(_) | Basic::Nack(_) | Basic::Reject(_))
            | AMQPClass::Channel(channel::AMQPMethod::CloseOk(_))
    )
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.connections.clear();
        if !std::thread::panicking() {
            self.manage("DELETE", &format!("vhosts/{}", self.vhost), "");
            for user in &self.users {
                self.manage("DELETE", &format!("users/{user}"), "");
            }
        }
    }
}

impl Peer {
    fn connect(address: &str, vhost: &str, login: &str, cancel_notify: bool) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"AMQP\0\0\x09\x01").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut peer = Self { socket, read: Vec::new(), waiting: VecDeque::new(), contents: BTreeMap::new() };
        peer.next_frame().unwrap();
        let capabilities = Table::from([
            ("consumer_cancel_notify", Value::from(cancel_notify)),
            ("basic.nack", Value::from(true)),
            ("publisher_confirms", Value::from(true)),
        ]);
        let properties = Table::from([("capabilities", Value::Table(capabilities))]);
        let start_ok = connection::StartOk {
            client_properties: to_field_table(&properties).unwrap(),
            mechanism: short_truncated("PLAIN"),
            response: login.into(),
            locale: short_truncated("en_US"),
        };
        peer.send(0, &AMQPClass::Connection(connection::AMQPMethod::StartOk(start_ok)));
        peer.next_frame().unwrap();
        let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        peer.send(0, &AMQPClass::Connection(connection::AMQPMethod::TuneOk(tune)));
        let open = connection::Open { virtual_host: short_truncated(vhost) };
        peer.send(0, &AMQPClass::Connection(connection::AMQPMethod::Open(open)));
        peer.next_frame().unwrap();
        peer.socket.set_read_timeout(Some(QUIET)).unwrap();
        peer
    }

    /// Waits until something can be read, on a busy machine for long.
    fn wait(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        if let Some(frame) = self.next_frame() {
            self.waiting.push_back(frame);
        }
        self.socket.set_read_timeout(Some(QUIET)).unwrap();
    }

    fn send(&mut self, channel: u16, method: &AMQPClass) {
        let mut buf = BytesMut::new();
        put_method(&mut buf, channel, method).unwrap();
        // A node that has closed the connection takes nothing.
        let _ = self.socket.write_all(&buf);
    }

    fn publish(&mut self, channel: u16, content: &Content) {
        let publish = basic::Publish {
            exchange: short_truncated(&content.exchange),
            routing_key: short_truncated(&content.routing_key),
            mandatory: content.mandatory,
            immediate: content.immediate,
        };
        self.send(channel, &AMQPClass::Basic(basic::AMQPMethod::Publish(publish)));
        let mut header = vec![0, 60, 0, 0];
        header.extend((content.body.len() as u64).to_be_bytes());
        header.extend(&content.properties);
        for (kind, payload) in [(2, &header[..]), (3, &content.body[..])] {
            if kind == 3 && payload.is_empty() {
                continue;
            }
            let mut frame = vec![kind];
            frame.put_u16(channel);
            frame.put_u32(payload.len() as u32);
            frame.extend(payload);
            frame.push(0xCE);
            let _ = self.socket.write_all(&frame);
        }
    }

    /// Reads one frame, or none if the node is silent or gone.
    fn next_frame(&mut self) -> Option<(u8, u16, Vec<u8>)> {
        loop {
            if self.read.len() >= 7 {
                let len = u32::from_be_bytes(self.read[3..7].try_into().unwrap()) as usize;
                if self.read.len() >= len + 8 {
                    let frame: Vec<u8> = self.read.drain(..len + 8).collect();
                    let channel = u16::from_be_bytes([frame[1], frame[2]]);
                    return Some((frame[0], channel, frame[7..7 + len].to_vec()));
                }
            }
            let mut buf = [0; 16 * 1024];
            match self.socket.read(&mut buf) {
                Ok(0) => return None,
                Ok(len) => self.read.extend(&buf[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    fn answers(&mut self, letter: char) -> Vec<String> {
        let mut answers = Vec::new();
        while let Some((kind, channel, payload)) = self.waiting.pop_front().or_else(|| self.next_frame()) {
            let text = match kind {
                1 => self.method(channel, &payload),
                2 => self.header(channel, &payload),
                3 => self.body(channel, &payload),
                _ => None,
            };
            answers.extend(text.map(|text| format!("{letter}{channel} {text}")));
        }
        answers
    }

    fn method(&mut self, channel: u16, payload: &[u8]) -> Option<String> {
        let method = read_method(payload).unwrap();
        match &method {
            AMQPClass::Basic(
                basic::AMQPMethod::Deliver(_) | basic::AMQPMethod::GetOk(_) | basic::AMQPMethod::Return(_),
            ) => {
                let partial = Partial { method, properties: Vec::new(), size: 0, body: Vec::new() };
                self.contents.insert(channel, partial);
                None
            }
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                Some(format!("ack {}{}", ack.delivery_tag, if ack.multiple { " multiple" } else { "" }))
            }
            AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                Some(format!("nack {}{}", nack.delivery_tag, if nack.multiple { " multiple" } else { "" }))
            }
            AMQPClass::Connection(connection::AMQPMethod::Close(close)) => Some(format!(
                "close {} {} at {} {}",
                close.reply_code,
                close.reply_text.as_str(),
                close.class_id,
                close.method_id
            )),
            method => Some(method_text(method)),
        }
    }

    fn header(&mut self, channel: u16, payload: &[u8]) -> Option<String> {
        let partial = self.contents.get_mut(&channel).unwrap();
        partial.size = u64::from_be_bytes(payload[4..12].try_into().unwrap());
        partial.properties = payload[12..].to_vec();
        self.body(channel, &[])
    }

    fn body(&mut self, channel: u16, payload: &[u8]) -> Option<String> {
        let partial = self.contents.get_mut(&channel).unwrap();
        partial.body.extend(payload);
        if (partial.body.len() as u64) < partial.size {
            return None;
        }
        let Partial { method, properties, body, .. } = self.contents.remove(&channel).unwrap();
        let AMQPClass::Basic(method) = method else { return None };
        Some(match method {
            basic::AMQPMethod::Deliver(deliver) => {
                let (exchange, key) = (deliver.exchange.as_str(), deliver.routing_key.as_str());
                let content = content_text(&properties, &body, deliver.redelivered, exchange, key);
                format!("deliver {} {} {content}", deliver.consumer_tag, deliver.delivery_tag)
            }
            basic::AMQPMethod::GetOk(got) => {
                let (exchange, key) = (got.exchange.as_str(), got.routing_key.as_str());
                let content = content_text(&properties, &body, got.redelivered, exchange, key);
                format!("got {} {content}, {} left", got.delivery_tag, got.message_count)
            }
            basic::AMQPMethod::Return(returned) => {
                let (exchange, key) = (returned.exchange.as_str(), returned.routing_key.as_str());
                let content = content_text(&properties, &body, false, exchange, key);
                format!("return {} {content}", returned.reply_code)
            }
            _ => return None,
        })
    }
}
