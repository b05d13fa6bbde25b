//! How a channel closes. No runtime, no clock.

use std::time::Duration;

use super::bench::Bench;
use crate::{
    channel::{output::Output, reply::Answer},
    error::{Error, ErrorKind},
    internal::SupervisorMessage,
    message::{CloseChannel, ConsumerEnd, PurgeQueue},
    outbox::FinalFrames,
};

fn close(bench: &mut Bench) -> Answer<()> {
    bench.machine.close(CloseChannel::new(), bench.now).listen()
}

#[test]
fn publishes_are_confirmed_before_the_channel_closes() {
    let mut bench = Bench::open();
    bench.publish();
    let call = close(&mut bench);
    assert_eq!(bench.sent(), ["basic.publish"]);
    let late = bench.call(PurgeQueue::new("jobs"));
    assert_eq!(late.error_kind(), Some(ErrorKind::ChannelClosed));
    bench.confirm(1);
    assert_eq!(bench.sent(), ["channel.close"]);
    assert!(call.take().is_none());
    bench.answer_close();
    assert!(call.is_ok());
    assert_eq!(bench.ended(), Some(true));
    assert!(close(&mut bench).is_ok(), "closing twice is no error");
}

#[test]
fn a_channel_closes_without_confirms_at_the_deadline() {
    let mut bench = Bench::open();
    bench.publish();
    let call = close(&mut bench);
    bench.sent();
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), [""; 0], "late publishes report first");
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.answer_close();
    assert_eq!(call.error_kind(), Some(ErrorKind::Timeout));
}

/// BLK-05: one deadline, and not another one for the reply to `channel.close`.
#[test]
fn a_close_during_an_alarm_ends_at_its_deadline() {
    let mut bench = Bench::open();
    bench.publish();
    assert_eq!(bench.sent(), ["basic.publish"]);
    bench.machine.outbox.set_blocked(Some("low on memory".into()));
    let call = close(&mut bench);
    bench.wait(Duration::from_secs(30));
    assert!(call.take().is_none());
    bench.wait(Duration::from_secs(2));
    let error = call.take().expect("an answer").unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, true), "{error}");
}

#[test]
fn closes_that_cross_answer_the_caller_and_keep_the_number() {
    let mut bench = Bench::open();
    let call = close(&mut bench);
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.close_by_broker(404, "NOT_FOUND", 60, 40);
    assert_eq!(bench.sent(), ["channel.close-ok"]);
    assert!(call.is_ok());
    assert_eq!(bench.ended(), None);
    bench.answer_close();
    assert_eq!(bench.ended(), Some(true));
}

#[test]
fn a_broker_that_does_not_answer_the_close_keeps_the_number() {
    let mut bench = Bench::open();
    let call = close(&mut bench);
    bench.wait(Duration::from_secs(30));
    assert_eq!(call.error_kind(), Some(ErrorKind::Timeout));
    assert_eq!(bench.ended(), Some(false));
}

/// A channel that reopens after closes that crossed, at a broker that replies to nothing in time.
fn reopened_without_replies() -> Bench {
    let mut bench = Bench::open();
    bench.call(PurgeQueue::new("jobs"));
    assert_eq!(bench.sent(), ["queue.purge"]);
    bench.wait(Duration::from_secs(30));
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.close_by_broker(404, "NOT_FOUND", 60, 20);
    assert_eq!(bench.sent(), ["channel.close-ok"]);
    bench.wait(Duration::from_secs(30));
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench
}

#[test]
fn the_reply_to_an_earlier_close_is_not_taken_for_that_to_the_next() {
    for is_omitted in [false, true] {
        let mut bench = reopened_without_replies();
        bench.wait(Duration::from_secs(30));
        assert_eq!(bench.sent(), ["channel.close"]);
        if !is_omitted {
            bench.answer_close();
        }
        bench.answer_opening();
        assert_eq!(bench.sent(), [""; 0], "the channel is not closed yet");
        bench.answer_close();
        bench.wait_to_reopen();
        assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
        bench.answer_opening();
        assert!(bench.machine.state.is_open());
    }
}

