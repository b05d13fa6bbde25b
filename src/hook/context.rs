//! The trace that code belongs to: W3C Trace Context, and what is current on a thread.

use std::{
    cell::RefCell,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::headers::{HeaderExtractor, HeaderInjector};

/// The header of a trace: `00-<trace id>-<span id>-<flags>`.
pub(super) const TRACEPARENT: &str = "traceparent";
/// What tracing systems have added.
pub(super) const TRACESTATE: &str = "tracestate";

/// Bytes of a `tracestate`. A longer one is not carried on.
const LONGEST_STATE: usize = 512;

const SAMPLED: u8 = 1;
/// The flags that have a meaning: sampled, random trace id.
const KNOWN_FLAGS: u8 = 3;

thread_local! {
    static CURRENT: RefCell<Option<TraceContext>> = const { RefCell::new(None) };
}

/// A place in a trace, as it is sent in the headers `traceparent` and `tracestate`. Clones are cheap.
///
/// It is [current](Self::current) where a handler runs, if the connection has the hook [`TracePropagation`](super::TracePropagation),
/// and where [`enter`](Self::enter) or [`scope`](Self::scope) make it so. What is published there belongs to its trace. It does
/// not follow into what is spawned: take it along with `scope`.
///
/// Source: <https://www.w3.org/TR/trace-context/>
///
/// # Examples
/// ```
/// use actix_pika::hook::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context = TraceContext::parse(text, None).unwrap();
/// assert_eq!(context.traceparent(), text);
/// assert!(context.is_sampled());
///
/// context.enter(|| assert_eq!(TraceContext::current(), Some(context.clone())));
/// assert_eq!(TraceContext::current(), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<Arc<str>>,
    link: Option<Arc<TraceContext>>,
}

impl TraceContext {
    /// Begins a trace with random ids.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_ne!(TraceContext::root(true).trace_id(), TraceContext::root(true).trace_id());
    /// ```
    pub fn root(sampled: bool) -> Self {
        let (trace_id, span_id) = (fastrand::u128(1..), fastrand::u64(1..));
        Self { trace_id, span_id, flags: u8::from(sampled), state: None, link: None }
    }

