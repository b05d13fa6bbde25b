//! The walk of a message through bindings between exchanges, and to alternate exchanges.

use std::{collections::HashSet, hash::Hash};

use super::router::{FixedHasher, Router};
use crate::core::Message;

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Destination<X, Q> {
    Exchange(X),
    Queue(Q),
}

/// The exchanges of a virtual host.
pub(crate) trait Graph {
    type Exchange: Copy + Ord + Hash;
    type Queue: Copy + Ord;

    /// Returns the bindings of an exchange, `None` if it does not exist.
    fn router(&self, exchange: Self::Exchange) -> Option<&Router<Destination<Self::Exchange, Self::Queue>>>;

    /// Returns the alternate exchange of an exchange, if it has one that exists.
    fn alternate(&self, exchange: Self::Exchange) -> Option<Self::Exchange>;
}

/// What a walk allocates, to be used again by the next one.
#[derive(Debug)]
pub(crate) struct Walk<X, Q> {
    /// The exchanges that were reached, in order; those behind `next` are still to be asked.
    exchanges: Vec<X>,
    /// All of them but the first one.
    reached: HashSet<X, FixedHasher>,
    found: Vec<Destination<X, Q>>,
}

/// More places than this are not kept for the next walk.
const KEPT: usize = 4096;

impl<X, Q> Default for Walk<X, Q> {
    fn default() -> Self {
        Self { exchanges: Vec::new(), reached: HashSet::default(), found: Vec::new() }
    }
}

impl<X: Copy + Ord + Hash, Q: Copy + Ord> Walk<X, Q> {
    /// Sets `queues` to the queues that a message reaches from `start` with any of `keys`: each once, in their order.
    ///
    /// An alternate exchange is asked if no binding of its exchange matches; a binding to an exchange that leads
    /// nowhere is a match. Each exchange is asked once.
    pub(crate) fn route<'a, G: Graph<Exchange = X, Queue = Q>>(
        &mut self,
        graph: &G,
        start: X,
        keys: impl Iterator<Item = &'a str> + Clone,
        message: &Message,
        queues: &mut Vec<Q>,
    ) {
        queues.clear();
        self.exchanges.push(start);
        let mut next = 0;
        while let Some(&exchange) = self.exchanges.get(next) {
            next += 1;
            let Some(router) = graph.router(exchange) else { continue };
            self.found.clear();
            router.route(keys.clone(), message, &mut self.found);
            if self.found.is_empty() {
                self.found.extend(graph.alternate(exchange).map(Destination::Exchange));
            }
            for destination in &self.found {
                match *destination {
                    Destination::Queue(queue) => queues.push(queue),
                    Destination::Exchange(exchange) => {
                        if exchange != start && self.reached.insert(exchange) {
                            self.exchanges.push(exchange);
                        }
                    }
                }
            }
        }
        if queues.len() > 1 {
            queues.sort_unstable();
            queues.dedup();
        }
        self.forget();
    }

    /// Returns whether it keeps no more than a usual walk takes.
    #[cfg(test)]
    pub(super) fn is_small(&self) -> bool {
        self.exchanges.capacity().max(self.found.capacity()).max(self.reached.capacity()) <= KEPT
    }

    /// Makes ready for the next walk.
    fn forget(&mut self) {
        if self.exchanges.capacity().max(self.found.capacity()) > KEPT {
            *self = Self::default();
        }
        if self.exchanges.len() > 1 {
            self.reached.clear();
        }
        self.exchanges.clear();
    }
}
