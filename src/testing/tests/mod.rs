//! What works on a connection without a socket, through the handles.

mod openings;
mod without_a_connection;

use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::time::timeout;

use super::{Answer, Detached, Probe, Settlement, TIME_LIMIT, TestDelivery, TestErrorKind, TestTask};
use crate::{
    Consume, Delivery, ErrorKind, Exchange, OpenChannel, Publishing,
    rpc::{self, Rpc, RpcRequest},
    tasks::{Failure, Task},
};

/// Publishes a bill for each order.
struct Billing {
    bills: Exchange,
}

impl Actor for Billing {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Billing {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, order: Delivery, _: &mut Self::Context) -> Self::Result {
        let bills = self.bills.clone();
        Box::pin(async move {
            let billed = bills.publish(order.body(), "bill").await;
            let _ = if billed.is_ok() { order.ack() } else { order.nack(true) };
        })
    }
}

/// Prints how long it takes, with `--nocapture`.
#[actix::test]
#[allow(clippy::print_stderr)]
async fn a_service_is_tested_without_a_socket() {
    let began = Instant::now();
    let rabbit = Detached::start().await.unwrap();
    let billing = Billing { bills: rabbit.exchange("bills") }.start();
    rabbit.queue("orders").consume(billing).await.unwrap();

    rabbit.deliver("orders", "order 7").acked().await.unwrap();
    let bill = rabbit.next_published().await.unwrap();
    assert_eq!((bill.exchange(), bill.routing_key()), ("bills", "bill"));
    assert_eq!(bill.body(), "order 7");

    rabbit.answer(Answer::Nack);
    rabbit.deliver("orders", "order 8").nacked(true).await.unwrap();
    assert_eq!(rabbit.calls(), ["basic.qos 250", "basic.consume orders"]);
    eprintln!("a service was tested in {:?}", began.elapsed());
}

#[actix::test]
async fn every_answer_has_its_error() {
    let rabbit = Detached::start().await.unwrap();
    let exchange = rabbit.exchange("orders");
    assert!(exchange.publish("1", "key").await.unwrap().is_confirmed());
    rabbit.answer_next(Answer::Nack);
    rabbit.answer_next(Answer::Return { code: 312, text: "NO_ROUTE".to_owned() });
    rabbit.answer_next(Answer::Close {
        code: 404,
        text: "NOT_FOUND - no exchange 'orders' in vhost '/'".to_owned(),
    });

    assert_eq!(exchange.publish("2", "key").await.unwrap_err().kind(), ErrorKind::Nacked);
    let unroutable = exchange.publish("3", "key").await.unwrap_err();
    assert_eq!(unroutable.kind(), ErrorKind::Unroutable);
    assert_eq!(unroutable.returned().unwrap().code, 312);
    let closed = exchange.publish("4", "key").await.unwrap_err();
    assert_eq!((closed.kind(), closed.code()), (ErrorKind::ChannelClosed, Some(404)));

    let other = rabbit.connection().channel().await.unwrap();
    rabbit.answer_next(Answer::Return { code: 312, text: "NO_ROUTE".to_owned() });
    let optional = Publishing::new("5").mandatory(false);
    assert!(other.exchange("orders").publish(optional, "key").await.unwrap().is_confirmed());
    assert!(other.exchange("orders").publish("6", "key").await.unwrap().is_confirmed());
    let bodies: Vec<_> = rabbit.published().iter().map(|publish| publish.body().clone()).collect();
    assert_eq!(bodies, ["1", "2", "3", "4", "5", "6"]);
}

#[actix::test]
async fn a_held_publish_is_unconfirmed_until_it_is_answered() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer(Answer::Hold);
    let exchange = rabbit.exchange("");
    let first = exchange.try_publish("1", "jobs").unwrap().unwrap();
    let second = exchange.try_publish("2", "jobs").unwrap().unwrap();
    let published = rabbit.published();
    assert_eq!(published.len(), 2, "at once, without awaiting");
    assert_eq!(rabbit.channel().load().unconfirmed, 2);

    published[1].answer(Answer::Nack).unwrap();
    assert_eq!(timeout(TIME_LIMIT, second).await.unwrap().unwrap_err().kind(), ErrorKind::Nacked);
    assert_eq!(rabbit.channel().load().unconfirmed, 1);
    assert_eq!(published[1].answer(Answer::Ack).unwrap_err().kind(), TestErrorKind::Unexpected);
    assert_eq!(rabbit.answer_held(Answer::Ack), 1);
    assert!(timeout(TIME_LIMIT, first).await.unwrap().unwrap().is_confirmed());
}

