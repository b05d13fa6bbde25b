//! A sequence said to both sides, answer by answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use actix_pika_broker::Line;
use amq_protocol::protocol::{AMQPClass, exchange, queue};
use tokio::time::{Instant, sleep};

use super::{
    answer::{Answer, Said},
    excuses::Excuses,
    monitor::{Monitor, States},
    names::{EXCHANGES, Names, QUEUES},
    normal::{Rule, same},
    operation::{Operation, operation},
    side::{MONITOR, PATIENCE, Place, Side, spare},
    unsettled::Unsettled,
};

/// The pause after each operation of a sequence with times to live, which are 20 ms.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a node may still say something at the end.
const QUIET: Duration = Duration::from_millis(100);

/// The most that a node is given between two questions about its queues.
const MOST_BETWEEN_QUESTIONS: Duration = Duration::from_millis(80);

/// The first operation after which the sides are not the same.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// Its place in the sequence.
    pub(crate) at: usize,
    /// What was said up to it, with the tags of our side.
    pub(crate) said: Vec<String>,
    pub(crate) ours: Vec<String>,
    pub(crate) node: Vec<String>,
}

/// What came of a sequence.
#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) operations: u64,
    /// How often a rule of the normal form was needed.
    pub(crate) rules: BTreeMap<Rule, u64>,
    /// What our side said and had in its queues.
    pub(crate) ours: Vec<String>,
    /// Each operation, and what our side answered.
    pub(crate) transcript: Vec<String>,
    pub(crate) difference: Option<Difference>,
}

/// Both sides, in a virtual host of their own.
pub(crate) struct Pair {
    ours: Side,
    node: Side,
    /// The line of the node.
    line: Line,
}

struct Sequence<'a> {
    pair: &'a mut Pair,
    patience: Duration,
    is_slow: bool,
    /// What follows depends on chance.
    is_over: bool,
    monitor: Monitor,
    unsettled: Unsettled,
    watching: [BTreeSet<&'static str>; 2],
    excuses: Excuses,
    said: Vec<String>,
    compared: Compared,
}

impl Pair {
    pub(crate) fn new(ours: Place, node: Place, line: Line) -> Self {
        let (ours, node) = (Side::new(ours, Names::new(0)), Side::new(node, Names::new(0)));
        Self { ours, node, line }
    }

    /// Says operations under names with this number, as long as the sides are the same. `patience` is how long the
    /// node may take to say what our side has said.
    pub(crate) async fn compare(
        &mut self,
        operations: &[String],
        number: u64,
        patience: Duration,
    ) -> Compared {
        for side in [&mut self.ours, &mut self.node] {
            side.begin(Names::new(number));
        }
        let excuses = Excuses::new(self.line);
        let mut sequence = Sequence {
            pair: self,
            patience,
            is_slow: false,
            is_over: false,
            monitor: Monitor::default(),
            unsettled: Unsettled::default(),
            watching: Default::default(),
            excuses,
            said: Vec::new(),
            compared: Compared::default(),
        };
        'said: for (at, text) in operations.iter().enumerate() {
            for step in sequence.steps(text) {
                if let Some((ours, node)) = sequence.step(&step).await {
                    let said = std::mem::take(&mut sequence.said);
                    sequence.compared.difference = Some(Difference { at, said, ours, node });
                    break 'said;
                }
                if sequence.is_over {
                    break 'said;
                }
            }
        }
        if !sequence.is_over && sequence.compared.difference.is_none() {
            sequence.compared.difference = sequence.quiet(operations.len()).await;
        }
        let compared = sequence.compared;
        tokio::join!(self.ours.clean(), self.node.clean());
        compared
    }
}

