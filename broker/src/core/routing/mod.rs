//! Routing: which queues a message goes to.
//!
//! A [`Router`] has the bindings of one exchange, and [`Walk`] goes from exchange to exchange.

mod consistent_hash;
mod erlang_hash;
mod headers;
mod router;
mod topic;
mod walk;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    router::{Binding, ExchangeType, Router},
    topic::TopicPattern,
    walk::{Destination, Graph, Walk},
};
