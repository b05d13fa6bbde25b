//! Values whose code panics, and replies that the broker refuses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::{Message, Recipient};
use actix_pika::{
    DeclareQueue,
    rpc::{RemoteError, RemoteRecipient, Rpc},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::*;
use crate::support::{eventually, robust_connection::RobustConnection};

/// A number that panics when 13 is encoded, and when 14 is decoded.
#[derive(Debug, PartialEq)]
pub struct Bomb(pub u64);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != 13, "an encoder panics in this test");
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        assert!(number != 14, "a decoder panics in this test");
        Ok(Self(number))
    }
}

#[derive(Message, Debug, Serialize, Deserialize)]
#[rtype(result = "Answer<Bomb>")]
pub struct Next {
    pub n: Bomb,
}

impl RpcRequest for Next {
    type Reply = Bomb;
    const NAME: &'static str = "next";
}

/// A message without a result.
#[derive(Message, Debug, Serialize, Deserialize)]
#[rtype(result = "()")]
pub struct Note(Bomb);

/// RPC-24: a request whose decoding panics, and a result whose encoding does, are errors of their calls. Nothing runs twice.
#[actix::test]
async fn a_codec_that_panics_costs_its_own_call() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let next = move |Next { n: Bomb(n) }: Next| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Bomb(n + 1)) }
    };
    Rpc::serve_fn(&channel, next).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    for (n, code) in [(14, "undecodable"), (12, "unserialisable")] {
        let error = within("a call", 10, client.send(Next { n: Bomb(n) })).await.unwrap_err();
        assert_eq!(error.remote().unwrap().code(), code);
    }
    assert_eq!(within("a call", 10, client.send(Next { n: Bomb(1) })).await.unwrap(), Bomb(2));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

/// RPC-24: a message whose encoding panics is a failure of the remote recipient, which goes on.
#[actix::test]
async fn a_message_that_panics_leaves_its_recipient_alive() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("notes")).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let remote = RemoteRecipient::<Note>::new(&client, "notes");
    let recipient: Recipient<Note> = remote.recipient();
    recipient.do_send(Note(Bomb(13)));
    assert!(within("a call", 10, recipient.send(Note(Bomb(13)))).await.is_err());
    assert_eq!((remote.failures(), recipient.connected()), (2, true));
    recipient.do_send(Note(Bomb(1)));
    let mut deliveries = queue.deliveries().await.unwrap();
    let note = within("a note", 10, deliveries.next()).await.unwrap();
    assert_eq!(note.body(), b"1");
    note.ack().unwrap();
}

/// RPC-25: a reply that is larger than the broker accepts is an error of its call. The request runs once, or once more if
/// the broker delivers it again, and the server goes on.
#[actix::test]
async fn a_reply_that_the_broker_refuses_is_an_error() {
    let robust = RobustConnection::connect().await;
    let largest = robust.vhost.broker().largest_body().await;
    let channel = robust.channel().await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let words = move |add: Add| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if add.a == 13 { Err(RemoteError::new("large", "x".repeat(largest))) } else { Ok(add.a + add.b) }
        }
    };
    Rpc::serve_fn(&channel, words).await.unwrap();
    let client = Rpc::client(&robust.connection).deadline(Duration::from_secs(50)).await.unwrap();
    let error = within("a call", 60, client.send(add(13, 0))).await.unwrap_err();
    assert_eq!(error.remote().map(|error| error.code()), Some("unsendable"), "{error:?}");
    assert_eq!(within("a call", 60, client.send(add(1, 2))).await.unwrap(), 3);
    eventually("all is settled", 30, async || (channel.load().unsettled == 0).then_some(())).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}
