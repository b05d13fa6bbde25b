//! Exchanges, queues, bindings and their arguments.

mod arguments;
mod bindings;
mod declare;
mod queues;
mod routing;
mod streams;
