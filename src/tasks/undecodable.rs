//! What becomes of messages that cannot be decoded.

/// What becomes of a message that cannot be decoded: its content type is not one of the codec, or its body is wrong.
/// None returns to its queue, where it would be delivered without end.
///
/// # Examples
/// ```no_run
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Email { to: String }
/// # async fn run(mails: actix_pika::Queue) -> actix_pika::Result<()> {
/// use actix_pika::tasks::Undecodable;
///
/// let mailer = mails.tasks::<Email>().undecodable(Undecodable::Drop);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Undecodable {
    /// It is dead-lettered: published to the dead-letter queue of a [retry ladder](super::Tasks::retry), with the
    /// error as the reason, or else rejected (`basic.reject`). A queue without a dead-letter exchange then drops it, of
    /// which the log warns.
    #[default]
    DeadLetter,
    /// It is acknowledged, and the error is logged.
    Drop,
}
