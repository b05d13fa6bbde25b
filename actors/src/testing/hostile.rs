//! Runs of the state machines against a server that sends anything, for fuzzing: `fuzz/` and `examples/hostile.rs`.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};

use crate::{
    channel::HostileChannel,
    connection::HostileConnection,
    internal::{ChannelMessage, SupervisorMessage},
    outbox::Flush,
    supervisor::HostileRecovery,
};

/// State machines that a hostile server is tried on. Any bytes are a script: of what the server sends, and of what the
/// application does meanwhile. A run panics where the machine does, or where a caller has no answer in the end.
///
/// # Examples
/// ```
/// # use actix_pika_actors::testing::Hostile;
/// let hostile = Hostile::new();
/// hostile.channel(b"any bytes");
/// hostile.connection(b"any bytes");
/// hostile.recovery(b"any bytes");
/// ```
#[derive(Debug)]
pub struct Hostile {
    runtime: tokio::runtime::Runtime,
}

/// Takes messages, and is never run.
struct Nobody;

impl Actor for Nobody {
    type Context = Context<Self>;
}

macro_rules! takes {
    ($($message:ty)*) => { $(
        impl Handler<$message> for Nobody {
            type Result = ();

            fn handle(&mut self, _: $message, _: &mut Self::Context) {}
        }
    )* };
}

takes! { Flush ChannelMessage SupervisorMessage }

fn flush() -> Arc<Recipient<Flush>> {
    Arc::new(Context::<Nobody>::new().address().recipient())
}

impl Hostile {
    /// Prepares the runs.
    ///
    /// # Panics
    /// When the operating system has no room for a runtime.
    #[expect(clippy::new_without_default, reason = "it is not a value")]
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        #[expect(clippy::expect_used, reason = "a tool for tests")]
        Self { runtime: runtime.expect("a runtime") }
    }

    /// Runs a channel with its outbox, calls and consumers.
    pub fn channel(&self, script: &[u8]) {
        HostileChannel::run(script, &flush());
    }

    /// Runs a connection: its channel 0, and the frames of its channels.
    pub fn connection(&self, script: &[u8]) {
        // Its timers belong to a runtime.
        let _entered = self.runtime.enter();
        let nobody = Context::<Nobody>::new().address();
        HostileConnection::run(script, nobody.clone().recipient(), nobody.recipient(), flush());
    }

    /// Runs the recovery of a connection: the replay of its topology, and trials.
    pub fn recovery(&self, script: &[u8]) {
        let _ = HostileRecovery::run(script);
    }
}
