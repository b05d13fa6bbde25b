//! The calls of a client that await their replies: which call a reply belongs to, and which calls a lost connection has
//! cut off.
//!
//! A plain machine. A direct reply belongs to the channel epoch in which its request was written: the broker drops it
//! when that has ended. Epochs are compared, and nothing is concluded from the order in which events arrive: a call that
//! was sent after a reconnect may be known before the reconnect is.

use std::collections::HashMap;

/// The calls that await a reply, by number. `S` is where the outcome of a call goes.
#[derive(Debug)]
pub(crate) struct Calls<S> {
    replies: ReplyLifetime,
    last: u64,
    /// The first channel epoch that has not ended.
    live: u32,
    waiting: HashMap<u64, Call<S>>,
    late: u64,
    is_closed: bool,
}

/// How long a reply can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyLifetime {
    /// While the channel epoch of the request has not ended.
    Epoch,
    /// Over reconnects.
    Queue,
}

#[derive(Debug)]
struct Call<S> {
    to: S,
    stage: Stage,
    repeats: bool,
}

#[derive(Debug)]
enum Stage {
    /// The request is not confirmed.
    Sending,
    /// The request was confirmed in this channel epoch.
    Sent { epoch: u32 },
}

/// What becomes of a call whose reply does not come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It fails.
    Lost,
    /// Its request is sent again.
    Repeat,
}

/// What a reply is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Match<S> {
    /// The reply of this call.
    Call(S),
    /// That of a call which has ended, or a second one.
    Late,
    /// That of no call of this client.
    Unknown,
}

impl<S> Calls<S> {
    pub(crate) fn new(replies: ReplyLifetime) -> Self {
        Self { replies, last: 0, live: 0, waiting: HashMap::new(), late: 0, is_closed: false }
    }

    /// Adds a call and returns its number; `None` if the client is closed. A call that `repeats` is sent again when its
    /// reply is lost.
    pub(crate) fn open(&mut self, repeats: bool, to: S) -> Option<u64> {
        if self.is_closed {
            return None;
        }
        self.last += 1;
        self.waiting.insert(self.last, Call { to, stage: Stage::Sending, repeats });
        Some(self.last)
    }

    /// Adds a call again that is sent again. Returns whether the client is still open.
    pub(crate) fn reopen(&mut self, number: u64, to: S) -> bool {
        if !self.is_closed {
            self.waiting.insert(number, Call { to, stage: Stage::Sending, repeats: true });
        }
        !self.is_closed
    }

    /// The request of a call was confirmed in this channel epoch. Returns where to report that this has ended already.
    pub(crate) fn sent(&mut self, number: u64, epoch: u32) -> Option<(S, Fate)> {
        let call = self.waiting.get_mut(&number)?;
        call.stage = Stage::Sent { epoch };
        if self.replies == ReplyLifetime::Queue || epoch >= self.live {
            return None;
        }
        self.waiting.remove(&number).map(Call::end)
    }

    /// All channel epochs before `live` have ended. Returns the calls whose replies do not come any more.
    pub(crate) fn live(&mut self, live: u32) -> Vec<(S, Fate)> {
        if live <= self.live {
            return Vec::new();
        }
        self.live = live;
        if self.replies == ReplyLifetime::Queue {
            return Vec::new();
        }
        let has_ended = |call: &Call<S>| matches!(call.stage, Stage::Sent { epoch } if epoch < live);
        self.waiting.extract_if(|_, call| has_ended(call)).map(|(_, call)| call.end()).collect()
    }

    /// A reply has come.
    pub(crate) fn reply(&mut self, number: u64) -> Match<S> {
        match self.waiting.remove(&number) {
            Some(call) => Match::Call(call.to),
            None if (1..=self.last).contains(&number) => {
                self.late += 1;
                Match::Late
            }
            None => Match::Unknown,
        }
    }

    /// Nobody waits for the call any more.
    pub(crate) fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// Ends all calls, and takes no more.
    pub(crate) fn close(&mut self) -> Vec<S> {
        self.is_closed = true;
        self.waiting.drain().map(|(_, call)| call.to).collect()
    }

    /// Returns how many calls await their reply.
    pub(crate) fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many replies came too late.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }
}

