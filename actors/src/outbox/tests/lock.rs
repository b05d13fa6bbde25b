//! Nothing is woken or dropped while the lock is held.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use super::*;
use crate::outbox::{attachment::Outage, publish::Ticket};

/// Panics if the lock of the outbox is held when it is woken or dropped.
struct LockCheck {
    outbox: Arc<Outbox>,
    wakes: Arc<AtomicUsize>,
    body: Vec<u8>,
}

impl LockCheck {
    fn new(outbox: &Arc<Outbox>, wakes: &Arc<AtomicUsize>) -> Self {
        // Large enough to be chained, so that the outbox holds it.
        Self { outbox: outbox.clone(), wakes: wakes.clone(), body: vec![7; 5000] }
    }

    fn check(&self) {
        assert!(self.outbox.state.try_lock().is_ok(), "the lock is held");
    }
}

impl AsRef<[u8]> for LockCheck {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Wake for LockCheck {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.check();
    }
}

impl Drop for LockCheck {
    fn drop(&mut self) {
        self.check();
    }
}

fn lost() -> Error {
    Error::connection_closed("lost", None)
}

fn close_frame() -> Bytes {
    Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE])
}

/// One publish is written, one is queued, one waits for room, and there are waiters for all of them.
struct Busy {
    outbox: Arc<Outbox>,
    wakes: Arc<AtomicUsize>,
    ticket: Ticket,
    barrier: Option<u64>,
}

impl Busy {
    fn new(flush: &Arc<Recipient<Flush>>) -> Self {
        let outbox = Arc::new(Outbox::new(OutboxConfig { window: 2, ..config(true) }));
        outbox.attach(EPOCH, flush.clone(), 8192, false);
        let mut busy = Self { outbox, wakes: Arc::default(), ticket: Ticket::default(), barrier: None };
        busy.publish();
        take_all(&busy.outbox, 1);
        busy.publish();
        for _ in 0..2 {
            // The second round replaces the wakers of the first one.
            busy.poll();
        }
        busy
    }

    fn waker(&self) -> Waker {
        Arc::new(LockCheck::new(&self.outbox, &self.wakes)).into()
    }

    fn body(&self) -> Bytes {
        Bytes::from_owner(LockCheck::new(&self.outbox, &self.wakes))
    }

    fn publish(&self) {
        publish(&self.outbox, "key", &self.body());
    }

    fn poll(&mut self) {
        let (properties, body) = (Properties::new(), self.body());
        let outgoing = Outgoing {
            exchange: "ex",
            routing_key: "key",
            mandatory: true,
            resend: true,
            properties: &properties,
            body: &body,
        };
        let waker = self.waker();
        let pending = self.outbox.poll_publish(&mut self.ticket, &mut Context::from_waker(&waker), outgoing);
        assert!(pending.is_pending());
        for sequence in [1, 2] {
            let waker = self.waker();
            assert!(self.outbox.poll_confirm(sequence, &mut Context::from_waker(&waker)).is_pending());
        }
        let waker = self.waker();
        let mut cx = Context::from_waker(&waker);
        assert!(self.outbox.poll_confirmed_below(&mut self.barrier, 3, &mut cx).is_pending());
    }
}

/// Design 13.9: wakers, bodies and recipients run code of the application.
#[actix::test]
async fn nothing_is_woken_or_dropped_while_the_lock_is_held() {
    type Change = fn(&Outbox);
    fn closed(error: &Error, fail: bool) -> ChannelClose<'_> {
        ChannelClose { error, fault: CloseFault::Elsewhere, fail }
    }
    let changes: [(Change, usize); 9] = [
        (|outbox| outbox.ack(1, false).unwrap(), 2),
        (|outbox| assert!(!outbox.nack(1, false).unwrap()), 2),
        (|outbox| assert!(outbox.expire(Instant::now() + Duration::from_secs(3600))), 4),
        (|outbox| outbox.refuse_publishes(lost()), 1),
        (|outbox| outbox.end(lost(), FinalFrames::None), 4),
        (|outbox| outbox.end(lost(), FinalFrames::Only(close_frame())), 4),
        (|outbox| outbox.end(lost(), FinalFrames::AfterQueued(close_frame())), 4),
        (|outbox| assert_eq!(outbox.detach(&Outage { error: &lost(), fail: true, hard_error: false }), 1), 4),
        (|outbox| assert_eq!(outbox.reopen(&closed(&lost(), true), close_frame()), 1), 4),
    ];
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    for (n, (change, wakes)) in changes.into_iter().enumerate() {
        let mut busy = Busy::new(&flush);
        change(&busy.outbox);
        assert!(busy.wakes.load(Ordering::Relaxed) >= wakes, "change {n}: {:?}", busy.wakes);
        take_all(&busy.outbox, 1);
        busy.outbox.finish_recovery(&Default::default(), None);
        take_all(&busy.outbox, 1);
        busy.outbox.leave_queue(&mut busy.ticket);
        busy.outbox.leave_barrier(&mut busy.barrier);
        busy.outbox.forget_confirm(1);
        busy.outbox.forget_confirm(2);
        // Bodies and wakers hold the outbox, which holds them: only closing releases both.
        busy.outbox.end(lost(), FinalFrames::None);
    }
}

/// Design 13.9: the same over a reconnect.
#[actix::test]
async fn resending_drops_nothing_while_the_lock_is_held() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let busy = Busy::new(&flush);
    busy.outbox.detach(&Outage { error: &lost(), fail: false, hard_error: false });
    busy.outbox.attach(EPOCH, flush, 8192, true);
    busy.outbox.finish_recovery(&Default::default(), None);
    take_all(&busy.outbox, 1);
    busy.outbox.ack(2, true).unwrap();
    assert!(busy.wakes.load(Ordering::Relaxed) >= 4);
    busy.outbox.end(lost(), FinalFrames::None);
}
