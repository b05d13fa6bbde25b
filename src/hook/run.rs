//! What hooks see of a task, and what surrounds its handler.

use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::{Cause, Hooks, Incoming, Outcome, Span, TaskEnd, hooks::called};
use crate::{caught::caught, message::Content};

/// The spans of hooks, one for each hook or none: the first is the outermost.
#[derive(Default)]
pub(crate) struct Scope(Vec<Option<Box<dyn Span>>>);

impl Scope {
    pub(super) fn push(&mut self, span: Option<Box<dyn Span>>) {
        self.0.push(span);
    }

    pub(super) fn into_spans(self) -> impl DoubleEndedIterator<Item = Option<Box<dyn Span>>> {
        self.0.into_iter()
    }

    fn has_spans(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// Runs `f` within all spans. A panic of `f` is one of the caller.
    pub(crate) fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        let (mut f, mut returned) = (Some(f), None);
        let mut run = || {
            if let Some(f) = f.take() {
                returned = Some(catch_unwind(AssertUnwindSafe(f)));
            }
        };
        nest(&self.0, &mut run);
        match returned {
            Some(Ok(returned)) => returned,
            Some(Err(panic)) => resume_unwind(panic),
            None => unreachable!("it was called"),
        }
    }
}

fn nest(spans: &[Option<Box<dyn Span>>], run: &mut dyn FnMut()) {
    match spans.split_first() {
        None => run(),
        Some((None, inner)) => nest(inner, run),
        Some((Some(span), inner)) => {
            let mut is_called = false;
            let mut go_on = || {
                if !std::mem::replace(&mut is_called, true) {
                    nest(inner, run);
                }
            };
            if caught(|| span.within(&mut go_on)).is_none() {
                log::warn!("a hook has panicked: the span of a task");
            }
            // It may not have called it, which must not cost the spans of the other hooks.
            go_on();
        }
    }
}

/// A task that hooks have seen begin, until they are told of its end; if that is not known, it was given back.
pub(crate) struct HookedTask(Option<Box<Begun>>);

struct Begun {
    hooks: Hooks,
    content: Content,
    attempt: u32,
    in_batch: bool,
    /// Nothing without spans.
    scope: Option<Arc<Scope>>,
    handler: Handler,
    cause: Option<(Cause, Box<str>)>,
    copied: Option<Outcome>,
}

/// When the handler was called.
#[derive(Clone, Copy, Debug)]
enum Handler {
    NotCalled,
    Runs(Instant),
    Ended(std::time::Duration),
}

impl HookedTask {
    /// Tells the hooks that a task begins.
    pub(crate) fn begin(hooks: &Hooks, content: Content, attempt: u32, in_batch: bool) -> Self {
        let message = Incoming { content: &content, attempt, in_batch };
        let mut scope = Scope::default();
        for hook in hooks.iter() {
            let span = scope.within(|| called("begin", || hook.begin(&message)));
            scope.push(span.flatten());
        }
        Self(Some(Box::new(Begun {
            hooks: hooks.clone(),
            content,
            attempt,
            in_batch,
            scope: scope.has_spans().then(|| Arc::new(scope)),
            handler: Handler::NotCalled,
            cause: None,
            copied: None,
        })))
    }

    /// The handler is called now. Returns what surrounds it.
    pub(crate) fn call(&mut self) -> TaskScope {
        let Some(begun) = &mut self.0 else { return TaskScope::default() };
        begun.handler = Handler::Runs(Instant::now());
        TaskScope(begun.scope.clone())
    }

    /// The handler has ended, or there was none to be called.
    pub(crate) fn handled(&mut self, cause: Option<Cause>) {
        let Some(begun) = &mut self.0 else { return };
        if let Handler::Runs(since) = begun.handler {
            begun.handler = Handler::Ended(since.elapsed());
        }
        begun.cause = cause.map(|cause| (cause, Box::default()));
    }

    /// The text of why the task was not done.
    pub(crate) fn explain(&mut self, text: &str) {
        if let Some(Begun { cause: Some((_, known)), .. }) = self.0.as_deref_mut() {
            *known = text.into();
        }
    }

