//! The patterns of a topic exchange, as a tree of words.
//!
//! A key is matched by walking all patterns at once: the set of nodes that the words so far have reached. The work is
//! bounded by words times nodes, also for patterns such as `#.a.#.a.#`, with which a matcher that goes back takes
//! exponential time.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
};

use bytes::Bytes;

use super::router::FixedMap;

type NodeId = usize;

/// The node of the empty pattern.
const ROOT: NodeId = 0;

/// The patterns of a topic exchange, with the values of each.
#[derive(Debug)]
pub(super) struct Topics<V> {
    nodes: Vec<Node<V>>,
    /// Nodes that may be used again.
    free: Vec<NodeId>,
    /// Distinguishes walks and their steps in [`Node::entered`].
    steps: Cell<u64>,
    /// What a walk allocates, kept for the next one.
    scratch: RefCell<(Vec<NodeId>, Vec<NodeId>)>,
}

#[derive(Debug)]
struct Node<V> {
    /// The values of the pattern that ends here.
    values: BTreeSet<V>,
    words: FixedMap<Bytes, NodeId>,
    /// Behind `*`.
    one: Option<NodeId>,
    /// Behind `#`.
    many: Option<NodeId>,
    /// It stays reached with every word, because it is behind `#`.
    is_many: bool,
    /// The last step that reached it, so that no step reaches it twice.
    entered: Cell<u64>,
    /// The first step of the last walk that has found its values.
    found: Cell<u64>,
}

impl<V> Node<V> {
    fn new(is_many: bool) -> Self {
        let (entered, found) = (Cell::new(0), Cell::new(0));
        let values = BTreeSet::new();
        Self { values, words: FixedMap::default(), one: None, many: None, is_many, entered, found }
    }

    fn is_unused(&self) -> bool {
        self.values.is_empty() && self.words.is_empty() && self.one.is_none() && self.many.is_none()
    }
}

/// Splits a key or a pattern at every dot. The empty one has no words, `a.` has two.
fn words(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    key.split(|&octet| octet == b'.').filter(move |_| !key.is_empty())
}

/// What a word of a pattern takes: a node, and a place in the map of the node before it.
const NODE: u64 = 350;

/// Returns what a pattern takes at most.
pub(super) fn octets(pattern: &[u8]) -> u64 {
    words(pattern).count() as u64 * NODE
}

/// A pattern of a topic exchange.
#[derive(Debug)]
pub(crate) struct TopicPattern(Topics<()>);

impl TopicPattern {
    pub(crate) fn new(pattern: &str) -> Self {
        let mut topics = Topics::default();
        topics.insert(pattern.as_bytes(), ());
        Self(topics)
    }

    /// Returns whether it matches a routing key.
    pub(crate) fn matches(&self, key: &str) -> bool {
        let mut found = false;
        self.0.each_match([key].into_iter(), |()| found = true);
        found
    }
}

impl<V> Default for Topics<V> {
    fn default() -> Self {
        Self {
            nodes: vec![Node::new(false)],
            free: Vec::new(),
            steps: Cell::new(0),
            scratch: RefCell::default(),
        }
    }
}

