//! Names: of entities as texts say them, reserved ones, and those that the broker makes.

use std::borrow::Cow;

use super::message::Name;

/// The beginning of names that only the broker gives.
const RESERVED: &str = "amq.";
/// The name that stands for direct reply-to.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// The beginning of the addresses of direct reply-to.
pub(crate) const REPLY_TO_ADDRESS: &str = "amq.rabbitmq.reply-to.";
/// The name under which permissions know the default exchange.
pub(crate) const DEFAULT_EXCHANGE: &str = "amq.default";

/// Removes CR and LF, as declare, delete and bind do with the names of entities.
pub(crate) fn strip(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) { Cow::Owned(name.replace(['\r', '\n'], "")) } else { Cow::Borrowed(name) }
}

pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// Names a queue in a text.
pub(crate) fn queue_text(vhost: &str, name: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

/// Names an exchange in a text.
pub(crate) fn exchange_text(vhost: &str, name: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

/// Returns whether a name has the form of the addresses that the broker makes.
pub(crate) fn is_reply_address(name: &str) -> bool {
    let parts = name.strip_prefix(REPLY_TO_ADDRESS).and_then(|rest| rest.split_once('.'));
    parts.is_some_and(|(channel, key)| channel.len() == 40 && key.len() == 24)
}

/// Makes names that look random, and are the same for the same seed.
#[derive(Debug)]
pub(crate) struct NameSource(fastrand::Rng);

impl NameSource {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Makes a name as `amq.gen-` and 22 characters.
    pub(crate) fn generate(&mut self, prefix: &str) -> Name {
        let mut name = format!("{prefix}-");
        self.append(&mut name, 22);
        name.into()
    }

    /// Makes an address of direct reply-to.
    pub(crate) fn reply_address(&mut self) -> Name {
        let mut name = REPLY_TO_ADDRESS.to_owned();
        self.append(&mut name, 40);
        name.push('.');
        self.append(&mut name, 24);
        name.into()
    }

    fn append(&mut self, name: &mut String, len: usize) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        name.extend((0..len).map(|_| char::from(ALPHABET[self.0.usize(..64)])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// broker.md 6: tags and names are a prefix and 22 characters.
    #[test]
    fn generated_names_have_the_form_of_rabbitmq() {
        let mut names = NameSource::new(1);
        let name = names.generate("amq.gen");
        assert_eq!((name.len(), &name[..8]), (30, "amq.gen-"));
        assert_ne!(names.generate("amq.gen"), name);
        assert_eq!(NameSource::new(1).generate("amq.gen"), name);
        assert_eq!(names.reply_address().len(), REPLY_TO_ADDRESS.len() + 65);
    }

    /// broker.md 4
    #[test]
    fn line_ends_are_taken_out_of_names() {
        assert_eq!(strip("a\r\nb\n"), "ab");
        assert_eq!(strip("ab"), "ab");
    }
}