    /// A ladder has a copy: an acknowledgement of the message means this.
    pub(crate) fn copied(&mut self, outcome: Outcome) {
        if let Some(begun) = &mut self.0 {
            begun.copied = Some(outcome);
        }
    }

    /// Tells the hooks what has become of the message.
    pub(crate) fn end(mut self, outcome: Outcome) {
        if let Some(begun) = self.0.take() {
            begun.tell(outcome);
        }
    }
}

impl Drop for HookedTask {
    fn drop(&mut self) {
        if let Some(begun) = self.0.take() {
            begun.tell(Outcome::GivenBack);
        }
    }
}

impl Begun {
    fn tell(self: Box<Self>, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Acked => self.copied.unwrap_or(outcome),
            outcome => outcome,
        };
        let end = TaskEnd {
            message: Incoming { content: &self.content, attempt: self.attempt, in_batch: self.in_batch },
            outcome,
            cause: self.cause.as_ref().map(|(cause, _)| *cause),
            text: self.cause.as_ref().map(|(_, text)| &**text).filter(|text| !text.is_empty()),
            took: match self.handler {
                Handler::NotCalled => None,
                Handler::Runs(since) => Some(since.elapsed()),
                Handler::Ended(took) => Some(took),
            },
        };
        let spans = self.scope.as_ref().map(|scope| &*scope.0).unwrap_or_default();
        for (place, hook) in self.hooks.iter().enumerate().rev() {
            called("end", || {
                hook.end(&end);
                if let Some(Some(span)) = spans.get(place) {
                    span.ended(&end);
                }
            });
        }
        let scope = self.scope;
        called("the end of a span", || drop(scope));
    }
}

/// The spans that hooks have made of a task, for the code that handles it ([`Task::scope`](crate::tasks::Task::scope)).
///
/// The futures of closures are polled within them. An actor is called by its own context: there, what should be part of
/// the spans is run by [`enter`](Self::enter) or [`run`](Self::run). Without hooks both do nothing more than run it.
///
/// # Examples
/// ```
/// use actix::prelude::*;
/// use actix_pika::tasks::{Done, Task};
///
/// struct Mailer;
///
/// impl Actor for Mailer {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Task<String>> for Mailer {
///     type Result = ResponseFuture<Done>;
///
///     fn handle(&mut self, mail: Task<String>, _: &mut Context<Self>) -> Self::Result {
///         let scope = mail.scope();
///         Box::pin(scope.run(async move { Ok(println!("{}", *mail)) }))
///     }
/// }
/// ```
#[derive(Clone, Default)]
pub struct TaskScope(pub(super) Option<Arc<Scope>>);

impl TaskScope {
    /// Runs a function within the spans.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Done, Task};
    /// fn handle(mail: Task<String>) -> Done {
    ///     mail.scope().enter(|| Ok(println!("{}", *mail)))
    /// }
    /// ```
    #[inline]
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.0 {
            None => f(),
            Some(scope) => scope.within(f),
        }
    }

    /// Returns a future that polls another one within the spans.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::tasks::{Done, Task};
    /// async fn handle(mail: Task<String>) -> Done {
    ///     let scope = mail.scope();
    ///     scope.run(async move { Ok(println!("{}", *mail)) }).await
    /// }
    /// ```
    pub fn run<F: Future>(&self, future: F) -> Scoped<F> {
        Scoped { scope: self.clone(), future }
    }
}

impl fmt::Debug for TaskScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskScope").field(&self.0.as_ref().map_or(0, |scope| scope.0.len())).finish()
    }
}

pin_project! {
    /// A future that is polled within the spans of a task ([`TaskScope::run`]).
    ///
    /// # Examples
    /// ```
    /// # use std::future::{Ready, ready};
    /// # use actix_pika::{hook::Scoped, tasks::Task};
    /// fn length(mail: &Task<String>) -> Scoped<Ready<usize>> {
    ///     mail.scope().run(ready(mail.len()))
    /// }
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        scope: TaskScope,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future;
        this.scope.enter(|| future.poll(cx))
    }
}
