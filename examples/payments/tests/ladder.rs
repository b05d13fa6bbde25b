//! The service, its worker and its ladder of retries, 71 seconds of them, in milliseconds: the broker is in memory, and the
//! clock of tokio is paused, so that it goes on by itself to the next timer whenever all wait.

#![allow(missing_docs)]

use std::{cell::RefCell, io, io::Write, rc::Rc, time::Instant as WallTime};

use actix_pika::{Connection, Connector, connect_robust};
use actix_pika_broker::Broker;
use actix_web::{App, http::StatusCode, test};
use payments::{Payment, declare, routes, work};
use tokio::time::{Duration, Instant, pause, timeout};

/// A connection that recovers, to a broker in memory.
async fn connect(broker: &Broker) -> Connection {
    let connector = Connector::new(&broker.url()).unwrap().memory(broker.dialer());
    connect_robust(connector).await.unwrap()
}

/// Sends a payment over HTTP whose first `failures` tries fail, and returns at which seconds it was tried.
async fn pay(broker: &Broker, failures: usize) -> Vec<u64> {
    let connection = connect(broker).await;
    let queue = declare(&connection).await.unwrap();
    let (start, tries) = (Instant::now(), Rc::new(RefCell::new(Vec::new())));
    let seen = Rc::clone(&tries);
    let charge = move |_: Payment| {
        seen.borrow_mut().push(start.elapsed().as_secs());
        let fails = seen.borrow().len() <= failures;
        async move { if fails { Err(io::Error::other("declined")) } else { Ok(()) } }
    };
    let worker = work(&queue, charge).await.unwrap();
    let app = test::init_service(App::new().configure(routes(queue.publisher()))).await;

    let payment = Payment { id: "1".into(), cents: 1999 };
    let request = test::TestRequest::post().uri("/payments").set_json(&payment).to_request();
    assert_eq!(test::call_service(&app, request).await.status(), StatusCode::ACCEPTED);

    // It is in one of the queues until it is done.
    let done = broker.until(|state| {
        let queues = ["payments", "payments.retry.1000", "payments.retry.10000", "payments.retry.60000"];
        let left = queues.iter().map(|queue| state.ready(queue) + state.unacked(queue)).sum::<usize>();
        left == 0 && !tries.borrow().is_empty()
    });
    timeout(Duration::from_secs(300), done).await.unwrap();
    worker.drain(Duration::from_secs(1)).await;
    connection.close().await.unwrap();
    tries.take()
}

#[actix_web::test]
async fn a_payment_is_charged_once_and_not_again() {
    pause();
    let broker = Broker::builder().start_here();
    assert_eq!(pay(&broker, 0).await, [0]);
    broker.assert_messages("payments.dead", 0, 0);
}

#[actix_web::test]
async fn a_payment_that_is_declined_twice_is_charged_by_the_third_try() {
    pause();
    let broker = Broker::builder().start_here();
    assert_eq!(pay(&broker, 2).await, [0, 1, 11]);
    broker.assert_messages("payments.dead", 0, 0);
}

/// After 1, 10 and 60 seconds, and then a dead letter with its reason.
#[actix_web::test]
async fn a_payment_that_is_always_declined_becomes_a_dead_letter_by_the_ladder() {
    let since = WallTime::now();
    pause();
    let broker = Broker::builder().start_here();
    assert_eq!(pay(&broker, usize::MAX).await, [0, 1, 11, 71]);
    broker.assert_messages("payments.dead", 1, 0);
    let dead = &broker.messages("payments.dead")[0].message;
    assert_eq!(serde_json::from_slice::<Payment>(&dead.body).unwrap().cents, 1999);
    let cause = dead.headers().and_then(|headers| headers.get("retry-cause"));
    assert_eq!(cause.and_then(|cause| cause.as_str()), Some("declined"));
    let steps: Vec<_> =
        broker.published("payments.retry.*").iter().map(|p| p.message.routing_key.to_string()).collect();
    assert_eq!(steps, ["payments.retry.1000", "payments.retry.10000", "payments.retry.60000"]);
    let took = since.elapsed();
    drop(broker);
    writeln!(io::stderr(), "a ladder of 71 s took {took:.1?}").unwrap();
}
