//! Hooks: code of the application that sees what is published and handled.
//!
//! A [`Hook`] is called before a message is published, and may change it; when the publish has ended; when the task of a
//! message begins; and when that has ended. It is set for all that runs on a connection
//! ([`Connector::hook`](crate::Connector::hook)), for one consumer ([`Tasks::hook`](crate::tasks::Tasks::hook)), or for one
//! publisher ([`Publisher::hook`](crate::publisher::Publisher::hook)).
//!
//! | what | its hooks see |
//! |---|---|
//! | [publishers](crate::publisher), recipients, [relays of tasks](crate::tasks::Tasks::relay), [masters](crate::master) | `publishing`, `published` |
//! | [tasks](crate::tasks), batches, [supervised workers](crate::worker) | `begin`, `end` of each run |
//! | [ladders](crate::retry) | the publish of each copy, as [`PublishKind::Retry`] |
//! | clients of [RPC](crate::rpc), also in the formats of aio-pika | the publish of each request |
//! | servers of RPC | `begin`, `end` of each request, the publish of its reply |
//! | [`Exchange::publish`](crate::Exchange::publish), [`Delivery`](crate::Delivery), [redrives](crate::redrive), the relay of an outbox | nothing |
//!
//! # Order
//!
//! Hooks are ordered from the broker to the application: first those of the connection, then those of the consumer or the
//! publisher, as they were added. `begin` is called in this order, and each hook within the [spans](Span) of those before
//! it; `end` is called in the opposite order. For a publish it is the other way round: the hook nearest to the
//! application comes first, and the last one sees the message as it is sent.
//!
//! Each `publishing` is followed by one `published`, and each `begin` by one `end`. A task that runs again is a new one.
//! A message that cannot be decoded begins and ends, and no handler is called. A copy of a message whose outcome came too
//! late is settled with that outcome: it does not begin.
//!
//! # Traces
//!
//! [`TracePropagation`] continues traces by the headers of W3C Trace Context, from a publish to its handler, and to what
//! that publishes; calls as well, with their replies. It needs no tracing system. [`TraceContext`] is the trace that code
//! belongs to, for code that does not run in a handler.
//!
//! | feature | what it adds |
//! |---|---|
//! | `tracing` | `TracingSpans`, a hook that makes spans of `tracing` around publishes and handlers |
//! | `opentelemetry` | [`TraceContext::current`] is that of the active span of OpenTelemetry; handlers run in its context; [`HeaderInjector`] and [`HeaderExtractor`] are its traits |
//!
//! # Costs and failures
//!
//! Without a hook, a publish and a task have one branch more, and no allocation. With one, each of them has some
//! allocations. A hook that panics is logged, and the message goes on with what the hook has changed until then. Hooks are called on
//! the thread that publishes, or on that of the consumer, and must not block.
//!
//! # Examples
//! ```no_run
//! use actix_pika::{Connector, hook::{Hook, Incoming, Outgoing, Span, TaskEnd}};
//!
//! struct Audit;
//!
//! impl Hook for Audit {
//!     fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
//!         message.properties_mut().headers_mut().insert("audited", true);
//!         None
//!     }
//!
//!     fn end(&self, end: &TaskEnd<'_>) {
//!         println!("{:?}: {:?} after {:?}", end.message().queue(), end.outcome(), end.took());
//!     }
//! }
//!
//! # async fn run() -> actix_pika::Result<()> {
//! let connection = Connector::new("amqp://guest:guest@localhost/")?.hook(Audit).connect().await?;
//! # Ok(()) }
//! ```

#[cfg(feature = "tracing")]
pub use self::spans::TracingSpans;
pub use self::{
    context::{TraceContext, Traced},
    headers::{HeaderExtractor, HeaderInjector},
    propagation::TracePropagation,
    publish_events::{Outgoing, PublishEnd, PublishKind, PublishOutcome},
    run::{Scoped, TaskScope},
    task_events::{Cause, Incoming, Outcome, TaskEnd},
};
pub(crate) use self::{
    hooks::{HookedPublish, Hooks},
    run::HookedTask,
};

