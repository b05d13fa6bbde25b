//! The states of a channel.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    channel::{
        close_state::{AfterClose, CloseUnopened},
        state::{ChannelState, CloseReply, Loss, OpenReply, Reading},
    },
    error::{CloseReason, Error},
};

fn error(text: &str) -> Error {
    Error::channel_closed(text.to_owned(), None)
}

fn by_broker() -> Error {
    Error::channel_closed("the broker closed it", Some(CloseReason::new(406, "no", 50, 10)))
}

/// One of each.
fn all(now: Instant) -> [ChannelState; 9] {
    [
        ChannelState::Opening { since: now, last: None, reply: OpenReply::Due },
        ChannelState::Open,
        ChannelState::Draining { code: 200, text: "bye".into(), until: now + Duration::from_secs(1) },
        ChannelState::Detached { cause: error("lost"), last: None },
        ChannelState::BackingOff { until: now, cause: error("refused"), skipped: vec![(1, error("gone"))] },
        ChannelState::Recovering {
            cause: error("lost"),
            skipped: vec![(1, error("gone"))],
            reply: OpenReply::Due,
        },
        ChannelState::ClosingToReopen {
            cause: error("silent"),
            skipped: vec![(1, error("late"))],
            reply: CloseReply::Due,
            until: now,
            overdue: false,
        },
        ChannelState::Closing { error: error("closed"), answer: Err(error("late")), reply: CloseReply::Due },
        ChannelState::Closed(error("closed")),
    ]
}

fn of_all<T>(ask: impl Fn(&mut ChannelState) -> T) -> Vec<T> {
    all(Instant::now()).each_mut().map(ask).into()
}

#[test]
fn calls_are_made_when_open_and_wait_during_recovery() {
    let usable = of_all(|state| state.usable().is_ok());
    assert_eq!(usable, [false, true, false, false, false, false, false, false, false]);
    let wait = of_all(|state| state.is_recovering());
    assert_eq!(wait, [false, false, false, true, true, true, true, false, false]);
}

#[test]
fn a_channel_that_closes_reads_only_the_end() {
    use Reading::{All, Close, Nothing, Opening};
    let reading = of_all(|state| state.reading());
    assert_eq!(reading, [Opening, All, All, All, Nothing, Opening, Close, Close, Nothing]);
}

#[test]
fn a_lost_connection_ends_channels_that_were_being_closed() {
    use Loss::{Ends, Ignored, OpensLater, Recovers};
    let losses = of_all(|state| state.loss());
    assert_eq!(losses, [OpensLater, Recovers, Ends, Ignored, Recovers, Recovers, Recovers, Ends, Ignored]);
}

#[test]
fn only_an_open_channel_is_drained() {
    let now = Instant::now();
    let drained = of_all(|state| state.drain(200, "bye".into(), now));
    assert_eq!(drained, [false, true, false, false, false, false, false, false, false]);
}

#[test]
fn a_close_is_due_when_publishes_are_confirmed_or_late() {
    let now = Instant::now();
    let until = now + Duration::from_secs(1);
    let state = ChannelState::Draining { code: 320, text: "bye".into(), until };
    assert_eq!(state.close_due(now, false), None);
    assert_eq!(state.close_due(now, true), Some((320, "bye".into())));
    assert_eq!(state.close_due(until, false), Some((320, "bye".into())));
    assert_eq!(ChannelState::Open.close_due(until, true), None);
}

#[test]
fn a_recovered_channel_is_open_and_returns_its_cause_and_skipped_consumers_once() {
    let mut state = ChannelState::Detached { cause: error("lost"), last: None };
    state.recover();
    assert!(state.awaits_recovery());
    state.reopen(error("refused"), vec![(1, error("gone")), (2, error("locked"))]);
    state.unskip(1);
    let (cause, skipped) = state.recovered().expect("it recovered");
    assert!(cause.to_string().contains("refused"), "{cause}");
    assert_eq!(skipped.into_iter().map(|(consumer, _)| consumer).collect::<Vec<_>>(), [2]);
    assert!(state.is_open() && state.recovered().is_none());
}

#[test]
fn a_channel_closed_to_reopen_reopens_unless_it_is_closed_meanwhile() {
    let mut state = ChannelState::Open;
    state.close_to_reopen_sent(error("silent"), Vec::new(), Instant::now());
    assert_eq!(state.after_close(), Some(AfterClose::Reopen));
    assert!(state.crossed().is_none(), "nobody waits");
    assert_eq!(state.close_unopened(Err(error("unconfirmed"))), CloseUnopened::Wait);
    assert!(matches!(state.crossed(), Some(Err(_))));
    assert_eq!(state.after_close(), Some(AfterClose::End));
    assert!(state.is_crossed(), "the broker's close is not forgotten");
}

