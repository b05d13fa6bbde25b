//! What the tests share: a client under test, and a peer with which it has opened a connection.

pub mod recovery;

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    panic::Location,
    sync::Arc,
    time::Duration,
};

use actix::{Actor, Addr, Handler, MailboxError, Message, dev::ToEnvelope};
use actix_pika_actors::{
    Address, CloseChannel, Confirmation, ConnectionOptions, ConnectionState, ConnectionSupervisor, Consume,
    Consumed, ConsumerEnd, DeclareQueue, Delivery, Error, ErrorKind, OpenChannel, Opened, OpenedChannel,
    Publish, Publishing, PurgeQueue, QueueDeclared, Result,
    facade::{StreamSink, deliver_into},
    testing::{
        ClientHandshake, HandshakeScript, MemoryPeer, Peer, PeerSocket, RawFrame,
        protocol::{basic, confirm, connection, queue},
    },
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

/// The tag of the consumer of [`Waiters`], on channel 1.
pub const TAG: &str = "ctag";

/// The limit of every wait in these tests.
pub const AT_ONCE: Duration = Duration::from_secs(2);

/// Awaits `future`, and panics with `what` if that takes longer than [`AT_ONCE`].
#[track_caller]
pub fn at_once<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = Location::caller();
    async move {
        match timeout(AT_ONCE, future).await {
            Ok(value) => value,
            Err(_) => panic!("not within {AT_ONCE:?}: {what} ({at})"),
        }
    }
}

/// The client under test.
pub struct Client {
    pub supervisor: Addr<ConnectionSupervisor>,
    pub state: watch::Receiver<ConnectionState>,
}

impl Client {
    pub fn dial(peer: &Peer) -> Self {
        Self::dial_with(peer, |_| {})
    }

    pub fn dial_with(peer: &Peer, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        Self::launch(|options| {
            options.address = Address::new("127.0.0.1", peer.addr().port());
            set(options);
        })
    }

    pub fn dial_in_memory(peer: &MemoryPeer, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        Self::launch(|options| {
            options.memory = Some(peer.dialer());
            set(options);
        })
    }

    pub fn launch(set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let mut options = ConnectionOptions::default();
        set(&mut options);
        let (supervisor, state) = ConnectionSupervisor::launch(options, None);
        Self { supervisor, state }
    }

    pub fn is_open(&self) -> bool {
        matches!(&*self.state.borrow(), ConnectionState::Open(_))
    }

    pub async fn opened(&self) -> Arc<Opened> {
        let mut state = self.state.clone();
        let open = state.wait_for(|state| !matches!(state, ConnectionState::Connecting));
        match &*at_once("the connection opens", open).await.expect("the supervisor runs") {
            ConnectionState::Open(opened) => opened.clone(),
            other => panic!("not open but {other:?}"),
        }
    }

    /// Waits until the connection is closed, and returns the cause.
    #[track_caller]
    pub fn closed(&self) -> impl Future<Output = Option<Error>> {
        let mut state = self.state.clone();
        at_once("the connection ends", async move {
            let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed(_))).await;
            match &*closed.expect("the supervisor runs") {
                ConnectionState::Closed(cause) => cause.clone(),
                other => panic!("not closed but {other:?}"),
            }
        })
    }
}

/// A call whose answer is not awaited yet.
pub struct Call<T>(JoinHandle<Result<Result<T>, MailboxError>>);

impl<T> Call<T> {
    /// Waits for the answer.
    #[track_caller]
    pub fn answer(self) -> impl Future<Output = Result<T>> {
        let answer = at_once("the call is answered", self.0);
        async move { answer.await.expect("the call does not panic").unwrap_or_else(|error| Err(error.into())) }
    }

    pub fn is_answered(&self) -> bool {
        self.0.is_finished()
    }

    /// Drops the future of the call.
    pub async fn give_up(self) {
        self.0.abort();
        assert!(self.0.await.is_err_and(|error| error.is_cancelled()));
    }
}

/// Sends a message, and returns without waiting for the answer.
pub fn ask<A, M, T>(actor: &Addr<A>, message: M) -> Call<T>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    Call(actix_rt::spawn(actor.send(message)))
}

