//! [`Roster`]: which consumer of a queue is next.

use std::collections::VecDeque;

/// Who of the consumers gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turns {
    /// All, in turn, the higher priorities first.
    All,
    /// One, until it leaves.
    SingleActive(Succession),
}

/// Who becomes the single active consumer when there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// The one that has waited longest.
    Oldest,
    /// The one of the highest priority: of these, the one that has waited longest.
    HighestPriority,
    /// The same, and one of a higher priority replaces the active one as soon as that has settled everything.
    TakesOver,
}

/// The consumers of a queue.
#[derive(Debug)]
pub(crate) struct Roster<C> {
    turns: Turns,
    /// In the order of their subscription.
    consumers: Vec<Consumer<C>>,
    /// Those in the round, the next one first: by priority, and in turn within one.
    ready: VecDeque<Turn<C>>,
    /// How many of them are full.
    full: usize,
    /// A full consumer stays in the round until its turn comes. Otherwise it leaves it at once.
    leaves_at_turn: bool,
    /// Those that have left the round because they are full, in that order.
    aside: Vec<C>,
    active: Option<C>,
    /// The active one gets no more, until it has settled everything: when it is that far, the best one becomes active.
    makes_way: bool,
}

/// A consumer in the round.
#[derive(Clone, Copy, Debug)]
struct Turn<C> {
    key: C,
    priority: i64,
    full: bool,
}

#[derive(Debug)]
struct Consumer<C> {
    key: C,
    priority: i64,
    blocked: bool,
    /// It holds unsettled messages.
    busy: bool,
}

impl<C: Copy + Eq> Roster<C> {
    /// Creates a roster; `leaves_at_turn` tells when a full consumer leaves the round: at its turn, or at once.
    pub(crate) fn new(turns: Turns, leaves_at_turn: bool) -> Self {
        let (consumers, ready, aside) = (Vec::new(), VecDeque::new(), Vec::new());
        Self { turns, consumers, ready, full: 0, leaves_at_turn, aside, active: None, makes_way: false }
    }

    /// Adds a consumer, which is ready at once, as the last one of its priority.
    pub(crate) fn add(&mut self, consumer: C, priority: i64) {
        self.consumers.push(Consumer { key: consumer, priority, blocked: false, busy: false });
        self.join(consumer, priority);
        self.choose_active();
    }

    /// Removes a consumer, and returns whether it was there.
    pub(crate) fn remove(&mut self, consumer: C) -> bool {
        let before = self.consumers.len();
        self.remove_all(|known| known == consumer);
        self.consumers.len() < before
    }

    /// Removes the consumers that are gone, in one pass: there may be many.
    pub(crate) fn remove_all(&mut self, is_gone: impl Fn(C) -> bool) {
        self.consumers.retain(|known| !is_gone(known.key));
        self.leave(&is_gone);
        if self.active.is_some_and(is_gone) {
            self.active = None;
            self.makes_way = false;
        }
        self.choose_active();
    }

