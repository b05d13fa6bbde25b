//! The decisions of a relay, without a runtime.

use std::time::Duration;

use actix_pika_actors::facade;
use tokio::time::Instant;

use super::{
    RelayEvent,
    batch::{Head, Verdict},
    machine::{Input, Machine, Output},
};
use crate::{Error, tasks::DrainReport};

const LEASE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);

struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(LEASE, POLL, now), now }
    }

    /// One that has the lease, with fence 7, and reads the table.
    fn leading() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.step(Input::Started), "lease");
        assert_eq!(bench.step(Input::Leased(Some(7))), "taken 7, fetch");
        bench
    }

    fn step(&mut self, input: Input) -> String {
        let outputs = self.machine.step(input, self.now, 0.0);
        outputs.iter().map(text).collect::<Vec<_>>().join(", ")
    }

    fn after(&mut self, millis: u64, input: Input) -> String {
        self.now += Duration::from_millis(millis);
        self.step(input)
    }

    /// When the timer is due, in milliseconds.
    fn timer(&self) -> Option<u128> {
        self.machine.timer(self.now).map(|at| at.saturating_duration_since(self.now).as_millis())
    }

    fn drain(&mut self, cut: u64, end: u64) -> String {
        let at = |millis| self.now + Duration::from_millis(millis);
        let (cut, end) = (at(cut), at(end));
        self.step(Input::Drain { cut, end })
    }

    fn report(&self) -> (usize, usize, usize) {
        let DrainReport { finished, given_back, abandoned } = self.machine.report();
        (finished, given_back, abandoned)
    }
}

fn text(output: &Output) -> String {
    match output {
        Output::Lease => "lease".into(),
        Output::Fetch => "fetch".into(),
        Output::Settle { fence, published, held } => {
            let held: Vec<_> = held.iter().map(|row| row.id).collect();
            format!("settle {fence} {published:?} {held:?}")
        }
        Output::Release { fence } => format!("release {fence}"),
        Output::Publish(id) => format!("publish {id}"),
        Output::Finish => "finish".into(),
        Output::Tell(RelayEvent::LeaseTaken { fence }) => format!("taken {fence}"),
        Output::Tell(RelayEvent::LeaseLost) => "lost".into(),
        Output::Tell(RelayEvent::Parked { message_id, .. }) => format!("parked {message_id}"),
        Output::Tell(RelayEvent::DatabaseFailed { next_in, .. }) => {
            format!("database {}", next_in.as_millis())
        }
        Output::Tell(RelayEvent::BrokerFailed { next_in, .. }) => format!("broker {}", next_in.as_millis()),
        Output::Tell(RelayEvent::Ended(error)) => format!("ended {}", error.is_some()),
        Output::Tell(other) => format!("{other:?}"),
    }
}

fn rows(rows: &[(i64, &str)]) -> Input {
    let head = |(id, lane): &(i64, &str)| Head {
        id: *id,
        message_id: format!("m{id}"),
        lane: (!lane.is_empty()).then(|| (*lane).to_owned()),
        tries: 0,
    };
    Input::Fetched(rows.iter().map(head).collect())
}

fn confirmed(id: i64) -> Input {
    Input::Published(id, Verdict::Published, None)
}

fn failed() -> Error {
    facade::database("a test", true)
}

#[test]
fn a_batch_is_published_settled_and_followed_by_the_next() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a"), (3, "")])), "publish 1, publish 3");
    assert_eq!(bench.step(confirmed(3)), "");
    assert_eq!(bench.step(confirmed(1)), "publish 2");
    assert_eq!(bench.step(confirmed(2)), "settle 7 [3, 1, 2] []");
    assert_eq!(bench.step(Input::Settled(true)), "fetch");
    assert_eq!(bench.step(rows(&[])), "");
    assert_eq!(bench.timer(), Some(500));
    assert_eq!(bench.after(499, Input::Timer), "");
    assert_eq!(bench.after(1, Input::Timer), "fetch");
}

