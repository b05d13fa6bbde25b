//! Names of one saying of a sequence, so that those of another one in the same virtual host are not met.

/// The names of queues and exchanges that operations speak of.
pub(crate) const QUEUES: [&str; 4] = ["q", "p", "r", "s"];
pub(crate) const EXCHANGES: [&str; 3] = ["x", "y", "w"];

/// Adds to names what makes them the sequence's own, and takes it off again.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    suffix: String,
}

impl Names {
    pub(crate) fn new(number: u64) -> Self {
        Self { suffix: format!("_u{number}") }
    }

    /// The name as it is said: with the suffix if it is one of a queue or an exchange of the sequence.
    pub(crate) fn full(&self, name: &str) -> String {
        let own = QUEUES.contains(&name) || EXCHANGES.contains(&name);
        if own { format!("{name}{}", self.suffix) } else { name.to_owned() }
    }

    /// A text of a broker without the suffix, and with `*` in place of what it has generated.
    pub(crate) fn short(&self, text: &str) -> String {
        let mut text = text.replace(&self.suffix, "");
        for prefix in ["amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."] {
            let mut from = 0;
            while let Some(at) = text[from..].find(prefix) {
                let start = from + at + prefix.len();
                let len = text[start..].find([' ', '\'', ']', ',', ')', '}']).unwrap_or(text.len() - start);
                text.replace_range(start..start + len, "*");
                from = start;
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_sequence_and_are_shown_without_it() {
        let names = Names::new(12);
        assert_eq!(names.full("q"), "q_u12");
        assert_eq!(names.full("amq.topic"), "amq.topic");
        assert_eq!(names.full("qq"), "qq");
        assert_eq!(names.short("no queue 'q_u12' in vhost 'v'"), "no queue 'q' in vhost 'v'");
        assert_eq!(names.short("declared amq.gen-Ab3_x-1 0 0"), "declared amq.gen-* 0 0");
        assert_eq!(names.short("[reply amq.rabbitmq.reply-to.g1.h2] x"), "[reply amq.rabbitmq.reply-to.*] x");
    }
}
