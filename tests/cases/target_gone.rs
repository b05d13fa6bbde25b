//! A consumer whose actor is gone.

use actix::prelude::*;
use actix_pika::{Delivery, events::EntityKind};

use super::is_missing;
use crate::support::{eventually, robust_connection::RobustConnection, within};

/// Stops or panics when a message asks for it.
struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Worker {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        match delivery.body() {
            b"stop" => ctx.stop(),
            b"panic" => panic!("on purpose"),
            _ => {}
        }
        delivery.ack().unwrap();
    }
}

async fn consumer_is_missing_after(body: &'static str) {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.consume(Worker.start()).await.unwrap();
    within("a publish", 10, channel.default_exchange().publish(body, "jobs")).await.unwrap();
    eventually("a missing consumer", 10, async || {
        is_missing(&robust.connection.health().await.unwrap(), EntityKind::Consumer).then_some(())
    })
    .await;
}

/// The health names a consumer whose actor has stopped.
#[actix::test]
#[ignore = "known fault: the health is up after the actor of a consumer has stopped"]
async fn consumer_whose_actor_stops_is_missing() {
    consumer_is_missing_after("stop").await;
}

/// The health names a consumer whose actor has panicked.
#[actix::test]
#[ignore = "known fault: the health is up after the actor of a consumer has panicked"]
async fn consumer_whose_actor_panics_is_missing() {
    consumer_is_missing_after("panic").await;
}
