//! Which bindings the queue of a bridge needs: one for each pattern that somebody wants. A plain machine.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::Error;

/// The bindings, and who waits for them (`W`).
#[derive(Debug)]
pub(super) struct Bindings<W> {
    entries: HashMap<Arc<str>, Entry<W>>,
    /// Entries whose state may not be what is wanted.
    changed: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Entry<W> {
    wanted: usize,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    Absent(Vec<W>),
    Binding(Vec<W>),
    Bound,
    Unbinding(Vec<W>),
}

/// What has to be asked of the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Bind(Arc<str>),
    Unbind(Arc<str>),
}

/// Whom to tell what, after a step.
#[derive(Debug)]
pub(super) enum Done<W> {
    /// The binding is in place.
    Bound(Vec<W>),
    /// It is not, and is not tried again until somebody else wants it.
    Refused(Vec<W>, Error),
    /// Nobody waits.
    Nothing,
    /// The unbind has failed; it is a step again.
    Again,
}

impl<W> Bindings<W> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), changed: VecDeque::new() }
    }

    /// Counts one more that wants a binding. Returns who waits if it is in place.
    pub(super) fn want(&mut self, key: &Arc<str>, waits: W) -> Option<W> {
        let absent = || Entry { wanted: 0, state: State::Absent(Vec::new()) };
        let entry = self.entries.entry(key.clone()).or_insert_with(absent);
        entry.wanted += 1;
        match &mut entry.state {
            State::Bound => return Some(waits),
            State::Absent(waiting) => {
                waiting.push(waits);
                self.changed.push_back(key.clone());
            }
            State::Binding(waiting) | State::Unbinding(waiting) => waiting.push(waits),
        }
        None
    }

    /// Counts one less.
    pub(super) fn release(&mut self, key: &Arc<str>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.wanted = entry.wanted.saturating_sub(1);
        if entry.wanted == 0 {
            self.changed.push_back(key.clone());
        }
    }

    /// Returns what to ask of the broker next. Each step is told as [`done`](Self::done), in any order.
    pub(super) fn next(&mut self) -> Option<Step> {
        while let Some(key) = self.changed.pop_front() {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            match &mut entry.state {
                State::Absent(_) if entry.wanted == 0 => {
                    self.entries.remove(&key);
                }
                State::Absent(waiting) => {
                    entry.state = State::Binding(std::mem::take(waiting));
                    return Some(Step::Bind(key));
                }
                State::Bound if entry.wanted == 0 => {
                    entry.state = State::Unbinding(Vec::new());
                    return Some(Step::Unbind(key));
                }
                State::Bound | State::Binding(_) | State::Unbinding(_) => {}
            }
        }
        None
    }

    /// Notes what the broker has replied to a step.
    pub(super) fn done(&mut self, step: &Step, result: Result<(), Error>) -> Done<W> {
        let (Step::Bind(key) | Step::Unbind(key)) = step;
        let Some(entry) = self.entries.get_mut(key) else { return Done::Nothing };
        let state = std::mem::replace(&mut entry.state, State::Bound);
        match (state, result) {
            (State::Binding(waiting), Ok(())) => {
                self.changed.push_back(key.clone());
                Done::Bound(waiting)
            }
            (State::Binding(waiting), Err(error)) => {
                // All that want it are told, and release it.
                entry.state = State::Absent(Vec::new());
                if entry.wanted == 0 {
                    self.changed.push_back(key.clone());
                }
                Done::Refused(waiting, error)
            }
            (State::Unbinding(waiting), Ok(())) => {
                entry.state = State::Absent(waiting);
                self.changed.push_back(key.clone());
                Done::Nothing
            }
            // It is still in place.
            (State::Unbinding(waiting), Err(_)) => {
                self.changed.push_back(key.clone());
                if waiting.is_empty() { Done::Again } else { Done::Bound(waiting) }
            }
            (other, _) => {
                entry.state = other;
                Done::Nothing
            }
        }
    }

    /// Returns how many different bindings are wanted or in place.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use actix_pika_actors::facade;

    use super::*;

    fn key(of: &str) -> Arc<str> {
        Arc::from(of)
    }

    fn steps(bindings: &mut Bindings<u32>) -> Vec<Step> {
        std::iter::from_fn(|| bindings.next()).collect()
    }

    #[test]
    fn a_pattern_is_bound_once_and_unbound_with_its_last_subscriber() {
        let (mut bindings, a) = (Bindings::new(), key("a"));
        assert_eq!(bindings.want(&a, 1), None);
        assert_eq!(bindings.want(&a, 2), None);
        let bind = Step::Bind(a.clone());
        assert_eq!(steps(&mut bindings), std::slice::from_ref(&bind));
        assert!(matches!(bindings.done(&bind, Ok(())), Done::Bound(waiting) if waiting == [1, 2]));
        assert_eq!(bindings.want(&a, 3), Some(3));
        (0..2).for_each(|_| bindings.release(&a));
        assert_eq!(steps(&mut bindings), []);
        bindings.release(&a);
        let unbind = Step::Unbind(a.clone());
        assert_eq!(steps(&mut bindings), std::slice::from_ref(&unbind));
        assert!(matches!(bindings.done(&unbind, Ok(())), Done::Nothing));
        assert_eq!((steps(&mut bindings), bindings.len()), (vec![], 0));
    }

    #[test]
    fn a_refused_binding_is_told_and_asked_for_again_by_the_next_one() {
        let (mut bindings, a) = (Bindings::new(), key("a"));
        bindings.want(&a, 1);
        let bind = bindings.next().unwrap();
        let refused = bindings.done(&bind, Err(facade::stopped("refused")));
        assert!(matches!(refused, Done::Refused(waiting, _) if waiting == [1]));
        assert_eq!(bindings.next(), None);
        bindings.want(&a, 2);
        bindings.release(&a);
        assert_eq!(bindings.next(), Some(bind));
    }

    #[test]
    fn an_unbind_that_fails_is_tried_again_unless_the_binding_is_wanted() {
        let (mut bindings, a) = (Bindings::new(), key("a"));
        bindings.want(&a, 1);
        let bind = bindings.next().unwrap();
        bindings.done(&bind, Ok(()));
        bindings.release(&a);
        let unbind = bindings.next().unwrap();
        assert!(matches!(bindings.done(&unbind, Err(facade::stopped("late"))), Done::Again));
        assert_eq!(bindings.next(), Some(unbind.clone()));
        bindings.want(&a, 2);
        assert!(
            matches!(bindings.done(&unbind, Err(facade::stopped("late"))), Done::Bound(told) if told == [2])
        );
        assert_eq!(bindings.next(), None);
    }

    /// Subscribers come and go while the broker replies late, in any order, and refuses some: in the end the bindings
    /// at the broker are those that are wanted, and each that waits is told once.
    #[test]
    fn in_the_end_what_is_wanted_is_bound() {
        for seed in 0..2000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let keys = [key("a"), key("b"), key("c")];
            let (mut bindings, mut broker) = (Bindings::new(), BTreeSet::new());
            // Those that are subscribed, those that wait, and what the broker has not replied to.
            let (mut bound, mut waiting, mut asked) = (Vec::new(), Vec::new(), Vec::new());
            let mut steps = random.usize(1..80);
            for id in 0.. {
                match random.u8(..8) {
                    0..=2 if steps > 0 => {
                        let key = random.choice(&keys).unwrap().clone();
                        match bindings.want(&key, id) {
                            Some(id) => bound.push((id, key)),
                            None => waiting.push((id, key)),
                        }
                    }
                    3 if steps > 0 && !bound.is_empty() => {
                        let (_, key) = bound.swap_remove(random.usize(..bound.len()));
                        bindings.release(&key);
                    }
                    // A caller that does not wait any longer.
                    4 if steps > 0 && !waiting.is_empty() && random.bool() => {
                        let (_, key) = waiting.swap_remove(random.usize(..waiting.len()));
                        bindings.release(&key);
                    }
                    0..=5 => asked.extend(bindings.next()),
                    _ if !asked.is_empty() => {
                        let step = asked.swap_remove(random.usize(..asked.len()));
                        let refused = steps > 0 && random.u8(..4) == 0;
                        match &step {
                            _ if refused => {}
                            Step::Bind(key) => {
                                assert!(broker.insert(key.clone()), "seed {seed}: bound twice")
                            }
                            Step::Unbind(key) => assert!(broker.remove(key), "seed {seed}: unbound twice"),
                        }
                        let result = if refused { Err(facade::stopped("refused")) } else { Ok(()) };
                        match bindings.done(&step, result) {
                            Done::Bound(told) => {
                                let (now, later) = waiting.into_iter().partition(|(id, _)| told.contains(id));
                                bound.extend::<Vec<_>>(now);
                                waiting = later;
                            }
                            Done::Refused(told, _) => {
                                let is_told = |(id, _): &(u32, Arc<str>)| told.contains(id);
                                waiting
                                    .iter()
                                    .filter(|one| is_told(one))
                                    .for_each(|(_, key)| bindings.release(key));
                                waiting.retain(|one| !is_told(one));
                            }
                            Done::Nothing | Done::Again => {}
                        }
                    }
                    _ => {}
                }
                steps = steps.saturating_sub(1);
                if steps == 0 && asked.is_empty() {
                    asked.extend(bindings.next());
                    if asked.is_empty() {
                        break;
                    }
                }
            }
            assert_eq!(waiting, [], "seed {seed}");
            let wanted: BTreeSet<Arc<str>> = bound.iter().map(|(_, key)| key.clone()).collect();
            assert_eq!(broker, wanted, "seed {seed}");
            assert_eq!(bindings.len(), wanted.len(), "seed {seed}");
        }
    }
}