/// The deliveries of one consumer, as a stream takes them.
pub struct Deliveries {
    pub sink: Arc<StreamSink>,
    taken: VecDeque<Delivery>,
}

impl Deliveries {
    pub fn new() -> Self {
        Self { sink: Arc::default(), taken: VecDeque::new() }
    }

    /// Waits for the next delivery or the end.
    #[track_caller]
    pub fn next(&mut self) -> impl Future<Output = Result<Delivery, ConsumerEnd>> {
        at_once("a delivery or the end", async move {
            loop {
                if let Some(delivery) = self.taken.pop_front() {
                    return Ok(delivery);
                }
                poll_fn(|cx| self.sink.poll_take(&mut self.taken, cx)).await?;
            }
        })
    }

    /// Waits for the error that closed the channel of the consumer.
    #[track_caller]
    pub fn closed(&mut self) -> impl Future<Output = Error> {
        let next = self.next();
        async move {
            match next.await {
                Err(ConsumerEnd::Closed(error)) => error,
                other => panic!("not closed but {other:?}"),
            }
        }
    }
}

/// A client and a peer after the handshake.
pub struct Bench<P = Peer> {
    pub peer: P,
    pub socket: PeerSocket,
    pub client: Client,
    pub terms: ClientHandshake,
}

impl Bench {
    pub async fn open() -> Self {
        Self::open_with(&HandshakeScript::new(), |_| {}).await
    }

    pub async fn open_with(script: &HandshakeScript, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let peer = Peer::listen().await.unwrap();
        let client = Client::dial_with(&peer, set);
        let mut socket = peer.accept().await.unwrap();
        let terms = socket.handshake_with(script).await.unwrap();
        client.opened().await;
        Self { peer, socket, client, terms }
    }
}

impl Bench<MemoryPeer> {
    /// Opens a connection over an in-memory stream, so that the clock can be paused.
    pub async fn open_in_memory(script: &HandshakeScript, set: impl FnOnce(&mut ConnectionOptions)) -> Self {
        let mut peer = MemoryPeer::new();
        let client = Client::dial_in_memory(&peer, set);
        let mut socket = peer.accept().await.unwrap();
        let terms = socket.handshake_with(script).await.unwrap();
        client.opened().await;
        Self { peer, socket, client, terms }
    }
}

impl<P> Bench<P> {
    /// Opens the next channel, which must get this number.
    pub async fn channel(&mut self, number: u16, options: OpenChannel) -> OpenedChannel {
        let mut call = ask(&self.client.supervisor, options);
        self.socket.open_channel(number).await.unwrap();
        let channel = tokio::select! {
            biased;
            select = self.socket.expect::<confirm::Select>(number) => {
                select.unwrap();
                self.socket.send(number, confirm::SelectOk {}).await.unwrap();
                call.answer().await.unwrap()
            }
            answer = &mut call.0 => answer.unwrap().unwrap().unwrap(),
        };
        assert_eq!(channel.outbox.channel(), number);
        channel
    }

    /// Starts a consumer with the tag [`TAG`].
    pub async fn consume(&mut self, channel: &OpenedChannel) -> Deliveries {
        self.consume_as(channel, Consume::new().tag(TAG)).await
    }

    pub async fn consume_as(&mut self, channel: &OpenedChannel, options: Consume) -> Deliveries {
        let number = channel.outbox.channel();
        let deliveries = Deliveries::new();
        let call: Call<Consumed> =
            ask(&channel.actor, deliver_into(options.queue("jobs"), deliveries.sink.clone()));
        answer_consume(&mut self.socket, number).await;
        call.answer().await.unwrap();
        deliveries
    }

    /// Makes a call and answers it. Afterwards the client has read everything that was sent before.
    pub async fn round_trip(&mut self, channel: &OpenedChannel) {
        let number = channel.outbox.channel();
        let call = ask(&channel.actor, PurgeQueue::new("jobs"));
        self.socket.answer(number, |_: queue::Purge| queue::PurgeOk::default()).await.unwrap();
        call.answer().await.unwrap();
    }

    /// Checks that the connection works, by opening the next channel, which must get this number.
    pub async fn assert_works(&mut self, number: u16) {
        self.channel(number, OpenChannel::new().confirms(false)).await;
    }
}

