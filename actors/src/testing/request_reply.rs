//! Requests and replies of a broker: channels that open and close, confirms, and the close of the connection.

use super::{
    Method, PeerSocket, TestError,
    protocol::{basic, channel, connection},
    types::ShortString,
};

impl PeerSocket {
    /// Waits for `channel.open` and sends `channel.open-ok`.
    ///
    /// # Errors
    /// The same as [`expect`](Self::expect).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.handshake().await?;
    /// socket.open_channel(1).await?;
    /// # Ok(()) }
    /// ```
    pub async fn open_channel(&mut self, channel: u16) -> Result<(), TestError> {
        self.answer(channel, |_: channel::Open| channel::OpenOk {}).await.map(drop)
    }

    /// Waits for the method `Q` on a channel, sends the method that `reply` returns for it, and returns the
    /// request.
    ///
    /// # Errors
    /// The same as [`expect`](Self::expect).
    ///
    /// # Examples
    ///
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket, protocol::{basic, confirm}};
    /// # async fn answers(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await?;
    /// let consume = socket
    ///     .answer(1, |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub async fn answer<Q: Method + Clone, R: Method>(
        &mut self,
        channel: u16,
        reply: impl FnOnce(Q) -> R,
    ) -> Result<Q, TestError> {
        let request: Q = self.expect(channel).await?;
        self.send(channel, reply(request.clone())).await?;
        Ok(request)
    }

    /// Sends `basic.ack`, which confirms one publish, or with `multiple` all up to it.
    ///
    /// # Errors
    /// The same as [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.confirm(1, 3, true).await?; // all up to the third publish
    /// # Ok(()) }
    /// ```
    pub async fn confirm(
        &mut self,
        channel: u16,
        delivery_tag: u64,
        multiple: bool,
    ) -> Result<(), TestError> {
        self.send(channel, basic::Ack { delivery_tag, multiple }).await
    }

    /// Sends `basic.nack`, which refuses one publish, or with `multiple` all up to it.
    ///
    /// # Errors
    /// The same as [`deliver`](Self::deliver).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.nack(1, 1, false).await?;
    /// # Ok(()) }
    /// ```
    pub async fn nack(&mut self, channel: u16, delivery_tag: u64, multiple: bool) -> Result<(), TestError> {
        self.send(channel, basic::Nack { delivery_tag, multiple, requeue: false }).await
    }

    /// Sends `connection.close` and waits for `connection.close-ok`. Other frames before it are dropped, as a
    /// broker does.
    ///
    /// # Errors
    /// [`Disconnected`](super::TestErrorKind::Disconnected) or [`TimedOut`](super::TestErrorKind::TimedOut)
    /// when the client does not reply.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.close_connection(320, "CONNECTION_FORCED").await?;
    /// # Ok(()) }
    /// ```
    pub async fn close_connection(&mut self, code: u16, text: &str) -> Result<(), TestError> {
        let close = connection::Close { reply_code: code, reply_text: text.into(), ..Default::default() };
        self.send(0, close).await?;
        let deadline = self.deadline();
        loop {
            let frame = self.any_frame_until(deadline, "connection.close-ok").await?;
            if frame.channel == 0 && frame.is::<connection::CloseOk>() {
                return Ok(());
            }
        }
    }

    /// Sends `channel.close` and waits for `channel.close-ok`. Other frames of the channel before it are
    /// dropped, as a broker does. `class_id` and `method_id` name the failed method, 0 for none.
    ///
    /// # Errors
    /// The same as [`close_connection`](Self::close_connection).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// socket.close_channel(1, 404, "NOT_FOUND - no queue 'jobs'", 50, 10).await?; // for queue.declare
    /// # Ok(()) }
    /// ```
    pub async fn close_channel(
        &mut self,
        channel: u16,
        code: u16,
        text: &str,
        class_id: u16,
        method_id: u16,
    ) -> Result<(), TestError> {
        let reply_text = ShortString::from(text);
        self.send(channel, channel::Close { reply_code: code, reply_text, class_id, method_id }).await?;
        let deadline = self.deadline();
        let awaited = format!("channel.close-ok on channel {channel}");
        while !self.frame_on_until(channel, deadline, &awaited).await?.is::<channel::CloseOk>() {}
        Ok(())
    }

    /// Waits for `connection.close`, sends `connection.close-ok`, and returns the reply code and text.
    ///
    /// # Errors
    /// The same as [`expect`](Self::expect).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.expect_close().await?.0, 200);
    /// # Ok(()) }
    /// ```
    pub async fn expect_close(&mut self) -> Result<(u16, String), TestError> {
        let close = self.answer(0, |_: connection::Close| connection::CloseOk {}).await?;
        Ok((close.reply_code, close.reply_text.into()))
    }

    /// Waits for `channel.close`, sends `channel.close-ok`, and returns the reply code and text.
    ///
    /// # Errors
    /// The same as [`expect`](Self::expect).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::testing::{TestError, PeerSocket};
    /// # async fn example(socket: &mut PeerSocket) -> Result<(), TestError> {
    /// assert_eq!(socket.expect_channel_close(1).await?.0, 200);
    /// # Ok(()) }
    /// ```
    pub async fn expect_channel_close(&mut self, channel: u16) -> Result<(u16, String), TestError> {
        let close = self.answer(channel, |_: channel::Close| channel::CloseOk {}).await?;
        Ok((close.reply_code, close.reply_text.into()))
    }
}
