//! What a server remembers of requests, so that a copy of one is answered without a second run.
//!
//! A plain machine. A request is delivered again when its connection was lost before its ack arrived, and an idempotent
//! one is sent again by its client. Requests are told apart by correlation id and body; by their reply address as well,
//! unless they are idempotent ones of this library, whose ids are unique.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

/// The most replies that are remembered.
const MOST: usize = 1024;
/// The most bytes of replies that are remembered.
const MOST_BYTES: usize = 4 << 20;

/// What identifies a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RequestId {
    correlation_id: Box<[u8]>,
    body: u64,
}

/// The requests that run or have run. `R` is a reply, and `W` is where a copy of a request awaits it.
#[derive(Debug)]
pub(super) struct Outcomes<R, W> {
    entries: HashMap<RequestId, Entry<R, W>>,
    /// Those that have run, oldest first, with their runs.
    done: VecDeque<(RequestId, u64)>,
    runs: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<R, W> {
    reply_to: Option<Box<str>>,
    run: u64,
    state: State<R, W>,
}

#[derive(Debug)]
enum State<R, W> {
    Running { copies: Vec<W> },
    Done { reply: R, bytes: usize },
}

/// What to do with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begin<R> {
    /// Run it, and report the end of this run.
    Run(u64),
    /// It has run: send this reply.
    Known(R),
    /// It runs: its reply will be reported.
    Wait,
}

/// How a request came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    pub(super) redelivered: bool,
    pub(super) idempotent: bool,
}

impl RequestId {
    pub(super) fn new(correlation_id: &[u8], body: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self { correlation_id: correlation_id.into(), body: hasher.finish() }
    }
}

