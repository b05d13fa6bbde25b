//! Which of the tasks that a runner holds starts next: permits, lanes, pauses before a retry.
//!
//! A plain machine: it takes the time as a value, and knows nothing of deliveries and handlers.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
};

use tokio::time::Instant;

/// The place of a task. It is used again after the task has left.
pub(crate) type Slot = usize;

/// The tasks that a runner holds, each with a payload.
#[derive(Debug)]
pub(crate) struct Schedule<P> {
    at_once: usize,
    /// How many tasks have a permit: those that run or pause.
    busy: usize,
    /// How many tasks have none.
    waiting: usize,
    slots: Vec<Option<Held<P>>>,
    free: Vec<Slot>,
    ready: VecDeque<Slot>,
    /// The tasks behind the first one of each lane. A lane is present while it has a first one.
    lanes: HashMap<u64, VecDeque<Slot>>,
    pauses: BinaryHeap<Reverse<(Instant, Slot)>>,
    arrivals: u64,
}

#[derive(Debug)]
struct Held<P> {
    payload: P,
    lane: Option<u64>,
    /// Counts up with each arrival.
    number: u64,
    state: State,
    /// Copies of this task, which start when it has ended.
    copies: Vec<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may start.
    Ready,
    /// It waits for the task before it in its lane, or for that of which it is a copy.
    Behind,
    /// It has a permit.
    Running,
    /// It has a permit, and goes on at this time.
    Paused(Instant),
}

