//! Errors that close a channel or a connection.

use std::{borrow::Cow, fmt};

use actix_pika_actors::wire::short::short_truncated;
use amq_protocol::types::ShortString;

use super::octets::printable;

/// The most octets of a reply text.
const TEXT_MAX: usize = 255;

/// Why a channel or a connection is closed: what its `close` says.
///
/// # Examples
/// ```
/// # use actix_pika_broker::core::Close;
/// let close = Close::new(404, "no queue 'q' in vhost '/'").at(50, 10);
/// assert_eq!(close.to_string(), "NOT_FOUND - no queue 'q' in vhost '/'");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The reply code.
    pub code: u16,
    /// The text without the name of the code.
    pub text: Cow<'static, str>,
    /// The class of the method at fault, or 0.
    pub class_id: u16,
    /// The method at fault, or 0.
    pub method_id: u16,
}

impl Close {
    /// Creates an error without a method.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Close;
    /// assert_eq!(Close::new(320, "bye").method_id, 0);
    /// ```
    #[cold]
    pub fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, text: text.into(), class_id: 0, method_id: 0 }
    }

    /// Sets the method at fault.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Close;
    /// assert_eq!(Close::new(404, "").at(50, 10).class_id, 50);
    /// ```
    #[must_use]
    pub fn at(mut self, class_id: u16, method_id: u16) -> Self {
        (self.class_id, self.method_id) = (class_id, method_id);
        self
    }

    /// Returns the text that a `close` has. One that is too long ends with dots.
    pub(crate) fn reply_text(&self) -> ShortString {
        let mut text = printable(&self.to_string()).into_owned();
        if text.len() > TEXT_MAX {
            let end = (0..=TEXT_MAX - 3).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(end);
            text.push_str("...");
        }
        short_truncated(&text)
    }

    /// Returns the name of the code, as RabbitMQ puts it in front of the text.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::Close;
    /// assert_eq!(Close::new(405, "").name(), "RESOURCE_LOCKED");
    /// ```
    pub fn name(&self) -> &'static str {
        match self.code {
            311 => "CONTENT_TOO_LARGE",
            312 => "NO_ROUTE",
            313 => "NO_CONSUMERS",
            320 => "CONNECTION_FORCED",
            402 => "INVALID_PATH",
            403 => "ACCESS_REFUSED",
            404 => "NOT_FOUND",
            405 => "RESOURCE_LOCKED",
            406 => "PRECONDITION_FAILED",
            501 => "FRAME_ERROR",
            502 => "SYNTAX_ERROR",
            503 => "COMMAND_INVALID",
            504 => "CHANNEL_ERROR",
            505 => "UNEXPECTED_FRAME",
            506 => "RESOURCE_ERROR",
            530 => "NOT_ALLOWED",
            540 => "NOT_IMPLEMENTED",
            541 => "INTERNAL_ERROR",
            _ => "UNKNOWN",
        }
    }
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        // An internal error says no more.
        if self.text.is_empty() { Ok(()) } else { write!(f, " - {}", self.text) }
    }
}

impl std::error::Error for Close {}

/// What a method that fails closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The channel.
    Channel(Close),
    /// The connection.
    Connection(Close),
}

impl Failure {
    /// Creates an error of the channel.
    #[cold]
    pub(crate) fn channel(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::Channel(Close::new(code, text))
    }

    /// Creates an error of the connection.
    #[cold]
    pub(crate) fn connection(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self::Connection(Close::new(code, text))
    }

    /// Sets the method at fault. An internal error without a text, which is a crash of RabbitMQ's, has none.
    pub(crate) fn at(self, (class_id, method_id): (u16, u16)) -> Self {
        match self {
            Self::Connection(close) if close.code == 541 && close.text.is_empty() => Self::Connection(close),
            Self::Channel(close) => Self::Channel(close.at(class_id, method_id)),
            Self::Connection(close) => Self::Connection(close.at(class_id, method_id)),
        }
    }
}
