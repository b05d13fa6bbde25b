//! The present names of queues that the broker has named, by their earlier names.
//!
//! The broker gives such a queue another name when it is redeclared. Handles follow by themselves; an earlier
//! name is in publishes that were queued before, and with callers that have copied it.

use std::collections::{HashMap, VecDeque};

/// How many earlier names of a queue are kept.
const KNOWN: usize = 8;

#[derive(Debug, Default)]
pub(super) struct Renames {
    /// By earlier name.
    current: HashMap<String, String>,
    /// By present name: the earlier ones, oldest first.
    earlier: HashMap<String, VecDeque<String>>,
}

impl Renames {
    pub(super) fn renamed(&mut self, old: &str, new: &str) {
        let mut names = self.earlier.remove(old).unwrap_or_default();
        names.push_back(old.to_owned());
        if names.len() > KNOWN
            && let Some(oldest) = names.pop_front()
        {
            self.current.remove(&oldest);
        }
        for name in &names {
            self.current.insert(name.clone(), new.to_owned());
        }
        self.earlier.insert(new.to_owned(), names);
    }

    /// Returns the present names by earlier ones.
    pub(super) fn current(&self) -> &HashMap<String, String> {
        &self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(queue: &str, n: usize) -> String {
        format!("{queue}{n}")
    }

    #[test]
    fn the_last_earlier_names_of_each_queue_are_kept() {
        let mut renames = Renames::default();
        for n in 0..1000 {
            for queue in ["a", "b"] {
                renames.renamed(&name(queue, n), &name(queue, n + 1));
            }
        }
        assert_eq!((renames.current().len(), renames.earlier.len()), (2 * KNOWN, 2));
        for queue in ["a", "b"] {
            for n in 1000 - KNOWN..1000 {
                assert_eq!(renames.current().get(&name(queue, n)), Some(&name(queue, 1000)));
            }
            assert_eq!(renames.current().get(&name(queue, 1000 - KNOWN - 1)), None);
        }
    }
}