impl<P> Schedule<P> {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            at_once: at_once.max(1),
            busy: 0,
            waiting: 0,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            lanes: HashMap::new(),
            pauses: BinaryHeap::new(),
            arrivals: 0,
        }
    }

    /// Returns whether one more task could start.
    pub(crate) fn has_permit(&self) -> bool {
        self.busy < self.at_once
    }

    /// Returns how many tasks have begun and not ended.
    pub(crate) fn busy(&self) -> usize {
        self.busy
    }

    /// Returns how many tasks have not begun.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&P> {
        self.slots.get(slot)?.as_ref().map(|held| &held.payload)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut P> {
        self.held(slot).map(|held| &mut held.payload)
    }

    /// Returns the tasks that have begun.
    pub(crate) fn begun(&self) -> impl Iterator<Item = (Slot, &P)> {
        let begun = |held: &Held<P>| matches!(held.state, State::Running | State::Paused(_));
        let held = self.slots.iter().enumerate().filter_map(|(slot, held)| Some((slot, held.as_ref()?)));
        held.filter(move |(_, held)| begun(held)).map(|(slot, held)| (slot, &held.payload))
    }

    /// Adds a task. It waits for those before it in its lane, and for that of which it is a copy.
    pub(crate) fn arrive(&mut self, payload: P, lane: Option<u64>, copy_of: Option<Slot>) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let number = self.arrivals;
        self.arrivals += 1;
        self.waiting += 1;
        let mut state = State::Ready;
        let of_other_lane = |held: &&mut Held<P>| lane.is_none() || held.lane != lane;
        match copy_of.and_then(|of| self.held(of)).filter(of_other_lane) {
            Some(original) => {
                original.copies.push(slot);
                state = State::Behind;
            }
            None => {
                if let Some(lane) = lane {
                    state = Self::enter(&mut self.lanes, lane, slot);
                }
            }
        }
        self.slots[slot] = Some(Held { payload, lane, number, state, copies: Vec::new() });
        if state == State::Ready {
            self.ready.push_back(slot);
        }
        slot
    }

    fn enter(lanes: &mut HashMap<u64, VecDeque<Slot>>, lane: u64, slot: Slot) -> State {
        match lanes.entry(lane) {
            Entry::Occupied(mut lane) => {
                lane.get_mut().push_back(slot);
                State::Behind
            }
            Entry::Vacant(lane) => {
                lane.insert(VecDeque::new());
                State::Ready
            }
        }
    }

    /// Gives the next task a permit.
    pub(crate) fn start(&mut self) -> Option<Slot> {
        if !self.has_permit() {
            return None;
        }
        let slot = self.ready.pop_front()?;
        self.set(slot, State::Running);
        self.busy += 1;
        self.waiting -= 1;
        Some(slot)
    }

    /// Lets a task that runs pause until a time. It keeps its permit and its place in its lane.
    pub(crate) fn pause(&mut self, slot: Slot, until: Instant) {
        if self.state(slot) == Some(State::Running) {
            self.set(slot, State::Paused(until));
            self.pauses.push(Reverse((until, slot)));
        }
    }

    /// Returns when the next pause ends.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        while let Some(&Reverse((until, slot))) = self.pauses.peek() {
            if self.state(slot) == Some(State::Paused(until)) {
                return Some(until);
            }
            self.pauses.pop();
        }
        None
    }

    /// Returns a task whose pause has ended. It runs again.
    pub(crate) fn resume(&mut self, now: Instant) -> Option<Slot> {
        let until = self.next_due().filter(|until| *until <= now)?;
        let Reverse((_, slot)) = self.pauses.pop()?;
        debug_assert_eq!(self.state(slot), Some(State::Paused(until)));
        self.set(slot, State::Running);
        Some(slot)
    }

    /// Takes the permit of a task that runs: it starts again, before all that arrived later. It keeps its lane.
    pub(crate) fn put_back(&mut self, slot: Slot) {
        if self.state(slot) != Some(State::Running) {
            return;
        }
        self.set(slot, State::Ready);
        self.busy -= 1;
        self.waiting += 1;
        let number = |slot: &Slot| self.slots[*slot].as_ref().map(|held| held.number);
        let mine = number(&slot);
        let before = self.ready.iter().position(|other| number(other) > mine).unwrap_or(self.ready.len());
        self.ready.insert(before, slot);
    }

    /// Removes a task that has begun. The next one of its lane, and its copies, may start.
    pub(crate) fn finish(&mut self, slot: Slot) -> Option<P> {
        if !matches!(self.state(slot), Some(State::Running | State::Paused(_))) {
            return None;
        }
        let held = self.slots[slot].take()?;
        self.free.push(slot);
        self.busy -= 1;
        if let Some(lane) = held.lane {
            self.leave_lane(lane);
        }
        for copy in held.copies.into_iter().rev() {
            let lane = self.held(copy).and_then(|held| held.lane);
            let state = lane.map_or(State::Ready, |lane| Self::enter(&mut self.lanes, lane, copy));
            self.set(copy, state);
            if state == State::Ready {
                self.ready.push_front(copy);
            }
        }
        Some(held.payload)
    }

    /// The first task of a lane has left. The next one goes behind all that are ready: no lane comes first.
    fn leave_lane(&mut self, lane: u64) {
        let Entry::Occupied(mut queue) = self.lanes.entry(lane) else { return };
        match queue.get_mut().pop_front() {
            None => {
                queue.remove();
            }
            Some(next) => {
                self.set(next, State::Ready);
                self.ready.push_back(next);
            }
        }
    }

    /// Removes the tasks that have not begun, in the order of their arrival.
    pub(crate) fn take_waiting(&mut self) -> Vec<P> {
        let taken = self.take(|state| matches!(state, State::Ready | State::Behind));
        self.ready.clear();
        self.waiting = 0;
        self.lanes.clear();
        for slot in 0..self.slots.len() {
            let Some(held) = &mut self.slots[slot] else { continue };
            held.copies.clear();
            if let Some(lane) = held.lane {
                self.lanes.insert(lane, VecDeque::new());
            }
        }
        taken
    }

    /// Removes the tasks that pause, in the order of their arrival. Call [`take_waiting`](Self::take_waiting) before.
    pub(crate) fn take_paused(&mut self) -> Vec<P> {
        self.take_begun(|state| matches!(state, State::Paused(_)))
    }

    /// Removes the tasks that have begun, in the order of their arrival. Call [`take_waiting`](Self::take_waiting)
    /// before.
    pub(crate) fn take_all(&mut self) -> Vec<P> {
        self.take_begun(|_| true)
    }

    fn take_begun(&mut self, which: impl Fn(State) -> bool) -> Vec<P> {
        debug_assert_eq!(self.waiting, 0);
        let taken = self.take(which);
        self.busy -= taken.len();
        taken
    }

    fn take(&mut self, which: impl Fn(State) -> bool) -> Vec<P> {
        let mut taken = Vec::new();
        for (slot, held) in self.slots.iter_mut().enumerate() {
            if let Some(held) = held.take_if(|held| which(held.state)) {
                self.free.push(slot);
                taken.push((held.number, held.payload));
            }
        }
        taken.sort_by_key(|(number, _)| *number);
        taken.into_iter().map(|(_, payload)| payload).collect()
    }

    fn held(&mut self, slot: Slot) -> Option<&mut Held<P>> {
        self.slots.get_mut(slot)?.as_mut()
    }

    fn state(&self, slot: Slot) -> Option<State> {
        self.slots.get(slot)?.as_ref().map(|held| held.state)
    }

    fn set(&mut self, slot: Slot, state: State) {
        if let Some(held) = self.held(slot) {
            held.state = state;
        }
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
