//! Counts the HTTP requests of a server, for the report.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::RequestReport;

/// The requests of a server. All numbers only count up.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    begun: AtomicU64,
    /// Those whose response was passed on completely.
    finished: AtomicU64,
    /// Those that ended before that: by the server, by their client, by a panic.
    cut: AtomicU64,
    at_stop: OnceLock<AtStop>,
}

/// The numbers when the server stopped to accept connections.
#[derive(Clone, Copy, Debug)]
struct AtStop {
    finished: u64,
    cut: u64,
}

impl Requests {
    /// The server stops to accept connections. The first call counts.
    pub(crate) fn stop(&self) {
        self.at_stop.get_or_init(|| AtStop {
            finished: self.finished.load(Ordering::Relaxed),
            cut: self.cut.load(Ordering::Relaxed),
        });
    }

    /// Returns what became of the requests since then. What still runs counts as cut.
    pub(crate) fn report(&self) -> RequestReport {
        self.stop();
        let [finished, cut, begun] =
            [&self.finished, &self.cut, &self.begun].map(|n| n.load(Ordering::Relaxed));
        let Some(at_stop) = self.at_stop.get() else { return RequestReport::default() };
        let mut report = RequestReport::default();
        report.in_flight = begun.saturating_sub(at_stop.finished + at_stop.cut) as usize;
        report.finished = (finished - at_stop.finished) as usize;
        report.cut = report.in_flight.saturating_sub(report.finished).max((cut - at_stop.cut) as usize);
        report
    }
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight {
    requests: Arc<Requests>,
    pub(crate) is_finished: bool,
}

impl InFlight {
    pub(crate) fn begin(requests: &Arc<Requests>) -> Self {
        requests.begun.fetch_add(1, Ordering::Relaxed);
        Self { requests: requests.clone(), is_finished: false }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counter = if self.is_finished { &self.requests.finished } else { &self.requests.cut };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(report: RequestReport) -> (usize, usize, usize) {
        (report.in_flight, report.finished, report.cut)
    }

    /// SHUT-05
    #[test]
    fn requests_count_from_the_stop_of_the_server_on() {
        let requests = Arc::<Requests>::default();
        let begin = || InFlight::begin(&requests);
        let end = |mut request: InFlight, is_finished| {
            request.is_finished = is_finished;
            drop(request);
        };
        end(begin(), true);
        end(begin(), false);
        let (first, second, third) = (begin(), begin(), begin());
        requests.stop();
        assert_eq!(counted(requests.report()), (3, 0, 3), "all of them still run");
        end(first, true);
        requests.stop();
        end(second, false);
        let late = begin();
        assert_eq!(counted(requests.report()), (4, 1, 3));
        end(late, true);
        end(third, true);
        assert_eq!(counted(requests.report()), (4, 3, 1));
    }
}
