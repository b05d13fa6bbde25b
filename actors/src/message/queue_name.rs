//! The name of a queue, which changes if the broker chose it and chooses another one after a reconnect.

use std::sync::{Arc, OnceLock};

/// Holds the name of a queue. A name that the broker chose changes when the queue is declared again.
#[derive(Clone, Debug)]
pub struct QueueName(Arc<Name>);

/// Names are only added, never removed, so that a `&str` of an old name stays valid.
#[derive(Debug)]
struct Name {
    text: String,
    next: OnceLock<QueueName>,
}

impl QueueName {
    #[doc(hidden)]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Name { text: text.into(), next: OnceLock::new() }))
    }

    #[doc(hidden)]
    pub fn as_str(&self) -> &str {
        let mut name = &self.0;
        while let Some(QueueName(next)) = name.next.get() {
            name = next;
        }
        &name.text
    }

    pub(crate) fn rename(&self, text: &str) {
        let mut name = self.0.clone();
        while let Some(QueueName(next)) = name.next.get() {
            let next = next.clone();
            name = next;
        }
        // Only the supervisor renames queues, so no other value can be set here.
        let _ = name.next.set(Self::new(text));
    }
}

impl PartialEq for QueueName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for QueueName {}
