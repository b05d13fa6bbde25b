//! One call, from its request to its reply.

use std::{pin::pin, time::SystemTime};

use actix_pika_actors::facade;
use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    options::CallOptions,
    replies::Replies,
    wire::{CALL, ERROR, FROM, Format, RESULT, read_error},
};
use crate::{
    Error, Exchange, Publishing,
    hook::PublishKind,
    message::{Content, DeathReason},
    rpc::RpcError,
};

/// A request to be published.
pub(super) struct Request<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) key: &'a str,
    pub(super) body: Bytes,
    pub(super) format: Format,
    pub(super) options: CallOptions,
}

/// A call in the table of its client, which it leaves when it is dropped.
struct PendingCall<'a> {
    replies: &'a Replies,
    number: u64,
    reply: oneshot::Receiver<Content>,
}

impl Drop for PendingCall<'_> {
    fn drop(&mut self) {
        self.replies.forget(self.number);
    }
}

/// Makes a call and returns its result, still encoded.
pub(super) async fn call(replies: &Replies, request: Request<'_>) -> Result<Content, RpcError> {
    let until = Instant::now() + request.options.deadline;
    let (number, reply) = replies.open().map_err(|cause| RpcError::Closed { may_have_run: false, cause })?;
    let mut call = PendingCall { replies, number, reply };
    let publishing = request.publishing(replies, number);
    let publish = pin!(request.exchange.publish_hooked(PublishKind::Request, publishing, request.key));
    let sent = match select(&mut call.reply, publish).await {
        Either::Left((reply, _)) => Err(reply),
        Either::Right((sent, _)) => Ok(sent),
    };
    let reply = match sent {
        Err(reply) => reply,
        Ok(sent) => {
            let without_reply = match sent {
                Ok(_) => RpcError::Timeout { may_have_run: true, cause: None },
                Err(cause) => {
                    let error = RpcError::of_publish(cause, request.exchange.channel().is_closed());
                    // Lost on its way, or only its confirm was: then its reply comes to the queue, or it expires.
                    if !matches!(error, RpcError::Lost { may_have_run: true, .. }) {
                        return Err(error);
                    }
                    error
                }
            };
            match timeout_at(until, &mut call.reply).await {
                Ok(reply) => reply,
                Err(_) => return Err(without_reply),
            }
        }
    };
    let content = reply.map_err(|_| RpcError::Closed { may_have_run: true, cause: replies.cause() })?;
    outcome(content)
}

impl Request<'_> {
    fn publishing(&self, replies: &Replies, number: u64) -> Publishing {
        Publishing::new(self.body.clone())
            .content_type(self.format.content_type())
            .message_type(CALL)
            .correlation_id(replies.correlation_id(number))
            .reply_to(&*replies.queue)
            .header(FROM, &*replies.queue)
            .timestamp(SystemTime::now())
            .priority(self.options.priority)
            .persistent(self.options.persistent)
            .expiration(self.options.expiration())
            .deadline(self.options.deadline)
            .resend(self.options.resend)
            .mandatory(true)
            // By which a server recognises a call that comes again after a reconnect.
            .generate_message_id()
    }
}

/// Reads what came back under the correlation id of a call. Returns its result.
fn outcome(content: Content) -> Result<Content, RpcError> {
    let codec = |cause| RpcError::Codec { may_have_run: true, cause };
    let properties = content.properties().map_err(codec)?;
    match properties.message_type() {
        Some(RESULT) => Ok(content),
        Some(ERROR) => Err(read_error(&content).map_or_else(codec, RpcError::Remote)),
        // The call itself, which a queue has dead-lettered.
        Some(CALL) => Err(match content.deaths().first().map(|death| &death.reason) {
            None | Some(DeathReason::Expired) => RpcError::Timeout { may_have_run: false, cause: None },
            Some(DeathReason::MaxLength) => {
                RpcError::Refused(facade::refused("the queue of the method is full"))
            }
            Some(_) => RpcError::Lost {
                may_have_run: true,
                cause: facade::refused("the server has rejected the call, or could not send its reply"),
            },
        }),
        other => Err(codec(Error::codec(format!("the type of the reply is {other:?}")))),
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::{
        message::{Table, Value},
        testing::TestContent,
    };

    fn came_back(kind: &str, reason: Option<&str>) -> Result<Content, RpcError> {
        let mut message = Publishing::new(r#"{"error":{"type":"E","message":"m"}}"#).message_type(kind);
        if let Some(reason) = reason {
            let death = Table::new().with("reason", reason).with("queue", "q").with("count", 1i64);
            message = message.header("x-death", Value::Array(vec![Value::Table(death)]));
        }
        outcome(TestContent::new(message).build())
    }

    #[test]
    fn what_comes_back_is_told_by_its_type() {
        assert!(came_back("result", None).is_ok());
        assert_eq!(came_back("error", None).unwrap_err().remote().unwrap().code(), "E");
        assert!(matches!(came_back("other", None), Err(RpcError::Codec { may_have_run: true, .. })));
    }

    #[test]
    fn a_call_that_comes_back_tells_why() {
        let expired = came_back("call", Some("expired")).unwrap_err();
        assert!(matches!(expired, RpcError::Timeout { may_have_run: false, .. }));
        let full = came_back("call", Some("maxlen")).unwrap_err();
        assert!(matches!(full, RpcError::Refused(_)) && !full.may_have_run());
        for reason in ["rejected", "delivery_limit"] {
            let rejected = came_back("call", Some(reason)).unwrap_err();
            assert!(matches!(rejected, RpcError::Lost { may_have_run: true, .. }), "{reason}");
        }
    }
}