#[test]
fn a_channel_is_closed_unopened_by_what_the_broker_has_of_it() {
    use CloseUnopened::{End, SendClose, Wait};
    let how = of_all(|state| state.close_unopened(Ok(())));
    assert_eq!(how[3..8], [End, End, SendClose, Wait, Wait]);
}

#[test]
fn the_first_reason_of_an_end_counts() {
    let mut state = ChannelState::Open;
    state.close_sent(error("first"), Err(error("late")));
    let ended = state.end(error("second")).expect("an end");
    assert!(ended.error.to_string().contains("first"));
    assert!(matches!(ended.answer, Some(Err(_))));
    assert!(!ended.never_open && ended.cause.is_none());
    assert!(state.end(error("third")).is_none(), "it has ended");
}

#[test]
fn watchers_get_the_cause_of_an_end_that_the_application_did_not_ask_for() {
    let causes = of_all(|state| state.end(by_broker()).map(|ended| ended.cause.is_some()));
    let [some, none] = [Some(true), Some(false)];
    assert_eq!(causes, [some, some, some, some, some, some, none, none, None]);
    let never = of_all(|state| state.end(by_broker()).is_some_and(|ended| ended.never_open));
    assert_eq!(never.iter().position(|never| *never), Some(0));
    let mut state = ChannelState::Open;
    state.close_sent(by_broker(), Ok(()));
    assert!(state.end(error("late")).is_some_and(|ended| ended.cause.is_some()));
}

#[test]
fn a_channel_that_backs_off_recovers_when_its_time_has_come() {
    let now = Instant::now();
    let until = now + Duration::from_secs(1);
    let mut state = ChannelState::Open;
    state.back_off(until, error("refused"), vec![(1, error("gone")), (2, error("locked"))]);
    state.unskip(2);
    assert!(!state.reopen_if_due(now) && state.is_backing_off());
    assert!(state.reopen_if_due(until) && state.awaits_recovery());
    assert!(state.recovered().is_some_and(|(_, skipped)| skipped.len() == 1));
    assert!(!state.reopen_if_due(until), "it is open");
}

#[test]
fn a_channel_waits_after_its_close_and_for_a_reply_that_is_overdue() {
    let (mut state, now) = (ChannelState::Open, Instant::now());
    let until = now + Duration::from_secs(1);
    assert!(!state.close_is_overdue(), "there is no close");
    state.close_to_reopen_sent(error("silent"), vec![(1, error("late"))], until);
    assert!(!state.is_close_overdue() && state.close_is_overdue() && state.is_close_overdue());
    assert_eq!(state.wait_to_reopen(until), None);
    assert_eq!(state.wait_to_reopen(now), Some(until - now));
    assert!(state.is_backing_off() && !state.is_close_overdue());
    assert_eq!(state.take_skipped().len(), 1);
}

#[test]
fn a_late_reply_to_a_close_is_expected_once() {
    let mut state = ChannelState::Open;
    state.close_to_reopen_sent(error("silent"), Vec::new(), Instant::now());
    state.recover();
    assert!(!state.take_late_close_ok());
    state.expect_late_close_ok();
    assert!(state.take_late_close_ok() && !state.take_late_close_ok());
}

#[test]
fn a_late_reply_to_a_close_is_expected_by_the_next_close_as_well() {
    let recovering = || {
        let mut state = ChannelState::Open;
        state.close_to_reopen_sent(error("silent"), Vec::new(), Instant::now());
        state.recover();
        state.expect_late_close_ok();
        state
    };
    let mut state = recovering();
    state.close_to_reopen_sent(error("silent"), Vec::new(), Instant::now());
    assert_eq!(state.close_unopened(Ok(())), CloseUnopened::Wait);
    assert!(state.take_late_close_ok() && !state.take_late_close_ok());
    let mut state = recovering();
    state.close_sent(error("closed"), Ok(()));
    assert!(state.take_late_close_ok() && !state.take_late_close_ok());
    let mut state = recovering();
    assert!(state.take_late_close_ok());
    state.close_sent(error("closed"), Ok(()));
    assert!(!state.take_late_close_ok());
}
