//! By what an inbox knows a message.

use actix_pika_actors::facade;

use crate::{
    Delivery, Result,
    message::{Content, Properties},
    tasks::Task,
};

/// The longest id, in bytes: that of a short string of AMQP.
const ID_MAX: usize = 255;

const MISSING: &str = "the message has no id: let its publisher set the property message-id (Outbox::publish does; \
                       Publishing::message_id or generate_message_id; OpenChannel::message_ids for a whole channel), or take one \
                       from its body with Inbox::first_id";

/// A message that has an id: a [`Task`], a [`Delivery`], a [`Content`].
///
/// # Examples
/// ```
/// use actix_pika::{Result, inbox::Identified, message::Content};
///
/// /// A message of a publisher that sets no `message-id`, but `correlation-id`.
/// struct Legacy(Content);
///
/// impl Identified for Legacy {
///     fn message_id(&self) -> Result<&[u8]> {
///         Ok(self.0.properties()?.correlation_id_bytes().unwrap_or_default()) // an empty one is refused
///     }
/// }
/// ```
pub trait Identified {
    /// Returns the id, which is the same for all copies of the message.
    ///
    /// # Errors
    /// `Refused` for a message without one; `Codec` for properties that cannot be decoded.
    ///
    /// # Examples
    /// ```
    /// use actix_pika::{Result, inbox::Identified, tasks::Task};
    ///
    /// fn is_from_us(task: &Task<String>) -> Result<bool> {
    ///     Ok(task.message_id()?.starts_with(b"shop-"))
    /// }
    /// ```
    fn message_id(&self) -> Result<&[u8]>;
}

impl<T> Identified for Task<T> {
    fn message_id(&self) -> Result<&[u8]> {
        self.content().message_id()
    }
}

impl Identified for Content {
    fn message_id(&self) -> Result<&[u8]> {
        of(self.properties()?)
    }
}

impl Identified for Delivery {
    fn message_id(&self) -> Result<&[u8]> {
        of(self.properties()?)
    }
}

fn of(properties: &Properties) -> Result<&[u8]> {
    properties.message_id_bytes().filter(|id| !id.is_empty()).ok_or_else(|| facade::refused(MISSING))
}

/// Returns an id that an inbox can keep.
///
/// # Errors
/// `Refused` for one that is empty, or longer than a short string.
pub(super) fn check(id: &[u8]) -> Result<&[u8]> {
    match id.len() {
        0 => Err(facade::refused(MISSING)),
        1..=ID_MAX => Ok(id),
        more => Err(facade::refused(format!("the id of a message has {more} bytes, more than {ID_MAX}"))),
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{ErrorKind, Publishing, testing::TestContent};

    #[test]
    fn a_message_without_an_id_is_refused() {
        let with = |publishing: Publishing| TestContent::new(publishing).build();
        for none in [with(Publishing::new("x")), with(Publishing::new("x").message_id(""))] {
            let refused = none.message_id().unwrap_err();
            assert_eq!((refused.kind(), refused.is_retryable()), (ErrorKind::Refused, false));
            assert!(refused.to_string().contains("generate_message_id"), "{refused}");
        }
        assert_eq!(with(Publishing::new("x").message_id("order-7")).message_id().unwrap(), b"order-7");
        let task = Task::for_test((), with(Publishing::new("x").message_id("order-7")));
        assert_eq!(task.message_id().unwrap(), b"order-7");
    }

    #[test]
    fn ids_have_a_limit() {
        assert!(check(&[b'x'; 255]).is_ok());
        for bad in [&[][..], &[b'x'; 256]] {
            assert_eq!(check(bad).unwrap_err().kind(), ErrorKind::Refused);
        }
    }
}
