//! Bridges of exchanges of other types, and messages with several keys.

use super::*;
use crate::support::broker::Vhost;
use actix_pika::{connect, message::Value, options::ExchangeKind};

fn copied_to(keys: &[&str], body: &str) -> Publishing {
    let keys = keys.iter().map(|key| Value::from(*key)).collect();
    Publishing::new(body.to_owned()).mandatory(false).header("CC", Value::Array(keys))
}

/// BRG-04: a subscriber of a direct exchange gets what has its key, also by a `CC` header, and once.
#[actix::test]
async fn a_direct_exchange_routes_by_the_exact_key() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let exchange = channel.exchange("amq.direct");
    let bridge = exchange.bridge().kind(ExchangeKind::Direct).start().await.unwrap();
    let mut a = bridge.stream("a", 8).await.unwrap();
    let mut star = bridge.stream("*", 8).await.unwrap();
    publish(&channel, "amq.direct", "a", 1).await;
    publish(&channel, "amq.direct", "*", 2).await;
    exchange.publish(copied_to(&["a", "*", "a"], "3"), "b").await.unwrap();
    publish(&channel, "amq.direct", "a", "last").await;
    publish(&channel, "amq.direct", "*", "last").await;
    assert_eq!(until(&mut a, "last").await, [message("a", 1), message("b", 3)]);
    assert_eq!(until(&mut star, "last").await, [message("*", 2), message("b", 3)]);
}

/// BRG-04: a `CC` header counts for patterns, and a message of which several keys match comes once.
#[actix::test]
async fn copies_count_for_patterns() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let exchange = channel.exchange("amq.topic");
    let bridge = exchange.bridge().start().await.unwrap();
    let mut orders = bridge.stream("orders.*", 8).await.unwrap();
    exchange.publish(copied_to(&["orders.at"], "1"), "bills.at").await.unwrap();
    exchange.publish(copied_to(&["orders.at", "orders.de"], "2"), "orders.fr").await.unwrap();
    exchange.publish(copied_to(&["bills.de"], "3"), "bills.at").await.unwrap();
    publish(&channel, "amq.topic", "orders.x", "last").await;
    assert_eq!(until(&mut orders, "last").await, [message("bills.at", 1), message("orders.fr", 2)]);
}

/// BRG-04: with a fanout exchange there is one binding, and subscribers are told apart by their patterns here.
#[actix::test]
async fn a_fanout_exchange_is_bound_once() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let bridge = channel.exchange("amq.fanout").bridge().kind(ExchangeKind::Fanout).start().await.unwrap();
    let mut all = bridge.stream("#", 8).await.unwrap();
    let mut some = bridge.stream("a.*", 8).await.unwrap();
    assert_eq!(bridge.stats().bindings, 1);
    for (key, body) in [("a.b", "1"), ("b", "2"), ("a.c", "last")] {
        publish(&channel, "amq.fanout", key, body).await;
    }
    assert_eq!(until(&mut all, "last").await, [message("a.b", 1), message("b", 2)]);
    assert_eq!(until(&mut some, "last").await, [message("a.b", 1)]);
}

/// BRG-04: with a headers exchange the arguments of the bridge choose.
#[actix::test]
async fn a_headers_exchange_is_bound_with_arguments() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let exchange = channel.exchange("amq.headers");
    let bridge =
        exchange.bridge().kind(ExchangeKind::Headers).argument("urgent", true).start().await.unwrap();
    let mut urgent = bridge.stream("#", 8).await.unwrap();
    for (is_urgent, body) in [(true, "1"), (false, "2"), (true, "last")] {
        let publishing = Publishing::new(body).mandatory(false).header("urgent", is_urgent);
        exchange.publish(publishing, "a").await.unwrap();
    }
    assert_eq!(until(&mut urgent, "last").await, [message("a", 1)]);
}

/// BRG-04: the default exchange is refused, and its channel stays open.
#[actix::test]
async fn the_default_exchange_is_refused() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let error = channel.default_exchange().bridge().start().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (actix_pika::ErrorKind::Refused, None), "{error}");
    assert!(!channel.is_closed());
}
