//! Copies of the bytes that the proxy forwarded, readable as AMQP frames.

use super::{Direction, History};

/// The bytes of one connection, from when recording began.
#[derive(Debug, Clone, Default)]
pub struct Recording {
    /// 1 for the first connection that the proxy accepted, and so on.
    pub connection: u64,
    pub to_broker: Vec<u8>,
    pub to_client: Vec<u8>,
}

impl Recording {
    /// Iterates over the complete frames of one direction, without the protocol header.
    pub fn frames(&self, direction: Direction) -> Frames<'_> {
        let bytes: &[u8] = match direction {
            Direction::ToBroker => &self.to_broker,
            Direction::ToClient => &self.to_client,
            Direction::Both => panic!("frames have one direction"),
        };
        Frames { rest: if bytes.starts_with(b"AMQP") { bytes.get(8..).unwrap_or_default() } else { bytes } }
    }
}

/// A recorded AMQP frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// 1 method, 2 header, 3 body, 8 heartbeat.
    pub kind: u8,
    pub channel: u16,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Returns class and method id of a method frame: `(60, 40)` is basic.publish.
    pub fn method(&self) -> Option<(u16, u16)> {
        match (self.kind, self.payload) {
            (1, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        }
    }
}

/// Iterates over the frames of a recording. An incomplete frame at the end is omitted.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let [kind, c1, c2, s1, s2, s3, s4, tail @ ..] = self.rest else {
            return None;
        };
        let size = u32::from_be_bytes([*s1, *s2, *s3, *s4]) as usize;
        let payload = tail.get(..size)?;
        assert_eq!(*tail.get(size)?, 0xCE, "no frame end: the recording began within a frame");
        self.rest = &tail[size + 1..];
        Some(Frame { kind: *kind, channel: u16::from_be_bytes([*c1, *c2]), payload })
    }
}

impl History {
    /// Adds bytes to the recording of a connection; `index` is that of the direction.
    pub(super) fn record(&mut self, connection: u64, index: usize, bytes: &[u8]) {
        let position = self.recordings.iter().position(|recording| recording.connection == connection);
        let position = position.unwrap_or_else(|| {
            self.recordings.push(Recording { connection, ..Recording::default() });
            self.recordings.len() - 1
        });
        let recording = &mut self.recordings[position];
        [&mut recording.to_broker, &mut recording.to_client][index].extend_from_slice(bytes);
    }
}
