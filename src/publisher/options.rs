//! The options of a publisher, and the message that it makes of a body.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Key, Publisher};
use crate::{Publishing, codec::Codec, hook::Hook, message::Properties};

#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    properties: Properties,
    mandatory: Option<bool>,
    persistent: Option<bool>,
    deadline: Option<Duration>,
    message_ids: bool,
}

impl Options {
    /// Returns the message with a body. The content type of the options precedes that of the codec.
    pub(super) fn message(&self, body: Bytes, content_type: &str) -> Publishing {
        let mut properties = self.properties.clone();
        if properties.content_type_bytes().is_none() {
            properties = properties.with_content_type(content_type);
        }
        let mut message = Publishing::new(body).properties(properties);
        if let Some(persistent) = self.persistent {
            message = message.persistent(persistent);
        }
        if let Some(mandatory) = self.mandatory {
            message = message.mandatory(mandatory);
        }
        if let Some(deadline) = self.deadline {
            message = message.deadline(deadline);
        }
        if self.message_ids { message.generate_message_id() } else { message }
    }
}

impl<T, C> Publisher<T, C> {
    /// Sets the codec; [`Json`](crate::codec::Json) unless set.
    ///
    /// # Examples
    /// ```no_run
    /// use actix_pika::{codec::Raw, publisher::Publisher};
    ///
    /// # async fn run(channel: actix_pika::Channel) -> actix_pika::Result<()> {
    /// let images: Publisher<Vec<u8>, Raw> = channel.queue("images").publisher::<Vec<u8>>().codec(Raw);
    /// images.publish(&vec![0xff, 0xd8]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn codec<D: Codec<T>>(self, codec: D) -> Publisher<T, D> {
        Publisher {
            exchange: self.exchange,
            codec: Arc::new(codec),
            key: self.key,
            options: self.options,
            later: self.later,
            hooks: self.hooks,
            value: self.value,
        }
    }

    /// Sets the routing key of all values, at most 255 bytes; a longer one fails with `Limit` when a value is
    /// published.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let placed = channel.exchange("shop").publisher::<String>().key("order.placed");
    /// # }
    /// ```
    pub fn key(mut self, routing_key: impl Into<String>) -> Self {
        self.key = Key::Fixed(Arc::from(routing_key.into()));
        self
    }

    /// Sets the function that makes the routing key of a value. What it does before it returns delays the caller, and
    /// its panic is one of the caller.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let orders = channel.exchange("shop").publisher::<u64>().key_by(|id| format!("order.{}", id % 16));
    /// # }
    /// ```
    pub fn key_by(mut self, routing_key: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.key = Key::By(Arc::new(routing_key));
        self
    }

    /// Sets the properties of all messages. A content type among them is sent in place of that of the codec.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// use actix_pika::message::Properties;
    ///
    /// let properties = Properties::new().with_app_id("shop").with_header("version", 2);
    /// let placed = channel.exchange("shop").publisher::<String>().properties(properties);
    /// # }
    /// ```
    pub fn properties(self, properties: Properties) -> Self {
        self.set(|options| options.properties = properties)
    }

    /// Sets the name of the message's type (the property `type`).
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let placed = channel.exchange("shop").publisher::<String>().message_type("order.placed");
    /// # }
    /// ```
    pub fn message_type(self, name: impl Into<String>) -> Self {
        self.set(|options| {
            options.properties = std::mem::take(&mut options.properties).with_message_type(name);
        })
    }

    /// Sets whether a message that no queue receives fails with `Unroutable`
    /// ([`Publishing::mandatory`]); it does unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let ticks = channel.exchange("clock").publisher::<u64>().mandatory(false);
    /// # }
    /// ```
    pub fn mandatory(self, mandatory: bool) -> Self {
        self.set(|options| options.mandatory = Some(mandatory))
    }

    /// Sets whether the messages survive a restart of the broker ([`Publishing::persistent`]); they do unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let ticks = channel.exchange("clock").publisher::<u64>().persistent(false);
    /// # }
    /// ```
    pub fn persistent(self, persistent: bool) -> Self {
        self.set(|options| options.persistent = Some(persistent))
    }

    /// Sets the deadline of each publish ([`Publishing::deadline`]), shorter than that of the channel, which applies
    /// unless set.
    ///
    /// # Examples
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn run(channel: actix_pika::Channel) {
    /// let placed = channel.exchange("shop").publisher::<String>().deadline(Duration::from_secs(2));
    /// # }
    /// ```
    pub fn deadline(self, deadline: Duration) -> Self {
        self.set(|options| options.deadline = Some(deadline))
    }

    /// Sets whether each message gets a random id, by which consumers recognise a duplicate
    /// ([`Publishing::generate_message_id`]); it does not unless set, or unless its channel has message ids.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// let placed = channel.exchange("shop").publisher::<String>().message_ids(true);
    /// # }
    /// ```
    pub fn message_ids(self, message_ids: bool) -> Self {
        self.set(|options| options.message_ids = message_ids)
    }

    /// Adds a [hook](crate::hook) for this publisher. It comes before those of the connection: they see what it has
    /// changed.
    ///
    /// # Examples
    /// ```no_run
    /// # fn run(channel: actix_pika::Channel) {
    /// use actix_pika::hook::{Hook, Outgoing, Span};
    ///
    /// struct Tenant(&'static str);
    ///
    /// impl Hook for Tenant {
    ///     fn publishing(&self, message: &mut Outgoing<'_>) -> Option<Box<dyn Span>> {
    ///         message.properties_mut().headers_mut().insert("tenant", self.0);
    ///         None
    ///     }
    /// }
    ///
    /// let placed = channel.exchange("shop").publisher::<String>().hook(Tenant("a"));
    /// # }
    /// ```
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.add(hook);
        self
    }

    fn set(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &Options) -> String {
        format!("{:?}", options.message(Bytes::from_static(b"1"), "application/json"))
    }

    #[test]
    fn the_content_type_of_the_options_precedes_that_of_the_codec() {
        let mut options = Options::default();
        assert!(message(&options).contains("application/json"));
        options.properties = Properties::new().with_content_type("application/vnd.order+json");
        assert!(message(&options).contains("vnd.order") && !message(&options).contains("application/json"));
    }

    #[test]
    fn an_id_of_the_properties_is_kept() {
        let mut options = Options { message_ids: true, ..Options::default() };
        assert_ne!(message(&options), message(&options), "random ids");
        options.properties = Properties::new().with_message_id("mine");
        assert_eq!(message(&options), message(&options));
    }
}
