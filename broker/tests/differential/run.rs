//! Many sequences at once, and what came of them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_pika_broker::Line;
use tokio::{
    task::JoinSet,
    time::{Instant, interval},
};

use super::{
    generator::sequence,
    normal::Rule,
    session::{Compared, Difference, Pair},
    shrink::Shrink,
    side::Place,
};

/// How often a sequence with a difference is said again.
const AGAIN: usize = 5;
/// How often it is said with fewer operations, at most.
pub(crate) const SHRINKS: usize = 120;

/// What is compared.
pub(crate) struct Run {
    pub(crate) ours: String,
    pub(crate) node: String,
    /// One virtual host for each of those who say sequences.
    pub(crate) vhosts: Vec<String>,
    pub(crate) sequences: Source,
    pub(crate) patience: Patience,
    pub(crate) shrinks: usize,
    /// The line of the node.
    pub(crate) line: Line,
}

/// How long the node may take to say what our side has said.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) first: Duration,
    /// While a difference is shrunk, which waits for that long each time.
    pub(crate) shrinking: Duration,
}

/// Where sequences come from.
pub(crate) enum Source {
    Seeds(Range<u64>),
    Given(Vec<String>),
}

/// A sequence after which the sides are not the same.
pub(crate) struct Found {
    pub(crate) seed: u64,
    pub(crate) difference: Difference,
    /// How often it differed when it was said again.
    pub(crate) again: usize,
    /// The broker has said something else then.
    pub(crate) broker_varies: bool,
}

impl Found {
    /// Whether the node has also said what the broker says, each time.
    pub(crate) fn is_by_chance(&self) -> bool {
        self.again < AGAIN && !self.broker_varies
    }
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) sequences: u64,
    pub(crate) operations: u64,
    pub(crate) rules: BTreeMap<Rule, u64>,
    pub(crate) found: Vec<Found>,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by_chance = self.found.iter().filter(|found| found.is_by_chance()).count();
        write!(
            f,
            "{} sequences, {} operations, {} differences, {by_chance} by chance of the node; rules: {:?}",
            self.sequences,
            self.operations,
            self.found.len() - by_chance,
            self.rules
        )
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { said, ours, node, .. } = &self.difference;
        let mut text = format!("seed {}, differs {} of {AGAIN} times:\n", self.seed, self.again);
        for line in said {
            writeln!(text, "    {line}")?;
        }
        if self.broker_varies {
            text.push_str("  the broker has said something else then\n");
        }
        write!(f, "{text}  ours {ours:#?}\n  node {node:#?}")
    }
}

/// Says all sequences. `progress` hears of each difference and, now and then, of the state.
pub(crate) async fn run(run: Run, progress: bool) -> Report {
    let run = Arc::new(run);
    let numbers = Arc::new(Numbers::default());
    if let Source::Seeds(seeds) = &run.sequences {
        numbers.next.store(seeds.start, Ordering::Relaxed);
    }
    let mut workers = JoinSet::new();
    for vhost in &run.vhosts {
        let (run, numbers) = (Arc::clone(&run), Arc::clone(&numbers));
        let place = |address: &str| Place { address: address.to_owned(), vhost: vhost.clone() };
        let pair = Pair::new(place(&run.ours), place(&run.node), run.line);
        workers.spawn(async move { Worker { run, numbers, pair, progress }.work().await });
    }
    let started = Instant::now();
    let mut ticks = interval(Duration::from_secs(30));
    ticks.tick().await;
    let mut report = Report::default();
    loop {
        tokio::select! {
            worker = workers.join_next() => match worker {
                Some(part) => report.add(part.expect("a worker ends")),
                None => return report,
            },
            _ = ticks.tick(), if progress => {
                let done = numbers.done.load(Ordering::Relaxed);
                let seconds = started.elapsed().as_secs();
                say(&format!("{done} sequences in {seconds} s"));
            }
        }
    }
}

#[derive(Default)]
struct Numbers {
    next: AtomicU64,
    done: AtomicU64,
    names: AtomicU64,
}

struct Worker {
    run: Arc<Run>,
    numbers: Arc<Numbers>,
    pair: Pair,
    progress: bool,
}

impl Worker {
    async fn work(mut self) -> Report {
        let mut report = Report::default();
        while let Some((seed, operations)) = self.next() {
            let mut compared = self.compare(&operations, self.run.patience.first).await;
            self.numbers.done.fetch_add(1, Ordering::Relaxed);
            report.sequences += 1;
            report.operations += compared.operations;
            if self.progress && matches!(self.run.sequences, Source::Given(_)) {
                say(&compared.transcript.join("\n"));
            }
            for (rule, count) in std::mem::take(&mut compared.rules) {
                *report.rules.entry(rule).or_default() += count;
            }
            if let Some(difference) = compared.difference.take() {
                let found = self.look_into(seed, operations, difference, &compared.ours).await;
                if self.progress {
                    say(&found.to_string());
                }
                report.found.push(found);
            }
        }
        report
    }

    fn next(&self) -> Option<(u64, Vec<String>)> {
        let seed = self.numbers.next.fetch_add(1, Ordering::Relaxed);
        match &self.run.sequences {
            Source::Seeds(seeds) => seeds.contains(&seed).then(|| (seed, sequence(seed))),
            Source::Given(operations) => (seed == 0).then(|| (seed, operations.clone())),
        }
    }

    async fn compare(&mut self, operations: &[String], patience: Duration) -> Compared {
        let number = self.numbers.names.fetch_add(1, Ordering::Relaxed);
        self.pair.compare(operations, number, patience).await
    }

    /// Says a sequence again, and makes it short if it differs always.
    async fn look_into(
        &mut self,
        seed: u64,
        mut operations: Vec<String>,
        first: Difference,
        ours: &[String],
    ) -> Found {
        operations.truncate(first.at + 1);
        let (mut again, mut broker_varies) = (0, false);
        for _ in 0..AGAIN {
            let compared = self.compare(&operations, self.run.patience.first).await;
            again += usize::from(compared.difference.is_some());
            // One that differs earlier has said less.
            broker_varies |= ours.iter().zip(&compared.ours).any(|(first, now)| first != now);
        }
        if again < AGAIN || self.run.shrinks == 0 {
            return Found { seed, difference: first, again, broker_varies };
        }
        let mut shrink = Shrink::new(operations, self.run.shrinks);
        while let Some(candidate) = shrink.candidate() {
            let differs = self.compare(&candidate, self.run.patience.shrinking).await.difference.is_some();
            shrink.answer(candidate, differs);
        }
        let shrunk = shrink.into_operations();
        let difference = self.compare(&shrunk, self.run.patience.first).await.difference.unwrap_or(first);
        Found { seed, difference, again, broker_varies }
    }
}

impl Report {
    fn add(&mut self, part: Self) {
        self.sequences += part.sequences;
        self.operations += part.operations;
        for (rule, count) in part.rules {
            *self.rules.entry(rule).or_default() += count;
        }
        self.found.extend(part.found);
    }
}

/// Writes past the capture of the test runner, since a run takes long.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "differential: {text}");
}
