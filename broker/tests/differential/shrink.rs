//! Fewer and shorter operations that still show a difference.

/// Leaves out operations, then words of them, as long as what is left shows the difference.
pub(crate) struct Shrink {
    operations: Vec<String>,
    step: Step,
    /// How many candidates there may still be.
    tries: usize,
}

/// What the next candidate is without.
#[derive(Clone, Copy, Debug)]
enum Step {
    Operations { from: usize, len: usize },
    Word { at: usize, word: usize },
    Done,
}

impl Shrink {
    pub(crate) fn new(operations: Vec<String>, tries: usize) -> Self {
        let len = operations.len().div_ceil(2);
        Self { operations, step: Step::Operations { from: 0, len }, tries }
    }

    pub(crate) fn into_operations(self) -> Vec<String> {
        self.operations
    }

    /// The next operations to try; none at the end. [`Shrink::answer`] tells what they have shown.
    pub(crate) fn candidate(&mut self) -> Option<Vec<String>> {
        self.tries = self.tries.checked_sub(1)?;
        self.skip();
        let mut candidate = self.operations.clone();
        match self.step {
            Step::Operations { from, len } => {
                candidate.drain(from..(from + len).min(self.operations.len()));
            }
            Step::Word { at, word } => {
                let mut words: Vec<&str> = self.operations[at].split(' ').collect();
                words.remove(word);
                candidate[at] = words.join(" ");
            }
            Step::Done => return None,
        }
        Some(candidate)
    }

    pub(crate) fn answer(&mut self, candidate: Vec<String>, differs: bool) {
        self.step = match self.step {
            Step::Operations { from, len } if differs => Step::Operations { from, len },
            Step::Operations { from, len } => Step::Operations { from: from + len, len },
            Step::Word { at, word } => Step::Word { at, word: word - 1 },
            Step::Done => Step::Done,
        };
        if differs {
            self.operations = candidate;
        }
    }

    /// Goes to the next step that there is something to try at.
    fn skip(&mut self) {
        let last_word = |operations: &[String], at: usize| {
            operations.get(at).map_or(Step::Done, |operation: &String| Step::Word {
                at,
                word: operation.split(' ').count() - 1,
            })
        };
        loop {
            self.step = match self.step {
                Step::Operations { from, len } if from < self.operations.len() && len > 0 => return,
                Step::Operations { len: 0 | 1, .. } => last_word(&self.operations, 0),
                Step::Operations { len, .. } => Step::Operations { from: 0, len: len / 2 },
                Step::Word { at, word: 0..=2 } => last_word(&self.operations, at + 1),
                Step::Word { at, word } => {
                    if self.operations[at].split(' ').nth(word).is_some_and(is_optional) {
                        return;
                    }
                    Step::Word { at, word: word - 1 }
                }
                Step::Done => return,
            };
        }
    }
}

fn is_optional(word: &str) -> bool {
    const FLAGS: [&str; 6] = ["mandatory", "multiple", "exclusive", "auto_delete", "global", "large"];
    word.contains('=') || FLAGS.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(
        operations: Vec<String>,
        tries: usize,
        differs: impl Fn(&[String]) -> bool,
    ) -> (Vec<String>, usize) {
        let (mut shrink, mut asked) = (Shrink::new(operations, tries), 0);
        while let Some(candidate) = shrink.candidate() {
            asked += 1;
            let shown = differs(&candidate);
            shrink.answer(candidate, shown);
        }
        (shrink.into_operations(), asked)
    }

    #[test]
    fn only_what_the_difference_needs_is_left() {
        let operations = (0..20).map(|number| format!("a1 get q{number} x-a=I1 no_ack")).collect();
        let (shrunk, asked) = shrunk(operations, 200, |operations| {
            let has = |name: &str| operations.iter().any(|operation| operation.contains(name));
            has("q3 ") && has("q17 ")
        });
        assert_eq!(shrunk, ["a1 get q3 no_ack", "a1 get q17 no_ack"]);
        assert!(asked < 60, "{asked}");
    }

    #[test]
    fn it_asks_as_often_as_it_may() {
        assert_eq!(shrunk(vec!["a1 get q".to_owned(); 40], 7, |_| false).1, 7);
    }

    #[test]
    fn nothing_may_be_left() {
        assert_eq!(shrunk(vec!["a1 get q".to_owned(); 5], 100, |_| true).0, Vec::<String>::new());
    }
}
