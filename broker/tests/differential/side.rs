//! A broker that is spoken to: its connections, opened on first use, and what it says on them.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    mem,
    time::Duration,
};

use amq_protocol::{
    frame::{AMQPContentHeader, AMQPFrame},
    protocol::{AMQPClass, BasicProperties, basic, channel, confirm, exchange, queue},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};

use super::{
    answer::{Answer, Said},
    incoming::Channel,
    names::Names,
    operation::{At, Publish},
    socket::{Event, Socket},
};

/// How long a reply may take, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// From here on, no operation uses the channels of a connection.
pub(crate) const SPARE: u16 = 9;
/// The connection that no operation uses.
pub(crate) const MONITOR: char = 'm';

/// Where a broker is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: String,
    pub(crate) vhost: String,
}

pub(crate) struct Side {
    place: Place,
    names: Names,
    pub(crate) peers: BTreeMap<char, Peer>,
    /// The number that the next connection has.
    next: u64,
    sender: UnboundedSender<(u64, Event)>,
    events: UnboundedReceiver<(u64, Event)>,
    /// What was said on channels of operations.
    answers: Vec<Answer>,
    reply_address: Option<String>,
    generated: Vec<String>,
}

pub(crate) struct Peer {
    pub(crate) number: u64,
    pub(crate) socket: Socket,
    pub(crate) channels: BTreeMap<u16, Channel>,
    /// The broker has closed the connection, and its socket is about to end.
    pub(crate) is_closed: bool,
    /// It has declared queues of its own, which end with it.
    pub(crate) has_exclusive: bool,
}

impl Side {
    pub(crate) fn new(place: Place, names: Names) -> Self {
        let (sender, events) = unbounded_channel();
        Self {
            place,
            names,
            peers: BTreeMap::new(),
            next: 0,
            sender,
            events,
            answers: Vec::new(),
            reply_address: None,
            generated: Vec::new(),
        }
    }

    /// Begins a sequence with names of its own.
    pub(crate) fn begin(&mut self, names: Names) {
        self.names = names;
        self.answers.clear();
        self.reply_address = None;
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn is_connected(&self, letter: char) -> bool {
        self.peers.contains_key(&letter)
    }

    pub(crate) fn letters(&self) -> Vec<char> {
        self.peers.keys().copied().collect()
    }

    pub(crate) fn answers(&self) -> &[Answer] {
        &self.answers
    }

    pub(crate) fn answers_mut(&mut self) -> &mut Vec<Answer> {
        &mut self.answers
    }

    pub(crate) fn take_answers(&mut self) -> Vec<Answer> {
        mem::take(&mut self.answers)
    }

    /// Opens the channel of an operation on its first use.
    async fn open(&mut self, at: At) {
        if !self.peers.contains_key(&at.connection) {
            self.next += 1;
            let notify = at.connection != 'c';
            let (number, events) = (self.next, self.sender.clone());
            let socket = Socket::open(&self.place.address, &self.place.vhost, notify, number, events).await;
            let socket = socket.unwrap_or_else(|error| panic!("{:?}: {error}", self.place));
            self.peers.insert(
                at.connection,
                Peer { number, socket, channels: BTreeMap::new(), is_closed: false, has_exclusive: false },
            );
        }
        let peer = self.peers.get_mut(&at.connection).unwrap();
        if let Entry::Vacant(place) = peer.channels.entry(at.channel) {
            // Its open-ok is the first thing that is said on it.
            place.insert(Channel::opening());
            let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
            peer.socket.send(&[AMQPFrame::Method(at.channel, open)]).await;
            self.wait(|side| side.channel(at).is_none_or(|channel| channel.barriers == 0)).await;
        }
    }

    fn channel(&self, at: At) -> Option<&Channel> {
        self.peers.get(&at.connection)?.channels.get(&at.channel)
    }

    async fn send(&mut self, at: At, frames: &[AMQPFrame]) {
        self.open(at).await;
        if let Some(peer) = self.peers.get_mut(&at.connection) {
            peer.socket.send(frames).await;
        }
    }

    /// Says a method and waits until it is carried out on its channel.
    pub(crate) async fn method(&mut self, at: At, method: AMQPClass) {
        self.open(at).await;
        if matches!(method, AMQPClass::Confirm(_))
            && let Some(channel) = self.channel_mut(at)
        {
            channel.next_publish.get_or_insert(1);
        }
        if matches!(&method, AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) if declare.exclusive)
            && let Some(peer) = self.peers.get_mut(&at.connection)
        {
            peer.has_exclusive = true;
        }
        if has_reply(&method) {
            let before = self.replies(at);
            self.send(at, &[AMQPFrame::Method(at.channel, method)]).await;
            self.wait(|side| side.channel(at).is_none_or(|channel| channel.replies > before)).await;
        } else {
            self.send(at, &[AMQPFrame::Method(at.channel, method)]).await;
            self.barrier(at).await;
        }
    }

    fn replies(&self, at: At) -> u32 {
        self.channel(at).map_or(0, |channel| channel.replies)
    }

    pub(crate) fn channel_mut(&mut self, at: At) -> Option<&mut Channel> {
        self.peers.get_mut(&at.connection)?.channels.get_mut(&at.channel)
    }

    pub(crate) async fn publish(&mut self, at: At, publish: Publish) {
        self.open(at).await;
        if let Some(channel) = self.channel_mut(at)
            && let Some(next) = &mut channel.next_publish
        {
            channel.unconfirmed.insert(*next);
            *next += 1;
        }
        let Publish { mut method, properties, body, to_reply_address } = publish;
        if let Some(address) = self.reply_address.as_ref().filter(|_| to_reply_address) {
            method.routing_key = address.as_str().into();
        }
        let class = AMQPClass::Basic(basic::AMQPMethod::Publish(method));
        let body_size = body.len() as u64;
        let header = AMQPContentHeader { class_id: 60, body_size, properties };
        let mut frames = vec![AMQPFrame::Method(at.channel, class), AMQPFrame::Header(at.channel, header)];
        frames.extend(body.chunks(131_064).map(|part| AMQPFrame::Body(at.channel, part.to_vec())));
        self.send(at, &frames).await;
        self.barrier(at).await;
    }

