//! What the supervisor of one thread does when its worker ends. A plain machine.

use std::time::Duration;

use actix_pika_actors::facade::WorkerBackoff;
use tokio::time::Instant;

use super::running_actor::WorkerEnd;

/// What the supervisor of a thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The factory is called.
    Building,
    Running,
    /// It waits before it calls the factory again.
    Resting,
    /// The consumers are cancelled, and what they have begun is awaited.
    Draining(Worker),
    /// The consumers have ended, the worker not yet.
    Stopping,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Runs,
    IsGone,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Built,
    FactoryPanicked,
    WorkerEnded(WorkerEnd),
    Rested,
    /// The application drains the worker, or all consumers have ended.
    Drain,
    /// The consumers have ended, and nothing that they delivered is unsettled.
    Drained,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    Build,
    /// Has tasks wait for the next worker.
    Close,
    Rest(Duration),
    /// Tells the watchers that a worker has started.
    TellStarted,
    /// Tells them that a worker has ended.
    TellEnded {
        panicked: bool,
        next_in: Option<Duration>,
    },
    TellFactoryPanicked,
    DrainConsumers,
    /// Tells the consumers that there will be no worker.
    GiveBack,
    StopWorker,
    Finish,
}

#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    backoff: WorkerBackoff,
}

impl Machine {
    /// Creates the machine of a thread whose first worker is being built.
    pub(super) fn new(now: Instant) -> Self {
        Self { state: State::Building, backoff: WorkerBackoff::new(now) }
    }

    /// Returns what to do, in order. `random` is between 0 and 1.
    #[must_use]
    pub(super) fn step(&mut self, input: Input, now: Instant, random: f64) -> Vec<Output> {
        let (next, outputs) = match (self.state, input) {
            (State::Building, Input::Built) => {
                self.backoff.worker_built(now);
                (State::Running, vec![Output::TellStarted])
            }
            (State::Building, Input::FactoryPanicked) => {
                let outputs = vec![Output::TellFactoryPanicked, Output::DrainConsumers, Output::GiveBack];
                (State::Draining(Worker::IsGone), outputs)
            }
            (State::Running, Input::WorkerEnded(end)) => {
                let wait = self.backoff.worker_stopped(now, random);
                (State::Resting, vec![Output::Close, ended(end, Some(wait)), Output::Rest(wait)])
            }
            (State::Running, Input::Drain) => (State::Draining(Worker::Runs), vec![Output::DrainConsumers]),
            (State::Resting, Input::Rested) => (State::Building, vec![Output::Build]),
            (State::Resting, Input::Drain) => {
                (State::Draining(Worker::IsGone), vec![Output::DrainConsumers, Output::GiveBack])
            }
            (State::Draining(Worker::Runs), Input::WorkerEnded(end)) => {
                (State::Draining(Worker::IsGone), vec![Output::Close, ended(end, None), Output::GiveBack])
            }
            (State::Draining(Worker::Runs), Input::Drained) => (State::Stopping, vec![Output::StopWorker]),
            (State::Draining(Worker::IsGone), Input::Drained) => (State::Ended, vec![Output::Finish]),
            (State::Stopping, Input::WorkerEnded(end)) => {
                (State::Ended, vec![Output::Close, ended(end, None), Output::Finish])
            }
            // A second drain, or what comes too late.
            (state, _) => (state, Vec::new()),
        };
        self.state = next;
        outputs
    }
}

fn ended(end: WorkerEnd, next_in: Option<Duration>) -> Output {
    Output::TellEnded { panicked: end == WorkerEnd::Panicked, next_in }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(100);

    struct Bench(Machine, Instant);

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self(Machine::new(now), now)
        }

        fn running() -> Self {
            let mut bench = Self::new();
            let _ = bench.step(Input::Built);
            bench
        }

        fn step(&mut self, input: Input) -> Vec<Output> {
            self.0.step(input, self.1, 0.0)
        }
    }

    #[test]
    fn a_worker_that_ends_is_built_again_after_a_rest() {
        let mut bench = Bench::new();
        let started = [Output::TellStarted];
        assert_eq!(bench.step(Input::Built), started);
        for (end, wait) in [(WorkerEnd::Panicked, FIRST), (WorkerEnd::Stopped, FIRST * 2)] {
            let expected = [Output::Close, ended(end, Some(wait)), Output::Rest(wait)];
            assert_eq!(bench.step(Input::WorkerEnded(end)), expected);
            assert_eq!(bench.step(Input::Rested), [Output::Build]);
            assert_eq!(bench.step(Input::Built), started);
        }
    }

    #[test]
    fn rests_are_short_again_after_a_worker_that_ran_long() {
        let mut bench = Bench::running();
        for _ in 0..7 {
            let _ = bench.step(Input::WorkerEnded(WorkerEnd::Panicked));
            let _ = bench.step(Input::Rested);
            let _ = bench.step(Input::Built);
        }
        bench.1 += Duration::from_secs(29);
        let outputs = bench.step(Input::WorkerEnded(WorkerEnd::Panicked));
        assert_eq!(outputs.last(), Some(&Output::Rest(Duration::from_secs(10))));
        let _ = (bench.step(Input::Rested), bench.step(Input::Built));
        bench.1 += Duration::from_secs(30);
        let outputs = bench.step(Input::WorkerEnded(WorkerEnd::Panicked));
        assert_eq!(outputs.last(), Some(&Output::Rest(FIRST)));
    }

    #[test]
    fn a_factory_that_panics_ends_the_worker() {
        let mut bench = Bench::running();
        let _ = bench.step(Input::WorkerEnded(WorkerEnd::Stopped));
        let _ = bench.step(Input::Rested);
        let expected = [Output::TellFactoryPanicked, Output::DrainConsumers, Output::GiveBack];
        assert_eq!(bench.step(Input::FactoryPanicked), expected);
        assert_eq!(bench.step(Input::Drain), []);
        assert_eq!(bench.step(Input::Drained), [Output::Finish]);
    }

    #[test]
    fn a_drain_awaits_the_consumers_and_then_stops_the_worker() {
        let mut bench = Bench::running();
        assert_eq!(bench.step(Input::Drain), [Output::DrainConsumers]);
        assert_eq!(bench.step(Input::Drain), [], "the second one");
        assert_eq!(bench.step(Input::Drained), [Output::StopWorker]);
        let expected = [Output::Close, ended(WorkerEnd::Stopped, None), Output::Finish];
        assert_eq!(bench.step(Input::WorkerEnded(WorkerEnd::Stopped)), expected);
        assert_eq!(bench.step(Input::Rested), []);
    }

    #[test]
    fn a_drain_without_a_worker_gives_back_what_waits() {
        let mut bench = Bench::running();
        let _ = bench.step(Input::WorkerEnded(WorkerEnd::Panicked));
        assert_eq!(bench.step(Input::Drain), [Output::DrainConsumers, Output::GiveBack]);
        assert_eq!(bench.step(Input::Rested), [], "no worker is built any more");
        assert_eq!(bench.step(Input::Drained), [Output::Finish]);
    }

    #[test]
    fn a_worker_that_ends_while_it_drains_is_not_built_again() {
        let mut bench = Bench::running();
        let _ = bench.step(Input::Drain);
        let expected = [Output::Close, ended(WorkerEnd::Panicked, None), Output::GiveBack];
        assert_eq!(bench.step(Input::WorkerEnded(WorkerEnd::Panicked)), expected);
        assert_eq!(bench.step(Input::Drained), [Output::Finish]);
    }
}
