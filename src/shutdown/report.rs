//! What a shutdown has done.

use std::{fmt, time::Duration};

use super::StopSignal;
use crate::{Result, tasks::DrainReport};

/// What became of everything that ran when a shutdown began.
///
/// `Display` writes it in one line, for a log.
///
/// # Examples
/// ```no_run
/// # async fn run(shutdown: actix_pika::shutdown::Shutdown) {
/// let report = shutdown.now().await;
/// if !report.is_complete() {
///     eprintln!("{} tasks were cut off", report.tasks().abandoned);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The signal that has begun it; `None` if the application has.
    pub signal: Option<StopSignal>,
    /// A second signal has ended it: what was not done by then was cut off.
    pub is_forced: bool,
    /// The deadline has passed: what was not done by then was cut off.
    pub deadline_passed: bool,
    /// How long it took.
    pub took: Duration,
    /// The HTTP requests, if they are counted.
    pub requests: Option<RequestReport>,
    /// The consumers, workers and servers, in the order in which they were added.
    pub consumers: Vec<Drained>,
    /// The relays.
    pub relays: Vec<Drained>,
    /// The bridges.
    pub bridges: Vec<Drained>,
    /// The connections.
    pub connections: Vec<ClosedConnection>,
}

/// What became of the HTTP requests that were in flight when the server stopped to accept connections.
///
/// # Examples
/// ```
/// use actix_pika::shutdown::RequestReport;
///
/// fn print(requests: &RequestReport) {
///     println!("{} of {} requests were answered", requests.finished, requests.in_flight);
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestReport {
    /// Requests in flight when the server stopped to accept connections, and those that came later on connections that
    /// were open.
    pub in_flight: usize,
    /// Those that were answered.
    pub finished: usize,
    /// Those that were cut off.
    pub cut: usize,
}

/// What became of the work of one consumer, relay or bridge.
///
/// # Examples
/// ```
/// use actix_pika::shutdown::Drained;
///
/// fn print(consumer: &Drained) {
///     println!("{}: {} tasks done", consumer.name, consumer.report.finished);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Its [name](super::Drain::name).
    pub name: String,
    /// What it has reported; all 0 if it has not.
    pub report: DrainReport,
    /// Whether it has reported in time. If not, its thread is blocked, or it has panicked.
    pub has_reported: bool,
}

/// How a connection was closed.
///
/// # Examples
/// ```
/// use actix_pika::shutdown::ClosedConnection;
///
/// fn print(connection: &ClosedConnection) {
///     match &connection.result {
///         Ok(()) => println!("closed, everything is confirmed"),
///         Err(error) => println!("{} publishes may be lost: {error}", connection.unconfirmed),
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClosedConnection {
    /// Its [name](crate::Connection::name), or its number, in the order in which connections were added.
    pub name: String,
    /// Publishes that were not confirmed when it was closed.
    pub unconfirmed: usize,
    /// The result of [`Connection::close`](crate::Connection::close).
    pub result: Result<()>,
}

impl ShutdownReport {
    /// Returns the sum of the reports of all consumers, workers and servers.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::shutdown::ShutdownReport;
    /// fn print(report: &ShutdownReport) {
    ///     println!("{} tasks were given back", report.tasks().given_back);
    /// }
    /// ```
    pub fn tasks(&self) -> DrainReport {
        self.consumers.iter().fold(DrainReport::default(), |sum, one| sum.plus(one.report))
    }

    /// Returns how many publishes were not confirmed when their connections were closed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::shutdown::ShutdownReport;
    /// fn print(report: &ShutdownReport) {
    ///     println!("{} publishes may be lost", report.unconfirmed());
    /// }
    /// ```
    pub fn unconfirmed(&self) -> usize {
        self.connections.iter().map(|connection| connection.unconfirmed).sum()
    }

    /// Returns whether nothing was cut off, and each connection was closed with everything confirmed.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::shutdown::ShutdownReport;
    /// fn exit_code(report: &ShutdownReport) -> i32 {
    ///     if report.is_complete() { 0 } else { 1 }
    /// }
    /// ```
    pub fn is_complete(&self) -> bool {
        let mut drained = self.consumers.iter().chain(&self.relays).chain(&self.bridges);
        drained.all(|one| one.has_reported && one.report.abandoned == 0)
            && self.requests.is_none_or(|requests| requests.cut == 0)
            && self.connections.iter().all(|connection| connection.result.is_ok())
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(f, "shutdown by {signal}")?,
            None => f.write_str("shutdown")?,
        }
        write!(f, " in {:.1?}", self.took)?;
        if self.is_forced {
            f.write_str(", ended by a second signal")?;
        }
        if self.deadline_passed {
            f.write_str(", the deadline has passed")?;
        }
        if let Some(requests) = &self.requests {
            write!(f, "; requests: {} finished, {} cut off", requests.finished, requests.cut)?;
        }
        for one in self.consumers.iter().chain(&self.relays).chain(&self.bridges) {
            write!(f, "; {one}")?;
        }
        for connection in &self.connections {
            write!(f, "; connection {:?}: ", connection.name)?;
            match &connection.result {
                Ok(()) => f.write_str("closed")?,
                Err(error) => write!(f, "{error}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, report: DrainReport { finished, given_back, abandoned }, has_reported } = self;
        match has_reported {
            true => write!(f, "{name:?}: {finished} finished, {given_back} given back, {abandoned} cut off"),
            false => write!(f, "{name:?}: no report"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_pika_actors::facade;

    fn drained(finished: usize, given_back: usize, abandoned: usize) -> Drained {
        let report = DrainReport { finished, given_back, abandoned };
        Drained { name: "mail".into(), report, has_reported: true }
    }

    /// SHUT-05
    #[test]
    fn a_report_adds_up_and_fits_in_a_line() {
        let took = Duration::from_millis(1_250);
        let mut report = ShutdownReport { took, ..ShutdownReport::default() };
        report.consumers = vec![drained(3, 2, 0), drained(1, 0, 0)];
        report.connections = vec![ClosedConnection { name: "0".into(), unconfirmed: 0, result: Ok(()) }];
        assert_eq!(report.tasks(), DrainReport { finished: 4, given_back: 2, abandoned: 0 });
        assert!(report.is_complete());
        report.signal = Some(StopSignal::Terminate);
        report.requests = Some(RequestReport { in_flight: 2, finished: 2, cut: 0 });
        assert_eq!(
            report.to_string(),
            "shutdown by SIGTERM in 1.2s; requests: 2 finished, 0 cut off; \
             \"mail\": 3 finished, 2 given back, 0 cut off; \"mail\": 1 finished, 0 given back, 0 cut off; \
             connection \"0\": closed"
        );
    }

    /// SHUT-05
    #[test]
    fn whatever_was_cut_off_makes_it_incomplete() {
        let complete = ShutdownReport::default();
        assert!(complete.is_complete());
        let lost =
            ClosedConnection { name: "0".into(), unconfirmed: 3, result: Err(facade::timed_out("closed")) };
        let silent = Drained { has_reported: false, ..drained(0, 0, 0) };
        let cut = Some(RequestReport { in_flight: 1, finished: 0, cut: 1 });
        for report in [
            ShutdownReport { consumers: vec![drained(0, 0, 1)], ..complete.clone() },
            ShutdownReport { relays: vec![drained(0, 0, 1)], ..complete.clone() },
            ShutdownReport { bridges: vec![silent], ..complete.clone() },
            ShutdownReport { requests: cut, ..complete.clone() },
            ShutdownReport { connections: vec![lost], ..complete.clone() },
        ] {
            assert!(!report.is_complete(), "{report}");
        }
    }
}
