//! New passwords and tokens for an open connection: `connection.update-secret`, asked for by hand, or in time before
//! the credentials expire.

use std::{collections::VecDeque, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::time::Instant;
use tokio::time::sleep;

use super::ConnectionSupervisor;
use crate::{
    channel::{Answer, Reply},
    credentials::Credentials,
    error::{Error, Result},
    message::{
        ConnectionEvent, UpdateSecret,
        internal::{ConnectionCommand, SecretBytes},
    },
    options::clamp_timeout,
    secret::Secret,
    wire::update_secret,
};

/// More than anybody needs to have under way at once.
const MOST_UNDER_WAY: usize = 32;
/// Whatever the lifetime: no provider is asked more often than this.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failed refresh.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// What there is to know of the login's secret.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// The one that the broker took last, for later connects.
    pub(super) current: Option<Secret>,
    under_way: VecDeque<UnderWay>,
    deadline: Option<SpawnHandle>,
    refresh: Option<SpawnHandle>,
}

#[derive(Debug)]
struct UnderWay {
    secret: Secret,
    until: Instant,
    /// `None` once the deadline has passed: the place is kept for the late answer.
    who: Option<Who>,
}

#[derive(Debug)]
enum Who {
    Caller(Answer<()>),
    /// A refresh, of credentials that are good for this long.
    Refresh(Duration),
}

/// When to ask for new credentials: at 80 % of the life of these.
fn refresh_at(lifetime: Duration) -> Duration {
    lifetime.mul_f64(0.8).max(LEAST_PAUSE)
}

/// When to try again after a failure: several times in what is left of the life.
fn retry_after(lifetime: Duration) -> Duration {
    (lifetime / 20).clamp(LEAST_PAUSE, MOST_PAUSE)
}

impl ConnectionSupervisor {
    /// Begins to look after credentials that are good for `lifetime` from now on.
    pub(super) fn keep_fresh(&mut self, lifetime: Option<Duration>, ctx: &mut Context<Self>) {
        if let Some(lifetime) = lifetime {
            self.refresh_after(refresh_at(lifetime), lifetime, ctx);
        }
    }

