//! Random message ids, with which consumers can recognise duplicates.

use super::{OpenChannel, Publishing};

impl Publishing {
    /// Sets a random message id (the text of a version 4 UUID), unless one is set.
    ///
    /// The broker ignores the id; consumers have to recognise duplicates themselves.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::Publishing;
    /// let random = Publishing::new("7").generate_message_id();
    /// let unchanged = Publishing::new("7").message_id("order-7").generate_message_id();
    /// ```
    pub fn generate_message_id(self) -> Self {
        if self.properties.message_id().is_some() { self } else { self.message_id(random_id()) }
    }
}

impl OpenChannel {
    /// Sets whether every publish of the channel gets a random message id, unless it has one.
    ///
    /// A resent publish keeps its id.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::OpenChannel;
    /// let options = OpenChannel::new().message_ids(true);
    /// ```
    pub fn message_ids(mut self, message_ids: bool) -> Self {
        self.message_ids = message_ids;
        self
    }
}

/// Returns a version 4 UUID. It is unique, but not unpredictable.
fn random_id() -> String {
    let bits = fastrand::u128(..) & !(0xF << 76 | 0xC << 60) | 0x4 << 76 | 0x8 << 60;
    let hex = format!("{bits:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_look_like_version_4_uuids_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let parts: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(&id[14..15], "4", "{id}");
            assert!("89ab".contains(&id[19..20]), "{id}");
        }
    }

    #[test]
    fn existing_id_is_kept() {
        let with = Publishing::new("x").message_id("mine").generate_message_id();
        assert_eq!(with.properties.message_id(), Some("mine"));
        assert!(Publishing::new("x").generate_message_id().properties.message_id().is_some());
    }
}