impl<R: Clone, W> Outcomes<R, W> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), done: VecDeque::new(), runs: 0, bytes: 0 }
    }

    /// A request has come. `copy` is where it awaits its reply if it runs already.
    pub(super) fn begin(
        &mut self,
        id: &RequestId,
        reply_to: Option<&str>,
        arrival: Arrival,
        copy: W,
    ) -> Begin<R> {
        let known = self.entries.get_mut(id).filter(|entry| {
            arrival.idempotent || (arrival.redelivered && entry.reply_to.as_deref() == reply_to)
        });
        match known.map(|entry| &mut entry.state) {
            Some(State::Done { reply, .. }) => return Begin::Known(reply.clone()),
            Some(State::Running { copies }) => {
                copies.push(copy);
                return Begin::Wait;
            }
            None => {}
        }
        self.runs += 1;
        let (run, state) = (self.runs, State::Running { copies: Vec::new() });
        let entry = Entry { reply_to: reply_to.map(Box::from), run, state };
        let old = self.entries.insert(id.clone(), entry);
        self.forgotten(old);
        Begin::Run(run)
    }

    /// A request has run. Returns where its copies await the reply.
    pub(super) fn end(&mut self, id: &RequestId, run: u64, reply: R, bytes: usize) -> Vec<W> {
        let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.run == run) else {
            return Vec::new();
        };
        let copies = match std::mem::replace(&mut entry.state, State::Done { reply, bytes }) {
            State::Running { copies } => copies,
            State::Done { .. } => Vec::new(),
        };
        if bytes > MOST_BYTES {
            // It would displace all others, and itself.
            self.entries.remove(id);
            return copies;
        }
        self.bytes += bytes;
        self.done.push_back((id.clone(), run));
        while self.done.len() > MOST || self.bytes > MOST_BYTES {
            let Some((oldest, run)) = self.done.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.run == run) {
                let old = self.entries.remove(&oldest);
                self.forgotten(old);
            }
        }
        copies
    }

    /// A run is over, perhaps without its end: its copies run then, one after the other.
    pub(super) fn abandon(&mut self, id: &RequestId, run: u64) {
        let runs = |entry: &Entry<R, W>| entry.run == run && matches!(entry.state, State::Running { .. });
        if self.entries.get(id).is_some_and(runs) {
            self.entries.remove(id);
        }
    }

    fn forgotten(&mut self, old: Option<Entry<R, W>>) {
        if let Some(State::Done { bytes, .. }) = old.map(|entry| entry.state) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Arrival = Arrival { redelivered: false, idempotent: false };
    const AGAIN: Arrival = Arrival { redelivered: true, idempotent: false };
    const REPEAT: Arrival = Arrival { redelivered: false, idempotent: true };

    fn id(id: &str, body: &str) -> RequestId {
        RequestId::new(id.as_bytes(), body.as_bytes())
    }

    fn outcomes() -> Outcomes<&'static str, u32> {
        Outcomes::new()
    }

    #[test]
    fn a_copy_gets_the_reply_without_a_run() {
        let (mut outcomes, one) = (outcomes(), id("1", "x"));
        let Begin::Run(run) = outcomes.begin(&one, Some("a"), FIRST, 0) else { panic!() };
        assert_eq!(outcomes.begin(&one, Some("a"), AGAIN, 7), Begin::Wait);
        assert_eq!(outcomes.end(&one, run, "r", 1), [7]);
        assert_eq!(outcomes.begin(&one, Some("a"), AGAIN, 8), Begin::Known("r"));
        outcomes.abandon(&one, run);
        assert_eq!(outcomes.begin(&one, None, REPEAT, 8), Begin::Known("r"), "to another address");
    }

    #[test]
    fn equal_ids_of_careless_clients_are_not_confused() {
        let (mut outcomes, one) = (outcomes(), id("1", "x"));
        let Begin::Run(run) = outcomes.begin(&one, Some("a"), FIRST, 0) else { panic!() };
        outcomes.end(&one, run, "r", 1);
        assert_eq!(outcomes.begin(&id("1", "y"), Some("a"), AGAIN, 0), Begin::Run(2), "another body");
        assert_eq!(outcomes.begin(&one, Some("b"), AGAIN, 0), Begin::Run(3), "another client");
        assert_eq!(outcomes.begin(&one, Some("b"), FIRST, 0), Begin::Run(4), "not delivered again");
        // The end of a run that was replaced is not remembered.
        assert_eq!(outcomes.end(&one, 3, "late", 1), [0; 0]);
        assert_eq!(outcomes.begin(&one, Some("b"), AGAIN, 5), Begin::Wait);
        assert_eq!(outcomes.end(&one, 4, "s", 1), [5]);
        assert_eq!(outcomes.bytes, 1);
    }

    #[test]
    fn a_run_that_is_abandoned_is_run_again_by_its_copy() {
        let (mut outcomes, one) = (outcomes(), id("1", "x"));
        let Begin::Run(run) = outcomes.begin(&one, Some("a"), FIRST, 0) else { panic!() };
        assert_eq!(outcomes.begin(&one, Some("a"), AGAIN, 1), Begin::Wait);
        outcomes.abandon(&one, run);
        assert_eq!(outcomes.begin(&one, Some("a"), AGAIN, 1), Begin::Run(2));
        outcomes.abandon(&one, run);
        assert_eq!(outcomes.begin(&one, Some("a"), AGAIN, 1), Begin::Wait, "the second run goes on");
    }

    #[test]
    fn the_replies_that_are_remembered_are_bounded() {
        let mut outcomes = outcomes();
        let mut run_all = |bytes: usize, n: usize| {
            for number in 0..n {
                let id = id(&number.to_string(), "x");
                let Begin::Run(run) = outcomes.begin(&id, None, FIRST, 0) else { panic!() };
                outcomes.end(&id, run, "r", bytes);
            }
            (outcomes.entries.len(), outcomes.done.len(), outcomes.bytes)
        };
        assert_eq!(run_all(1, 3000), (MOST, MOST, MOST));
        assert_eq!(run_all(MOST_BYTES / 4, 100), (4, 4, MOST_BYTES));
        assert_eq!(run_all(MOST_BYTES + 1, 1), (4, 4, MOST_BYTES), "one that is too large");
    }
}
