//! New passwords and tokens for an open connection: `connection.update-secret`, sent for the application, or
//! in time before the credentials expire.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};
use tokio::time::{Instant, sleep};

use super::{
    ConnectionSupervisor,
    attach::not_open_yet,
    phase::Phase,
    secret_updates::{MAX_PENDING, SecretUpdates, Waiter},
};
use crate::{
    channel::Reply,
    credentials::Credentials,
    error::{Error, Result},
    internal::{ConnectionCommand, SecretBytes},
    message::{ConnectionEvent, UpdateSecret},
    options::clamp_timeout,
    secret::Secret,
    wire::update_secret,
};

/// No provider is asked more often than this, whatever the lifetime of its credentials.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failed refresh.
const MAX_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Secrets {
    updates: SecretUpdates,
    /// Asks the provider before the credentials expire.
    refresh: Option<SpawnHandle>,
}

impl Secrets {
    pub(super) fn current(&self) -> Option<Secret> {
        self.updates.current()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.updates.deadline()
    }
}

/// When new credentials are asked for: at 80 % of the lifetime.
fn refresh_at(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.8).max(MIN_PAUSE)
}

/// The pause after a failed refresh: several attempts fit into the rest of the lifetime.
fn retry_after(lifetime: Duration) -> Duration {
    (lifetime / 20).clamp(MIN_PAUSE, MAX_PAUSE)
}

impl ConnectionSupervisor {
    /// Refreshes credentials that are valid for `lifetime` from now on.
    pub(super) fn keep_fresh(&mut self, lifetime: Option<Duration>, ctx: &mut Context<Self>) {
        if let Some(lifetime) = lifetime {
            self.refresh_after(refresh_at(lifetime), lifetime, ctx);
        }
    }

    fn refresh_after(&mut self, pause: Duration, lifetime: Duration, ctx: &mut Context<Self>) {
        let provider = self.options.credentials.clone();
        if provider.is_fixed() {
            return;
        }
        let limit = self.options.connect_timeout;
        let asked = async move {
            sleep(pause).await;
            provider.ask(limit).await
        };
        let refresh = asked.into_actor(self).map(move |answer, supervisor, ctx| {
            supervisor.secrets.refresh = None;
            match answer {
                Ok(credentials) => supervisor.refreshed(&credentials, lifetime, ctx),
                Err(error) => supervisor.refresh_failed(error, lifetime, ctx),
            }
            supervisor.perform_effects(ctx);
        });
        if let Some(earlier) = self.secrets.refresh.replace(ctx.spawn(refresh)) {
            ctx.cancel_future(earlier);
        }
    }

    fn refreshed(&mut self, credentials: &Credentials, before: Duration, ctx: &mut Context<Self>) {
        // Zero: these credentials do not expire, and are not refreshed again.
        let lifetime = credentials.lifetime().unwrap_or(Duration::ZERO);
        let update = UpdateSecret::new(credentials.password().clone(), "refreshed before it expires")
            .deadline(self.options.connect_timeout);
        if let Err(error) = self.send_secret(update, Waiter::Refresh(lifetime)) {
            self.refresh_failed(error, before, ctx);
        }
    }

    fn refresh_failed(&mut self, error: Error, lifetime: Duration, ctx: &mut Context<Self>) {
        if self.supervision.open().is_none() || matches!(self.supervision.phase, Phase::Closing(_)) {
            return;
        }
        let pause = retry_after(lifetime);
        let epoch = self.supervision.epoch;
        log::warn!("connection {epoch}: credentials not refreshed, next attempt in {pause:?}: {error}");
        self.watchers.notify(&ConnectionEvent::RefreshFailed(error));
        self.refresh_after(pause, lifetime, ctx);
    }

    pub(super) fn update_secret(&mut self, update: UpdateSecret) -> Reply<()> {
        let (reply, caller) = Reply::later();
        match self.send_secret(update, Waiter::Caller(caller)) {
            Ok(()) => reply,
            Err(error) => Reply::now(Err(error)),
        }
    }

    fn send_secret(&mut self, update: UpdateSecret, waiter: Waiter) -> Result<()> {
        self.supervision.check_not_closed()?;
        let frame_max = match self.supervision.open() {
            Some(open) => open.opened.negotiated.frame_max,
            None => return Err(not_open_yet()),
        };
        if self.secrets.updates.is_full() {
            return Err(Error::limit(format!("{MAX_PENDING} connection.update-secret are unanswered")));
        }
        let UpdateSecret { secret, reason, deadline } = update;
        let Some(frame) = update_secret(&secret, &reason, frame_max) else {
            return Err(Error::limit(format!("the secret does not fit a frame of {frame_max} bytes")));
        };
        self.command(ConnectionCommand::UpdateSecret { frame: SecretBytes(frame) });
        self.secrets.updates.push(secret, Instant::now() + clamp_timeout(deadline), waiter);
        Ok(())
    }

    /// Replies to the callers whose deadline has passed.
    pub(super) fn expire_secrets(&mut self, now: Instant, ctx: &mut Context<Self>) {
        for waiter in self.secrets.updates.take_expired(now) {
            let what = "connection.update-secret: no answer in time";
            let error = match self.supervision.blocked() {
                Some(reason) => Error::blocked_by(what, &reason),
                None => Error::timeout(what),
            };
            match waiter {
                Waiter::Caller(caller) => {
                    let _ = caller.send(Err(error));
                }
                Waiter::Refresh(lifetime) => self.refresh_failed(error, lifetime, ctx),
            }
        }
    }

    /// The broker has accepted the oldest update.
    pub(super) fn secret_updated(&mut self, ctx: &mut Context<Self>) {
        let Some(waiter) = self.secrets.updates.accepted() else { return };
        match waiter {
            Some(Waiter::Caller(caller)) => {
                let _ = caller.send(Ok(()));
            }
            Some(Waiter::Refresh(lifetime)) if !lifetime.is_zero() => self.keep_fresh(Some(lifetime), ctx),
            Some(Waiter::Refresh(_)) | None => {}
        }
        log::debug!("connection {}: secret updated", self.supervision.epoch);
        self.watchers.notify(&ConnectionEvent::SecretUpdated);
    }

    /// The connection is lost: fails the callers and stops the refresh.
    pub(super) fn fail_secrets(&mut self, error: &Error, ctx: &mut Context<Self>) {
        if let Some(refresh) = self.secrets.refresh.take() {
            ctx.cancel_future(refresh);
        }
        for waiter in self.secrets.updates.take_all() {
            if let Waiter::Caller(caller) = waiter {
                let _ = caller.send(Err(Error::connection_lost(error)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_refreshed_at_four_fifths_of_their_lifetime() {
        assert_eq!(refresh_at(Duration::from_secs(600)), Duration::from_secs(480));
        assert_eq!(refresh_at(Duration::ZERO), MIN_PAUSE);
        assert_eq!(retry_after(Duration::from_secs(600)), Duration::from_secs(30));
        assert_eq!(retry_after(Duration::from_secs(100)), Duration::from_secs(5));
        assert_eq!(retry_after(Duration::from_secs(1)), MIN_PAUSE);
    }
}
