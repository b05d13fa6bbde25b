//! What requests and replies look like on the wire. The [module](super#on-the-wire) describes it for other clients.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{RemoteError, RpcError};
use crate::{
    Error, Result,
    codec::{Codec, Json},
    message::Content,
};

/// The pseudo-queue of direct replies.
pub(super) const DIRECT: &str = "amq.rabbitmq.reply-to";

/// The content type of requests and replies.
pub(super) const JSON: &str = "application/json";

/// The type of a reply with a result, as it is in the property `type`.
pub(super) const RESULT: &str = "result";

/// The type of a reply with a [`RemoteError`].
pub(super) const ERROR: &str = "error";

/// The header of an idempotent request, which may come twice under its correlation id.
pub(super) const IDEMPOTENT: &str = "rpc-idempotent";

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes> {
    let body = serde_json::to_vec(value);
    body.map(Bytes::from).map_err(|error| Error::codec(format!("the value has no JSON form: {error}")))
}

/// Decodes a body whose content type is JSON, or that has none.
pub(super) fn decode<T: DeserializeOwned>(content: &Content) -> Result<T> {
    match content.properties()?.content_type() {
        Some(other) if !Codec::<()>::accepts(&Json, other) => {
            Err(Error::codec(format!("the content type is {other:?}, not {JSON:?}")))
        }
        _ => serde_json::from_slice(content.body())
            .map_err(|error| Error::codec(format!("the body is wrong: {error}"))),
    }
}

/// What a server has replied.
#[derive(Debug)]
pub(super) enum Reply {
    /// The body has the result.
    Result(Content),
    Error(RemoteError),
}

impl Reply {
    /// Reads what kind of reply it is. Without a type it is a result.
    pub(super) fn read(content: Content) -> Result<Self> {
        let is_error = match content.properties()?.message_type() {
            None | Some(RESULT) => false,
            Some(ERROR) => true,
            Some(other) => return Err(Error::codec(format!("the reply has type {other:?}"))),
        };
        if is_error { decode(&content).map(Self::Error) } else { Ok(Self::Result(content)) }
    }

    /// Returns the result of a call of a [`RpcRequest`](super::RpcRequest).
    pub(super) fn into_reply<R: DeserializeOwned>(self) -> Result<R, RpcError> {
        match self {
            Self::Result(content) => decode(&content).map_err(unreadable),
            Self::Error(error) => Err(RpcError::Remote(error)),
        }
    }

    /// Returns the result of a message of any kind. Where that is an [`Answer`](super::Answer), or another `Result` with
    /// an error of the same form, the error of the server is inside it, and what is not a `Result` on the wire is its `Ok`.
    pub(super) fn into_result<T: DeserializeOwned>(self) -> Result<T, RpcError> {
        match self {
            Self::Result(content) => decode(&content).or_else(|error| {
                let reply = decode(&content).map_err(|_| unreadable(error.clone()))?;
                from_answer(Ok(reply)).ok_or_else(|| unreadable(error))
            }),
            Self::Error(error) => from_answer(Err(&error)).ok_or(RpcError::Remote(error)),
        }
    }
}

/// Makes a `Result` of its parts, if `T` is one.
fn from_answer<T: DeserializeOwned>(answer: Result<serde_json::Value, &RemoteError>) -> Option<T> {
    #[derive(Serialize)]
    enum Form<'a> {
        Ok(serde_json::Value),
        Err(&'a RemoteError),
    }
    let form = serde_json::to_value(answer.map_or_else(Form::Err, Form::Ok)).ok()?;
    T::deserialize(form).ok()
}

pub(super) fn unreadable(cause: Error) -> RpcError {
    RpcError::Codec { may_have_run: true, cause }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{ErrorKind, Publishing, rpc::Answer, testing::TestContent};

    fn reply(kind: Option<&str>, body: &str) -> Result<Reply> {
        let message = Publishing::new(body);
        let message = kind.into_iter().fold(message, |message, kind| message.message_type(kind));
        Reply::read(TestContent::new(message).build())
    }

    #[test]
    fn a_reply_is_a_result_or_an_error() {
        for kind in [None, Some("result")] {
            assert_eq!(reply(kind, "3").unwrap().into_reply::<i64>().unwrap(), 3);
        }
        let error = reply(Some("error"), r#"{"code":"busy"}"#).unwrap().into_reply::<i64>().unwrap_err();
        assert_eq!(error.remote(), Some(&RemoteError::new("busy", "")));
    }

    #[test]
    fn what_is_neither_is_a_codec_error() {
        assert_eq!(reply(Some("call"), "3").unwrap_err().kind(), ErrorKind::Codec);
        assert_eq!(reply(Some("error"), "3").unwrap_err().kind(), ErrorKind::Codec);
        let wrong = reply(None, "three").unwrap().into_reply::<i64>().unwrap_err();
        assert!(matches!(wrong, RpcError::Codec { may_have_run: true, .. }), "{wrong:?}");
        let text = Publishing::new("3").content_type("text/plain");
        let text = Reply::read(TestContent::new(text).build()).unwrap().into_reply::<i64>();
        assert!(matches!(text, Err(RpcError::Codec { may_have_run: true, .. })), "{text:?}");
    }

    #[test]
    fn the_result_of_any_message_is_found_in_its_reply() {
        let of = |kind, body| reply(Some(kind), body).unwrap();
        assert_eq!(of("result", "3").into_result::<i64>().unwrap(), 3);
        assert_eq!(of("result", "3").into_result::<Answer<i64>>().unwrap(), Ok(3));
        assert_eq!(of("result", r#"{"Ok":3}"#).into_result::<Result<i64, String>>().unwrap(), Ok(3));
        assert_eq!(
            of("result", r#"{"Err":"no"}"#).into_result::<Result<i64, String>>().unwrap(),
            Err("no".into())
        );
        let busy = RemoteError::new("busy", "");
        let json = r#"{"code":"busy"}"#;
        assert_eq!(of("error", json).into_result::<Answer<i64>>().unwrap(), Err(busy.clone()));
        let outside = of("error", json).into_result::<Result<i64, String>>().unwrap_err();
        assert_eq!(outside.remote(), Some(&busy));
        assert!(of("result", r#""three""#).into_result::<Answer<i64>>().is_err());
    }
}
