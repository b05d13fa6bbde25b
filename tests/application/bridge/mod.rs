//! The topic bridge.

#[cfg(feature = "actix-web")]
mod browsers;
mod ends;
mod exchanges;
mod many;
mod reconnects;
mod rules;

use crate::support::within;
use actix_pika::{
    Channel, ConsumerEnd, Publishing,
    bridge::{BridgeEvent, BridgeStream},
    testing::Probe,
};
use futures_util::StreamExt;

/// An event in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// The key and the body.
    Message(String, String),
    Lagged(u64),
    Gap,
    Ended(&'static str),
}

impl From<BridgeEvent> for Told {
    fn from(event: BridgeEvent) -> Self {
        match event {
            BridgeEvent::Message(content) => {
                let body = String::from_utf8(content.body().to_vec()).unwrap();
                Self::Message(content.routing_key().to_owned(), body)
            }
            BridgeEvent::Lagged(lost) => Self::Lagged(lost),
            BridgeEvent::Gap => Self::Gap,
            BridgeEvent::Ended(ConsumerEnd::Cancelled) => Self::Ended("cancelled"),
            BridgeEvent::Ended(ConsumerEnd::TooSlow) => Self::Ended("too slow"),
            BridgeEvent::Ended(ConsumerEnd::Closed(_)) => Self::Ended("closed"),
            other => panic!("{other:?}"),
        }
    }
}

fn message(key: &str, body: impl ToString) -> Told {
    Told::Message(key.to_owned(), body.to_string())
}

/// Publishes, whether there is a queue for it or not.
async fn publish(channel: &Channel, exchange: &str, key: &str, body: impl ToString) {
    let publishing = Publishing::new(body.to_string()).mandatory(false);
    within("a publish", 10, channel.exchange(exchange).publish(publishing, key)).await.unwrap();
}

async fn next(stream: &mut BridgeStream) -> Told {
    within("an event", 10, stream.next()).await.expect("the stream has not ended").into()
}

/// Returns what a stream has until the message with this body, which is left out.
async fn until(stream: &mut BridgeStream, body: &str) -> Vec<Told> {
    let mut told = Vec::new();
    loop {
        match next(stream).await {
            Told::Message(_, last) if last == body => return told,
            other => told.push(other),
        }
    }
}

async fn next_of(probe: &mut Probe<BridgeEvent>) -> Told {
    probe.next().await.unwrap().into()
}
