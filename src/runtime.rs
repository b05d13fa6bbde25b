//! The arbiter on which actors run: that of the caller, or, without an actix `System`, that of a thread of
//! the library.

use std::sync::{Mutex, PoisonError, mpsc};

use actix_pika_actors::facade;
use actix_rt::{Arbiter, ArbiterHandle, System};

use crate::Result;

/// The arbiter of the library's thread, once it was needed.
static OWN: Mutex<Option<ArbiterHandle>> = Mutex::new(None);

/// Returns the arbiter for a connection that is opened here.
pub(crate) fn io_arbiter() -> Result<ArbiterHandle> {
    match here() {
        Some(arbiter) => Ok(arbiter),
        None => own_arbiter(),
    }
}

/// Returns the arbiter of the calling thread, if it has one.
pub(crate) fn here() -> Option<ArbiterHandle> {
    // A thread keeps the arbiter of a `System` that has stopped.
    Arbiter::try_current().filter(is_alive)
}

/// An arbiter that has ended refuses to spawn.
fn is_alive(arbiter: &ArbiterHandle) -> bool {
    arbiter.spawn(async {})
}

fn own_arbiter() -> Result<ArbiterHandle> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(arbiter) = own.as_ref().filter(|arbiter| is_alive(arbiter)) {
        return Ok(arbiter.clone());
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("actix-pika".into())
        .spawn(move || {
            let runner = System::new();
            // If this fails, the caller no longer waits, and the thread is not needed.
            if sender.send(Arbiter::current()).is_ok() {
                let _ = runner.run();
            }
        })
        .map_err(|error| facade::stopped(format!("no thread for the I/O: {error}")))?;
    let arbiter = receiver.recv().map_err(|_| facade::stopped("the thread for the I/O ended at once"))?;
    *own = Some(arbiter.clone());
    Ok(arbiter)
}
