//! The hooks of a connection, a publisher or a consumer, and what they see of a publish.

use std::{fmt, sync::Arc};

use tokio::time::Instant;

use super::{Hook, Outgoing, PublishEnd, PublishKind, PublishOutcome, Span, run::Scope};
use crate::{Publishing, Result, caught::caught, message::Confirmation};

/// Hooks in their order, from the broker to the application. Without any, nothing is allocated.
#[derive(Clone, Default)]
pub(crate) struct Hooks(Option<Arc<[Arc<dyn Hook>]>>);

impl Hooks {
    /// Adds a hook, which is nearer to the application than those before.
    pub(crate) fn add(&mut self, hook: impl Hook) {
        let hook: Arc<dyn Hook> = Arc::new(hook);
        self.0 = Some(self.iter().cloned().chain([hook]).collect());
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<dyn Hook>> + ExactSizeIterator {
        self.0.as_deref().unwrap_or_default().iter()
    }

    /// Shows a message to the hooks that is about to be published. Returns what is told of its end; nothing without hooks.
    #[inline]
    pub(crate) fn publishing(
        &self,
        kind: PublishKind,
        exchange: &str,
        routing_key: &str,
        message: &mut Publishing,
    ) -> Option<HookedPublish> {
        if self.is_empty() { None } else { Some(self.show(kind, exchange, routing_key, message)) }
    }

    #[cold]
    fn show(
        &self,
        kind: PublishKind,
        exchange: &str,
        routing_key: &str,
        message: &mut Publishing,
    ) -> HookedPublish {
        let mut scope = Scope::default();
        for hook in self.iter().rev() {
            let mut outgoing = Outgoing { kind, exchange, routing_key, message };
            let span = scope.within(|| called("publishing", || hook.publishing(&mut outgoing)));
            scope.push(span.flatten());
        }
        HookedPublish(Some(Box::new(Publish {
            hooks: self.clone(),
            kind,
            exchange: exchange.into(),
            routing_key: routing_key.into(),
            scope,
            started: Instant::now(),
        })))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hooks").field(&self.iter().len()).finish()
    }
}

/// Calls a hook. Its panic costs nothing but what it would have done.
pub(super) fn called<R>(what: &str, hook: impl FnOnce() -> R) -> Option<R> {
    let called = caught(hook);
    if called.is_none() {
        log::warn!("a hook has panicked: {what}");
    }
    called
}

/// A publish that hooks have seen, until they are told of its end.
pub(crate) struct HookedPublish(Option<Box<Publish>>);

struct Publish {
    hooks: Hooks,
    kind: PublishKind,
    exchange: Box<str>,
    routing_key: Box<str>,
    /// The span of each hook, in the order of their calls.
    scope: Scope,
    started: Instant,
}

impl HookedPublish {
    pub(crate) fn end(mut self, result: &Result<Confirmation>) {
        if let Some(publish) = self.0.take() {
            publish.tell(match result {
                Ok(confirmation) => PublishOutcome::Published(confirmation),
                Err(error) => PublishOutcome::Failed(error),
            });
        }
    }

    /// The same of a publish whose confirm nobody awaits.
    pub(crate) fn fail(mut self, error: &crate::Error) {
        if let Some(publish) = self.0.take() {
            publish.tell(PublishOutcome::Failed(error));
        }
    }
}

impl Drop for HookedPublish {
    fn drop(&mut self) {
        if let Some(publish) = self.0.take() {
            publish.tell(PublishOutcome::Unknown);
        }
    }
}

impl Publish {
    fn tell(self, outcome: PublishOutcome<'_>) {
        let end = PublishEnd {
            kind: self.kind,
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            outcome,
            took: self.started.elapsed(),
        };
        let spans = self.scope.into_spans().rev();
        for (hook, span) in self.hooks.iter().zip(spans) {
            called("published", || {
                hook.published(&end);
                if let Some(span) = &span {
                    span.published(&end);
                }
            });
            // The end of a span may panic, too.
            called("the end of a span", || drop::<Option<Box<dyn Span>>>(span));
        }
    }
}

impl fmt::Debug for HookedPublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedPublish").finish_non_exhaustive()
    }
}
