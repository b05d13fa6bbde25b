//! The hook that continues traces.

use super::{Hook, Incoming, Outgoing, Span, TraceContext};

/// Continues traces: what is published gets the header `traceparent` of the [current context](TraceContext::current), and a
/// handler runs in the trace of its message.
///
/// A message that has a `traceparent` keeps it, so that a retry has that of the first publish. Without a current context,
/// nothing is added.
///
/// | the task | its handler runs |
/// |---|---|
/// | of a single message, first try | in the trace of the message, as a span of its own |
/// | a retry, or one of a batch | in a new trace that is [linked](TraceContext::link) to that of the message |
/// | of a message without a valid `traceparent` | in no trace |
///
/// The handler of an actor has the trace in its [scope](crate::tasks::Task::scope), and a batch in the scope of each task. With
/// the feature `opentelemetry`, the spans that a handler of a single message starts are children of that which has
/// published it.
///
/// # Examples
/// ```no_run
/// use actix_pika::{Connector, hook::TracePropagation};
///
/// # async fn run() -> actix_pika::Result<()> {
/// let connection = Connector::new("amqp://localhost")?.hook(TracePropagation::new()).connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct TracePropagation(());

impl TracePropagation {
    /// Creates the hook.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TracePropagation;
    ///
    /// let hook = TracePropagation::new();
    /// ```
    pub fn new() -> Self {
        Self(())
    }
}

impl Hook for TracePropagation {
    fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
        if let Some(context) = TraceContext::current() {
            context.inject(message.properties_mut());
        }
        None
    }

    fn begin(&self, message: &Incoming<'_>) -> Option<Box<dyn Span>> {
        let remote = TraceContext::extract(message.properties()?)?;
        let follows = message.in_batch() || message.attempt() > 1;
        let context = if follows { remote.linked_root() } else { remote.child() };
        Some(Box::new(Continued {
            context,
            #[cfg(feature = "opentelemetry")]
            parent: super::otel::parent((!follows).then_some(&remote)),
        }))
    }
}

/// The trace of a task.
struct Continued {
    context: TraceContext,
    #[cfg(feature = "opentelemetry")]
    parent: opentelemetry::Context,
}

impl Span for Continued {
    fn within(&self, run: &mut dyn FnMut()) {
        #[cfg(feature = "opentelemetry")]
        let _parent = self.parent.clone().attach();
        self.context.enter(run);
    }
}
