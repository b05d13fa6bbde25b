//! Where a message goes, and its properties.

use std::fmt;

use actix_pika_actors::facade;

use super::row::NewRow;
use crate::{
    Publishing, Result,
    codec::{Codec, Json},
    hook::TraceContext,
    message::{Properties, Value},
};

/// The longest names and ids of AMQP, in bytes; lanes are as long.
const LONGEST: usize = 255;

/// Where a message of an [`Outbox`](super::Outbox) goes: its exchange, routing key and lane, with its properties.
///
/// # Examples
/// ```
/// use actix_pika::{codec::Raw, outbox::To};
///
/// # let customer = 7;
/// let placed = To::exchange("shop").key("order.placed").lane(customer).header("version", 2);
/// let image = To::queue("images").codec(Raw).content_type("image/png");
/// ```
#[derive(Clone)]
#[must_use = "it does nothing until a message is published to it"]
pub struct To<C = Json> {
    exchange: String,
    routing_key: String,
    lane: Option<String>,
    codec: C,
    /// Without a body.
    template: Publishing,
    mandatory: bool,
}

impl To {
    /// Goes to an exchange, with the routing key `""` unless [`key`](To::key) sets another.
    ///
    /// # Examples
    /// See [`To`].
    pub fn exchange(name: impl Into<String>) -> Self {
        Self {
            exchange: name.into(),
            routing_key: String::new(),
            lane: None,
            codec: Json,
            template: Publishing::new(""),
            mandatory: true,
        }
    }

    /// Goes to a queue, through the default exchange.
    ///
    /// # Examples
    /// See [`To`].
    pub fn queue(name: impl Into<String>) -> Self {
        Self::exchange("").key(name)
    }
}

impl<C> To<C> {
    /// Sets the routing key.
    ///
    /// # Examples
    /// See [`To`].
    pub fn key(mut self, routing_key: impl Into<String>) -> Self {
        self.routing_key = routing_key.into();
        self
    }

    /// Sets the lane. Messages of a lane are published one after the other, in the order of their transactions; those
    /// without a lane, and different lanes, side by side.
    ///
    /// With PostgreSQL, a transaction that publishes to a lane waits for others that have and are not committed yet. So
    /// does any transaction with SQLite.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::outbox::To;
    ///
    /// # let order = 42;
    /// let shipped = To::exchange("shop").key("order.shipped").lane(format!("order {order}"));
    /// ```
    pub fn lane(mut self, lane: impl ToString) -> Self {
        self.lane = Some(lane.to_string());
        self
    }

    /// Sets the codec; [`Json`] unless set. [`Raw`](crate::codec::Raw) takes bytes as they are.
    ///
    /// # Examples
    /// See [`To`].
    pub fn codec<D>(self, codec: D) -> To<D> {
        let Self { exchange, routing_key, lane, template, mandatory, .. } = self;
        To { exchange, routing_key, lane, codec, template, mandatory }
    }

    /// Sets the message id, by which a consumer knows a duplicate; a random UUID unless set. While a message with this id
    /// is in the outbox, another one is not written. An empty one is refused.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::outbox::To;
    ///
    /// # let request = "5f1c";
    /// let placed = To::exchange("shop").key("order.placed").message_id(format!("placed-{request}"));
    /// ```
    pub fn message_id(mut self, id: impl Into<String>) -> Self {
        self.template = self.template.message_id(id);
        self
    }

    /// Sets a header.
    ///
    /// # Examples
    /// See [`To`].
    pub fn header(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.template = self.template.header(key, value);
        self
    }

    /// Sets the content type, instead of that of the codec.
    ///
    /// # Examples
    /// See [`To`].
    pub fn content_type(mut self, value: impl Into<String>) -> Self {
        self.template = self.template.content_type(value);
        self
    }

    /// Sets the type of the message.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::outbox::To;
    ///
    /// let placed = To::exchange("shop").message_type("order.placed");
    /// ```
    pub fn message_type(mut self, value: impl Into<String>) -> Self {
        self.template = self.template.message_type(value);
        self
    }

    /// Sets all properties, which replace those set before. A message is persistent unless they have a delivery mode.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{message::Properties, outbox::To};
    ///
    /// let urgent = To::queue("mail").properties(Properties::new().with_priority(9));
    /// ```
    pub fn properties(mut self, properties: Properties) -> Self {
        self.template = self.template.properties(properties);
        self
    }