    /// Returns a span within this one, with a random id.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// let parent = TraceContext::root(true);
    /// let child = parent.child();
    /// assert_eq!(child.trace_id(), parent.trace_id());
    /// assert_ne!(child.span_id(), parent.span_id());
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: fastrand::u64(1..), link: None, ..self.clone() }
    }

    /// Begins a trace that [follows](Self::link) from this one: sampled as this one is.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// let first = TraceContext::root(true);
    /// assert_eq!(first.linked_root().link(), Some(&first));
    /// ```
    #[must_use]
    pub fn linked_root(&self) -> Self {
        Self { link: Some(Arc::new(self.clone())), ..Self::root(self.is_sampled()) }
    }

    /// Returns the context of another trace that has led to this one: that of the message, for a retry or a batch.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_eq!(TraceContext::root(true).link(), None);
    /// ```
    pub fn link(&self) -> Option<&TraceContext> {
        self.link.as_deref()
    }

    /// Parses the headers. Later versions than 00 are read as far as they are known. Returns `None` for what is invalid; an
    /// invalid `tracestate` is left out, and so is one of more than 512 bytes.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_eq!(TraceContext::parse("00-0-0-01", None), None);
    /// let context = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some("rojo=1"));
    /// assert_eq!(context.unwrap().tracestate(), Some("rojo=1"));
    /// ```
    pub fn parse(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let (version, rest) = traceparent.split_at_checked(2)?;
        let version = hex(version)?;
        let (fields, later) = rest.split_at_checked(53)?;
        let is_whole =
            if version == 0 { later.is_empty() } else { later.is_empty() || later.starts_with('-') };
        if version == 0xff || !is_whole {
            return None;
        }
        let mut fields = fields.strip_prefix('-')?.split('-');
        let mut field = |digits| fields.next().filter(|field| field.len() == digits).and_then(hex);
        let (trace_id, span_id, flags) = (field(32)?, field(16)?, field(2)?);
        let (span_id, flags) = (u64::try_from(span_id).ok()?, u8::try_from(flags).ok()?);
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        let state = tracestate
            .map(|state| state.trim_matches([' ', '\t']))
            .filter(|state| is_state(state))
            .map(Arc::from);
        Some(Self { trace_id, span_id, flags: flags & KNOWN_FLAGS, state, link: None })
    }

    /// Returns the header `traceparent`.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_eq!(TraceContext::root(true).traceparent().len(), 55);
    /// ```
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }

    /// Returns the header `tracestate`, if there is one.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_eq!(TraceContext::root(true).tracestate(), None);
    /// ```
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns the id of the trace, which is not 0.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// println!("{:032x}", TraceContext::root(true).trace_id());
    /// ```
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// Returns the id of the span, which is not 0.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// println!("{:016x}", TraceContext::root(true).span_id());
    /// ```
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Returns whether the trace is recorded.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert!(!TraceContext::root(false).is_sampled());
    /// ```
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Returns the context of the code that runs on this thread: with the feature `opentelemetry`, that of the active span
    /// of OpenTelemetry, if there is one; otherwise that of [`enter`](Self::enter), of [`scope`](Self::scope) or of a handler.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// assert_eq!(TraceContext::current(), None);
    /// ```
    pub fn current() -> Option<Self> {
        #[cfg(feature = "opentelemetry")]
        let active = super::otel::active();
        #[cfg(not(feature = "opentelemetry"))]
        let active = None;
        active.or_else(|| CURRENT.try_with(|current| current.borrow().clone()).ok().flatten())
    }

    /// Calls a function, where this context is current.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::hook::TraceContext;
    ///
    /// let context = TraceContext::root(true);
    /// assert_eq!(context.enter(TraceContext::current), Some(context.clone()));
    /// ```
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Makes the one before current again, also after a panic.
        struct Leave(Option<TraceContext>);
        impl Drop for Leave {
            fn drop(&mut self) {
                let _ = CURRENT.try_with(|current| current.replace(self.0.take()));
            }
        }
        let outer = CURRENT.try_with(|current| current.replace(Some(self.clone())));
        let _leave = Leave(outer.ok().flatten());
        f()
    }

    /// Returns a future that polls another one where this context is current.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(numbers: actix_pika::publisher::Publisher<u32>) {
    /// use actix_pika::hook::TraceContext;
    ///
    /// if let Some(context) = TraceContext::current() {
    ///     tokio::spawn(context.scope(async move { numbers.publish(&7).await }));
    /// }
    /// # }
    /// ```
    pub fn scope<F: Future>(self, future: F) -> Traced<F> {
        Traced { context: self, future }
    }

    /// Reads the context of a message, if its headers have one that is valid.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{hook::TraceContext, message::Table};
    ///
    /// let headers = Table::new().with("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    /// assert!(TraceContext::extract(&headers).is_some());
    /// assert!(TraceContext::extract(&Table::new().with("traceparent", 7)).is_none());
    /// ```
    pub fn extract<'a>(from: impl Into<HeaderExtractor<'a>>) -> Option<Self> {
        let headers = from.into();
        Self::parse(headers.get(TRACEPARENT)?, headers.get(TRACESTATE))
    }

    /// Writes the context into the headers of a message, unless they have a `traceparent`.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{hook::TraceContext, message::Table};
    ///
    /// let (context, mut headers) = (TraceContext::root(true), Table::new());
    /// context.inject(&mut headers);
    /// TraceContext::root(true).inject(&mut headers);
    /// assert_eq!(TraceContext::extract(&headers), Some(context));
    /// ```
    pub fn inject<'a>(&self, into: impl Into<HeaderInjector<'a>>) {
        let mut headers = into.into();
        if headers.contains(TRACEPARENT) {
            return;
        }
        headers.set(TRACEPARENT, self.traceparent());
        match self.tracestate() {
            Some(state) => headers.set(TRACESTATE, state),
            // One without its traceparent belongs to nothing.
            None => headers.remove(TRACESTATE),
        }
    }

    #[cfg(feature = "opentelemetry")]
    pub(super) fn of_parts(trace_id: u128, span_id: u64, flags: u8, state: &str) -> Option<Self> {
        let state = Some(state).filter(|state| is_state(state)).map(Arc::from);
        let is_valid = trace_id != 0 && span_id != 0;
        is_valid.then_some(Self { trace_id, span_id, flags: flags & KNOWN_FLAGS, state, link: None })
    }

    #[cfg(feature = "opentelemetry")]
    pub(super) fn flags(&self) -> u8 {
        self.flags
    }
}

/// Lower case only.
fn hex(digits: &str) -> Option<u128> {
    let is_hex = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

fn is_state(state: &str) -> bool {
    let is_printable = |byte: u8| byte == b'\t' || matches!(byte, b' '..=b'~');
    (1..=LONGEST_STATE).contains(&state.len()) && state.contains('=') && state.bytes().all(is_printable)
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext").field(&self.traceparent()).finish()
    }
}

pin_project! {
    /// A future that is polled where a [`TraceContext`] is current ([`TraceContext::scope`]).
    ///
    /// # Examples
    /// ```
    /// # use std::future::{Ready, ready};
    /// use actix_pika::hook::{TraceContext, Traced};
    ///
    /// let traced: Traced<Ready<u8>> = TraceContext::root(true).scope(ready(7));
    /// ```
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Traced<F> {
        context: TraceContext,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Traced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let future = this.future;
        this.context.enter(|| future.poll(cx))
    }
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
