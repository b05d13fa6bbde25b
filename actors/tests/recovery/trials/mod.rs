//! What costs a connection is left out when the next one recovers, and tried on a connection of its own.

mod bench;
mod broker;

use actix_pika_actors::{Consume, DeclareQueue, EntityKind, Qos};
use tokio::time::Instant;

use self::bench::{Test, pass, pauses, work};

const TIMED_OUT: &str = "INTERNAL_ERROR - timed out consuming from quorum queue 'slow' in vhost '/'";

/// REC-50: a declaration that costs the connection is left out once it has done so, and tried alone with doubling
/// pauses. Everything else recovers, and the connection is not lost again.
#[actix::test]
async fn a_declaration_that_costs_the_connection_is_tried_alone() {
    declaration_is_tried_alone(false).await;
}

/// REC-50: the same where the broker gives no method for its close, as for a channel process that has crashed.
#[actix::test]
async fn a_declaration_that_crashes_its_channel_is_tried_alone() {
    declaration_is_tried_alone(true).await;
}

async fn declaration_is_tried_alone(is_bare: bool) {
    let mut test = Test::start().await;
    let (first, second) = (test.channel().await, test.channel().await);
    test.declare(&second, DeclareQueue::new("other")).await;
    test.declare(&second, DeclareQueue::new("temporary").durable(false)).await;
    let mut deliveries = test.consume(&first, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| (script.fatal_queues, script.is_bare) = (vec!["temporary"], is_bare));
    assert_eq!(test.cut().await, [(EntityKind::Queue, "temporary".to_owned())]);
    work(&mut deliveries).await;
    let costly = ["connect", "declare other", "declare temporary"];
    let without = ["connect", "declare other", "consume jobs"];
    assert_eq!(test.broker.seen(), [&costly[..], &without[..]].concat());
    let missing = test.missing().await;
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].error.close_reason().unwrap().code, 541);
    pass(60).await;
    let trials = test.broker.trials();
    assert_eq!(pauses(&trials)[..5], [2, 4, 8, 10, 10]);
    assert_eq!(test.broker.count("trial"), trials.len());
    assert_eq!(test.broker.seen().len(), 2 * trials.len(), "a trial declares, and nothing else happens");

    test.broker.set(|script| script.fatal_queues.clear());
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["trial", "declare temporary", "declare temporary"]);
    assert_eq!(test.cut().await, []);
    work(&mut deliveries).await;
}

/// REC-51: a consumer whose restart costs the connection comes back when the broker accepts it. Its trial neither takes
/// messages without ack nor is started with others.
#[actix::test]
async fn a_consumer_that_costs_the_connection_is_tried_alone() {
    let mut test = Test::start().await;
    let (first, second) = (test.channel().await, test.channel().await);
    let mut slow = test.consume(&first, "slow", Consume::new().no_ack(true)).await;
    let mut jobs = test.consume(&first, "jobs", Consume::new()).await;
    let mut mail = test.consume(&second, "mail", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| script.fatal_consumers = vec![("slow", 541, TIMED_OUT)]);
    assert_eq!(test.cut().await, [(EntityKind::Consumer, "slow".to_owned())]);
    work(&mut jobs).await;
    work(&mut mail).await;
    assert_eq!(test.broker.count("connect"), 2);
    pass(5).await;
    assert_eq!(test.missing().await.len(), 1);
    test.broker.seen();
    test.broker.set(|script| script.fatal_consumers.clear());
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["trial", "consume slow", "consume slow, no ack"]);
    work(&mut slow).await;
    assert_eq!(test.cut().await, []);
    work(&mut slow).await;
}

/// REC-51: the trial of a consumer has the prefetch that its channel shares, which quorum queues refuse with 540.
#[actix::test]
async fn the_trial_of_a_consumer_has_its_shared_prefetch() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    let _slow = test.consume(&channel, "slow", Consume::new()).await;
    channel.actor.send(Qos::new(7).global(true)).await.unwrap().unwrap();
    let refused = "NOT_IMPLEMENTED - queue 'slow' in vhost '/' does not support global qos";
    test.broker.set(|script| script.fatal_consumers = vec![("slow", 540, refused)]);
    assert_eq!(test.cut().await, [(EntityKind::Consumer, "slow".to_owned())]);
    test.broker.seen();
    pass(2).await;
    assert_eq!(test.broker.seen(), ["trial", "shared 7", "consume slow"]);
    let missing = test.missing().await;
    assert_eq!(missing[0].error.close_reason().unwrap().code, 540);
}