#[test]
fn what_is_written_here_is_looked_for_soon() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[])), "");
    assert_eq!(bench.after(100, Input::Woken), "");
    assert_eq!(bench.timer(), Some(5));
    assert_eq!(bench.after(5, Input::Timer), "fetch");
    assert_eq!(bench.step(rows(&[])), "");
    assert_eq!(bench.timer(), Some(45));
    assert_eq!(bench.after(45, Input::Timer), "fetch");
}

#[test]
fn another_holder_is_waited_for() {
    let mut bench = Bench::new();
    assert_eq!(bench.step(Input::Started), "lease");
    assert_eq!(bench.step(Input::Leased(None)), "");
    assert_eq!(bench.timer(), Some(500));
    assert_eq!(bench.after(500, Input::Timer), "lease");
    assert_eq!(bench.step(Input::Leased(Some(2))), "taken 2, fetch");
}

#[test]
fn a_lease_is_renewed_while_it_is_idle_and_while_publishes_take_long() {
    let mut bench = Bench::leading();
    for _ in 0..9 {
        assert_eq!(bench.step(rows(&[])), "");
        assert_eq!(bench.after(500, Input::Timer), "fetch");
    }
    assert_eq!(bench.step(rows(&[])), "");
    assert_eq!(bench.after(500, Input::Timer), "lease", "half of it is over");
    assert_eq!(bench.step(Input::Leased(Some(7))), "fetch");
    assert_eq!(bench.step(rows(&[(1, "")])), "publish 1");
    assert_eq!(bench.timer(), Some(1_000), "the end of the batch");
    assert_eq!(bench.after(3_334, Input::Timer), "lease");
    assert_eq!(bench.step(Input::Leased(Some(7))), "");
    assert_eq!(bench.after(3_334, Input::Timer), "lease");
}

#[test]
fn a_holder_that_was_paused_begins_nothing_until_it_has_the_lease_again() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a")])), "publish 1");
    assert_eq!(bench.after(8_000, confirmed(1)), "settle 7 [1] []");
    assert_eq!(bench.step(Input::Settled(false)), "lost, lease");
    assert_eq!(bench.step(Input::Leased(None)), "");

    let mut bench = Bench::leading();
    bench.now += Duration::from_secs(11);
    assert_eq!(bench.step(rows(&[(1, "")])), "lease", "it was paused before it began");
    assert_eq!(bench.step(Input::Leased(Some(9))), "lost, taken 9, fetch", "another one had it in between");
    assert_eq!(bench.step(rows(&[(1, "")])), "publish 1");

    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "")])), "publish 1");
    assert_eq!(bench.after(11_000, Input::Timer), "lease");
    assert_eq!(bench.step(Input::Leased(None)), "lost");
    assert_eq!(bench.step(confirmed(1)), "", "another one deletes it");
    assert_eq!(bench.after(500, Input::Timer), "lease");
}

#[test]
fn a_lane_with_many_rows_does_not_keep_the_others_waiting() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a"), (3, "a")])), "publish 1");
    assert_eq!(bench.after(600, confirmed(1)), "publish 2");
    assert_eq!(bench.after(400, confirmed(2)), "settle 7 [1, 2] []");
}

#[test]
fn what_is_refused_is_parked_and_told() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a"), (3, "")])), "publish 1, publish 3");
    assert_eq!(bench.step(Input::Published(1, Verdict::Refused("unroutable".into()), None)), "");
    let nacked = Input::Published(3, Verdict::NotNow("nacked".into()), None);
    assert_eq!(bench.step(nacked), "settle 7 [] [1, 3]");
    assert_eq!(bench.step(Input::Settled(true)), "parked m1, fetch");
}

