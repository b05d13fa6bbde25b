//! A socket to a broker, which speaks AMQP as amq-protocol encodes and decodes it.

use std::{io, time::Duration};

use amq_protocol::{
    frame::{AMQPFrame, ProtocolVersion, WriteContext, gen_frame, parse_frame},
    protocol::{AMQPClass, connection},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc::UnboundedSender,
    task::JoinHandle,
    time::timeout,
};

/// How long a handshake may take. A busy node is slow.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// What came on a connection.
#[derive(Debug)]
pub(crate) enum Event {
    Frame(Box<AMQPFrame>),
    /// It is no frame.
    Unreadable(String),
    /// The socket has ended.
    Ended,
}

/// Where events go, with the number of the connection.
pub(crate) type Events = UnboundedSender<(u64, Event)>;

/// An open connection. When it is dropped, the socket ends.
pub(crate) struct Socket {
    write: OwnedWriteHalf,
    reader: JoinHandle<()>,
}

/// Reads frames.
struct Frames {
    read: OwnedReadHalf,
    bytes: Vec<u8>,
}

impl Frames {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(frame) = self.take() {
                return frame;
            }
            match self.read.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Event::Ended,
                Ok(_) => {}
            }
        }
    }

    /// Takes a frame, if it is there in full.
    fn take(&mut self) -> Option<Event> {
        let size = u32::from_be_bytes(self.bytes.get(3..7)?.try_into().ok()?) as usize + 8;
        let parsed = match parse_frame(self.bytes.get(..size)?) {
            Ok((_, frame)) => Event::Frame(Box::new(frame)),
            Err(error) => Event::Unreadable(format!("{error}")),
        };
        self.bytes.drain(..size);
        Some(parsed)
    }
}

fn encode(frames: &[AMQPFrame]) -> Vec<u8> {
    let mut context = WriteContext::from(Vec::new());
    for frame in frames {
        context = gen_frame(frame)(context).expect("a frame can be encoded");
    }
    context.into_inner().0
}

impl Socket {
    /// Connects as `guest` and opens a virtual host; what comes then goes to `events`.
    pub(crate) async fn open(
        address: &str,
        vhost: &str,
        cancel_notify: bool,
        number: u64,
        events: Events,
    ) -> io::Result<Self> {
        timeout(HANDSHAKE, Self::shake_hands(address, vhost, cancel_notify, number, events))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn shake_hands(
        address: &str,
        vhost: &str,
        cancel_notify: bool,
        number: u64,
        events: Events,
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut frames = Frames { read, bytes: Vec::new() };
        let mut capabilities = FieldTable::default();
        for (capability, value) in
            [("consumer_cancel_notify", cancel_notify), ("basic.nack", true), ("publisher_confirms", true)]
        {
            capabilities.insert(capability.into(), AMQPValue::Boolean(value));
        }
        let mut client_properties = FieldTable::default();
        client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
        let start_ok = connection::StartOk {
            client_properties,
            mechanism: "PLAIN".into(),
            response: "\0guest\0guest".into(),
            locale: "en_US".into(),
        };
        write.write_all(&encode(&[AMQPFrame::ProtocolHeader(ProtocolVersion::amqp_0_9_1())])).await?;
        expect(&mut frames, |method| matches!(method, connection::AMQPMethod::Start(_))).await?;
        write.write_all(&encode(&[method(connection::AMQPMethod::StartOk(start_ok))])).await?;
        expect(&mut frames, |method| matches!(method, connection::AMQPMethod::Tune(_))).await?;
        let tune = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 };
        let open = connection::Open { virtual_host: ShortString::from(vhost) };
        let frames_out =
            [method(connection::AMQPMethod::TuneOk(tune)), method(connection::AMQPMethod::Open(open))];
        write.write_all(&encode(&frames_out)).await?;
        expect(&mut frames, |method| matches!(method, connection::AMQPMethod::OpenOk(_))).await?;
        let reader = tokio::spawn(async move {
            loop {
                let event = frames.next().await;
                let ended = !matches!(event, Event::Frame(_));
                if events.send((number, event)).is_err() || ended {
                    return;
                }
            }
        });
        Ok(Self { write, reader })
    }

    /// Writes frames. A broker that has ended the socket takes nothing, which its reader reports.
    pub(crate) async fn send(&mut self, frames: &[AMQPFrame]) {
        let _ = self.write.write_all(&encode(frames)).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn method(method: connection::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(0, AMQPClass::Connection(method))
}

async fn expect(frames: &mut Frames, expected: impl Fn(&connection::AMQPMethod) -> bool) -> io::Result<()> {
    let event = frames.next().await;
    match &event {
        Event::Frame(frame) if matches!(&**frame, AMQPFrame::Method(0, AMQPClass::Connection(method)) if expected(method)) => {
            Ok(())
        }
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::channel;

    use super::*;

    #[test]
    fn frames_are_what_the_protocol_says() {
        let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
        let bytes = encode(&[AMQPFrame::Method(2, open), AMQPFrame::Body(2, b"ab".to_vec())]);
        assert_eq!(bytes, b"\x01\0\x02\0\0\0\x05\0\x14\0\x0a\0\xce\x03\0\x02\0\0\0\x02ab\xce");
    }
}