mod context;
mod headers;
mod hooks;
#[cfg(feature = "opentelemetry")]
mod otel;
mod propagation;
mod publish_events;
mod run;
#[cfg(feature = "tracing")]
mod spans;
mod task_events;

/// Sees what is published and handled. All its methods do nothing unless they are implemented.
///
/// The [module](self) tells who calls them, in which order, and what becomes of a panic.
///
/// # Examples
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use actix_pika::hook::{Hook, PublishEnd, PublishOutcome};
///
/// #[derive(Default)]
/// struct Refused(AtomicU64);
///
/// impl Hook for Refused {
///     fn published(&self, end: &PublishEnd<'_>) {
///         if let PublishOutcome::Failed(_) = end.outcome() {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
#[allow(unused_variables, reason = "the names are part of the documentation")]
pub trait Hook: Send + Sync + 'static {
    /// Sees a message that was encoded and is about to be published, and may change its properties. What it returns lives
    /// until the publish has ended.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Hook, Outgoing, Span};
    /// struct Versioned;
    ///
    /// impl Hook for Versioned {
    ///     fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
    ///         message.properties_mut().headers_mut().insert("version", 2);
    ///         None
    ///     }
    /// }
    /// ```
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        None
    }

    /// A publish has ended.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Hook, PublishEnd};
    /// struct Print;
    ///
    /// impl Hook for Print {
    ///     fn published(&self, end: &PublishEnd<'_>) {
    ///         println!("{:?} after {:?}", end.outcome(), end.took());
    ///     }
    /// }
    /// ```
    fn published(&self, end: &PublishEnd<'_>) {}

    /// A task begins: its message is decoded, and its handler called, after this. What it returns surrounds the handler.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Hook, Incoming, Span};
    /// struct Print;
    ///
    /// impl Hook for Print {
    ///     fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
    ///         println!("a message of {:?}, {:?} old", message.queue(), message.age());
    ///         None
    ///     }
    /// }
    /// ```
    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        None
    }

    /// A task has ended, and it is known what has become of its message.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Hook, TaskEnd};
    /// struct Print;
    ///
    /// impl Hook for Print {
    ///     fn end(&self, end: &TaskEnd<'_>) {
    ///         println!("{:?} after {:?}", end.outcome(), end.took());
    ///     }
    /// }
    /// ```
    fn end(&self, end: &TaskEnd<'_>) {}
}

/// What a [`Hook`] keeps of a publish or a task while that goes on.
///
/// # Examples
/// ```
/// use actix_pika::hook::{Span, TaskEnd};
///
/// struct Named(String);
///
/// impl Span for Named {
///     fn within(&self, run: &mut dyn FnMut()) {
///         println!("> {}", self.0);
///         run();
///         println!("< {}", self.0);
///     }
///
///     fn ended(&self, end: &TaskEnd<'_>) {
///         println!("{} has ended: {:?}", self.0, end.outcome());
///     }
/// }
/// ```
#[allow(unused_variables, reason = "the names are part of the documentation")]
pub trait Span: Send + Sync + 'static {
    /// Calls `run` once, surrounded by what it stands for. It is called for each poll of a handler, and for the calls of
    /// hooks that come after this one.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::Span;
    /// struct Loud;
    ///
    /// impl Span for Loud {
    ///     fn within(&self, run: &mut dyn FnMut()) {
    ///         println!("a handler is polled");
    ///         run();
    ///     }
    /// }
    /// ```
    fn within(&self, run: &mut dyn FnMut()) {
        run();
    }

    /// Its publish has ended. It is dropped afterwards.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{PublishEnd, Span};
    /// struct Loud;
    ///
    /// impl Span for Loud {
    ///     fn published(&self, end: &PublishEnd<'_>) {
    ///         println!("{:?}", end.outcome());
    ///     }
    /// }
    /// ```
    fn published(&self, end: &PublishEnd<'_>) {}

    /// Its task has ended. It is dropped when the handler has dropped the task as well.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::hook::{Span, TaskEnd};
    /// struct Loud;
    ///
    /// impl Span for Loud {
    ///     fn ended(&self, end: &TaskEnd<'_>) {
    ///         println!("{:?}", end.outcome());
    ///     }
    /// }
    /// ```
    fn ended(&self, end: &TaskEnd<'_>) {}
}
