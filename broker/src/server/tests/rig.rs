//! A client as a plain machine, and the bytes that it sends.

use std::{sync::Arc, time::Duration};

use actix_pika_actors::{
    Table, Value,
    wire::{
        field_table::to_field_table,
        method::{AMQPClass, basic, channel, connection, put_method, queue},
    },
};
use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    core::{Core, CoreConfig, Line},
    server::{
        clock::Clock,
        memory::dials,
        peer::End,
        shared::{PeerId, Shared},
    },
};

/// A broker with nobody who does its I/O.
pub(super) fn broker(config: CoreConfig) -> Arc<Shared> {
    Arc::new(Shared::new(Core::new(config), Clock::manual(), dials().0))
}

pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) id: PeerId,
}

impl Client {
    pub(super) fn connect(line: Line) -> Self {
        Self::connect_to(&broker(CoreConfig { line, ..CoreConfig::default() }))
    }

    pub(super) fn connect_to(shared: &Arc<Shared>) -> Self {
        let (id, _) = shared.accept("test".into()).unwrap();
        Self { shared: Arc::clone(shared), id }
    }

    pub(super) fn open(line: Line) -> Self {
        Self::open_at(&broker(CoreConfig { line, ..CoreConfig::default() }))
    }

    pub(super) fn open_at(shared: &Arc<Shared>) -> Self {
        let client = Self::connect_to(shared);
        client.send(&handshake());
        client.send(&method(1, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))));
        client.read();
        client
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        for part in bytes.chunks(64 * 1024) {
            // As the reader does: it waits until it may read.
            if self.shared.reads(self.id) {
                self.shared.received(self.id, part);
            }
        }
    }

    /// Takes what is there, as a writer does once, and returns how the socket ends.
    pub(super) fn take(&self) -> (Bytes, Option<End>) {
        let output = self.shared.take_output(self.id);
        self.shared.written(self.id);
        (output.bytes, output.end)
    }

    /// Reads until there is no more.
    pub(super) fn read(&self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let (bytes, _) = self.take();
            if bytes.is_empty() {
                return all;
            }
            all.extend_from_slice(&bytes);
        }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.shared.advance(|clock| clock.advance_net(by));
    }

    /// The reply codes and texts of `connection.close` in what was read.
    pub(super) fn closes(read: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        for frame in frames(read) {
            if let [0, 10, 0, 50, c1, c0, len, rest @ ..] = &frame.2[..] {
                let text = String::from_utf8_lossy(&rest[..usize::from(*len)]);
                found.push(format!("{} {text}", u16::from_be_bytes([*c1, *c0])));
            }
        }
        found
    }
}

pub(super) fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, c1, c0, s3, s2, s1, s0, rest @ ..] = bytes {
        let size = u32::from_be_bytes([*s3, *s2, *s1, *s0]) as usize;
        frames.push((*kind, u16::from_be_bytes([*c1, *c0]), rest[..size].to_vec()));
        bytes = &rest[size + 1..];
    }
    frames
}

pub(super) fn method(channel: u16, method: AMQPClass) -> BytesMut {
    let mut out = BytesMut::new();
    put_method(&mut out, channel, &method).unwrap();
    out
}

pub(super) fn raw(kind: u8, channel: u16, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.put_slice(payload);
    out.put_u8(0xCE);
    out
}

pub(super) fn handshake() -> BytesMut {
    let mut out = BytesMut::from(&b"AMQP\0\0\x09\x01"[..]);
    let capabilities = Table::new().with("connection.blocked", true);
    let properties = Table::new().with("capabilities", Value::Table(capabilities));
    let start_ok = connection::StartOk {
        client_properties: to_field_table(&properties).unwrap(),
        mechanism: "PLAIN".into(),
        response: b"\0guest\0guest"[..].into(),
        locale: "en_US".into(),
    };
    let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
    let open = connection::Open { virtual_host: "/".into() };
    use connection::AMQPMethod as Method;
    for step in [Method::StartOk(start_ok), Method::TuneOk(tune_ok), Method::Open(open)] {
        out.extend_from_slice(&method(0, AMQPClass::Connection(step)));
    }
    out
}

pub(super) fn declare(name: &str) -> BytesMut {
    let declare = queue::Declare {
        queue: name.into(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: true,
        arguments: Default::default(),
    };
    method(1, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)))
}

pub(super) fn begin_publish(channel: u16, key: &str, size: u64) -> BytesMut {
    let mut payload = b"\0\x3c\0\x28\0\0\0".to_vec();
    payload.push(key.len() as u8);
    payload.extend(key.as_bytes());
    payload.push(0);
    let mut out = raw(1, channel, &payload);
    let mut header = b"\0\x3c\0\0".to_vec();
    header.extend(size.to_be_bytes());
    header.extend([0, 0]);
    out.extend_from_slice(&raw(2, channel, &header));
    out
}

pub(super) fn publish(channel: u16, key: &str, size: usize) -> BytesMut {
    let mut out = begin_publish(channel, key, size as u64);
    for part in vec![7; size].chunks(100_000) {
        out.extend_from_slice(&raw(3, channel, part));
    }
    out
}

pub(super) fn get(no_ack: bool) -> BytesMut {
    method(1, AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get { queue: "q".into(), no_ack })))
}
