//! Subscribers by topic pattern, as a trie of words that is walked once for each message. A plain machine.
//!
//! The rules are those of RabbitMQ's topic exchanges: words are split at every dot, `*` matches one word, an empty one
//! too, and `#` any number of words. The empty key has no words; neither has the empty pattern.

use std::collections::HashMap;

/// Subscribers `S` by pattern.
#[derive(Debug)]
pub(super) struct Topics<S> {
    nodes: Vec<Node<S>>,
    free: Vec<usize>,
    /// Counts the words that were walked, so that a node is entered once for each.
    step: u64,
    /// The nodes that the words so far lead to, and those that the next word leads to.
    active: Vec<usize>,
    next: Vec<usize>,
}

#[derive(Debug)]
struct Node<S> {
    parent: usize,
    children: HashMap<Box<[u8]>, usize>,
    /// The children of `*` and of `#`.
    one: Option<usize>,
    any: Option<usize>,
    /// Whether it is the child of a `#`, which goes on matching.
    is_any: bool,
    /// Those of the pattern that ends here.
    subscribers: Vec<(u64, S)>,
    /// The step at which it was entered last.
    entered: u64,
    /// The message that it matched last.
    matched: u64,
}

impl<S> Node<S> {
    fn new(parent: usize, is_any: bool) -> Self {
        let children = HashMap::new();
        Self {
            parent,
            children,
            one: None,
            any: None,
            is_any,
            subscribers: Vec::new(),
            entered: 0,
            matched: 0,
        }
    }

    fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.children.is_empty() && self.one.is_none() && self.any.is_none()
    }
}

const ROOT: usize = 0;

/// Splits a key or a pattern into its words.
fn words(of: &[u8]) -> impl Iterator<Item = &[u8]> {
    let none = of.is_empty();
    of.split(|byte| *byte == b'.').skip(usize::from(none))
}

impl<S> Topics<S> {
    pub(super) fn new() -> Self {
        let nodes = vec![Node::new(ROOT, false)];
        Self { nodes, free: Vec::new(), step: 0, active: Vec::new(), next: Vec::new() }
    }

