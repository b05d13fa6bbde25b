//! The name of a queue, which changes if the broker chose it and chooses another one after a reconnect.

use std::{
    fmt::{self, Write},
    sync::{Arc, OnceLock},
};

use crate::wire::Escaping;

/// Holds the name of a queue. Clones share it. `Display` escapes control characters; [`as_str`](Self::as_str)
/// returns the name as it is.
///
/// **Over a reconnect**: a queue with a name that the broker chose is redeclared under a new name, which all
/// clones then return.
///
/// # Examples
/// ```
/// # use actix_pika_actors::QueueName;
/// assert_eq!(QueueName::from("jobs").as_str(), "jobs");
/// ```
#[derive(Clone, Debug)]
pub struct QueueName(Arc<Name>);

/// Names are only ever added, so that a `&str` that was returned stays valid.
#[derive(Debug)]
struct Name {
    text: String,
    next: OnceLock<QueueName>,
}

impl QueueName {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Name { text: text.into(), next: OnceLock::new() }))
    }

    /// Returns the name that the queue has now.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::QueueName;
    /// assert_eq!(QueueName::from("jobs").as_str(), "jobs");
    /// ```
    pub fn as_str(&self) -> &str {
        let mut name = &self.0;
        while let Some(QueueName(next)) = name.next.get() {
            name = next;
        }
        &name.text
    }

    /// Returns the same name without the earlier ones.
    pub(crate) fn latest(&self) -> Self {
        let mut name = self;
        while let Some(next) = name.0.next.get() {
            name = next;
        }
        name.clone()
    }

    pub(crate) fn rename(&self, text: &str) {
        let mut name = self.0.clone();
        while let Some(QueueName(next)) = name.next.get() {
            let next = next.clone();
            name = next;
        }
        // Each value is renamed at one place only, so no other name can be set here.
        let _ = name.next.set(Self::new(text));
    }
}

impl<T: Into<String>> From<T> for QueueName {
    fn from(text: T) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaping(f).write_str(self.as_str())
    }
}

impl PartialEq for QueueName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for QueueName {}
