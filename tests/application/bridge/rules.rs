//! The rules of topic exchanges, and the bindings of a bridge.

#[path = "../../../src/bridge/topic_rules.rs"]
mod topic_rules;

use self::topic_rules::RULES;
use super::*;
use crate::support::{broker::Vhost, eventually};
use actix_pika::{bridge::Bridge, connect};
use std::collections::BTreeSet;

/// BRG-01: a subscriber gets what a queue that is bound with its pattern gets, for each rule of topic exchanges.
#[actix::test]
async fn subscribers_get_what_a_bound_queue_gets() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let mut subscribers = Vec::new();
    for (n, (pattern, ..)) in RULES.iter().enumerate() {
        let queue = channel.declare_queue(format!("q{n}")).await.unwrap();
        queue.bind("amq.topic", pattern).await.unwrap();
        subscribers.push((pattern, queue, bridge.stream(pattern, 1000).await.unwrap()));
    }
    let keys: BTreeSet<&str> =
        RULES.iter().flat_map(|(_, matched, others)| [*matched, *others].concat()).collect();
    for key in &keys {
        publish(&channel, "amq.topic", key, "").await;
    }
    within(
        "all",
        10,
        eventually("received", 10, async || (bridge.stats().received == keys.len() as u64).then_some(())),
    )
    .await;
    for ((pattern, queue, stream), (_, matched, _)) in subscribers.iter_mut().zip(RULES) {
        let mut of_queue = BTreeSet::new();
        while let Some(delivery) = queue.get().await.unwrap() {
            of_queue.insert(delivery.routing_key().to_owned());
            delivery.ack().unwrap();
        }
        let mut of_bridge = BTreeSet::new();
        while stream.waiting() > 0 {
            let Told::Message(key, _) = next(stream).await else { panic!("only messages") };
            assert!(of_bridge.insert(key), "{pattern:?}: twice");
        }
        assert_eq!(of_bridge, of_queue, "{pattern:?}");
        assert!(matched.iter().all(|key| of_queue.contains(*key)), "{pattern:?}: {of_queue:?}");
    }
}

async fn bindings(vhost: &Vhost, of: &str) -> BTreeSet<String> {
    let bound = vhost.bindings().await.into_iter().filter(|binding| binding.source == of);
    bound.map(|binding| binding.routing_key).collect()
}

async fn until_bound(vhost: &Vhost, bridge: &Bridge, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|key| (*key).to_owned()).collect();
    eventually("the bindings", 10, async || (bindings(vhost, "amq.topic").await == wanted).then_some(()))
        .await;
    eventually("their number", 10, async || (bridge.stats().bindings == wanted.len()).then_some(())).await;
}

/// BRG-02: a pattern is bound when its first subscriber comes, and unbound when its last one goes; a subscriber gets
/// each message once, and what is published after it has subscribed.
#[actix::test]
async fn bindings_follow_the_subscribers() {
    let vhost = Vhost::fresh().await;
    let connection = connect(vhost.url()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    until_bound(&vhost, &bridge, &[]).await;
    let mut first = bridge.stream("a.*", 8).await.unwrap();
    publish(&channel, "amq.topic", "a.b", 1).await;
    assert_eq!(next(&mut first).await, message("a.b", 1));
    let mut second = bridge.stream("a.*", 8).await.unwrap();
    let mut other = bridge.stream("#", 8).await.unwrap();
    until_bound(&vhost, &bridge, &["a.*", "#"]).await;
    publish(&channel, "amq.topic", "a.b", 2).await;
    assert_eq!(next(&mut first).await, message("a.b", 2));
    assert_eq!(next(&mut second).await, message("a.b", 2));
    assert_eq!(next(&mut other).await, message("a.b", 2));
    drop((first, other));
    until_bound(&vhost, &bridge, &["a.*"]).await;
    publish(&channel, "amq.topic", "a.b", 3).await;
    assert_eq!(next(&mut second).await, message("a.b", 3));
    drop(second);
    until_bound(&vhost, &bridge, &[]).await;
    assert_eq!(bridge.stats().received, 3);
}

/// BRG-03: a subscriber that is refused gets the error; others lose nothing, and the next one can subscribe.
#[actix::test]
async fn a_refused_binding_disturbs_nobody() {
    let vhost = Vhost::fresh().await;
    let owner = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let orders = owner.declare_exchange(actix_pika::DeclareExchange::topic("orders")).await.unwrap();
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    vhost.permit_topics(&user, "orders", ".*", "^#$").await;
    let connection = connect(vhost.url_as(&user, "secret")).await.unwrap();
    let bridge = connection.channel().await.unwrap().exchange("orders").bridge().start().await.unwrap();
    let mut all = bridge.stream("#", 100).await.unwrap();
    publish(&owner, "orders", "a", 1).await;
    assert_eq!(next(&mut all).await, message("a", 1));
    let too_long = within("an error", 10, bridge.stream(&"a".repeat(256), 1)).await.unwrap_err();
    assert_eq!(too_long.kind(), actix_pika::ErrorKind::Limit);
    for _ in 0..2 {
        let error = within("a refusal", 10, bridge.stream("b", 1)).await.unwrap_err();
        assert_eq!(error.code(), Some(403), "{error}");
    }
    publish(&owner, "orders", "b", 2).await;
    assert_eq!(next(&mut all).await, message("b", 2));
    vhost.permit_topics(&user, "orders", ".*", ".*").await;
    let mut later = within("a stream", 10, bridge.stream("b", 1)).await.unwrap();
    publish(&owner, "orders", "b", 3).await;
    assert_eq!((next(&mut all).await, next(&mut later).await), (message("b", 3), message("b", 3)));
    assert_eq!(bridge.stats().subscribers, 2);
    orders.delete().await.unwrap();
    let error = within("a refusal", 10, bridge.stream("c", 1)).await.unwrap_err();
    assert_eq!(error.code(), Some(404), "{error}");
    let error = within("a refusal", 10, owner.exchange("orders").bridge().start()).await.unwrap_err();
    assert_eq!(error.code(), Some(404), "{error}");
}