impl<V: Ord> Topics<V> {
    /// Adds a value to a pattern, which has each value once.
    pub(super) fn insert(&mut self, pattern: &[u8], value: V) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(child) => child,
                None => self.add_child(at, word),
            };
        }
        self.nodes[at].values.insert(value);
    }

    /// Removes a value of a pattern, and returns whether it was there.
    pub(super) fn remove(&mut self, pattern: &[u8], value: &V) -> bool {
        let mut path = vec![ROOT];
        for word in words(pattern) {
            let Some(child) = path.last().and_then(|&at| self.child(at, word)) else { return false };
            path.push(child);
        }
        let Some(&end) = path.last() else { return false };
        if !self.nodes[end].values.remove(value) {
            return false;
        }
        let edges: Vec<&[u8]> = words(pattern).collect();
        for (depth, word) in edges.into_iter().enumerate().rev() {
            let (parent, child) = (path[depth], path[depth + 1]);
            if !self.nodes[child].is_unused() {
                break;
            }
            match word {
                b"*" => self.nodes[parent].one = None,
                b"#" => self.nodes[parent].many = None,
                word => drop(self.nodes[parent].words.remove(word)),
            }
            self.free.push(child);
        }
        true
    }

    /// Calls `found` with the values of every pattern that matches one of `keys`, once for each pattern.
    pub(super) fn each_match<'a>(&self, keys: impl Iterator<Item = &'a str>, mut found: impl FnMut(&V)) {
        let mut scratch = self.scratch.borrow_mut();
        let (reached, next) = &mut *scratch;
        let first = self.steps.get() + 1;
        for key in keys {
            self.walk(key.as_bytes(), reached, next);
            for &at in reached.iter() {
                let node = &self.nodes[at];
                if node.found.replace(first) != first {
                    node.values.iter().for_each(&mut found);
                }
            }
        }
    }

    /// Sets `reached` to the nodes at which a key ends.
    fn walk(&self, key: &[u8], reached: &mut Vec<NodeId>, next: &mut Vec<NodeId>) {
        reached.clear();
        self.enter(ROOT, self.step(), reached);
        for word in words(key) {
            let step = self.step();
            next.clear();
            for &at in reached.iter() {
                let node = &self.nodes[at];
                if node.is_many {
                    self.enter(at, step, next);
                }
                if let Some(&child) = node.words.get(word) {
                    self.enter(child, step, next);
                }
                if let Some(child) = node.one {
                    self.enter(child, step, next);
                }
            }
            std::mem::swap(reached, next);
            if reached.is_empty() {
                return;
            }
        }
    }

    fn step(&self) -> u64 {
        let step = self.steps.get() + 1;
        self.steps.set(step);
        step
    }

    /// Reaches a node, and those behind `#` after it, which matches no word, too.
    fn enter(&self, at: NodeId, step: u64, reached: &mut Vec<NodeId>) {
        let mut next = Some(at);
        while let Some(at) = next {
            let node = &self.nodes[at];
            if node.entered.replace(step) == step {
                return;
            }
            reached.push(at);
            next = node.many;
        }
    }

    fn child(&self, at: NodeId, word: &[u8]) -> Option<NodeId> {
        let node = &self.nodes[at];
        match word {
            b"*" => node.one,
            b"#" => node.many,
            word => node.words.get(word).copied(),
        }
    }

    fn add_child(&mut self, at: NodeId, word: &[u8]) -> NodeId {
        let node = Node::new(word == b"#");
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
        let parent = &mut self.nodes[at];
        match word {
            b"*" => parent.one = Some(child),
            b"#" => parent.many = Some(child),
            word => drop(parent.words.insert(Bytes::copy_from_slice(word), child)),
        }
        child
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        let mut topics = Topics::default();
        topics.insert(pattern.as_bytes(), 1);
        let mut found = 0;
        topics.each_match([key].into_iter(), |_| found += 1);
        assert!(found < 2, "{pattern} {key}");
        found == 1
    }

    /// broker.md section 4, topic.
    #[test]
    fn words_are_split_at_every_dot() {
        for (pattern, matching, others) in [
            ("#", &["", "a", "a.b", ".", "a..b"][..], &[][..]),
            ("", &[""], &["a", ".", "a."]),
            ("*", &["a", "#", "*"], &["", "a.b", "."]),
            ("*.*", &[".", "a.", ".a", "a.b"], &["", "a", "a.b.c"]),
            ("a.*.b", &["a..b", "a.x.b"], &["a.b", "a.x.y.b"]),
            ("a.#", &["a", "a.", "a.b", "a.b.c"], &["", "b", "ab"]),
            ("a.#.b", &["a.b", "a.x.b", "a.x.y.b", "a..b", "a.b.b"], &["a", "b", "a.b.c"]),
            ("#.#", &["", "a", "a.b", "."], &[]),
            ("*.#", &["a", "a.b", "."], &[""]),
            ("#.*", &["a", "a.b", "."], &[""]),
            ("#.a", &["a", "b.a", "a.a"], &["", "a.b"]),
            ("a#", &["a#"], &["a", "ab"]),
            ("a*", &["a*"], &["a", "ab"]),
            ("a.b", &["a.b"], &["a", "a.b.c", "a.B"]),
            ("#.a.#", &["a", "x.a", "a.x", "x.y.a.z"], &["", "x.y"]),
            ("*.a.#.b.*", &["x.a.b.y", "x.a.p.q.b.y"], &["a.b.y", "x.a.b"]),
        ] {
            for key in matching {
                assert!(matches(pattern, key), "{pattern:?} matches {key:?}");
            }
            for key in others {
                assert!(!matches(pattern, key), "{pattern:?} does not match {key:?}");
            }
        }
    }

    #[test]
    fn a_key_with_wildcards_is_made_of_plain_words() {
        assert!(matches("#", "#.*") && matches("*.*", "#.*"));
        assert!(!matches("a.b", "a.*") && !matches("a.b", "#"));
    }

    #[test]
    fn removed_bindings_leave_nothing() {
        let mut topics = Topics::default();
        for pattern in ["a.*.c", "a.#", "a.b.c", "#", ""] {
            topics.insert(pattern.as_bytes(), 1);
            topics.insert(pattern.as_bytes(), 2);
        }
        assert!(!topics.remove(b"a.*", &1) && !topics.remove(b"a.#", &3) && !topics.remove(b"x", &1));
        for value in [1, 2] {
            for pattern in ["a.b.c", "#", "a.#", "", "a.*.c"] {
                assert!(topics.remove(pattern.as_bytes(), &value));
            }
        }
        topics.each_match(["a.b.c"].into_iter(), |_| panic!("nothing is bound"));
        assert!(topics.nodes[ROOT].is_unused());
        assert_eq!(topics.free.len(), topics.nodes.len() - 1);
        topics.insert(b"a.b.c", 3);
        assert_eq!(topics.free.len(), topics.nodes.len() - 4);
    }

    #[test]
    fn many_wildcards_take_no_exponential_time() {
        let pattern = "#.a.".repeat(40) + "#";
        assert!(matches(&pattern, &"a.".repeat(120)));
        assert!(!matches(&pattern, &"a.".repeat(39)));
        assert!(matches(&("#.".repeat(120) + "#"), &"x.".repeat(120)));
    }

    /// Compares with the definition: `#` is any number of words, `*` is one.
    #[test]
    fn random_patterns_match_as_defined() {
        fn defined(pattern: &[&[u8]], key: &[&[u8]]) -> bool {
            match (pattern.split_first(), key.split_first()) {
                (None, None) => true,
                (Some((&b"#", rest)), _) => (0..=key.len()).any(|skipped| defined(rest, &key[skipped..])),
                (Some((&b"*", rest)), Some((_, key))) => defined(rest, key),
                (Some((word, rest)), Some((first, key))) => word == first && defined(rest, key),
                _ => false,
            }
        }
        let mut random = fastrand::Rng::with_seed(7);
        let mut any = |parts: &[&str]| {
            let chosen: Vec<&str> =
                (0..random.usize(0..6)).map(|_| parts[random.usize(0..parts.len())]).collect();
            chosen.join(".")
        };
        for round in 0..2000 {
            let patterns: Vec<String> = (0..8).map(|_| any(&["a", "b", "", "*", "#", "#"])).collect();
            let key = any(&["a", "b", "", "c"]);
            let mut topics = Topics::default();
            for (value, pattern) in patterns.iter().enumerate() {
                topics.insert(pattern.as_bytes(), value);
            }
            let mut found = Vec::new();
            topics.each_match([&*key].into_iter(), |&value| found.push(value));
            found.sort_unstable();
            let key: Vec<&[u8]> = words(key.as_bytes()).collect();
            let expected: Vec<usize> = (0..patterns.len())
                .filter(|&at| defined(&words(patterns[at].as_bytes()).collect::<Vec<_>>(), &key))
                .collect();
            assert_eq!(found, expected, "round {round}: {patterns:?}");
        }
    }
}