#[test]
fn an_outage_of_the_broker_is_waited_out() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, ""), (2, "")])), "publish 1, publish 2");
    assert_eq!(bench.step(Input::Published(1, Verdict::Unavailable, Some(failed()))), "broker 100");
    assert_eq!(bench.step(Input::Published(2, Verdict::Unavailable, Some(failed()))), "");
    assert_eq!(bench.timer(), Some(100));
    assert_eq!(bench.after(100, Input::Timer), "fetch");
    assert_eq!(bench.step(Input::BrokerFailed(failed())), "broker 200");
    assert_eq!(bench.after(200, Input::Timer), "fetch");
    assert_eq!(bench.step(rows(&[(1, "")])), "publish 1");
    assert_eq!(bench.step(confirmed(1)), "settle 7 [1] []");
}

#[test]
fn a_database_that_fails_is_asked_again_and_what_was_confirmed_is_kept() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(Input::DatabaseFailed(failed())), "database 100");
    assert_eq!(bench.timer(), Some(100));
    assert_eq!(bench.after(100, Input::Timer), "fetch");
    assert_eq!(bench.step(rows(&[(1, "")])), "publish 1");
    assert_eq!(bench.step(confirmed(1)), "settle 7 [1] []");
    for pause in [100, 200, 400, 800, 1_600, 3_200] {
        assert_eq!(bench.step(Input::DatabaseFailed(failed())), format!("database {pause}"));
        assert_eq!(bench.after(pause, Input::Timer), "settle 7 [1] []");
    }
    assert_eq!(bench.step(Input::Settled(true)), "fetch");
    for _ in 0..8 {
        let _ = bench.step(Input::DatabaseFailed(failed()));
        bench.now += Duration::from_secs(10);
        let _ = bench.step(Input::Timer);
    }
    assert_eq!(bench.step(Input::DatabaseFailed(failed())), "database 10000");
}

#[test]
fn a_drain_awaits_what_is_under_way() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a"), (3, "")])), "publish 1, publish 3");
    assert_eq!(bench.drain(1_500, 2_000), "");
    assert_eq!(bench.timer(), Some(1_000), "the end of the batch");
    assert_eq!(bench.step(confirmed(1)), "");
    assert_eq!(bench.step(confirmed(3)), "settle 7 [1, 3] []");
    assert_eq!(bench.step(Input::Settled(true)), "release 7");
    assert_eq!(bench.step(Input::Released), "ended false, finish");
    assert_eq!(bench.report(), (2, 0, 0));
    assert_eq!(bench.step(Input::Woken), "");
}

#[test]
fn a_drain_ends_in_time() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, "a"), (2, "a"), (3, "")])), "publish 1, publish 3");
    assert_eq!(bench.drain(1_500, 2_000), "");
    assert_eq!(bench.step(confirmed(3)), "");
    assert_eq!(bench.after(1_500, Input::Timer), "settle 7 [3] []");
    assert_eq!(bench.timer(), Some(500));
    assert_eq!(bench.after(500, Input::Timer), "ended false, finish", "the database does not answer");
    assert_eq!(bench.report(), (1, 1, 1));

    let mut idle = Bench::leading();
    assert_eq!(idle.step(rows(&[])), "");
    assert_eq!(idle.drain(0, 0), "ended false, finish", "no time is left");
    let mut standby = Bench::new();
    assert_eq!(standby.step(Input::Started), "lease");
    assert_eq!(standby.step(Input::Leased(None)), "");
    assert_eq!(standby.drain(1_500, 2_000), "ended false, finish");
}

#[test]
fn the_end_of_the_connection_ends_the_relay_and_is_told() {
    let mut bench = Bench::leading();
    assert_eq!(bench.step(rows(&[(1, ""), (2, "")])), "publish 1, publish 2");
    assert_eq!(bench.step(confirmed(1)), "");
    let closed = Input::Published(2, Verdict::Unavailable, Some(failed()));
    assert_eq!(bench.step(closed), "broker 100, settle 7 [1] []");
    assert_eq!(bench.step(Input::Settled(true)), "");
    assert_eq!(bench.after(100, Input::Timer), "fetch");
    assert_eq!(bench.step(Input::ConnectionClosed(failed())), "release 7");
    assert_eq!(bench.step(Input::Released), "ended true, finish");
}
