//! The keys of what the core keeps. A key is never valid for another thing later.

slotmap::new_key_type! {
    /// A connection.
    pub struct ConnectionId;
    pub(crate) struct VhostKey;
    pub(crate) struct ExchangeKey;
    pub(crate) struct QueueKey;
    pub(crate) struct ConsumerKey;
}
