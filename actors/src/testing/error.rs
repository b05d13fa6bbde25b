//! The error of this module: what a test awaited, and what came instead.

use std::{error, fmt, io, time::Duration};

/// What a test awaited, what came instead, and the last frames before it in both directions.
///
/// `Debug` prints the same text as `Display`, because that is what a failing test shows.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestError, TestErrorKind};
/// fn is_slow(error: &TestError) -> bool {
///     error.kind() == TestErrorKind::TimedOut
/// }
/// ```
pub struct TestError {
    kind: TestErrorKind,
    awaited: String,
    came: String,
    before: Vec<String>,
}

/// The kind of a [`TestError`].
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{TestErrorKind, PeerSocket};
/// # async fn example(socket: &mut PeerSocket) {
/// let error = socket.next_frame().await.unwrap_err();
/// assert_eq!(error.kind(), TestErrorKind::Disconnected);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestErrorKind {
    /// Nothing came within the time limit.
    TimedOut,
    /// Something else came.
    Unexpected,
    /// The other side closed the connection, with FIN or RST.
    Disconnected,
    /// Bytes came that are not AMQP frames.
    Malformed,
    /// The operating system returned an error.
    Io,
}

impl TestError {
    /// Returns the kind.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, TestErrorKind};
    /// fn is_disconnected(error: &TestError) -> bool {
    ///     error.kind() == TestErrorKind::Disconnected
    /// }
    /// ```
    pub fn kind(&self) -> TestErrorKind {
        self.kind
    }

    #[doc(hidden)]
    pub fn new(kind: TestErrorKind, awaited: impl Into<String>, came: impl Into<String>) -> Self {
        Self { kind, awaited: awaited.into(), came: came.into(), before: Vec::new() }
    }

    #[doc(hidden)]
    pub fn timed_out(awaited: impl Into<String>, limit: Duration) -> Self {
        Self::new(TestErrorKind::TimedOut, awaited, format!("nothing came within {limit:?}"))
    }

    pub(super) fn unexpected(awaited: impl Into<String>, came: impl fmt::Display) -> Self {
        Self::new(TestErrorKind::Unexpected, awaited, format!("{came} came"))
    }

    pub(super) fn malformed(awaited: impl Into<String>, came: impl fmt::Display) -> Self {
        Self::new(TestErrorKind::Malformed, awaited, format!("{came} came"))
    }

    pub(super) fn io(awaited: impl Into<String>, error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Self::new(
                TestErrorKind::Disconnected,
                awaited,
                format!("the client closed the connection ({error})"),
            ),
            _ => Self::new(TestErrorKind::Io, awaited, error.to_string()),
        }
    }

    /// Adds the frames before the error, oldest first.
    pub(super) fn after<'a>(mut self, lines: impl IntoIterator<Item = &'a String>) -> Self {
        self.before = lines.into_iter().cloned().collect();
        self
    }
}

impl fmt::Display for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "awaited {}, but {}", self.awaited, self.came)?;
        if !self.before.is_empty() {
            write!(f, "\nsent before (client >, peer <):")?;
        }
        self.before.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl fmt::Debug for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for TestError {}