    fn refresh_after(&mut self, pause: Duration, lifetime: Duration, ctx: &mut Context<Self>) {
        let Some(provider) = self.options.credentials.clone() else { return };
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
        });
        if let Some(earlier) = self.secrets.refresh.replace(ctx.spawn(refresh)) {
            ctx.cancel_future(earlier);
        }
    }

    fn refreshed(&mut self, credentials: &Credentials, before: Duration, ctx: &mut Context<Self>) {
        // Credentials that do not expire any more are not asked for again.
        let lifetime = credentials.lifetime().unwrap_or(Duration::ZERO);
        let update = UpdateSecret::new(credentials.password().clone(), "refreshed before it expires")
            .deadline(self.options.connect_timeout);
        if let Err(error) = self.send_secret(update, Who::Refresh(lifetime), ctx) {
            self.refresh_failed(error, before, ctx);
        }
    }

    fn refresh_failed(&mut self, error: Error, lifetime: Duration, ctx: &mut Context<Self>) {
        if self.negotiated().is_none() || self.closing.is_some() {
            return;
        }
        let pause = retry_after(lifetime);
        log::warn!("the credentials could not be refreshed, next try in {pause:?}: {error}");
        self.tell(&ConnectionEvent::RefreshFailed(error));
        self.refresh_after(pause, lifetime, ctx);
    }

    fn send_secret(&mut self, update: UpdateSecret, who: Who, ctx: &mut Context<Self>) -> Result<()> {
        if let Some(error) = self.closed() {
            return Err(error);
        }
        if self.closing.is_some() {
            return Err(Error::connection_closed("the connection is being closed", None));
        }
        let Some(frame_max) = self.negotiated().map(|negotiated| negotiated.frame_max) else {
            return Err(Error::connection_closed("the connection is not open yet", None));
        };
        if self.secrets.under_way.len() >= MOST_UNDER_WAY {
            return Err(Error::limit(format!("{MOST_UNDER_WAY} connection.update-secret are unanswered")));
        }
        let UpdateSecret { secret, reason, deadline } = update;
        let Some(frame) = update_secret(&secret, &reason, frame_max) else {
            return Err(Error::limit(format!("the secret does not fit a frame of {frame_max} bytes")));
        };
        let Some(life) = &self.connection else {
            return Err(Error::connection_closed("the connection is closed", None));
        };
        life.actor.do_send(ConnectionCommand::UpdateSecret { frame: SecretBytes(frame) });
        let until = Instant::now() + clamp_timeout(deadline);
        self.secrets.under_way.push_back(UnderWay { secret, until, who: Some(who) });
        self.await_deadline(ctx);
        Ok(())
    }

    /// Sets the timer for the deadline that is next.
    fn await_deadline(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.secrets.deadline.take() {
            ctx.cancel_future(timer);
        }
        let next = self.secrets.under_way.iter().filter(|one| one.who.is_some()).map(|one| one.until).min();
        if let Some(next) = next {
            let left = next.saturating_duration_since(Instant::now());
            self.secrets.deadline = Some(ctx.run_later(left, Self::secrets_expire));
        }
    }

    fn secrets_expire(&mut self, ctx: &mut Context<Self>) {
        self.secrets.deadline = None;
        let now = Instant::now();
        let blocked = self.is_blocked();
        let late = |one: &mut UnderWay| if one.until <= now { one.who.take() } else { None };
        let expired: Vec<Who> = self.secrets.under_way.iter_mut().filter_map(late).collect();
        for who in expired {
            let what = "connection.update-secret: no answer in time";
            let error = if blocked { Error::blocked(what) } else { Error::timeout(what) };
            match who {
                // Nobody waits any more: fine.
                Who::Caller(caller) => drop(caller.send(Err(error))),
                Who::Refresh(lifetime) => self.refresh_failed(error, lifetime, ctx),
            }
        }
        self.await_deadline(ctx);
    }

    /// The broker took the oldest that is under way.
    pub(super) fn secret_updated(&mut self, ctx: &mut Context<Self>) {
        let Some(taken) = self.secrets.under_way.pop_front() else { return };
        self.secrets.current = Some(taken.secret);
        match taken.who {
            Some(Who::Caller(caller)) => drop(caller.send(Ok(()))),
            Some(Who::Refresh(lifetime)) if !lifetime.is_zero() => self.keep_fresh(Some(lifetime), ctx),
            Some(Who::Refresh(_)) | None => {}
        }
        log::debug!("the broker has taken a new secret");
        self.tell(&ConnectionEvent::SecretUpdated);
        self.await_deadline(ctx);
    }

    /// The connection is over: nothing is refreshed, nothing is answered any more.
    pub(super) fn forget_secrets(&mut self, error: &Error, ctx: &mut Context<Self>) {
        for timer in [self.secrets.deadline.take(), self.secrets.refresh.take()].into_iter().flatten() {
            ctx.cancel_future(timer);
        }
        for one in self.secrets.under_way.drain(..) {
            if let Some(Who::Caller(caller)) = one.who {
                drop(caller.send(Err(Error::connection_lost(error))));
            }
        }
    }
}

impl Handler<UpdateSecret> for ConnectionSupervisor {
    type Result = Reply<()>;

    fn handle(&mut self, update: UpdateSecret, ctx: &mut Context<Self>) -> Reply<()> {
        let (reply, caller) = Reply::later();
        match self.send_secret(update, Who::Caller(caller), ctx) {
            Ok(()) => reply,
            Err(error) => Reply::now(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_refreshed_at_four_fifths_of_their_life() {
        assert_eq!(refresh_at(Duration::from_secs(600)), Duration::from_secs(480));
        assert_eq!(refresh_at(Duration::ZERO), LEAST_PAUSE);
        assert_eq!(retry_after(Duration::from_secs(600)), Duration::from_secs(30));
        assert_eq!(retry_after(Duration::from_secs(100)), Duration::from_secs(5));
        assert_eq!(retry_after(Duration::from_secs(1)), LEAST_PAUSE);
    }
}
