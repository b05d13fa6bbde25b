//! Consumers whose unsettled deliveries have too many bytes. No runtime, no clock.

use std::{sync::Arc, time::Duration};

use super::bench::Bench;
use crate::{
    channel::output::Output,
    facade::{self, StreamSink},
    message::{CancelConsumer, ChannelEvent, Consume},
    wire::{AMQPClass, basic},
};

/// Ten of them are over the bound of the bench, 1 MiB.
const LARGE: usize = 110_000;

fn consuming(prefetch: u16) -> (Bench, Arc<StreamSink>) {
    let mut bench = Bench::open();
    let sink = Arc::new(StreamSink::default());
    let consumed = bench.call(Consume::new().queue("jobs").tag("a").prefetch(prefetch).sink(sink.clone()));
    bench.answer_qos();
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    bench.sent();
    bench.outputs();
    (bench, sink)
}

fn deliver(bench: &mut Bench, tags: impl Iterator<Item = u64>) {
    tags.for_each(|tag| bench.receive_delivery("a", tag, LARGE));
}

/// The connection asks the channel if its deliveries have too many bytes.
fn reduce(bench: &mut Bench) -> bool {
    let asked = bench.machine.connection.as_ref().unwrap().credit.memory().channel_over_bound();
    if asked.is_some() {
        bench.machine.reduce_prefetch(bench.now);
    }
    asked.is_some()
}

fn reduced(bench: &mut Bench) -> Vec<(u16, u16)> {
    let event = |output| match output {
        Output::Event(ChannelEvent::PrefetchReduced { tag, from, to }) => {
            assert_eq!(&*tag, "a");
            Some((from, to))
        }
        _ => None,
    };
    bench.outputs().into_iter().filter_map(event).collect()
}

/// Returns the prefetch of each `basic.qos` that was sent, and how many other methods of each name.
fn sent(bench: &Bench) -> (Vec<u16>, Vec<String>) {
    let mut names = bench.sent_methods();
    let prefetches = names.iter().filter_map(|method| match method {
        AMQPClass::Basic(basic::AMQPMethod::Qos(qos)) => Some(qos.prefetch_count),
        _ => None,
    });
    let prefetches = prefetches.collect();
    names.retain(|method| !matches!(method, AMQPClass::Basic(basic::AMQPMethod::Qos(_))));
    (prefetches, names.iter().map(|method| format!("{method:?}")).collect())
}

/// PRO-20
#[test]
fn a_consumer_over_the_bound_starts_again_with_what_fits() {
    let (mut bench, sink) = consuming(250);
    deliver(&mut bench, 1..=9);
    assert!(!reduce(&mut bench));
    deliver(&mut bench, 10..=10);
    assert!(reduce(&mut bench));
    assert_eq!(reduced(&mut bench), [(250, 4)]);
    assert_eq!(bench.sent(), ["basic.cancel a"], "what was not begun returns behind the reply");
    assert_eq!(sink.waiting(), 0);
    // What comes until the reply returns, too.
    deliver(&mut bench, 11..=12);
    assert_eq!((bench.sent().len(), sink.waiting()), (0, 0));
    bench.answer_cancel("a");
    let mut returned = bench.sent();
    let restart = returned.iter().position(|name| name == "basic.qos").unwrap();
    assert_eq!(returned.remove(restart + 1), "basic.consume");
    returned.remove(restart);
    assert_eq!(returned, ["basic.nack"; 12]);
    bench.answer_qos();
    bench.answer_consume("a");
    deliver(&mut bench, 13..=16);
    assert!(!reduce(&mut bench));
    assert_eq!(sink.waiting(), 4);
    assert!(bench.events().is_empty());
}

#[test]
fn what_a_consumer_has_from_before_does_not_pause_reading() {
    let (mut bench, _sink) = consuming(250);
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    bench.machine.reduce_prefetch(bench.now);
    bench.answer_cancel("a");
    bench.machine.reduce_prefetch(bench.now);
    bench.answer_qos();
    bench.answer_consume("a");
    bench.machine.reduce_prefetch(bench.now);
    deliver(&mut bench, 11..=14);
    assert_eq!(bench.machine.connection.as_ref().unwrap().credit.used(), 0);
}

