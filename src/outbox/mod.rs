//! A transactional outbox: messages are written to a table in the transaction of the application, and published after it.

pub use self::handle::Outbox;

mod handle;
mod store;