    /// Waits until what was said on a channel is carried out there.
    async fn barrier(&mut self, at: At) {
        let Some(channel) = self.channel_mut(at) else { return };
        channel.barriers += 1;
        let flow = AMQPClass::Channel(channel::AMQPMethod::Flow(channel::Flow { active: true }));
        self.send(at, &[AMQPFrame::Method(at.channel, flow)]).await;
        self.wait(|side| side.channel(at).is_none_or(|channel| channel.barriers == 0)).await;
    }

    /// Waits until all connections have said what was there to say.
    pub(crate) async fn barriers(&mut self) {
        for letter in self.letters() {
            if letter != MONITOR && self.is_connected(letter) {
                let at = At { connection: letter, channel: SPARE };
                self.open(at).await;
                self.barrier(at).await;
            }
        }
    }

    /// Says methods on channels that no operation uses, and returns the reply to each, or how the channel was closed.
    pub(crate) async fn ask(&mut self, questions: Vec<(At, AMQPClass)>) -> Vec<Said> {
        let places: Vec<At> = questions.iter().map(|(at, _)| *at).collect();
        for (at, method) in questions {
            self.open(at).await;
            if let Some(channel) = self.channel_mut(at) {
                channel.spare.clear();
            }
            self.send(at, &[AMQPFrame::Method(at.channel, method)]).await;
        }
        let mut replies = Vec::new();
        for at in places {
            self.wait(|side| side.channel(at).is_none_or(|channel| channel.has_spare())).await;
            let reply = match self.channel_mut(at) {
                Some(channel) => channel.take_spare().unwrap_or(Said::Reply("no answer".into())),
                None => Said::Ended,
            };
            if matches!(reply, Said::ChannelClosed(_)) {
                self.forget(at);
            }
            replies.push(reply);
        }
        replies
    }

    /// How much was delivered on a channel since it was opened.
    pub(crate) fn delivered(&self, at: At) -> u64 {
        self.channel(at).map_or(0, |channel| channel.last_delivery)
    }

    pub(crate) fn forget(&mut self, at: At) {
        if let Some(peer) = self.peers.get_mut(&at.connection) {
            peer.channels.remove(&at.channel);
        }
    }

    /// Names that the broker has generated, in full.
    pub(crate) fn take_generated(&mut self) -> Vec<String> {
        mem::take(&mut self.generated)
    }

    pub(crate) fn note_generated(&mut self, name: &str) {
        if name.starts_with("amq.gen-") {
            self.generated.push(name.to_owned());
        }
    }

    /// Writes what the driver itself has to say.
    pub(crate) async fn reply(&mut self, at: At, method: AMQPClass) {
        if let Some(peer) = self.peers.get_mut(&at.connection) {
            peer.socket.send(&[AMQPFrame::Method(at.channel, method)]).await;
        }
    }

    /// The broker has closed a connection.
    pub(crate) fn close(&mut self, letter: char) {
        if let Some(peer) = self.peers.get_mut(&letter) {
            peer.channels.clear();
            peer.is_closed = true;
        }
    }

    pub(crate) fn remove(&mut self, letter: char) {
        self.peers.remove(&letter);
    }

    pub(crate) fn is_closed(&self, letter: char) -> bool {
        self.peers.get(&letter).is_some_and(|peer| peer.is_closed)
    }

    pub(crate) fn letter_of(&self, number: u64) -> Option<char> {
        self.peers.iter().find(|(_, peer)| peer.number == number).map(|(letter, _)| *letter)
    }

    pub(crate) async fn next_event(&mut self) -> Option<(u64, Event)> {
        self.events.recv().await
    }

    pub(crate) fn note_reply_address(&mut self, properties: &BasicProperties) {
        if let Some(address) = properties.reply_to()
            && address.as_str().starts_with("amq.rabbitmq.reply-to.")
        {
            self.reply_address = Some(address.to_string());
        }
    }

    pub(crate) async fn wait(&mut self, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            if !self.more(until).await {
                return;
            }
        }
    }
}

pub(crate) fn spare(connection: char) -> At {
    At { connection, channel: SPARE }
}

/// Whether a method has a reply, if it does what it is for.
fn has_reply(method: &AMQPClass) -> bool {
    use {basic::AMQPMethod as Basic, exchange::AMQPMethod as Exchange, queue::AMQPMethod as Queue};
    match method {
        AMQPClass::Basic(Basic::Ack(_) | Basic::Nack(_) | Basic::Reject(_)) => false,
        AMQPClass::Basic(
            Basic::Consume(basic::Consume { nowait, .. }) | Basic::Cancel(basic::Cancel { nowait, .. }),
        )
        | AMQPClass::Queue(
            Queue::Declare(queue::Declare { nowait, .. })
            | Queue::Bind(queue::Bind { nowait, .. })
            | Queue::Purge(queue::Purge { nowait, .. })
            | Queue::Delete(queue::Delete { nowait, .. }),
        )
        | AMQPClass::Exchange(
            Exchange::Declare(exchange::Declare { nowait, .. })
            | Exchange::Delete(exchange::Delete { nowait, .. })
            | Exchange::Bind(exchange::Bind { nowait, .. })
            | Exchange::Unbind(exchange::Unbind { nowait, .. }),
        )
        | AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait })) => !nowait,
        _ => true,
    }
}