/// A consumer without a prefetch gets one where it would pause reading while the application waits for the broker.
#[test]
fn a_consumer_without_a_prefetch_is_limited() {
    let (mut bench, sink) = consuming(0);
    deliver(&mut bench, 1..=10);
    let credit = bench.machine.connection.as_ref().unwrap().credit.clone();
    assert!(credit.must_pause(std::task::Waker::noop()));
    let Some((1, id)) = credit.limitable_consumer() else { panic!("no consumer") };
    bench.machine.limit_prefetch(id, bench.now);
    assert_eq!(reduced(&mut bench), [(0, 4)]);
    assert_eq!((credit.used(), sink.waiting()), (0, 0));
    assert!(!credit.must_pause(std::task::Waker::noop()), "the reply is read");
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.answer_cancel("a");
    let (prefetches, _) = sent(&bench);
    assert_eq!(prefetches, [4]);
    bench.answer_qos();
    bench.answer_consume("a");
    deliver(&mut bench, 11..=14);
    assert_eq!((credit.used(), credit.limitable_consumer()), (0, None));
}

#[test]
fn the_smaller_prefetch_is_kept_over_a_reconnect() {
    let (mut bench, _sink) = consuming(250);
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    bench.sent();
    bench.lose_connection();
    bench.attach();
    let (prefetches, _) = sent(&bench);
    assert_eq!(prefetches, [4]);
}

#[test]
fn a_consumer_has_its_own_prefetch_again_at_a_reconnect_after_ten_calm_minutes() {
    let (mut bench, _sink) = consuming(250);
    let reduce_at = |bench: &mut Bench, first: u64| {
        deliver(bench, first..first + 10);
        assert!(reduce(bench));
        bench.answer_cancel("a");
        bench.answer_qos();
        bench.answer_consume("a");
        bench.sent();
    };
    let reconnect = |bench: &mut Bench| {
        bench.lose_connection();
        bench.attach();
        let (prefetches, _) = sent(bench);
        bench.answer_open();
        bench.answer_qos();
        bench.answer_consume("a");
        bench.answer_confirm_select();
        prefetches
    };
    reduce_at(&mut bench, 1);
    bench.now += Duration::from_millis(599_999);
    assert_eq!(reconnect(&mut bench), [4]);
    bench.now += Duration::from_millis(1);
    assert_eq!(reconnect(&mut bench), [250]);
    reduce_at(&mut bench, 1);
    assert_eq!(reconnect(&mut bench), [4]);
}

/// The cancel of its last consumer would delete the queue, and what returns to it.
#[test]
fn a_consumer_of_a_queue_with_auto_delete_keeps_its_prefetch() {
    let mut bench = Bench::open();
    let sink = Arc::new(StreamSink::default());
    let consume = Consume::new().queue("jobs").tag("a").prefetch(250).sink(sink.clone());
    let consumed = bench.call(facade::consume_from(consume, None, true));
    bench.answer_qos();
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    bench.sent();
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    assert!(reduced(&mut bench).is_empty() && bench.sent().is_empty());
    assert_eq!(sink.waiting(), 10);
}

#[test]
fn a_consumer_that_is_being_reduced_can_be_cancelled() {
    let (mut bench, _sink) = consuming(250);
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    let cancelled = bench.machine.cancel_consumer(&CancelConsumer::new("a"), bench.now).listen();
    bench.answer_cancel("a");
    assert!(cancelled.is_ok());
    assert_eq!(bench.sent(), ["basic.nack"; 10]);
    assert!(bench.machine.consumers.is_empty());
}

#[test]
fn one_that_the_broker_cancels_meanwhile_is_repaired() {
    let (mut bench, _sink) = consuming(250);
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.cancel_by_broker("a");
    bench.answer_cancel("a");
    assert!(bench.repair().is_some());
    assert!(!bench.sent().contains(&"basic.consume".to_owned()));
}

#[test]
fn what_is_held_from_before_does_not_reduce_it_again() {
    let (mut bench, sink) = consuming(250);
    deliver(&mut bench, 1..=9);
    let mut held = std::collections::VecDeque::new();
    let taken = sink.poll_take(&mut held, &mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(taken.is_ready() && held.len() == 9);
    deliver(&mut bench, 10..=10);
    assert!(reduce(&mut bench));
    bench.answer_cancel("a");
    bench.answer_qos();
    bench.answer_consume("a");
    assert_eq!(reduced(&mut bench), [(250, 4)]);
    deliver(&mut bench, 11..=11);
    reduce(&mut bench);
    assert!(reduced(&mut bench).is_empty());
    drop(held);
}

/// Reading pauses for what comes beyond the prefetch.
#[test]
fn deliveries_beyond_the_prefetch_are_counted_like_those_without_one() {
    let (mut bench, sink) = consuming(5);
    deliver(&mut bench, 1..=10);
    assert!(reduce(&mut bench));
    assert!(reduced(&mut bench).is_empty() && bench.sent().is_empty());
    deliver(&mut bench, 11..=20);
    let credit = bench.machine.connection.as_ref().unwrap().credit.clone();
    assert!(credit.used() > 10 * LARGE);
    assert!(credit.must_pause(std::task::Waker::noop()));
    assert_eq!(sink.waiting(), 20);
}