    /// Sets whether the message must reach a queue; it must unless set to false. One that does not is
    /// [parked](super#what-is-refused), or else dropped.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::outbox::To;
    ///
    /// let tick = To::exchange("ticks").mandatory(false); // nobody may listen
    /// ```
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = mandatory;
        self
    }

    /// Returns the row of a message.
    ///
    /// # Errors
    /// `Codec`, `Limit`, `Refused`.
    pub(super) fn row<T>(self, value: &T, body_max: usize) -> Result<NewRow>
    where
        C: Codec<T>,
    {
        let body = self.codec.encode(value)?;
        if body.len() > body_max {
            return Err(facade::limit(format!("a body has {} bytes, more than {body_max}", body.len())));
        }
        let mut message = self.template.generate_message_id();
        if message.properties_ref().content_type_bytes().is_none() {
            message = message.content_type(self.codec.content_type());
        }
        // The relay publishes outside of the trace of the application.
        if let Some(context) = TraceContext::current() {
            context.inject(facade::properties_of_mut(&mut message).headers_mut());
        }
        let properties = message.properties_ref();
        let message_id = properties.message_id().unwrap_or_default().to_owned();
        let names = [
            ("the message id", Some(&message_id)),
            ("the exchange", Some(&self.exchange)),
            ("the routing key", Some(&self.routing_key)),
            ("the lane", self.lane.as_ref()),
        ];
        // A second one with an empty id would be taken for a copy, and not be written.
        if message_id.is_empty() {
            return Err(facade::refused("the message id is empty"));
        }
        for (what, name) in names {
            if name.is_some_and(|name| name.len() > LONGEST) {
                return Err(facade::limit(format!("{what} has more than {LONGEST} bytes")));
            }
            // PostgreSQL has no such texts.
            if name.is_some_and(|name| name.contains('\0')) {
                return Err(facade::refused(format!("{what} contains a zero byte")));
            }
        }
        Ok(NewRow {
            message_id,
            exchange: self.exchange,
            routing_key: self.routing_key,
            lane: self.lane,
            mandatory: self.mandatory,
            properties: facade::encode_properties(properties)?,
            body,
        })
    }
}

impl<C> fmt::Debug for To<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("To")
            .field("exchange", &self.exchange)
            .field("routing_key", &self.routing_key)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, codec::Raw};

    #[test]
    fn a_row_has_the_properties_and_an_id() {
        let to = To::exchange("shop").key("placed").lane(7).header("version", 2).message_type("order");
        let row = to.clone().row(&vec![1, 2], 100).unwrap();
        let other = to.row(&vec![1, 2], 100).unwrap();
        assert_ne!(row.message_id, other.message_id);
        assert_eq!((&*row.exchange, &*row.routing_key, row.lane.as_deref()), ("shop", "placed", Some("7")));
        assert_eq!((&*row.body, row.mandatory), (&b"[1,2]"[..], true));
        let properties = facade::decode_properties(&row.properties).unwrap();
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!(
            (properties.message_type(), properties.message_id()),
            (Some("order"), Some(&*row.message_id))
        );
        assert_eq!(properties.header("version").and_then(Value::as_i64), Some(2));
        let own = To::queue("mail").codec(Raw).message_id("mine").content_type("text/plain").mandatory(false);
        let own = own.row(&"hello".to_owned(), 5).unwrap();
        assert_eq!((&*own.message_id, &*own.routing_key, &*own.exchange), ("mine", "mail", ""));
        assert_eq!((own.mandatory, own.lane), (false, None));
        assert_eq!(facade::decode_properties(&own.properties).unwrap().content_type(), Some("text/plain"));
    }

    #[test]
    fn the_trace_of_the_application_is_kept() {
        let context = TraceContext::root(true);
        let row = context.enter(|| To::queue("mail").row(&1, 100).unwrap());
        let headers = facade::decode_properties(&row.properties).unwrap();
        assert_eq!(TraceContext::extract(headers.headers().unwrap()), Some(context.clone()));
        let own = To::queue("mail").header("traceparent", "mine");
        let row = context.enter(|| own.row(&1, 100).unwrap());
        let properties = facade::decode_properties(&row.properties).unwrap();
        assert_eq!(properties.header("traceparent").and_then(Value::as_str), Some("mine"));
    }

    #[test]
    fn what_is_written_is_bounded() {
        let long = "x".repeat(256);
        let text = "hello".to_owned();
        let kind = |to: To<Raw>, most| to.row(&text, most).unwrap_err().kind();
        let to = || To::queue("mail").codec(Raw);
        assert_eq!(kind(to(), 4), ErrorKind::Limit);
        let wrong =
            [to().lane(&long), to().key(&long), to().message_id(&long), To::exchange(&long).codec(Raw)];
        for to in wrong {
            assert_eq!(kind(to, 5), ErrorKind::Limit);
        }
        assert_eq!(kind(to().lane("a\0"), 5), ErrorKind::Refused);
        assert!(to().lane(&long[1..]).row(&text, 5).is_ok());
    }
}