impl<S> Call<S> {
    fn end(self) -> (S, Fate) {
        (self.to, if self.repeats { Fate::Repeat } else { Fate::Lost })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a call, whose request is confirmed in an epoch.
    fn sent(calls: &mut Calls<&'static str>, name: &'static str, repeats: bool, epoch: u32) -> u64 {
        let number = calls.open(repeats, name).unwrap();
        assert_eq!(calls.sent(number, epoch), None);
        number
    }

    #[test]
    fn a_reply_goes_to_its_call_once() {
        let mut calls = Calls::new(ReplyLifetime::Epoch);
        let (a, b) = (sent(&mut calls, "a", false, 1), calls.open(false, "b").unwrap());
        assert_eq!((a, b, calls.pending()), (1, 2, 2));
        assert_eq!(calls.reply(b), Match::Call("b"), "before the confirm of its request");
        assert_eq!(calls.reply(b), Match::Late);
        assert_eq!(calls.sent(b, 1), None);
        assert_eq!(calls.reply(a), Match::Call("a"));
        assert_eq!((calls.reply(0), calls.reply(3)), (Match::Unknown, Match::Unknown));
        assert_eq!((calls.pending(), calls.late()), (0, 1));
    }

    #[test]
    fn the_reply_of_a_call_that_was_given_up_is_late() {
        let mut calls = Calls::new(ReplyLifetime::Epoch);
        let a = sent(&mut calls, "a", false, 1);
        calls.forget(a);
        assert_eq!((calls.pending(), calls.reply(a), calls.late()), (0, Match::Late, 1));
    }

    #[test]
    fn the_end_of_an_epoch_ends_its_calls_and_no_others() {
        let mut calls = Calls::new(ReplyLifetime::Epoch);
        assert_eq!(calls.live(1), []);
        sent(&mut calls, "lost", false, 1);
        let repeated = sent(&mut calls, "repeated", true, 1);
        let unwritten = calls.open(false, "unwritten").unwrap();
        let new = sent(&mut calls, "new", false, 2);
        let mut ended = calls.live(2);
        ended.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(ended, [("lost", Fate::Lost), ("repeated", Fate::Repeat)]);
        assert_eq!(calls.live(2), [], "the news comes twice");
        assert_eq!(calls.live(1), [], "old news comes late");
        // One is sent again under its number, in the new epoch, as is the one that was not written.
        assert!(calls.reopen(repeated, "again"));
        assert_eq!((calls.sent(repeated, 2), calls.sent(unwritten, 2)), (None, None));
        assert_eq!(calls.reply(repeated), Match::Call("again"));
        assert_eq!(
            (calls.reply(unwritten), calls.reply(new)),
            (Match::Call("unwritten"), Match::Call("new"))
        );
    }

    #[test]
    fn a_confirm_that_is_seen_after_its_epoch_has_ended_ends_the_call() {
        let mut calls = Calls::new(ReplyLifetime::Epoch);
        let (a, b) = (calls.open(false, "a").unwrap(), calls.open(true, "b").unwrap());
        assert_eq!(calls.live(3), []);
        assert_eq!(calls.sent(a, 2), Some(("a", Fate::Lost)));
        assert_eq!(calls.sent(b, 0), Some(("b", Fate::Repeat)), "its epoch is not known any more");
        assert_eq!(calls.pending(), 0);
    }

    #[test]
    fn a_reply_queue_outlives_epochs() {
        let mut calls = Calls::new(ReplyLifetime::Queue);
        let a = sent(&mut calls, "a", false, 1);
        assert_eq!(calls.live(2), []);
        let b = sent(&mut calls, "b", false, 1);
        assert_eq!((calls.reply(a), calls.reply(b)), (Match::Call("a"), Match::Call("b")));
    }

    #[test]
    fn a_client_that_is_closed_ends_its_calls_and_takes_none() {
        let mut calls = Calls::new(ReplyLifetime::Epoch);
        let a = sent(&mut calls, "a", false, 1);
        assert_eq!(calls.close(), ["a"]);
        assert_eq!(calls.close(), [""; 0]);
        assert_eq!((calls.open(false, "b"), calls.reopen(a, "a")), (None, false));
        assert_eq!((calls.live(2), calls.reply(a)), (vec![], Match::Late));
    }
}
