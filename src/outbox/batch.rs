//! The rows that a relay has read and not settled: which are published next, and what has become of them. A plain machine.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::row::{HeldRow, Hold};

/// After so many refusals, a row is parked.
pub(super) const MOST_TRIES: u32 = 10;

/// What a machine knows of a row.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) id: i64,
    /// Empty if the row cannot be read.
    pub(super) message_id: String,
    pub(super) lane: Option<String>,
    pub(super) tries: u32,
}

/// What has become of a publish.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Published,
    /// The broker will never take it.
    Refused(String),
    /// The broker has refused it, and may take it later.
    NotNow(String),
    /// It may have arrived or not, and is no reason to think ill of the row.
    Unavailable,
}

#[derive(Debug)]
pub(super) struct Batch {
    /// Rows that have not begun: one line for each lane, and one row alone in a line of its own without a lane.
    lines: Vec<VecDeque<Head>>,
    /// Lines whose first row may begin.
    ready: VecDeque<usize>,
    in_flight: HashMap<i64, (usize, Head)>,
    published: Vec<i64>,
    held: Vec<HeldRow>,
    stopped: bool,
}

impl Batch {
    pub(super) fn new(heads: Vec<Head>) -> Self {
        let mut lines: Vec<VecDeque<Head>> = Vec::new();
        let mut by_lane: HashMap<String, usize> = HashMap::new();
        for head in heads {
            let known = head.lane.as_ref().and_then(|lane| by_lane.get(lane)).copied();
            match known.and_then(|line| lines.get_mut(line)) {
                Some(line) => line.push_back(head),
                None => {
                    if let Some(lane) = &head.lane {
                        by_lane.insert(lane.clone(), lines.len());
                    }
                    lines.push(VecDeque::from([head]));
                }
            }
        }
        Self {
            ready: (0..lines.len()).collect(),
            lines,
            in_flight: HashMap::new(),
            published: Vec::new(),
            held: Vec::new(),
            stopped: false,
        }
    }

    /// Returns the next row to publish. Of each lane, only one is under way.
    pub(super) fn begin(&mut self) -> Option<i64> {
        if self.stopped {
            return None;
        }
        let line = self.ready.pop_front()?;
        let head = self.lines.get_mut(line)?.pop_front()?;
        let id = head.id;
        self.in_flight.insert(id, (line, head));
        Some(id)
    }

    /// Notes what has become of a row. What is refused stops its lane.
    pub(super) fn end(&mut self, id: i64, verdict: Verdict) {
        let Some((line, head)) = self.in_flight.remove(&id) else { return };
        let hold = match verdict {
            Verdict::Published => {
                self.published.push(id);
                if self.lines.get(line).is_some_and(|rest| !rest.is_empty()) {
                    self.ready.push_back(line);
                }
                return;
            }
            Verdict::Unavailable => return self.stop(),
            Verdict::Refused(reason) => (Hold::Parked, reason),
            Verdict::NotNow(reason) if head.tries + 1 >= MOST_TRIES => (Hold::Parked, reason),
            Verdict::NotNow(reason) => (Hold::For(pause(head.tries)), reason),
        };
        self.held.push(HeldRow { id, tries: head.tries + 1, hold: hold.0, reason: cut(hold.1) });
    }

    /// Begins no more rows.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Gives up what is under way, and returns how many rows that is.
    pub(super) fn cut(&mut self) -> usize {
        self.stop();
        let cut = self.in_flight.len();
        self.in_flight.clear();
        cut
    }

    /// Returns whether nothing is under way, and nothing begins any more.
    pub(super) fn is_over(&self) -> bool {
        self.in_flight.is_empty() && (self.stopped || self.ready.is_empty())
    }

    pub(super) fn published(&self) -> &[i64] {
        &self.published
    }

    pub(super) fn held(&self) -> &[HeldRow] {
        &self.held
    }

    /// Returns how many rows have not begun.
    pub(super) fn left(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }
}

/// How long a row waits after so many earlier refusals: about 50 seconds until it is parked.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(100 << tries.min(9))
}

