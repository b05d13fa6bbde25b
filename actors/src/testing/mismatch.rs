//! The one error of this module: what a test awaited, and what came instead.

use std::{error, fmt, io, time::Duration};

/// Says what was awaited, what came instead, and the last lines of the dialogue before it.
///
/// `Debug` prints the same text as `Display`, because that is what a failing test shows.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{Mismatch, MismatchKind};
/// fn is_slow(mismatch: &Mismatch) -> bool {
///     mismatch.kind() == MismatchKind::TimedOut
/// }
/// ```
pub struct Mismatch {
    kind: MismatchKind,
    awaited: String,
    came: String,
    before: Vec<String>,
}

/// Tells how the other side failed to do what was awaited.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::{MismatchKind, Socket};
/// # async fn said(socket: &mut Socket) {
/// let mismatch = socket.next_frame().await.unwrap_err();
/// assert_eq!(mismatch.kind(), MismatchKind::HungUp);
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MismatchKind {
    /// Nothing came within the time limit.
    TimedOut,
    /// Something else came.
    Unexpected,
    /// The other side hung up, with FIN or RST.
    HungUp,
    /// Bytes came that are not AMQP.
    Malformed,
    /// The operating system refused.
    Io,
}

impl Mismatch {
    /// Tells the cases apart.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{Mismatch, MismatchKind};
    /// fn has_hung_up(mismatch: &Mismatch) -> bool {
    ///     mismatch.kind() == MismatchKind::HungUp
    /// }
    /// ```
    pub fn kind(&self) -> MismatchKind {
        self.kind
    }

    pub(super) fn new(kind: MismatchKind, awaited: impl Into<String>, came: impl Into<String>) -> Self {
        Self { kind, awaited: awaited.into(), came: came.into(), before: Vec::new() }
    }

    pub(super) fn timed_out(awaited: impl Into<String>, limit: Duration) -> Self {
        Self::new(MismatchKind::TimedOut, awaited, format!("nothing came within {limit:?}"))
    }

    pub(super) fn unexpected(awaited: impl Into<String>, came: impl fmt::Display) -> Self {
        Self::new(MismatchKind::Unexpected, awaited, format!("{came} came"))
    }

    pub(super) fn malformed(awaited: impl Into<String>, came: impl fmt::Display) -> Self {
        Self::new(MismatchKind::Malformed, awaited, format!("{came} came"))
    }

    pub(super) fn io(awaited: impl Into<String>, error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => {
                Self::new(MismatchKind::HungUp, awaited, format!("the client hung up ({error})"))
            }
            _ => Self::new(MismatchKind::Io, awaited, error.to_string()),
        }
    }

    /// Adds what had been said before, oldest line first.
    pub(super) fn after<'a>(mut self, lines: impl IntoIterator<Item = &'a String>) -> Self {
        self.before = lines.into_iter().cloned().collect();
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "awaited {}, but {}", self.awaited, self.came)?;
        if !self.before.is_empty() {
            write!(f, "\nsaid before (client >, peer <):")?;
        }
        self.before.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for Mismatch {}