#[actix::test]
async fn publishes_without_confirms_are_held_one_by_one() {
    let rabbit = Detached::start_with(OpenChannel::new().confirms(false)).await.unwrap();
    rabbit.answer(Answer::Hold);
    for body in ["1", "2", "3"] {
        rabbit.exchange("").publish(body, "jobs").await.unwrap();
    }
    rabbit.published()[1].answer(Answer::Ack).unwrap();
    assert_eq!(rabbit.published()[1].answer(Answer::Ack).unwrap_err().kind(), TestErrorKind::Unexpected);
    assert_eq!(rabbit.answer_held(Answer::Return { code: 312, text: "NO_ROUTE".to_owned() }), 2);
    assert_eq!(rabbit.answer_held(Answer::Ack), 0);
}

#[actix::test]
async fn behind_a_close_nothing_is_recorded() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer_next(Answer::Close { code: 403, text: "ACCESS_REFUSED".to_owned() });
    let exchange = rabbit.exchange("orders");
    let confirms: Vec<_> = ["1", "2"].map(|n| exchange.try_publish(n, "key").unwrap().unwrap()).into();
    for confirm in confirms {
        let error = timeout(TIME_LIMIT, confirm).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
    }
    assert_eq!(rabbit.published().len(), 1);
    assert!(rabbit.channel().is_closed());
}

#[actix::test]
async fn a_publish_is_recorded_whole() {
    let rabbit = Detached::start().await.unwrap();
    let body = "x".repeat(300_000);
    let message = Publishing::new(body.as_str()).message_id("7").header("n", 7).mandatory(false);
    rabbit.exchange("orders").publish(message, "key").await.unwrap();
    let published = rabbit.next_published().await.unwrap();
    assert_eq!(published.body().len(), 300_000);
    assert_eq!(published.properties().message_id(), Some("7"));
    assert_eq!(published.properties().headers().unwrap().get("n").and_then(|n| n.as_i64()), Some(7));
    assert!(!published.is_mandatory());
    rabbit.nothing_published().unwrap();
    rabbit.exchange("").publish("", "jobs").await.unwrap();
    assert_eq!(rabbit.nothing_published().unwrap_err().kind(), TestErrorKind::Unexpected);
    assert!(rabbit.next_published().await.unwrap().is_mandatory());
}

#[actix::test]
async fn a_limit_may_be_as_long_as_there_are_durations() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.exchange("").publish("1", "jobs").await.unwrap();
    let patient = rabbit.recorder().clone().time_limit(Duration::MAX);
    assert_eq!(patient.next_published().await.unwrap().body(), "1");
    let mut probe = Probe::answering(|_: &Task<u32>| Ok(())).time_limit(Duration::MAX);
    probe.recipient().do_send(TestTask::new(7).build());
    assert_eq!(*probe.next_matching(|task| **task == 7).await.unwrap(), 7);
}

#[actix::test]
async fn what_is_not_published_is_an_error_in_time() {
    let rabbit = Detached::start().await.unwrap();
    let hasty = rabbit.recorder().clone().time_limit(Duration::from_millis(10));
    assert_eq!(hasty.next_published().await.unwrap_err().kind(), TestErrorKind::TimedOut);
}

#[actix::test]
async fn a_consumer_gets_no_more_than_its_prefetch() {
    let rabbit = Detached::start().await.unwrap();
    let probes: Vec<_> = (1..=3).map(|n| rabbit.deliver("jobs", format!("{n}"))).collect();
    let mut jobs = Probe::<Delivery>::start();
    let consume = Consume::new().prefetch(2);
    rabbit.queue("jobs").consume_with(consume, jobs.recipient()).await.unwrap();

    let (first, second) = (jobs.next().await.unwrap(), jobs.next().await.unwrap());
    assert_eq!((first.body(), second.body()), (&b"1"[..], &b"2"[..]));
    assert_eq!(jobs.drain().await.len(), 0);
    first.ack().unwrap();
    let third = jobs.next().await.unwrap();
    assert_eq!(third.body(), b"3");
    third.ack_all().unwrap();
    drop(second);
    for probe in &probes {
        probe.acked().await.unwrap();
    }
}

