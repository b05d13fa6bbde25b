//! Who is told what happens to the channel.

use actix::{Context, Handler, Recipient};
use tokio::sync::mpsc;

use super::Channel;
use crate::{
    error::Error,
    message::{ChannelEvent, FollowChannel, WatchChannel},
};

#[derive(Debug, Default)]
pub(super) struct Watchers {
    recipients: Vec<Recipient<ChannelEvent>>,
    followers: Vec<mpsc::Sender<ChannelEvent>>,
    /// How it ended, for those who come later.
    closed: Option<Option<Error>>,
}

impl Watchers {
    pub(super) fn tell(&mut self, event: &ChannelEvent) {
        self.recipients.retain(Recipient::connected);
        for recipient in &self.recipients {
            recipient.do_send(event.clone());
        }
        self.followers.retain(|follower| follow(follower, event));
    }

    /// Tells of the end; streams of events end with it.
    pub(super) fn close(&mut self, cause: Option<Error>) {
        if self.closed.is_some() {
            return;
        }
        self.tell(&ChannelEvent::Closed(cause.clone()));
        self.recipients.clear();
        self.followers.clear();
        self.closed = Some(cause);
    }
}

/// Tells one stream; `false` if nobody reads it any more.
fn follow(follower: &mpsc::Sender<ChannelEvent>, event: &ChannelEvent) -> bool {
    match follower.try_send(event.clone()) {
        Ok(()) => true,
        Err(mpsc::error::TrySendError::Full(_)) => {
            log::warn!("a stream of channel events is not read; one is lost");
            true
        }
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    }
}

impl Handler<WatchChannel> for Channel {
    type Result = ();

    fn handle(&mut self, WatchChannel(recipient): WatchChannel, _: &mut Context<Self>) {
        match &self.watchers.closed {
            Some(cause) => recipient.do_send(ChannelEvent::Closed(cause.clone())),
            None if self.watchers.recipients.contains(&recipient) => {}
            None => self.watchers.recipients.push(recipient),
        }
    }
}

impl Handler<FollowChannel> for Channel {
    type Result = ();

    fn handle(&mut self, FollowChannel(follower): FollowChannel, _: &mut Context<Self>) {
        match &self.watchers.closed {
            Some(cause) => drop(follow(&follower, &ChannelEvent::Closed(cause.clone()))),
            None => self.watchers.followers.push(follower),
        }
    }
}