impl Sequence<'_> {
    /// What is said for an operation. The channels of a connection that is about to end are closed before, one by one,
    /// since those of a node end in any order: what one of them gives back may go to another one first.
    fn steps(&self, text: &str) -> Vec<String> {
        let mut steps = Vec::new();
        if let ["drop" | "shut", letter] = text.split(' ').collect::<Vec<_>>()[..] {
            let letter = letter.chars().next().unwrap_or_default();
            steps.extend(
                self.pair.ours.operated(letter).skip(1).map(|channel| format!("{letter}{channel} close")),
            );
        }
        steps.push(text.to_owned());
        steps
    }

    /// Says an operation to both; returns what differs.
    async fn step(&mut self, text: &str) -> Option<(Vec<String>, Vec<String>)> {
        let (ours, node, said) = self.resolve(text)?;
        self.excuses.note(&ours);
        self.said.push(said);
        self.compared.operations += 1;
        if matches!(ours, Operation::Slow) {
            self.is_slow = true;
            return None;
        }
        let closing: BTreeMap<char, usize> = self
            .pair
            .ours
            .letters()
            .into_iter()
            .map(|letter| (letter, self.pair.ours.channels(letter)))
            .collect();
        let pause = if self.is_slow { PAUSE } else { Duration::ZERO };
        let Pair { ours: our_side, node: node_side, line } = &mut *self.pair;
        tokio::join!(our_side.say(&ours, pause), node_side.say(&node, pause));
        // What our side says is complete then. The node is waited for, which spares it these questions.
        our_side.barriers().await;
        let mut ours_said = lines(our_side);
        ours_said.sort();
        self.compared.ours.extend(ours_said);
        let until = Instant::now() + self.patience;
        let streams = self.monitor.streams();
        let rules = loop {
            let (said, heard) = (our_side.answers(), node_side.answers());
            if let Some(rules) = same(said, heard, &streams) {
                break rules;
            }
            // It says something else, and that is all.
            let enough = heard.len() >= said.len();
            let until = if enough { until.min(Instant::now() + QUIET) } else { until };
            if !node_side.more(until).await {
                let differ = (lines(our_side), lines(node_side));
                let excuse = self.excuses.of_answers(&ours, node_side.answers());
                return self.unless_excused(excuse, differ);
            }
        };
        for rule in rules {
            *self.compared.rules.entry(rule).or_default() += 1;
        }
        let is_closed = |answer: &Answer| {
            matches!(answer.said, Said::ConnectionClosed(_))
                && closing.get(&answer.at.connection).is_some_and(|channels| *channels > 1)
        };
        if our_side.answers().iter().any(is_closed) {
            self.is_over = true;
            return None;
        }
        self.monitor.note(&ours, text);
        let [our_watching, node_watching] = &mut self.watching;
        let our_states = self.monitor.ask(our_side, our_watching).await;
        self.compared.ours.extend(states(&our_states));
        let mut pauses = [5, 10, 20, 40].map(Duration::from_millis).into_iter();
        loop {
            let node_states = self.monitor.ask(node_side, node_watching).await;
            if node_states == our_states {
                break;
            }
            if Instant::now() > until {
                let is_left =
                    *line == Line::V4_3 && self.monitor.are_single_active(&our_states, &node_states);
                let excuse = if is_left { Some(Rule::LeftConsumer) } else { self.excuses.of_states(&ours) };
                return self.unless_excused(excuse, (states(&our_states), states(&node_states)));
            }
            sleep(pauses.next().unwrap_or(MOST_BETWEEN_QUESTIONS)).await;
        }
        self.monitor.settle(&our_states);
        let (our_answers, node_answers) = (our_side.take_answers(), node_side.take_answers());
        self.unsettled.note(&ours, &our_answers, &node_answers);
        self.compared.transcript.extend(self.said.last().cloned());
        self.compared.transcript.extend(our_answers.iter().map(|answer| format!("    {answer}")));
        None
    }

    fn unless_excused<D>(&mut self, excuse: Option<Rule>, differ: D) -> Option<D> {
        let Some(rule) = excuse else { return Some(differ) };
        *self.compared.rules.entry(rule).or_default() += 1;
        self.is_over = true;
        None
    }

    /// Returns what is said to each side, and that as text.
    fn resolve(&mut self, text: &str) -> Option<(Operation, Operation, String)> {
        let ours = operation(text, self.pair.ours.names());
        let Operation::Settle(at, settle) = ours else {
            let node = operation(text, self.pair.node.names());
            return Some((ours, node, text.to_owned()));
        };
        let resolved = self.unsettled.resolve(at, settle)?;
        let words: Vec<String> = text
            .split(' ')
            .enumerate()
            .filter(|(_, word)| resolved.multiple || *word != "multiple")
            .map(|(place, word)| if place == 2 { resolved.tag.to_string() } else { word.to_owned() })
            .collect();
        Some((Operation::Method(at, resolved.ours), Operation::Method(at, resolved.node), words.join(" ")))
    }

    /// Waits for what a node still says, which our side has not.
    async fn quiet(&mut self, at: usize) -> Option<Difference> {
        let until = Instant::now() + QUIET;
        while self.pair.node.more(until).await {}
        let (ours, node) = (lines(&self.pair.ours), lines(&self.pair.node));
        let said = std::mem::take(&mut self.said);
        (!node.is_empty()).then_some(Difference { at, said, ours, node })
    }
}

impl Side {
    async fn say(&mut self, operation: &Operation, pause: Duration) {
        match operation {
            Operation::Slow => {}
            Operation::Drop(letter) => {
                self.drop_connection(*letter).await;
            }
            Operation::Shut(letter) => {
                self.shut_connection(*letter).await;
            }
            Operation::Method(at, method) => self.method(*at, method.clone()).await,
            Operation::Publish(at, publish) => self.publish(*at, publish.as_ref().clone()).await,
            Operation::Settle(..) => unreachable!("a settle is said with its tag"),
        }
        if !pause.is_zero() {
            sleep(pause).await;
        }
        self.wait_for_ends().await;
    }

    /// Takes away what a sequence has left.
    async fn clean(&mut self) {
        for letter in self.letters() {
            // A connection that has nothing of its own is used again, which spares a node most of its work.
            match self.peers[&letter].has_exclusive {
                _ if letter == MONITOR => {}
                true => self.shut_connection(letter).await,
                false => self.close_operated(letter).await,
            }
        }
        let mut names: Vec<String> = QUEUES.iter().map(|name| self.names().full(name)).collect();
        names.extend(self.take_generated());
        let delete = |name: String| {
            AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
                queue: name.as_str().into(),
                ..queue::Delete::default()
            }))
        };
        let mut questions: Vec<_> = names.into_iter().map(|name| (spare(MONITOR), delete(name))).collect();
        questions.extend(EXCHANGES.iter().map(|name| {
            let exchange = self.names().full(name).as_str().into();
            let delete = exchange::Delete { exchange, if_unused: false, nowait: false };
            (spare(MONITOR), AMQPClass::Exchange(exchange::AMQPMethod::Delete(delete)))
        }));
        // A node may lock the queues of a connection until a while after the connection is closed.
        let until = Instant::now() + PATIENCE;
        while let Some(refused) =
            self.ask(questions.clone()).await.into_iter().find(|said| !matches!(said, Said::Reply(_)))
        {
            assert!(Instant::now() < until, "{:?} keeps what a sequence has left: {refused:?}", self.names());
            sleep(MOST_BETWEEN_QUESTIONS).await;
        }
        self.close_channels(MONITOR).await;
    }
}

fn lines(side: &Side) -> Vec<String> {
    side.answers().iter().map(ToString::to_string).collect()
}

fn states(states: &States) -> Vec<String> {
    states.iter().map(|(name, state)| format!("{name}: {state:?}")).collect()
}