/// Cuts a reason that is long, as the text of a broker may be.
fn cut(mut reason: String) -> String {
    const MOST: usize = 1_000;
    if reason.len() > MOST {
        let end = (0..=MOST).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or_default();
        reason.truncate(end);
    }
    // PostgreSQL has no such texts.
    reason.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: i64, lane: &str) -> Head {
        Head { id, message_id: format!("m{id}"), lane: (!lane.is_empty()).then(|| lane.to_owned()), tries: 0 }
    }

    fn begin(batch: &mut Batch) -> Vec<i64> {
        std::iter::from_fn(|| batch.begin()).collect()
    }

    #[test]
    fn one_of_each_lane_is_under_way_and_all_without_one() {
        let mut batch = Batch::new(vec![
            head(1, "a"),
            head(2, ""),
            head(3, "a"),
            head(4, ""),
            head(5, "b"),
            head(6, "a"),
        ]);
        assert_eq!(begin(&mut batch), [1, 2, 4, 5]);
        batch.end(5, Verdict::Published);
        assert!(begin(&mut batch).is_empty());
        batch.end(1, Verdict::Published);
        assert_eq!(begin(&mut batch), [3]);
        assert_eq!(batch.left(), 1);
        for id in [2, 3, 4] {
            batch.end(id, Verdict::Published);
        }
        assert!(!batch.is_over());
        assert_eq!(begin(&mut batch), [6]);
        batch.end(6, Verdict::Published);
        assert!(batch.is_over());
        assert_eq!((batch.published(), batch.held()), (&[5, 1, 2, 3, 4, 6][..], &[][..]));
    }

    #[test]
    fn what_is_refused_stops_its_lane_only() {
        let mut batch = Batch::new(vec![head(1, "a"), head(2, "a"), head(3, "b"), head(4, "b"), head(5, "")]);
        assert_eq!(begin(&mut batch), [1, 3, 5]);
        batch.end(1, Verdict::Refused("unroutable".into()));
        batch.end(5, Verdict::NotNow("nacked".into()));
        batch.end(3, Verdict::Published);
        assert_eq!(begin(&mut batch), [4]);
        batch.end(4, Verdict::Published);
        assert!(batch.is_over());
        let held = |id, hold, reason: &str| HeldRow { id, tries: 1, hold, reason: reason.into() };
        let wait = Hold::For(Duration::from_millis(100));
        assert_eq!(batch.held(), [held(1, Hold::Parked, "unroutable"), held(5, wait, "nacked")]);
        assert_eq!((batch.published(), batch.left()), (&[3, 4][..], 1));
    }

    #[test]
    fn the_tenth_refusal_parks() {
        let mut waited = Duration::ZERO;
        for tries in 0..10 {
            let mut batch = Batch::new(vec![Head { tries, ..head(1, "") }]);
            assert_eq!(begin(&mut batch), [1]);
            batch.end(1, Verdict::NotNow("nacked".into()));
            let row = &batch.held()[0];
            assert_eq!(row.tries, tries + 1);
            match row.hold {
                Hold::For(wait) => waited += wait,
                Hold::Parked => assert_eq!(tries, 9),
            }
        }
        assert_eq!(waited, Duration::from_millis(51_100));
    }

    #[test]
    fn an_outage_stops_the_batch_and_blames_no_row() {
        let mut batch = Batch::new(vec![head(1, "a"), head(2, "a"), head(3, "")]);
        assert_eq!(begin(&mut batch), [1, 3]);
        batch.end(1, Verdict::Unavailable);
        assert!(!batch.is_over());
        batch.end(3, Verdict::Published);
        assert!(batch.is_over());
        assert_eq!((begin(&mut batch), batch.published(), batch.left()), (vec![], &[3][..], 1));
        let mut cut = Batch::new(vec![head(1, ""), head(2, "")]);
        assert_eq!((begin(&mut cut).len(), cut.cut(), cut.is_over()), (2, 2, true));
        cut.end(1, Verdict::Published);
        assert_eq!(cut.published(), &[] as &[i64]);
    }

    #[test]
    fn reasons_are_bounded() {
        assert_eq!(cut("ä".repeat(600)).len(), 1_000);
        assert_eq!(cut(format!("x{}", "ä".repeat(600))).len(), 999);
        assert_eq!(cut("a\0b".into()), "a\u{fffd}b");
    }
}
