//! Protocol violations found in received bytes.
//!
//! A [`Fault`] holds what `connection.close` needs: the reply code, a text, and the method that was being
//! decoded. The text contains at most short, printable excerpts of what the peer sent.

use std::{
    borrow::Cow,
    error,
    fmt::{self, Write},
};

use super::{method_names::method_name, peer_text::Escaping};

/// A protocol violation by the peer, or an internal error, as `connection.close` reports it.
///
/// Source: AMQP 0-9-1 section 1.2 (reply codes); section 4.10
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// AMQP 0-9-1 reply code, such as 501.
    pub code: u16,
    /// What is wrong, for humans.
    pub text: Cow<'static, str>,
    /// Class of the method that was being decoded, 0 if none.
    pub class_id: u16,
    /// Id of the method that was being decoded, 0 if none.
    pub method_id: u16,
    /// Channel of the frame that is wrong, 0 if it is unknown.
    pub channel: u16,
}

impl Fault {
    /// Creates an `internal-error` (541): this client has made a mistake.
    pub(crate) fn internal(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(541, text)
    }

    /// Creates a `frame-error` (501): the framing is broken.
    #[cold]
    pub fn frame(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(501, text)
    }

    /// Creates a `syntax-error` (502): arguments or fields cannot be decoded.
    #[cold]
    pub fn syntax(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(502, text)
    }

    /// Creates a `command-invalid` (503): a method is unknown or not allowed in this state.
    #[cold]
    pub fn command(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, text)
    }

    /// Creates a `channel-error` (504): a channel is not open.
    #[cold]
    pub fn channel(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(504, text)
    }

    /// Creates an `unexpected-frame` (505): a frame is out of order.
    #[cold]
    pub fn unexpected(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(505, text)
    }

    /// Creates a `resource-error` (506): a limit of this client is exceeded, such as the body size.
    #[cold]
    pub fn resource(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(506, text)
    }

    /// Sets the method that was being decoded.
    #[must_use]
    pub fn with_method(mut self, class_id: u16, method_id: u16) -> Self {
        self.class_id = class_id;
        self.method_id = method_id;
        self
    }

    /// Sets the channel of the frame that is wrong.
    #[must_use]
    pub fn on_channel(mut self, channel: u16) -> Self {
        self.channel = channel;
        self
    }

    fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), class_id: 0, method_id: 0, channel: 0 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = Escaping(f);
        write!(f, "{} {}", self.code, self.text)?;
        if self.class_id != 0 {
            write!(f, " (in {})", method_name(self.class_id, self.method_id))?;
        }
        Ok(())
    }
}

impl error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_code_and_method() {
        assert_eq!(Fault::frame("no end octet").to_string(), "501 no end octet");
        let fault = Fault::syntax("arguments cut short").with_method(50, 10);
        assert_eq!(fault.to_string(), "502 arguments cut short (in queue.declare)");
    }
}
