//! The ends of channels and connections.

use std::time::Duration;

use amq_protocol::{
    frame::AMQPFrame,
    protocol::{AMQPClass, channel, connection, queue},
};
use tokio::time::Instant;

use super::{
    answer::Said,
    operation::At,
    side::{MONITOR, PATIENCE, SPARE, Side, spare},
};

/// How long a broker may take to end the socket of a connection that it has closed.
const END: Duration = Duration::from_secs(3);

impl Side {
    /// The number of channels of a connection that operations use.
    pub(crate) fn channels(&self, letter: char) -> usize {
        self.operated(letter).count()
    }

    pub(crate) fn operated(&self, letter: char) -> impl Iterator<Item = u16> {
        let channels = self.peers.get(&letter).into_iter().flat_map(|peer| peer.channels.keys().copied());
        channels.filter(|channel| *channel < SPARE)
    }

    /// Closes the channels of a connection that operations have used.
    pub(crate) async fn close_operated(&mut self, letter: char) {
        let channels: Vec<u16> = self.operated(letter).collect();
        for channel in channels {
            let close = channel::Close { reply_code: 200, ..channel::Close::default() };
            let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
            self.method(At { connection: letter, channel }, close).await;
        }
    }

    /// Closes the channels of a connection on which something was delivered.
    pub(crate) async fn close_channels(&mut self, letter: char) {
        let Some(peer) = self.peers.get(&letter) else { return };
        let delivered = peer.channels.iter().filter(|(_, channel)| channel.last_delivery > 0);
        let close = channel::Close { reply_code: 200, ..channel::Close::default() };
        let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
        let closes =
            delivered.map(|(channel, _)| (At { connection: letter, channel: *channel }, close.clone()));
        let closes = closes.collect();
        self.ask(closes).await;
    }

    /// Ends the socket of a connection, and waits until the broker has noticed: an exclusive queue is gone then.
    pub(crate) async fn drop_connection(&mut self, letter: char) {
        if !self.is_connected(letter) {
            return;
        }
        let (spare, monitor) = (spare(letter), spare(MONITOR));
        let name = format!("alive{}", self.peers[&letter].number);
        let name = format!("{}{}", name, self.names().full("q"));
        let declare = |passive| {
            AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
                queue: name.as_str().into(),
                passive,
                durable: false,
                exclusive: true,
                auto_delete: false,
                nowait: false,
                arguments: Default::default(),
            }))
        };
        self.ask(vec![(spare, declare(false))]).await;
        self.peers.remove(&letter);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.ask(vec![(monitor, declare(true))]).await.pop() {
                Some(Said::ChannelClosed(text)) if text.starts_with("404") => return,
                _ => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// Closes a connection and waits until it is closed.
    pub(crate) async fn shut_connection(&mut self, letter: char) {
        let Some(peer) = self.peers.get_mut(&letter) else { return };
        let number = peer.number;
        let close =
            connection::Close { reply_code: 200, reply_text: "bye".into(), class_id: 0, method_id: 0 };
        let close = AMQPClass::Connection(connection::AMQPMethod::Close(close));
        peer.socket.send(&[AMQPFrame::Method(0, close)]).await;
        self.wait(|side| side.peers.get(&letter).is_none_or(|peer| peer.number != number)).await;
        self.peers.remove(&letter);
    }

    /// Waits until connections that the broker has closed have ended.
    pub(crate) async fn wait_for_ends(&mut self) {
        let until = Instant::now() + END;
        while self.peers.values().any(|peer| peer.is_closed) {
            if !self.more(until).await {
                break;
            }
        }
        self.peers.retain(|_, peer| !peer.is_closed);
    }
}
