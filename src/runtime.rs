//! Where actors live: on the caller's arbiter, on one that it names, or on a thread of ours where there is no actix
//! `System` at all.

use std::sync::{Mutex, PoisonError, mpsc};

use actix_rt::{Arbiter, ArbiterHandle, System};

use actix_pika_actors::facade;

use crate::Result;

/// The thread of ours, once somebody needed it.
static OWN: Mutex<Option<ArbiterHandle>> = Mutex::new(None);

/// The arbiter for the I/O of a connection that is opened here.
pub(crate) fn io_arbiter() -> Result<ArbiterHandle> {
    match here() {
        Some(arbiter) => Ok(arbiter),
        None => own_arbiter(),
    }
}

/// The arbiter of the calling thread, if it has one.
pub(crate) fn here() -> Option<ArbiterHandle> {
    // A thread remembers the arbiter of a System that is over.
    Arbiter::try_current().filter(is_alive)
}

/// A closed arbiter refuses whatever is spawned on it.
fn is_alive(arbiter: &ArbiterHandle) -> bool {
    arbiter.spawn(async {})
}

fn own_arbiter() -> Result<ArbiterHandle> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(arbiter) = own.as_ref().filter(|arbiter| is_alive(arbiter)) {
        return Ok(arbiter.clone());
    }
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("actix-pika".into())
        .spawn(move || {
            let runner = System::new();
            // Whoever asked has gone if this fails, and then nobody needs the thread.
            if tell.send(Arbiter::current()).is_ok() {
                drop(runner.run());
            }
        })
        .map_err(|error| facade::stopped(format!("no thread for the I/O: {error}")))?;
    let arbiter = told.recv().map_err(|_| facade::stopped("the thread for the I/O ended at once"))?;
    *own = Some(arbiter.clone());
    Ok(arbiter)
}