#[actix::test]
async fn a_got_message_is_settled() {
    let rabbit = Detached::start().await.unwrap();
    assert!(rabbit.queue("jobs").get().await.unwrap().is_none());
    let settled = rabbit.deliver("jobs", TestDelivery::new("1").redelivered(true).published_to("e", "k"));
    let got = rabbit.queue("jobs").get().await.unwrap().unwrap();
    assert_eq!((got.exchange(), got.routing_key(), got.redelivered()), ("e", "k", true));
    settled.unsettled().unwrap();
    got.reject(true).unwrap();
    assert_eq!(settled.now(), Some(Settlement::Rejected { requeue: true }), "at once, without awaiting");
    settled.rejected(true).await.unwrap();
    let error = settled.acked().await.unwrap_err().to_string();
    assert_eq!(error, "awaited an ack of what was delivered to \"jobs\", but a reject, requeued came");
}

#[actix::test]
async fn calls_are_recorded_and_succeed() {
    let rabbit = Detached::start().await.unwrap();
    let queue = rabbit.channel().declare_queue("jobs").await.unwrap();
    queue.bind("amq.topic", "job.*").await.unwrap();
    queue.purge().await.unwrap();
    let exchange = rabbit.channel().declare_exchange(crate::DeclareExchange::topic("weather")).await.unwrap();
    exchange.bind("amq.topic", "weather.#").await.unwrap();
    exchange.delete().await.unwrap();
    let wanted = [
        "queue.declare jobs",
        "queue.bind jobs amq.topic job.*",
        "queue.purge jobs",
        "exchange.declare weather topic",
        "exchange.bind weather amq.topic weather.#",
        "exchange.delete weather",
    ];
    assert_eq!(rabbit.calls(), wanted);
}

#[actix::test]
async fn a_lost_connection_ends_everything() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer(Answer::Hold);
    let confirm = rabbit.exchange("").try_publish("1", "jobs").unwrap().unwrap();
    let settled = rabbit.deliver("jobs", "1");
    let delivery = rabbit.queue("jobs").get().await.unwrap().unwrap();
    rabbit.lose_connection();
    let error = timeout(TIME_LIMIT, confirm).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::ConnectionClosed);
    assert_eq!(settled.settled().await.unwrap_err().kind(), TestErrorKind::Disconnected);
}

#[actix::test]
async fn a_robust_connection_recovers() {
    tokio::time::pause();
    let rabbit = Detached::start_robust().await.unwrap();
    let queue = rabbit.channel().declare_queue("jobs").await.unwrap();
    let mut jobs = Probe::<Delivery>::start();
    queue.consume(jobs.recipient()).await.unwrap();
    let lost = rabbit.deliver("jobs", "1");
    let delivery = jobs.next().await.unwrap();
    rabbit.answer_next(Answer::Hold);
    let confirm = rabbit.exchange("").try_publish("2", "jobs").unwrap().unwrap();
    assert_eq!(rabbit.next_published().await.unwrap().body(), "2");

    rabbit.lose_connection();
    assert_eq!(rabbit.next_published().await.unwrap().body(), "2");
    assert!(timeout(TIME_LIMIT, confirm).await.unwrap().unwrap().is_confirmed());
    assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::StaleDelivery);
    assert_eq!(lost.settled().await.unwrap_err().kind(), TestErrorKind::Disconnected);

    let again = rabbit.deliver("jobs", TestDelivery::new("1").redelivered(true));
    jobs.next().await.unwrap().ack().unwrap();
    again.acked().await.unwrap();
    let declared = rabbit.calls().iter().filter(|call| *call == "queue.declare jobs").count();
    assert_eq!(declared, 2);
}

#[actix::test]
async fn a_held_publish_ends_at_its_deadline() {
    tokio::time::pause();
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer(Answer::Hold);
    let error = rabbit.exchange("").publish("1", "jobs").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Timeout, true));
}