    /// Adds a subscriber with a pattern.
    pub(super) fn insert(&mut self, pattern: &[u8], id: u64, subscriber: S) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = self.child(at, word).unwrap_or_else(|| self.add_child(at, word));
        }
        self.nodes[at].subscribers.push((id, subscriber));
    }

    /// Removes a subscriber.
    pub(super) fn remove(&mut self, pattern: &[u8], id: u64) -> Option<S> {
        let mut at = ROOT;
        for word in words(pattern) {
            at = self.child(at, word)?;
        }
        let subscribers = &mut self.nodes[at].subscribers;
        let found = subscribers.iter().position(|(known, _)| *known == id)?;
        let (_, subscriber) = subscribers.swap_remove(found);
        self.prune(at);
        Some(subscriber)
    }

    fn child(&self, at: usize, word: &[u8]) -> Option<usize> {
        let node = &self.nodes[at];
        match word {
            b"*" => node.one,
            b"#" => node.any,
            word => node.children.get(word).copied(),
        }
    }

    fn add_child(&mut self, parent: usize, word: &[u8]) -> usize {
        let node = Node::new(parent, word == b"#");
        let child = match self.free.pop() {
            Some(free) => {
                self.nodes[free] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let parent = &mut self.nodes[parent];
        match word {
            b"*" => parent.one = Some(child),
            b"#" => parent.any = Some(child),
            word => {
                parent.children.insert(Box::from(word), child);
            }
        }
        child
    }

    /// Removes a node that is not used any more, and those above that are not without it.
    fn prune(&mut self, mut at: usize) {
        while at != ROOT && self.nodes[at].is_unused() {
            self.free.push(at);
            let above = self.nodes[at].parent;
            let parent = &mut self.nodes[above];
            if parent.one == Some(at) {
                parent.one = None;
            } else if parent.any == Some(at) {
                parent.any = None;
            } else {
                parent.children.retain(|_, child| *child != at);
            }
            at = above;
        }
    }

    /// Passes on each subscriber with a pattern that matches one of the keys of a message, once.
    pub(super) fn matching<'k>(
        &mut self,
        keys: impl IntoIterator<Item = &'k [u8]>,
        mut found: impl FnMut(&S),
    ) {
        let message = self.step + 1;
        for key in keys {
            self.step += 1;
            self.active.clear();
            self.enter(ROOT);
            std::mem::swap(&mut self.active, &mut self.next);
            for word in words(key) {
                self.step += 1;
                self.follow(word);
            }
            for &at in &self.active {
                let node = &mut self.nodes[at];
                // Another key may have matched it.
                if node.matched != message {
                    node.matched = message;
                    node.subscribers.iter().for_each(|(_, subscriber)| found(subscriber));
                }
            }
        }
    }

    /// Replaces the active nodes by those to which a word leads from them.
    fn follow(&mut self, word: &[u8]) {
        let active = std::mem::take(&mut self.active);
        for &at in &active {
            let node = &self.nodes[at];
            // A `#` or a `*` of a key is a plain word.
            let (plain, one, again) = (node.children.get(word).copied(), node.one, node.is_any.then_some(at));
            [plain, one, again].into_iter().flatten().for_each(|child| self.enter(child));
        }
        self.active = std::mem::replace(&mut self.next, active);
        self.next.clear();
    }

    /// Adds a node to the next ones, and those that follow it without a word.
    fn enter(&mut self, at: usize) {
        let mut at = Some(at);
        while let Some(entered) = at {
            let node = &mut self.nodes[entered];
            if node.entered == self.step {
                return;
            }
            node.entered = self.step;
            self.next.push(entered);
            at = node.any;
        }
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::topic_rules::RULES, *};

    /// The rules as they are written, word by word.
    fn matches(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
        match pattern.split_first() {
            None => key.is_empty(),
            Some((&b"#", rest)) => (0..=key.len()).any(|skipped| matches(rest, &key[skipped..])),
            Some((word, rest)) => key
                .split_first()
                .is_some_and(|(first, others)| (*word == b"*" || word == first) && matches(rest, others)),
        }
    }

    fn is_match(pattern: &str, key: &str) -> bool {
        let mut topics = Topics::new();
        topics.insert(pattern.as_bytes(), 1, ());
        let mut found = 0;
        topics.matching([key.as_bytes()], |()| found += 1);
        assert!(found <= 1, "{pattern} matched {key} {found} times");
        let collect = |of: &'static str| words(of.as_bytes()).collect::<Vec<_>>();
        let (pattern, key): (&'static str, &'static str) = (pattern.to_owned().leak(), key.to_owned().leak());
        assert_eq!(matches(&collect(pattern), &collect(key)), found == 1, "{pattern} and {key}");
        found == 1
    }

    /// BRG-01: the rules of RabbitMQ; `tests/application/bridge` compares this table with the broker.
    #[test]
    fn patterns_match_as_at_the_broker() {
        for (pattern, matched, others) in RULES {
            for key in *matched {
                assert!(is_match(pattern, key), "{pattern:?} does not match {key:?}");
            }
            for key in *others {
                assert!(!is_match(pattern, key), "{pattern:?} matches {key:?}");
            }
        }
    }

    #[test]
    fn random_subscribers_match_as_the_rules_are_written() {
        let random_words = |random: &mut fastrand::Rng, of: &[&'static str]| {
            let words: Vec<&str> = (0..random.usize(..6)).map(|_| of[random.usize(..of.len())]).collect();
            words.join(".")
        };
        for seed in 0..300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut topics = Topics::new();
            let mut model: Vec<(u64, String)> = Vec::new();
            for id in 0..60 {
                if random.u8(..3) == 0 && !model.is_empty() {
                    let (id, pattern) = model.swap_remove(random.usize(..model.len()));
                    assert_eq!(topics.remove(pattern.as_bytes(), id), Some(id));
                    assert_eq!(topics.remove(pattern.as_bytes(), id), None);
                } else {
                    let pattern = random_words(&mut random, &["a", "b", "", "*", "#", "#"]);
                    topics.insert(pattern.as_bytes(), id, id);
                    model.push((id, pattern));
                }
                let keys: Vec<String> = (0..random.usize(1..3))
                    .map(|_| random_words(&mut random, &["a", "b", "c", "", "#", "*"]))
                    .collect();
                let mut found = Vec::new();
                topics.matching(keys.iter().map(String::as_bytes), |id| found.push(*id));
                found.sort();
                let is_wanted = |pattern: &str, key: &String| {
                    let pattern: Vec<_> = words(pattern.as_bytes()).collect();
                    matches(&pattern, &words(key.as_bytes()).collect::<Vec<_>>())
                };
                let wanted = |(_, pattern): &&(u64, String)| keys.iter().any(|key| is_wanted(pattern, key));
                let mut expected: Vec<u64> = model.iter().filter(wanted).map(|(id, _)| *id).collect();
                expected.sort();
                assert_eq!(found, expected, "seed {seed}: {keys:?} of {model:?}");
            }
            for (id, pattern) in model {
                topics.remove(pattern.as_bytes(), id);
            }
            assert_eq!(topics.used(), 1, "seed {seed}: only the root is left");
        }
    }

    /// Patterns may come from browsers: many `#` cost no more than their number times that of the words.
    #[test]
    fn many_wildcards_are_no_trap() {
        let mut topics = Topics::new();
        topics.insert(vec!["#.a"; 60].join(".").as_bytes(), 1, ());
        let key = vec!["a"; 127].join(".") + "b";
        for _ in 0..100 {
            topics.matching([key.as_bytes()], |()| panic!("{key} does not match"));
        }
    }
}
