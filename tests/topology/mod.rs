//! Exchanges, queues and bindings, and their arguments.

mod arguments;
mod bindings;
mod declare;
mod queue_types;
mod queues;
mod routing;
