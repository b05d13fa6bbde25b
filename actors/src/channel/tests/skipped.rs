//! Deliveries whose body is over a limit. No runtime, no clock.

use std::{sync::Arc, time::Duration};

use super::bench::{Bench, Sink};
use crate::{
    channel::output::Output,
    error::ErrorKind,
    message::{CancelConsumer, ChannelEvent, Consume, OversizedDelivery, SkippedDelivery},
};

/// More than the bench accepts.
const TOO_LARGE: usize = (1 << 20) + 1;
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn consuming(options: Consume) -> Bench {
    let mut bench = Bench::open();
    let sink = Arc::new(Sink::default());
    let consumed = bench.call(options.queue("jobs").tag("a").sink(sink));
    if bench.sent().contains(&"basic.qos".to_owned()) {
        bench.answer_qos();
    }
    bench.answer_consume("a");
    assert!(consumed.is_ok());
    bench.sent();
    bench.outputs();
    bench
}

fn skipped(bench: &mut Bench) -> Vec<SkippedDelivery> {
    let event = |output| match output {
        Output::Event(ChannelEvent::DeliverySkipped(skipped)) => Some(skipped),
        _ => None,
    };
    bench.outputs().into_iter().filter_map(event).collect()
}

#[test]
fn a_delivery_that_is_too_large_returns_to_its_queue_after_ten_minutes() {
    let mut bench = consuming(Consume::new());
    bench.receive_delivery("a", 1, TOO_LARGE);
    let [report] = &skipped(&mut bench)[..] else { panic!("not one event") };
    assert_eq!((&*report.consumer_tag, &*report.queue, &*report.routing_key), ("a", "jobs", "jobs"));
    assert_eq!((report.size, report.error.kind()), (TOO_LARGE as u64, ErrorKind::Limit));
    assert!(report.error.to_string().contains("1048577") && report.error.to_string().contains("1048576"));
    bench.now += TEN_MINUTES - Duration::from_millis(1);
    bench.machine.requeue_due(bench.now);
    assert_eq!(bench.sent(), [""; 0]);
    bench.now += Duration::from_millis(1);
    bench.machine.requeue_due(bench.now);
    assert_eq!(bench.sent(), ["basic.nack"]);
}

#[test]
fn it_returns_at_once_when_its_consumer_is_cancelled() {
    let mut bench = consuming(Consume::new());
    bench.receive_delivery("a", 1, TOO_LARGE);
    let cancelled = bench.machine.cancel_consumer(&CancelConsumer::new("a"), bench.now).listen();
    assert_eq!(bench.sent(), ["basic.cancel a"]);
    bench.answer_cancel("a");
    assert!(cancelled.is_ok());
    assert_eq!(bench.sent(), ["basic.nack"]);
}

#[test]
fn it_is_rejected_if_the_consumer_has_it_so() {
    let mut bench = consuming(Consume::new().oversized(OversizedDelivery::Reject));
    bench.receive_delivery("a", 1, TOO_LARGE);
    bench.receive_delivery("a", 2, TOO_LARGE);
    assert_eq!(bench.sent(), ["basic.reject", "basic.reject"]);
    assert_eq!(skipped(&mut bench).len(), 2);
}

#[test]
fn one_without_acknowledgement_is_only_reported() {
    let mut bench = consuming(Consume::new().no_ack(true));
    bench.receive_delivery("a", 1, TOO_LARGE);
    assert_eq!(skipped(&mut bench).len(), 1);
    assert_eq!(bench.sent(), [""; 0]);
}

#[test]
fn one_for_no_consumer_is_requeued() {
    let mut bench = consuming(Consume::new());
    bench.receive_delivery("other", 1, TOO_LARGE);
    assert_eq!(bench.sent(), ["basic.nack"]);
    assert!(skipped(&mut bench).is_empty());
}
