//! What hooks are told of a publish.

use std::time::Duration;

use actix_pika_actors::facade;
use bytes::Bytes;

use crate::{
    Error, Publishing,
    message::{Confirmation, Properties},
};

/// Why a message is published.
///
/// # Examples
/// ```
/// use actix_pika::hook::PublishKind;
///
/// assert_eq!(PublishKind::Reply.as_str(), "reply");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishKind {
    /// An application publishes a value, by a [`Publisher`](crate::publisher::Publisher) or what runs on one.
    Message,
    /// The request of a call.
    Request,
    /// The reply to a call.
    Reply,
    /// A copy of a message whose task has failed, for a step of a ladder or its dead letters.
    Retry,
}

impl PublishKind {
    /// Returns a short name, for a label or an attribute.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::PublishKind;
    ///
    /// assert_eq!(PublishKind::Message.as_str(), "message");
    /// ```
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Request => "request",
            Self::Reply => "reply",
            Self::Retry => "retry",
        }
    }
}

/// A message that is about to be published. A hook may change its properties.
///
/// # Examples
/// ```
/// use actix_pika::hook::{Hook, Outgoing, Span};
///
/// struct Tenant(&'static str);
///
/// impl Hook for Tenant {
///     fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
///         message.properties_mut().headers_mut().insert("tenant", self.0);
///         None
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Outgoing<'a> {
    pub(super) kind: PublishKind,
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) message: &'a mut Publishing,
}

impl Outgoing<'_> {
    /// Returns why it is published.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Outgoing, PublishKind};
    /// fn is_call(message: &Outgoing<'_>) -> bool {
    ///     message.kind() == PublishKind::Request
    /// }
    /// ```
    pub fn kind(&self) -> PublishKind {
        self.kind
    }

    /// Returns the exchange; empty for the default exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Outgoing;
    /// fn is_order(message: &Outgoing<'_>) -> bool {
    ///     message.exchange() == "orders"
    /// }
    /// ```
    pub fn exchange(&self) -> &str {
        self.exchange
    }

    /// Returns the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Outgoing;
    /// fn is_placed(message: &Outgoing<'_>) -> bool {
    ///     message.routing_key().ends_with(".placed")
    /// }
    /// ```
    pub fn routing_key(&self) -> &str {
        self.routing_key
    }

    /// Returns the body, which has been encoded.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Outgoing;
    /// fn is_large(message: &Outgoing<'_>) -> bool {
    ///     message.body().len() > 65_536
    /// }
    /// ```
    pub fn body(&self) -> &Bytes {
        self.message.body()
    }

    /// Returns the properties.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Outgoing;
    /// fn has_id(message: &Outgoing<'_>) -> bool {
    ///     message.properties().message_id().is_some()
    /// }
    /// ```
    pub fn properties(&self) -> &Properties {
        self.message.properties_ref()
    }

    /// Returns the properties, to change them. What cannot be sent makes the publish fail, as it does for
    /// [`Publishing::properties`].
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Outgoing;
    /// fn mark(message: &mut Outgoing<'_>) {
    ///     message.properties_mut().headers_mut().insert("region", "eu");
    /// }
    /// ```
    pub fn properties_mut(&mut self) -> &mut Properties {
        facade::properties_of_mut(self.message)
    }
}

/// How a publish has ended.
///
/// # Examples
/// ```
/// use actix_pika::hook::PublishOutcome;
///
/// fn label(outcome: &PublishOutcome<'_>) -> &'static str {
///     match outcome {
///         PublishOutcome::Published(_) => "confirmed",
///         PublishOutcome::Failed(_) => "failed",
///         _ => "unknown",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum PublishOutcome<'a> {
    /// The broker has confirmed it; on a channel without confirms, it was queued.
    Published(&'a Confirmation),
    /// It has failed, or [may have arrived](Error::may_have_arrived).
    Failed(&'a Error),
    /// It was handed over, and nobody awaits its confirm: a reply, or a publish whose future was dropped.
    Unknown,
}

/// The end of a publish.
///
/// # Examples
/// ```
/// use actix_pika::hook::{Hook, PublishEnd};
///
/// struct Slow;
///
/// impl Hook for Slow {
///     fn published(&self, end: &PublishEnd<'_>) {
///         if end.took().as_secs() > 1 {
///             println!("a publish to {:?} took {:?}", end.exchange(), end.took());
///         }
///     }
/// }
/// ```
#[derive(Debug)]
pub struct PublishEnd<'a> {
    pub(super) kind: PublishKind,
    pub(super) exchange: &'a str,
    pub(super) routing_key: &'a str,
    pub(super) outcome: PublishOutcome<'a>,
    pub(super) took: Duration,
}

impl<'a> PublishEnd<'a> {
    /// Returns why it was published.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{PublishEnd, PublishKind};
    /// fn is_retry(end: &PublishEnd<'_>) -> bool {
    ///     end.kind() == PublishKind::Retry
    /// }
    /// ```
    pub fn kind(&self) -> PublishKind {
        self.kind
    }

    /// Returns the exchange; empty for the default exchange.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::PublishEnd;
    /// fn print(end: &PublishEnd<'_>) {
    ///     println!("published to {:?}", end.exchange());
    /// }
    /// ```
    pub fn exchange(&self) -> &str {
        self.exchange
    }

    /// Returns the routing key.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::PublishEnd;
    /// fn print(end: &PublishEnd<'_>) {
    ///     println!("published with {:?}", end.routing_key());
    /// }
    /// ```
    pub fn routing_key(&self) -> &str {
        self.routing_key
    }

    /// Returns how it has ended.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{PublishEnd, PublishOutcome};
    /// fn failed(end: &PublishEnd<'_>) -> bool {
    ///     matches!(end.outcome(), PublishOutcome::Failed(_))
    /// }
    /// ```
    pub fn outcome(&self) -> PublishOutcome<'a> {
        self.outcome
    }

    /// Returns how long it took, from the call that encoded the message to the confirm.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::PublishEnd;
    /// fn seconds(end: &PublishEnd<'_>) -> f64 {
    ///     end.took().as_secs_f64()
    /// }
    /// ```
    pub fn took(&self) -> Duration {
        self.took
    }
}