    /// Returns the consumer that gets the next message. It goes behind the others of its priority.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<C> {
        if self.turns != Turns::All {
            return self.active.filter(|active| self.serves(*active));
        }
        let mut turn = *self.ready.front()?;
        while turn.full {
            self.ready.pop_front();
            self.full -= 1;
            self.aside.push(turn.key);
            turn = *self.ready.front()?;
        }
        if self.ready.len() > 1 {
            self.ready.pop_front();
            self.join(turn.key, turn.priority);
        }
        Some(turn.key)
    }

    /// Returns whether a consumer could get a message.
    #[inline]
    pub(crate) fn peek(&self) -> bool {
        match self.turns {
            Turns::All => self.ready.len() > self.full,
            Turns::SingleActive(_) => self.active.is_some_and(|active| self.serves(active)),
        }
    }

    /// Takes full consumers out of the round: there is a message, and none of the others takes it.
    #[inline]
    pub(crate) fn set_aside(&mut self) {
        if self.full > 0 {
            self.aside.extend(self.ready.iter().filter(|turn| turn.full).map(|turn| turn.key));
            self.ready.retain(|turn| !turn.full);
            self.full = 0;
        }
    }

    /// Returns when a consumer has left the round, as a number that rises.
    pub(crate) fn set_aside_at(&self, consumer: C) -> Option<usize> {
        self.aside.iter().position(|aside| *aside == consumer)
    }

    /// Takes a consumer that has reached its limit out of the round.
    pub(crate) fn block(&mut self, consumer: C) {
        let Some(known) = self.find(consumer) else { return };
        known.blocked = true;
        if !self.leaves_at_turn {
            return self.leave(|known| known == consumer);
        }
        if let Some(turn) = self.ready.iter_mut().find(|turn| turn.key == consumer && !turn.full) {
            turn.full = true;
            self.full += 1;
        }
    }

    /// Lets a blocked consumer join again, behind the others of its priority, unless it is still in the round.
    pub(crate) fn unblock(&mut self, consumer: C) {
        if let Some(known) = self.find(consumer)
            && known.blocked
        {
            known.blocked = false;
            let priority = known.priority;
            if let Some(turn) = self.ready.iter_mut().find(|turn| turn.key == consumer) {
                turn.full = false;
                self.full -= 1;
                return;
            }
            self.aside.retain(|aside| *aside != consumer);
            self.join(consumer, priority);
        }
    }

    /// Notes whether a consumer holds unsettled messages.
    pub(crate) fn set_busy(&mut self, consumer: C, busy: bool) {
        if self.turns != Turns::SingleActive(Succession::TakesOver) {
            return;
        }
        if let Some(known) = self.find(consumer) {
            known.busy = busy;
            self.choose_active();
        }
    }

    /// Returns the single active consumer.
    pub(crate) fn active(&self) -> Option<C> {
        self.active
    }

    pub(crate) fn len(&self) -> usize {
        self.consumers.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// Returns the consumers in the order of their subscription.
    pub(crate) fn iter(&self) -> impl Iterator<Item = C> {
        self.consumers.iter().map(|consumer| consumer.key)
    }

    fn find(&mut self, consumer: C) -> Option<&mut Consumer<C>> {
        self.consumers.iter_mut().find(|known| known.key == consumer)
    }

    fn join(&mut self, consumer: C, priority: i64) {
        if self.turns == Turns::All {
            let at = self.ready.partition_point(|other| other.priority >= priority);
            self.ready.insert(at, Turn { key: consumer, priority, full: false });
        }
    }

    fn leave(&mut self, leaves: impl Fn(C) -> bool) {
        self.ready.retain(|turn| !leaves(turn.key));
        self.full = self.ready.iter().filter(|turn| turn.full).count();
        self.aside.retain(|aside| !leaves(*aside));
    }

    /// The consumer that is active if the present one may be replaced.
    fn best(&self) -> Option<&Consumer<C>> {
        match self.turns {
            Turns::All => None,
            Turns::SingleActive(Succession::Oldest) => self.consumers.first(),
            Turns::SingleActive(Succession::HighestPriority | Succession::TakesOver) => {
                let highest = self.consumers.iter().map(|consumer| consumer.priority).max()?;
                let present = self.consumers.iter().find(|consumer| Some(consumer.key) == self.active);
                present
                    .filter(|present| present.priority == highest)
                    .or_else(|| self.consumers.iter().find(|consumer| consumer.priority == highest))
            }
        }
    }

    fn choose_active(&mut self) {
        if self.turns == Turns::All {
            return;
        }
        let busy = self.consumers.iter().any(|consumer| Some(consumer.key) == self.active && consumer.busy);
        let fixed = self.active.is_some() && !self.takes_over();
        if !busy && !fixed {
            self.active = self.best().map(|best| best.key);
            self.makes_way = false;
        } else if self.takes_over() {
            // For good, also if the other one leaves before.
            self.makes_way |= self.best().map(|best| best.key) != self.active;
        }
    }

    /// Whether the active consumer gets messages: it is not blocked, and does not make way for another one.
    fn serves(&self, active: C) -> bool {
        self.consumers.iter().any(|consumer| consumer.key == active && !consumer.blocked) && !self.makes_way
    }

    fn takes_over(&self) -> bool {
        self.turns == Turns::SingleActive(Succession::TakesOver)
    }
}
