//! A handler that blocks the arbiter of its connection for longer than the heartbeat allows.

use std::time::Duration;

use actix::prelude::*;
use actix_pika::{Connector, Delivery, Recovery, Result};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::support::{broker::Vhost, within};

/// Blocks its thread for 5 s, acknowledges, and sends the result of that.
struct Blocker(UnboundedSender<Result<()>>);

impl Actor for Blocker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Blocker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, _: &mut Self::Context) {
        std::thread::sleep(Duration::from_secs(5));
        let _ = self.0.send(delivery.ack());
    }
}

/// An ack after the arbiter was blocked for so long that the broker has closed the connection fails.
#[actix::test]
#[ignore = "known fault: the ack is `Ok`, and the message is delivered again"]
async fn ack_fails_when_the_arbiter_was_blocked_beyond_the_heartbeat() {
    let vhost = Vhost::fresh().await;
    let connector = Connector::new(&vhost.url()).unwrap().heartbeat(Duration::from_secs(1));
    let connector = connector.recovery(Recovery::default());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    within("a publish", 10, channel.default_exchange().publish("work", "jobs")).await.unwrap();
    let (results, mut acks) = unbounded_channel();
    queue.consume(Blocker(results).start()).await.unwrap();
    let ack = within("the first ack", 30, acks.recv()).await.unwrap();
    assert!(ack.is_err());
}
