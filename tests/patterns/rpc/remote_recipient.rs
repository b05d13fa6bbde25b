//! A `Recipient` whose actor is across RabbitMQ.

use actix::{dev::SendError, prelude::*};
use actix_pika::{
    DeclareQueue,
    rpc::{RemoteError, RemoteRecipient, Rpc, RpcError},
    testing::Probe,
};

use super::*;
use crate::support::{eventually, robust_connection::RobustConnection};

/// A message with a result that is no `Result`.
#[derive(Message, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[rtype(result = "usize")]
pub struct CountWords(String);

/// A message without a result.
#[derive(Message, Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[rtype(result = "()")]
pub struct Note(u32);

struct Counter;

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<CountWords> for Counter {
    type Result = MessageResult<CountWords>;

    fn handle(&mut self, CountWords(text): CountWords, _: &mut Self::Context) -> Self::Result {
        assert!(text != "panic", "an actor panics in this test");
        MessageResult(text.split(' ').count())
    }
}

impl Handler<Add> for Counter {
    type Result = Answer<i64>;

    fn handle(&mut self, Add { a, b }: Add, _: &mut Self::Context) -> Self::Result {
        a.checked_add(b).ok_or_else(|| RemoteError::new("overflow", ""))
    }
}

fn words(text: &str) -> CountWords {
    CountWords(text.to_owned())
}

/// RPC-20: code that has a `Recipient` gets the result of an actor across the broker, and does not know.
#[actix::test]
async fn a_recipient_gets_the_result_of_a_remote_actor() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("words")).await.unwrap();
    Rpc::expose::<CountWords>(&queue, Counter.start()).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let remote = RemoteRecipient::<CountWords>::new(&client, "words");
    let recipient: Recipient<CountWords> = remote.recipient();
    assert_eq!(within("a call", 10, recipient.send(words("one two three"))).await.unwrap(), 3);
    let calls = (1..=100).map(|n| recipient.send(words(&"x ".repeat(n))));
    let counts = within("calls", 20, futures_util::future::join_all(calls)).await;
    let counts: Vec<_> = counts.into_iter().map(Result::unwrap).collect();
    assert_eq!(counts, (2..=101).collect::<Vec<_>>());
    assert_eq!(remote.failures(), 0);
    // A call that fails ends as if the actor had; `send` of the remote tells the cause.
    let panicked = within("a call", 10, recipient.send(words("panic"))).await.unwrap_err();
    assert!(matches!(panicked, MailboxError::Closed), "{panicked:?}");
    eventually("the failure", 10, async || (remote.failures() == 1).then_some(())).await;
    let lost = RemoteRecipient::<CountWords>::new(&client, "nowhere");
    let error = within("a call", 10, lost.send(words("x"))).await.unwrap_err();
    assert!(matches!(error, RpcError::Unroutable(_)), "{error:?}");
}

/// RPC-20: the answer of a method of `Rpc::serve` comes inside of its `Result`, its errors too.
#[actix::test]
async fn an_answer_keeps_its_errors() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    Rpc::serve::<Add>(&channel, Counter.start()).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let recipient = RemoteRecipient::<Add>::new(&client, "rpc.add").recipient();
    assert_eq!(within("a call", 10, recipient.send(add(1, 2))).await.unwrap(), Ok(3));
    let overflow = within("a call", 10, recipient.send(add(i64::MAX, 1))).await.unwrap();
    assert_eq!(overflow, Err(RemoteError::new("overflow", "")));
}

/// RPC-20: `do_send` publishes without a reply address; the actor handles each message once.
#[actix::test]
async fn do_send_publishes() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("notes")).await.unwrap();
    let mut notes = Probe::<Note>::start();
    Rpc::expose::<Note>(&queue, notes.recipient()).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let remote = RemoteRecipient::<Note>::new(&client, "notes");
    let recipient = remote.recipient();
    for n in 0..100 {
        recipient.do_send(Note(n));
    }
    let mut got = Vec::new();
    for _ in 0..100 {
        got.push(notes.next().await.unwrap().0);
    }
    got.sort_unstable();
    assert_eq!(got, (0..100).collect::<Vec<_>>());
    assert_eq!((client.counters().unexpected, remote.failures()), (0, 0));
    let lost = RemoteRecipient::<Note>::new(&client, "nowhere");
    lost.recipient().do_send(Note(0));
    eventually("the failure", 10, async || (lost.failures() == 1).then_some(())).await;
}

/// RPC-21: while the publish window is full, `try_send` is refused; what was accepted is published once the connection is
/// back, in order, and nothing else.
#[actix::test]
async fn a_full_window_fills_the_mailbox() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::new("notes")).await.unwrap();
    let client = Rpc::client(&robust.connection).await.unwrap();
    let remote = RemoteRecipient::<Note>::new(&client, "notes");
    let recipient = remote.recipient();
    robust.disconnect().await;
    let (mut accepted, mut refusals) = (0, 0);
    let full = within("a full mailbox", 20, async {
        loop {
            match recipient.try_send(Note(accepted)) {
                Ok(()) => (accepted, refusals) = (accepted + 1, 0),
                Err(error) if refusals == 1000 => break error,
                Err(_) => refusals += 1,
            }
            // The actor runs on this thread, too.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(matches!(full, SendError::Full(Note(n)) if n == accepted), "{full:?}");
    assert!(accepted > 1024, "{accepted} were accepted");
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    let mut notes = Vec::new();
    let mut deliveries = queue.deliveries().await.unwrap();
    for _ in 0..accepted {
        let delivery = within("a message", 10, deliveries.next()).await.unwrap();
        let Note(n) = serde_json::from_slice(delivery.body()).unwrap();
        notes.push(n);
        delivery.ack().unwrap();
    }
    assert_eq!(notes, (0..accepted).collect::<Vec<_>>());
    assert_eq!(remote.failures(), 0);
}