#[test]
fn the_number_is_free_after_the_reply_to_the_last_close() {
    let mut bench = reopened_without_replies();
    let call = close(&mut bench);
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.answer_close();
    assert!(call.take().is_none());
    assert_eq!(bench.ended(), None);
    bench.answer_opening();
    bench.answer_close();
    assert!(call.is_ok());
    assert_eq!(bench.ended(), Some(true));
}

#[test]
fn a_channel_without_a_connection_closes_at_once() {
    let mut bench = Bench::open();
    bench.lose_connection();
    let waiting = bench.call(PurgeQueue::new("jobs"));
    let call = close(&mut bench);
    assert!(call.is_ok());
    assert_eq!(waiting.error_kind(), Some(ErrorKind::ChannelClosed));
    assert_eq!(bench.events(), ["closed", "closed for a cause"], "watchers get the first only");
}

#[test]
fn a_channel_that_recovers_is_closed_without_its_recovery() {
    let mut bench = Bench::open();
    bench.lose_connection();
    bench.attach();
    bench.sent();
    let call = close(&mut bench);
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.answer_close();
    assert!(call.is_ok());
}

#[test]
fn a_released_channel_closes_once_nothing_is_in_flight() {
    let mut bench = Bench::open();
    bench.publish();
    bench.machine.release(bench.now);
    assert_eq!(bench.sent(), ["basic.publish"]);
    bench.confirm(1);
    assert_eq!(bench.sent(), ["channel.close"]);
}

#[test]
fn a_drain_is_reported_once_when_nothing_is_in_flight() {
    let drained = |bench: &mut Bench| {
        let is =
            |output: &Output| matches!(output, Output::Supervisor(SupervisorMessage::ChannelDrained { .. }));
        bench.outputs().iter().filter(|output| is(output)).count()
    };
    let mut bench = Bench::open();
    bench.publish();
    bench.machine.drain(bench.now);
    assert_eq!(drained(&mut bench), 0);
    bench.sent();
    bench.confirm(1);
    assert_eq!(drained(&mut bench), 1);
    bench.wait(Duration::from_secs(1));
    assert_eq!(drained(&mut bench), 0);
}

#[test]
fn everyone_is_answered_when_the_actor_ends() {
    let mut bench = Bench::open();
    let sink = bench.consume("a");
    let purged = bench.call(PurgeQueue::new("jobs"));
    bench.machine.stop();
    assert_eq!(purged.error_kind(), Some(ErrorKind::Stopped));
    assert!(sink.end().is_some());
    assert_eq!(bench.ended(), Some(false));
}

#[test]
fn a_channel_that_never_opens_ends_at_its_deadline() {
    let mut bench = Bench::new(true);
    bench.wait(Duration::from_secs(30));
    let opened = bench.outputs().into_iter().find_map(|output| match output {
        Output::Supervisor(SupervisorMessage::ChannelOpened { result, .. }) => result.err(),
        _ => None,
    });
    assert_eq!(opened.as_ref().map(Error::kind), Some(ErrorKind::Timeout));
}

/// A sink is bound before anything else happens to it, so one that ends at once is not bound afterwards.
#[test]
fn a_consumer_whose_basic_consume_cannot_be_sent_ends_without_being_bound() {
    let mut bench = Bench::open();
    bench.machine.outbox.end(Error::channel_closed("closed", None), FinalFrames::None);
    let (consumed, sink) = bench.start_consumer("a");
    assert_eq!(consumed.error_kind(), Some(ErrorKind::ChannelClosed));
    assert!(matches!(sink.end(), Some(ConsumerEnd::Closed(_))));
    assert!(!bench.outputs().iter().any(|output| matches!(output, Output::BindSink { .. })));
}
