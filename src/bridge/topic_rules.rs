//! What patterns of topic exchanges match. A test compares it with a broker, another with the trie.

/// A pattern, keys that it matches, and others.
pub(crate) type Rule = (&'static str, &'static [&'static str], &'static [&'static str]);

/// The rules of topic exchanges at their corners.
pub(crate) const RULES: &[Rule] = &[
    ("", &[""], &["a", ".", "#"]),
    ("#", &["", "a", "a.b", ".", "..", "#", "*"], &[]),
    ("*", &["a", "#", "*"], &["", "a.b", "."]),
    ("a", &["a"], &["", "a.", ".a", "a.a", "b"]),
    ("a.", &["a."], &["a", "a..", ".a"]),
    (".", &["."], &["", "a.", ".."]),
    ("*.*", &[".", "a.", ".a", "a.b"], &["", "a", "a.b.c", ".."]),
    ("a.*.b", &["a.x.b", "a..b"], &["a.b", "a.x.y.b"]),
    ("a.#", &["a", "a.b", "a.b.c", "a."], &["", "b", "ab"]),
    ("#.a", &["a", "b.a", "a.a", ".a"], &["", "a.b", "ba"]),
    ("a.#.b", &["a.b", "a.x.b", "a.x.y.b", "a.b.b"], &["a", "a.b.c"]),
    ("#.#", &["", "a", "a.b"], &[]),
    ("*.#", &["a", "a.b", "."], &[""]),
    ("#.*", &["a", "a.b", "."], &[""]),
    ("#.a.#", &["a", "a.a", "x.a.y", "a.a.a.a"], &["", "x", "x.aa.y"]),
    ("a#", &["a#"], &["a", "ab", "a.b"]),
    ("a*", &["a*"], &["a", "ab"]),
    ("orders.*.at", &["orders.new.at"], &["orders.at", "orders.new.de", "orders.new.at.x"]),
];