#[actix::test]
async fn a_connection_closes_as_any_other() {
    let rabbit = Detached::start().await.unwrap();
    let exchange = rabbit.exchange("orders");
    exchange.publish("1", "key").await.unwrap();
    timeout(TIME_LIMIT, rabbit.connection().close()).await.unwrap().unwrap();
    assert!(rabbit.connection().is_closed());
    let error = exchange.publish("2", "key").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
}

#[derive(serde::Serialize, serde::Deserialize, Debug)]
struct Square(u32);

impl Message for Square {
    type Result = rpc::Answer<u32>;
}

impl RpcRequest for Square {
    type Reply = u32;
    const NAME: &'static str = "square";
}

#[actix::test]
async fn an_rpc_call_gets_the_reply_of_the_test() {
    let rabbit = Detached::start().await.unwrap();
    let client = Rpc::client(rabbit.connection()).await.unwrap();
    let call = actix::spawn(async move { client.send(Square(7)).await });
    let request = rabbit.next_published().await.unwrap();
    assert_eq!((request.routing_key(), &request.body()[..]), ("rpc.square", &b"7"[..]));
    rabbit.reply(&request, Publishing::new("49").content_type("application/json")).unwrap();
    assert_eq!(timeout(TIME_LIMIT, call).await.unwrap().unwrap().unwrap(), 49);
}

#[actix::test]
async fn a_handler_of_tasks_is_a_probe() {
    let rabbit = Detached::start().await.unwrap();
    let mut numbers =
        Probe::<Task<u32>>::answering(|n| if **n == 7 { Ok(()) } else { Err(Failure::reject("not 7")) });
    let tasks = rabbit.queue("numbers").tasks::<u32>();
    let _consumer = tasks.to(numbers.recipient()).await.unwrap();
    rabbit.deliver_json("numbers", &7).unwrap().acked().await.unwrap();
    rabbit.deliver_json("numbers", &8).unwrap().rejected(false).await.unwrap();
    assert_eq!(*numbers.next().await.unwrap(), 7);
    assert_eq!(numbers.count().await, 2);
    rabbit.deliver("numbers", "no number").rejected(false).await.unwrap();
    assert_eq!(numbers.count().await, 2);
}

#[actix::test]
async fn without_confirms_nothing_is_answered() {
    let rabbit = Detached::start_with(OpenChannel::new().confirms(false)).await.unwrap();
    rabbit.exchange("").publish("1", "jobs").await.unwrap();
    assert_eq!(rabbit.next_published().await.unwrap().body(), "1");
}

#[actix::test]
async fn a_dropped_delivery_is_rejected_by_its_channel() {
    let rabbit = Detached::start().await.unwrap();
    let settled = rabbit.deliver("jobs", "1");
    drop(rabbit.queue("jobs").get().await.unwrap().unwrap());
    settled.rejected(true).await.unwrap();
}

#[actix::test]
async fn what_a_channel_recovers_cannot_be_settled_any_more() {
    let rabbit = Detached::start().await.unwrap();
    let settled = rabbit.deliver("jobs", "1");
    let got = rabbit.queue("jobs").get().await.unwrap().unwrap();
    timeout(TIME_LIMIT, rabbit.channel().recover()).await.unwrap().unwrap();
    assert_eq!(settled.settled().await.unwrap_err().kind(), TestErrorKind::Disconnected);
    assert!(got.is_stale());
    assert_eq!(rabbit.calls(), ["basic.get jobs", "basic.recover"]);
}

#[actix::test]
async fn properties_above_a_frame_end_the_connection_by_the_next_frame() {
    let rabbit = Detached::start().await.unwrap();
    let consumer = Probe::<Delivery>::start();
    rabbit.queue("jobs").consume(consumer.recipient()).await.unwrap();
    let large = Publishing::new("1").header("h", "x".repeat(2 << 20));
    let _settled = rabbit.deliver("jobs", large);
    let _next = rabbit.deliver("jobs", "2");
    let closed = timeout(TIME_LIMIT, rabbit.connection().closed()).await.unwrap();
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Protocol);
}
