//! The error that a server replies with.

use std::{any::Any, error::Error as StdError, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::RpcError;
use crate::{Error, error::PeerText};

/// An error that crosses RabbitMQ as data: a code for programs, a text for people, and details.
///
/// It does not implement [`std::error::Error`], so that the `?` operator makes one of every error: with the code `error`
/// and the text of the error and its causes. It is [retryable](Self::is_retryable) then if it was made of an
/// [`Error`] or an [`RpcError`] that is.
///
/// Its JSON form, which other clients can send and read; `data` and `retryable` may be left out:
///
/// ```json
/// {"code": "no-funds", "text": "3 are left", "data": {"left": 3}, "retryable": false}
/// ```
///
/// These codes are those of the library:
///
/// | code | what has happened | did the handler run |
/// |---|---|---|
/// | `panic` | the handler has panicked; the text of the panic stays at the server | it may have |
/// | `gone` | the actor has ended before it replied: it was stopped, or has panicked on another thread while the request was passed to it | it may have |
/// | `undecodable` | the body of the request is not one of the method | no |
/// | `unserialisable` | the reply has no JSON form | yes |
/// | `error` | made by `?` | yes |
///
/// # Examples
/// ```
/// use actix_pika::rpc::RemoteError;
///
/// let error = RemoteError::new("no-funds", "3 are left").with(&[("left", 3)]);
/// assert_eq!(error.to_string(), "no-funds: 3 are left");
/// assert_eq!(error.data::<Vec<(String, u32)>>().unwrap().unwrap(), [("left".to_owned(), 3)]);
/// let parsed = RemoteError::from("x".parse::<u32>().unwrap_err());
/// assert_eq!((parsed.code(), parsed.text()), ("error", "invalid digit found in string"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteError {
    code: String,
    #[serde(default)]
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<serde_json::Value>,
    #[serde(default)]
    retryable: bool,
}

impl RemoteError {
    /// Creates an error without details, which is not retryable.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert!(!RemoteError::new("closed", "we open at 9").is_retryable());
    /// ```
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into(), data: None, retryable: false }
    }

    /// Sets the details. What has no JSON form is left out.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// let error = RemoteError::new("too-large", "10 at most").with(10);
    /// assert_eq!(error.data::<u32>().unwrap().unwrap(), 10);
    /// ```
    pub fn with(mut self, details: impl Serialize) -> Self {
        self.data = serde_json::to_value(details).ok();
        self
    }

    /// Sets whether the same call may succeed later; it may not unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert!(RemoteError::new("busy", "try again").retryable(true).is_retryable());
    /// ```
    pub fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Returns the code, by which programs tell errors apart.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert_eq!(RemoteError::new("busy", "try again").code(), "busy");
    /// ```
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns the text as it was sent. [`Display`](fmt::Display) escapes its control characters.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert_eq!(RemoteError::new("busy", "try again").text(), "try again");
    /// ```
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the details, if there are any.
    ///
    /// # Errors
    /// `Codec`, if they are not those of a `D`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert!(RemoteError::new("busy", "try again").data::<u32>().is_none());
    /// ```
    pub fn data<D: DeserializeOwned>(&self) -> Option<crate::Result<D>> {
        let data = D::deserialize(self.data.as_ref()?);
        Some(data.map_err(|error| Error::codec(format!("the details are others: {error}"))))
    }

    /// Returns whether the same call may succeed later.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika::rpc::RemoteError;
    /// assert!(!RemoteError::new("no-funds", "3 are left").is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

impl<E: StdError + 'static> From<E> for RemoteError {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        let error: &dyn Any = &error;
        let retryable = error.downcast_ref::<Error>().is_some_and(Error::is_retryable)
            || error.downcast_ref::<RpcError>().is_some_and(RpcError::is_retryable);
        Self::new("error", text).retryable(retryable)
    }
}

/// Writes code and text, with control characters escaped.
impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", PeerText::from(self.code()), PeerText::from(self.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_form_is_that_of_the_documentation() {
        let error = RemoteError::new("no-funds", "3 are left").with(serde_json::json!({"left": 3}));
        let json = r#"{"code":"no-funds","text":"3 are left","data":{"left":3},"retryable":false}"#;
        assert_eq!(serde_json::to_string(&error).unwrap(), json);
        assert_eq!(serde_json::from_str::<RemoteError>(json).unwrap(), error);
        let short: RemoteError = serde_json::from_str(r#"{"code":"busy","more":[]}"#).unwrap();
        assert_eq!(short, RemoteError::new("busy", ""));
        assert!(serde_json::from_str::<RemoteError>(r#"{"text":"no code"}"#).is_err());
    }

    #[test]
    fn an_error_of_the_library_stays_retryable() {
        let timeout = RpcError::Timeout { may_have_run: false, cause: None };
        assert!(RemoteError::from(timeout).is_retryable());
        assert!(!RemoteError::from(Error::codec("wrong")).is_retryable());
    }

    #[test]
    fn a_text_forges_no_line_of_the_log() {
        let error = RemoteError::new("a\nb", "c\nd");
        assert_eq!((error.to_string().as_str(), error.text()), (r"a\nb: c\nd", "c\nd"));
    }
}
