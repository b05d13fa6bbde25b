//! The task that deletes old ids.

use std::time::Duration;

use actix_pika_actors::facade;
use tokio::{runtime::Handle, task::JoinHandle, time::sleep};

use super::Inbox;
use crate::{Result, database::Database};

/// Prunes an inbox until it is dropped ([`Inbox::prune_by_itself`]).
///
/// # Examples
/// ```no_run
/// # #[cfg(feature = "sqlx")]
/// # async fn run(inbox: actix_pika::inbox::Inbox<sqlx::Sqlite>) -> actix_pika::Result<()> {
/// use std::time::Duration;
///
/// let pruner = inbox.prune_by_itself(Duration::from_secs(30 * 24 * 60 * 60))?;
/// // ... while the application runs:
/// drop(pruner);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "it prunes until it is dropped"]
pub struct InboxPruner(JoinHandle<()>);

impl InboxPruner {
    pub(super) fn start<DB: Database>(inbox: Inbox<DB>, older_than: Duration) -> Result<Self> {
        // A task of the runtime, not of an arbiter: at its end, sqlx has to find the runtime.
        let runtime = Handle::try_current()
            .map_err(|_| facade::stopped("an inbox is pruned by a task, and there is no runtime"))?;
        Ok(Self(runtime.spawn(prune(inbox, older_than))))
    }
}

impl Drop for InboxPruner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn prune<DB: Database>(inbox: Inbox<DB>, older_than: Duration) {
    let pause = pause(older_than);
    loop {
        match inbox.prune(older_than).await {
            Ok(0) => {}
            Ok(deleted) => log::debug!("inbox {:?}: {deleted} ids pruned", inbox.name),
            Err(error) => log::warn!("inbox {:?}: not pruned, next try in {pause:?}: {error}", inbox.name),
        }
        sleep(pause).await;
    }
}

fn pause(older_than: Duration) -> Duration {
    (older_than / 24).clamp(Duration::from_secs(1), Duration::from_secs(60 * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_is_pruned_each_hour_or_more_often() {
        let seconds = |older_than| pause(Duration::from_secs(older_than)).as_secs();
        assert_eq!([0, 240, 86_400, u64::MAX].map(seconds), [1, 10, 3_600, 3_600]);
    }
}
