//! A client of as little work as possible: a blocking socket, and frames that it does not check.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use super::Result;

/// The class and the method of what the client waits for.
pub(super) const CHANNEL_OPENED: [u8; 4] = [0, 20, 0, 11];
pub(super) const QUEUE_DECLARED: [u8; 4] = [0, 50, 0, 11];
pub(super) const QUEUE_DELETED: [u8; 4] = [0, 50, 0, 41];
pub(super) const CONFIRMS_SELECTED: [u8; 4] = [0, 85, 0, 11];
pub(super) const QOS_SET: [u8; 4] = [0, 60, 0, 11];
pub(super) const DELIVER: [u8; 4] = [0, 60, 0, 60];
pub(super) const ACK: [u8; 4] = [0, 60, 0, 80];

pub(super) struct Client {
    socket: TcpStream,
    block: Vec<u8>,
    read: Vec<u8>,
}

impl Client {
    /// Connects, and opens channel 1.
    pub(super) fn connect(port: u16) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_nodelay(true)?;
        let mut client = Self { socket, block: vec![0; 256 * 1024], read: Vec::new() };
        client.send(b"AMQP\0\0\x09\x01")?;
        client.wait_for([0, 10, 0, 10])?;
        client.send(&frame(1, 0, b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US"))?;
        client.wait_for([0, 10, 0, 30])?;
        let tune = frame(1, 0, b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0");
        client.send(&[tune, frame(1, 0, b"\0\x0a\0\x28\x01/\0\0")].concat())?;
        client.wait_for([0, 10, 0, 41])?;
        client.call(b"\0\x14\0\x0a\0", CHANNEL_OPENED)?;
        Ok(client)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// Sends a method on channel 1, and waits for its answer.
    pub(super) fn call(&mut self, method: &[u8], answer: [u8; 4]) -> Result<()> {
        self.send(&frame(1, 1, method))?;
        self.wait_for(answer)
    }

    fn wait_for(&mut self, method: [u8; 4]) -> Result<()> {
        let mut found = false;
        while !found {
            self.read(|payload| found |= payload.starts_with(&method))?;
        }
        Ok(())
    }

    /// Reads once, and passes the payload of each method frame on.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8])) -> Result<()> {
        match self.socket.read(&mut self.block)? {
            0 => return Err("the broker has closed the connection".into()),
            len => self.read.extend_from_slice(&self.block[..len]),
        }
        let mut rest = &self.read[..];
        while let [kind, _, _, a, b, c, d, after @ ..] = rest {
            let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let Some((payload, after)) = after.split_at_checked(len + 1) else { break };
            if *kind == 1 {
                each(payload);
            }
            rest = after;
        }
        let taken = self.read.len() - rest.len();
        self.read.drain(..taken);
        Ok(())
    }
}

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    [&[kind], &channel.to_be_bytes()[..], &len.to_be_bytes(), payload, &[0xCE]].concat()
}

/// The frames of a publish to a queue, without properties.
pub(super) fn publish(queue: &str, body: &[u8]) -> Vec<u8> {
    let mut method = b"\0\x3c\0\x28\0\0\0".to_vec();
    method.push(queue.len() as u8);
    method.extend_from_slice(queue.as_bytes());
    method.push(0);
    let mut header = b"\0\x3c\0\0".to_vec();
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(&[0, 0]);
    [frame(1, 1, &method), frame(2, 1, &header), frame(3, 1, body)].concat()
}

/// The delivery tag of `basic.deliver`, which follows the consumer tag, or that of `basic.ack`.
pub(super) fn tag(payload: &[u8]) -> Option<u64> {
    let at = if payload.starts_with(&DELIVER) { 5 + usize::from(*payload.get(4)?) } else { 4 };
    payload.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}