/// Answers `basic.qos`, if it comes, and `basic.consume`.
pub async fn answer_consume(socket: &mut PeerSocket, channel: u16) -> basic::Consume {
    let mut frame = socket.next_frame_on(channel).await.unwrap();
    if frame.is::<basic::Qos>() {
        socket.send(channel, basic::QosOk {}).await.unwrap();
        frame = socket.next_frame_on(channel).await.unwrap();
    }
    let consume = method::<basic::Consume>(&frame);
    let consumer_tag = consume.consumer_tag.clone();
    socket.send(channel, basic::ConsumeOk { consumer_tag }).await.unwrap();
    consume
}

/// Decodes the method in a frame.
#[track_caller]
pub fn method<M: actix_pika_actors::testing::Method>(frame: &RawFrame) -> M {
    let class = frame.class().unwrap_or_else(|| panic!("{frame}"));
    M::from_class(class).unwrap_or_else(|_| panic!("{frame} instead of {}", M::NAME))
}

/// One pending call of each kind, on three channels.
pub struct Waiters {
    /// Of the consumer [`TAG`] on channel 1.
    pub deliveries: Deliveries,
    /// On channel 1, unconfirmed.
    publish: Call<Confirmation>,
    /// On channel 2, unanswered.
    declare: Call<QueueDeclared>,
    /// Of channel 3, which has an unconfirmed publish.
    close: Call<()>,
}

impl Waiters {
    pub async fn start<P>(bench: &mut Bench<P>) -> Self {
        let first = bench.channel(1, OpenChannel::new()).await;
        let second = bench.channel(2, OpenChannel::new().confirms(false)).await;
        let third = bench.channel(3, OpenChannel::new()).await;
        let deliveries = bench.consume(&first).await;
        let publish = ask(&first.actor, Publish::new("", "jobs", "first"));
        bench.socket.expect_publish(1).await.unwrap();
        let declare = ask(&second.actor, DeclareQueue::new("jobs"));
        bench.socket.expect::<queue::Declare>(2).await.unwrap();
        third.outbox.try_publish_text("jobs", "third");
        bench.socket.expect_publish(3).await.unwrap();
        let close = ask(&third.actor, CloseChannel::new());
        Self { deliveries, publish, declare, close }
    }

    /// Every call fails at once, because its actor has stopped or its connection is closed.
    pub async fn are_answered(self) {
        let publish = self.publish.answer().await.unwrap_err();
        assert!(publish.may_have_arrived(), "{publish}");
        for error in [publish, self.declare.answer().await.unwrap_err()] {
            let kind = error.kind();
            assert!(matches!(kind, ErrorKind::Stopped | ErrorKind::ConnectionClosed), "{error:?}");
        }
        self.close.answer().await.unwrap_err();
    }

    /// Every call fails at once, because the connection is closed. Returns the errors.
    pub async fn all_fail(mut self) -> [Error; 3] {
        let publish = self.publish.answer().await.unwrap_err();
        assert!(publish.may_have_arrived(), "{publish}");
        let errors = [publish, self.declare.answer().await.unwrap_err(), self.deliveries.closed().await];
        for error in &errors {
            assert_eq!(error.kind(), ErrorKind::ConnectionClosed, "{error}");
        }
        // The close reports its unconfirmed publish.
        let error = self.close.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::ConnectionClosed, true), "{error}");
        errors
    }
}

/// Publishes without waiting for a confirm.
pub trait TryPublish {
    fn try_publish_text(&self, routing_key: &str, text: &'static str) -> u64;
}

impl TryPublish for std::sync::Arc<actix_pika_actors::Outbox> {
    fn try_publish_text(&self, routing_key: &str, text: &'static str) -> u64 {
        let content = Publishing::new(bytes::Bytes::from_static(text.as_bytes()))
            .properties(actix_pika_actors::Properties::default())
            .mandatory(false);
        let confirm = self.try_publish("", routing_key, &content).expect("an open channel");
        confirm.expect("room in the window").sequence().unwrap_or_default()
    }
}

/// `connection.close` of a broker, not caused by a method.
pub fn close(code: u16, text: &str) -> connection::Close {
    connection::Close { reply_code: code, reply_text: text.into(), ..Default::default() }
}
