//! What a peer did wrong, found in its bytes.
//!
//! A [`Fault`] carries what `connection.close` needs: the reply code, a text, and the method that was being read.
//! It never carries bytes of the peer's beyond short, printable excerpts.

use std::{borrow::Cow, error, fmt};

/// Describes a breach of the protocol, found in bytes: what `connection.close` will say of it.
///
/// Source: AMQP 0-9-1 constants (section 1.2); section 4.10
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::Fault;
/// let fault = Fault::frame("no end octet");
/// assert_eq!((fault.code, fault.class_id), (501, 0));
/// assert!(fault.to_string().contains("no end octet"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Reply code of AMQP 0-9-1, such as 501.
    pub code: u16,
    /// What was wrong, for people.
    pub text: Cow<'static, str>,
    /// Class of the method that was being read, 0 if none.
    pub class_id: u16,
    /// The method that was being read, 0 if none.
    pub method_id: u16,
}

impl Fault {
    /// Something went wrong here: internal error, 541.
    pub(crate) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(541, text)
    }

    /// Reports a `frame-error` (501): the framing itself is broken.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::frame("no end octet").code, 501);
    /// ```
    #[cold]
    pub fn frame(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(501, text)
    }

    /// Reports a `syntax-error` (502): arguments or fields that cannot be read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::syntax("arguments cut short").code, 502);
    /// ```
    #[cold]
    pub fn syntax(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(502, text)
    }

    /// Reports a `command-invalid` (503): a method that is unknown or has no business here.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::command("unknown method").code, 503);
    /// ```
    #[cold]
    pub fn command(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, text)
    }

    /// Reports a `channel-error` (504): a channel that is not open.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::channel("channel 7 is not open").code, 504);
    /// ```
    #[cold]
    pub fn channel(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(504, text)
    }

    /// Reports an `unexpected-frame` (505): a frame out of its order.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::unexpected("content body without a header").code, 505);
    /// ```
    #[cold]
    pub fn unexpected(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(505, text)
    }

    /// Reports a `resource-error` (506): more than this client is willing to hold, such as a body over its limit.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// assert_eq!(Fault::resource("a body too large").code, 506);
    /// ```
    #[cold]
    pub fn resource(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(506, text)
    }

    /// Names the method that was being read.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::Fault;
    /// let fault = Fault::syntax("arguments cut short").with_method(50, 10);
    /// assert_eq!((fault.class_id, fault.method_id), (50, 10));
    /// ```
    #[must_use]
    pub fn with_method(mut self, class_id: u16, method_id: u16) -> Self {
        self.class_id = class_id;
        self.method_id = method_id;
        self
    }

    fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), class_id: 0, method_id: 0 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)?;
        if self.class_id != 0 {
            write!(f, " (in {})", super::method::name(self.class_id, self.method_id))?;
        }
        Ok(())
    }
}

impl error::Error for Fault {}
