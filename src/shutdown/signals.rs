//! The signals that end a process.

use std::{
    fmt, io,
    task::{Context, Poll},
};

/// The signal that has begun a shutdown.
///
/// # Examples
/// ```
/// use actix_pika::shutdown::{ShutdownReport, StopSignal};
///
/// fn was_interrupted(report: &ShutdownReport) -> bool {
///     report.signal == Some(StopSignal::Interrupt)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopSignal {
    /// SIGTERM, which process managers send.
    Terminate,
    /// SIGINT, or Ctrl-C.
    Interrupt,
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Receives the signals of the process.
#[cfg(unix)]
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Replaces what the signals do by default, for the rest of the process.
    pub(super) fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<StopSignal> {
        if self.terminate.poll_recv(cx).is_ready() {
            return Poll::Ready(StopSignal::Terminate);
        }
        self.interrupt.poll_recv(cx).map(|_| StopSignal::Interrupt)
    }
}

/// Receives Ctrl-C.
#[cfg(windows)]
pub(super) struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<StopSignal> {
        self.0.poll_recv(cx).map(|_| StopSignal::Interrupt)
    }
}

/// There are no signals on this platform.
#[cfg(not(any(unix, windows)))]
pub(super) struct Signals;

#[cfg(not(any(unix, windows)))]
impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<StopSignal> {
        Poll::Pending
    }
}
