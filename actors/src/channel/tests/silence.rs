//! Channels that recover at a broker that does not reply.

use std::time::Duration;

use tokio::time::Instant;

use super::bench::Bench;
use crate::{
    channel::output::Output,
    error::{ErrorKind, Result},
    internal::SupervisorMessage,
    message::{CloseChannel, PurgeQueue},
};

const DEADLINE: Duration = Duration::from_secs(30);

/// Takes what was reported of the channel: when it reopens, or that it has recovered.
fn reported(bench: &mut Bench) -> Vec<Result<(), Option<Instant>>> {
    let report = |output| match output {
        Output::Supervisor(SupervisorMessage::ChannelBackingOff { until, .. }) => Some(Err(until)),
        Output::Supervisor(SupervisorMessage::ChannelRecovered { .. }) => Some(Ok(())),
        _ => None,
    };
    bench.outputs().into_iter().filter_map(report).collect()
}

fn recovering() -> Bench {
    let mut bench = Bench::open();
    bench.lose_connection();
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench
}

/// Each opening has no reply to one method, and the channel closes.
#[test]
fn a_channel_whose_recovery_has_no_reply_is_missing_and_opens_after_growing_pauses() {
    let mut bench = recovering();
    let mut pauses = Vec::new();
    for round in 0..10 {
        if round % 2 == 0 {
            bench.answer_open();
        }
        bench.wait(DEADLINE);
        assert_eq!(bench.sent(), ["channel.close"]);
        let outputs = reported(&mut bench);
        let [Err(Some(until))] = &outputs[..] else { panic!("{outputs:?}") };
        let pause = until.saturating_duration_since(bench.now);
        pauses.push(pause.as_millis());
        bench.answer_close();
        if !pause.is_zero() {
            assert_eq!(bench.sent(), [""; 0], "too early");
            assert_eq!(bench.wait_to_reopen(), pause);
        }
        assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    }
    assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    bench.answer_opening();
    assert_eq!(reported(&mut bench), [Ok(())]);
}

#[test]
fn a_channel_whose_close_has_no_reply_opens_when_it_comes() {
    let mut bench = recovering();
    let late = bench.call(PurgeQueue::new("jobs"));
    bench.wait(DEADLINE);
    assert_eq!(bench.sent(), ["channel.close"]);
    bench.wait(DEADLINE);
    assert_eq!(late.error_kind(), Some(ErrorKind::Timeout));
    assert!(
        matches!(reported(&mut bench)[..], [Err(Some(_)), Err(None)]),
        "it opens with the next connection"
    );
    bench.wait(DEADLINE);
    assert_eq!((reported(&mut bench), bench.ended()), (Vec::new(), None));
    bench.answer_close();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench.answer_opening();
    assert_eq!(reported(&mut bench), [Ok(())]);
}

#[test]
fn a_channel_whose_close_has_no_reply_opens_on_the_next_connection() {
    let mut bench = recovering();
    bench.wait(DEADLINE);
    bench.wait(DEADLINE);
    bench.sent();
    bench.lose_connection();
    bench.attach();
    assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
    bench.answer_opening();
    assert!(bench.machine.state.is_open());
}

#[test]
fn a_channel_whose_close_has_no_reply_ends_when_the_application_closes_or_drops_it() {
    for closes in [true, false] {
        let mut bench = recovering();
        bench.wait(DEADLINE);
        bench.wait(DEADLINE);
        bench.sent();
        let answer = closes.then(|| bench.machine.close(CloseChannel::new(), bench.now).listen());
        if !closes {
            bench.machine.release(bench.now);
        }
        bench.wait(Duration::from_secs(1));
        assert_eq!(bench.ended(), Some(false), "its number is not free");
        assert_eq!(answer.and_then(|answer| answer.error_kind()), closes.then_some(ErrorKind::Timeout));
    }
}