/// REC-50: where a limit refuses the connection of a trial, the trial waits, and the reason stays that of the refusal.
#[actix::test]
async fn a_trial_waits_while_a_limit_refuses_its_connection() {
    let (mut test, _channel) = Test::with_fatal_queue(|_| {}).await;
    test.broker.seen();
    test.broker.set(|script| script.is_full = true);
    pass(8).await;
    assert_eq!(test.broker.seen(), ["refused"; 3]);
    assert_eq!(test.missing().await[0].error.close_reason().unwrap().code, 541);
    test.broker.set(|script| (script.is_full, script.fatal_queues) = (false, Vec::new()));
    test.healthy().await;
}

/// REC-52: an exclusive queue cannot be tried on another connection: it is tried last, once for each reconnect that it
/// has not caused itself.
#[actix::test]
async fn an_exclusive_queue_that_costs_the_connection_is_tried_last() {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    test.declare(&channel, DeclareQueue::new("mine").exclusive(true)).await;
    let mut jobs = test.consume(&channel, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| script.fatal_queues = vec!["mine"]);
    let mine = [(EntityKind::Queue, "mine".to_owned())];
    assert_eq!(test.cut().await, mine);
    assert_eq!(test.recovered().await, mine, "it was tried once more, last");
    pass(600).await;
    let seen = test.broker.seen();
    let expected = [
        ["connect", "declare mine"].as_slice(),
        &["connect", "consume jobs", "declare mine"],
        &["connect", "consume jobs"],
    ];
    assert_eq!(seen, expected.concat());
    work(&mut jobs).await;
    assert_eq!(test.missing().await.len(), 1);
    test.broker.set(|script| script.fatal_queues.clear());
    assert_eq!(test.cut().await, mine);
    test.healthy().await;
    assert_eq!(test.broker.seen(), ["connect", "consume jobs", "declare mine"]);
}

/// REC-53: a consumer whose deliveries cannot be read three times in a row is left out and tried alone, where the same
/// delivery costs only the trial. The others go on.
#[actix::test]
async fn a_consumer_whose_deliveries_cannot_be_read_is_left_out() {
    consumer_is_left_out(false).await;
}

/// REC-53: the same where the connection refuses the frame before its channel gets it.
#[actix::test]
async fn a_consumer_whose_deliveries_have_too_large_frames_is_left_out() {
    consumer_is_left_out(true).await;
}

async fn consumer_is_left_out(has_large_headers: bool) {
    let mut test = Test::start().await;
    let channel = test.channel().await;
    let mut poisoned = test.consume(&channel, "poisoned", Consume::new()).await;
    let mut jobs = test.consume(&channel, "jobs", Consume::new()).await;
    test.broker.seen();
    test.broker.set(|script| {
        (script.poisoned, script.has_large_headers) = (vec!["poisoned"], has_large_headers);
    });
    test.broker.cut();
    let skipped = loop {
        let skipped = test.recovered().await;
        if !skipped.is_empty() {
            break skipped;
        }
    };
    assert_eq!(skipped, [(EntityKind::Consumer, "poisoned".to_owned())]);
    assert_eq!(test.broker.count("connect"), 4);
    work(&mut jobs).await;
    pass(60).await;
    assert_eq!(test.broker.count("connect"), 4);
    assert!(test.broker.count("trial") >= 6);
    assert_eq!(test.missing().await.len(), 1);
    test.broker.set(|script| script.poisoned.clear());
    test.healthy().await;
    work(&mut poisoned).await;
}

/// REC-50: a trial that succeeds although the connection is lost again: the pauses go on growing.
#[actix::test]
async fn a_fatal_entity_that_costs_the_connection_again_waits_longer_each_time() {
    let (mut test, _channel) = Test::with_fatal_queue(|script| script.spares_trials = true).await;
    let lost = Instant::now();
    for _ in 0..8 {
        test.recovered().await;
    }
    let trials = test.broker.trials();
    assert_eq!((trials[0] - lost).as_secs(), 0);
    assert_eq!(pauses(&trials), [2, 4, 8, 16, 32, 64, 128]);
    test.broker.set(|script| script.fatal_queues.clear());
    test.healthy().await;
    pass(20).await;
    test.broker.set(|script| script.fatal_queues = vec!["temporary"]);
    let trials = test.broker.trials().len();
    test.cut().await;
    pass(2).await;
    assert_eq!(test.broker.trials().len(), trials + 1, "it had stood");
}

/// REC-50: a close ends the trial that is under way.
#[actix::test]
async fn a_trial_ends_with_its_connection() {
    let (test, _channel) = Test::with_fatal_queue(|_| {}).await;
    test.broker.seen();
    test.client.supervisor.send(actix_pika_actors::CloseConnection::new()).await.unwrap().unwrap();
    pass(600).await;
    assert_eq!(test.broker.seen(), Vec::<String>::new());
}
