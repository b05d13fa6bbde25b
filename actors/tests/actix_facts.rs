//! What the engine relies on in actix 0.13. A version of actix that behaves differently fails here.

#![allow(missing_docs, unreachable_pub, dead_code)]

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
};

use actix::{
    Actor, ActorContext, ActorFuture, ActorState, Addr, AsyncContext, Context, Handler, MailboxError,
    Message, Running,
    dev::{MessageResponse, OneshotSender, SendError},
};

/// The calls so far, in order.
type Log = Rc<RefCell<Vec<&'static str>>>;

/// The actor under test.
#[derive(Default)]
struct Subject {
    log: Log,
    items: Vec<Hook>,
    capacity: Option<usize>,
}

impl Actor for Subject {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(capacity) = self.capacity {
            ctx.set_mailbox_capacity(capacity);
        }
        for item in self.items.drain(..) {
            ctx.spawn(item);
        }
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        assert_eq!(ctx.state(), ActorState::Stopping);
        self.log.borrow_mut().push("stopping");
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.log.borrow_mut().push("stopped");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.log.borrow_mut().push("dropped");
    }
}

/// A future in the context of the actor that never ends and counts its polls.
struct Hook(Log, Rc<Cell<usize>>);

impl ActorFuture<Subject> for Hook {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Subject,
        _: &mut Context<Subject>,
        _: &mut TaskContext<'_>,
    ) -> Poll<()> {
        self.0.borrow_mut().push("item");
        self.1.set(self.1.get() + 1);
        Poll::Pending
    }
}

struct Note(&'static str);

impl Message for Note {
    type Result = ();
}

impl Handler<Note> for Subject {
    type Result = ();

    fn handle(&mut self, note: Note, _: &mut Self::Context) {
        self.log.borrow_mut().push(note.0);
    }
}

struct Stop;

impl Message for Stop {
    type Result = ();
}

impl Handler<Stop> for Subject {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

struct Panic;

impl Message for Panic {
    type Result = ();
}

impl Handler<Panic> for Subject {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("requested by a test");
    }
}

/// Counts its drops.
struct Guarded(Arc<AtomicUsize>);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Message for Guarded {
    type Result = ();
}

impl Handler<Guarded> for Subject {
    type Result = ();

    fn handle(&mut self, _: Guarded, _: &mut Self::Context) {}
}

struct Question;

impl Message for Question {
    type Result = u32;
}

/// Keeps the sender of the response.
struct Later(Rc<RefCell<Option<OneshotSender<u32>>>>);

impl MessageResponse<Subject, Question> for Later {
    fn handle(self, _: &mut Context<Subject>, tx: Option<OneshotSender<u32>>) {
        *self.0.borrow_mut() = tx;
    }
}

thread_local! {
    static RESPONDER: Rc<RefCell<Option<OneshotSender<u32>>>> = Rc::default();
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

impl Handler<Question> for Subject {
    type Result = Later;

    fn handle(&mut self, _: Question, _: &mut Self::Context) -> Later {
        ASKED.set(ASKED.get() + 1);
        Later(RESPONDER.with(Rc::clone))
    }
}

fn start(set: impl FnOnce(&mut Subject)) -> (Addr<Subject>, Log) {
    let mut subject = Subject::default();
    let log = subject.log.clone();
    set(&mut subject);
    (subject.start(), log)
}

/// Lets every runnable task run.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_mailbox_capacity_of_0_is_unbounded() {
    let (subject, log) = start(|subject| subject.capacity = Some(0));
    settle().await;
    for _ in 0..10_000 {
        subject.try_send(Note("x")).unwrap();
    }
    settle().await;
    assert_eq!(log.borrow().len(), 10_000);
}

#[actix::test]
async fn a_mailbox_capacity_does_not_bound_send_and_do_send() {
    let (subject, log) = start(|subject| subject.capacity = Some(4));
    settle().await;
    let mut sends: Vec<_> = (0..100).map(|_| Box::pin(subject.send(Note("x")))).collect();
    for send in &mut sends {
        assert!(poll_once(send.as_mut()).is_pending());
    }
    subject.do_send(Note("x"));
    assert!(matches!(subject.try_send(Note("x")), Err(SendError::Full(_))));
    settle().await;
    assert_eq!(log.borrow().len(), 101);
}

#[actix::test]
async fn try_send_to_an_unbounded_actor_fails_only_if_it_has_stopped() {
    let (subject, _log) = start(|subject| subject.capacity = Some(0));
    settle().await;
    assert!(subject.try_send(Note("x")).is_ok());
    subject.do_send(Stop);
    settle().await;
    assert!(matches!(subject.try_send(Note("x")), Err(SendError::Closed(_))));
    assert!(!subject.connected());
}

#[actix::test]
async fn a_mailbox_is_drained_before_items_are_polled() {
    let polls = Rc::new(Cell::new(0));
    let (subject, log) = start(|subject| subject.items.push(Hook(subject.log.clone(), polls.clone())));
    settle().await;
    log.borrow_mut().clear();
    (0..1000).for_each(|_| subject.do_send(Note("message")));
    settle().await;
    let log = log.borrow();
    assert_eq!(log.iter().position(|&what| what == "item"), Some(1000));
}

#[actix::test]
async fn a_pending_item_is_polled_once_after_each_drain() {
    let polls = Rc::new(Cell::new(0));
    let (subject, _log) = start(|subject| subject.items.push(Hook(subject.log.clone(), polls.clone())));
    settle().await;
    for _ in 0..5 {
        let before = polls.get();
        (0..10).for_each(|_| subject.do_send(Note("message")));
        settle().await;
        assert_eq!(polls.get(), before + 1);
    }
}

#[actix::test]
async fn an_item_is_not_polled_after_stop() {
    let polls = Rc::new(Cell::new(0));
    let (subject, log) = start(|subject| subject.items.push(Hook(subject.log.clone(), polls.clone())));
    settle().await;
    log.borrow_mut().clear();
    subject.do_send(Note("message"));
    subject.do_send(Stop);
    subject.do_send(Note("never"));
    settle().await;
    assert_eq!(*log.borrow(), ["message", "stopping", "stopped", "dropped"]);
}

#[actix::test]
async fn a_response_may_be_sent_later() {
    let (subject, _log) = start(|_| {});
    let answer = actix_rt::spawn(subject.send(Question));
    settle().await;
    assert!(!answer.is_finished());
    let responder = RESPONDER.with(|responder| responder.borrow_mut().take()).expect("a responder");
    responder.send(7).unwrap();
    assert_eq!(answer.await.unwrap(), Ok(7));

    // Dropping the sender answers with an error.
    let answer = actix_rt::spawn(subject.send(Question));
    settle().await;
    drop(RESPONDER.with(|responder| responder.borrow_mut().take()));
    assert_eq!(answer.await.unwrap(), Err(MailboxError::Closed));

    // Sending fails if the caller has stopped waiting.
    let answer = actix_rt::spawn(subject.send(Question));
    settle().await;
    answer.abort();
    settle().await;
    let responder = RESPONDER.with(|responder| responder.borrow_mut().take()).expect("a responder");
    assert_eq!(responder.send(7), Err(7));
}

#[actix::test]
async fn a_message_sent_with_do_send_has_no_responder() {
    let (subject, _log) = start(|_| {});
    subject.do_send(Question);
    settle().await;
    assert!(RESPONDER.with(|responder| responder.borrow().is_none()));
}

#[actix::test]
async fn a_request_that_is_dropped_in_the_queue_is_skipped() {
    let (subject, _log) = start(|_| {});
    settle().await;
    let asked = ASKED.get();
    let mut request = Box::pin(subject.send(Question));
    assert!(poll_once(request.as_mut()).is_pending());
    drop(request);
    settle().await;
    assert_eq!(ASKED.get(), asked);
}

#[actix::test]
async fn a_panic_drops_what_is_queued_and_closes_the_address() {
    let (subject, _log) = start(|_| {});
    settle().await;
    let drops = Arc::new(AtomicUsize::new(0));
    let before = actix_rt::spawn(subject.send(Note("before")));
    settle().await;
    before.await.unwrap().unwrap();
    let during = actix_rt::spawn(subject.send(Panic));
    let after = actix_rt::spawn(subject.send(Guarded(drops.clone())));
    settle().await;
    assert_eq!(during.await.unwrap(), Err(MailboxError::Closed));
    assert_eq!(after.await.unwrap(), Err(MailboxError::Closed));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert!(!subject.connected());
    // The arbiter and its other actors still run.
    let (other, _log) = start(|_| {});
    other.send(Note("x")).await.unwrap();
}

#[actix::test]
async fn a_panic_calls_stopping_and_stopped() {
    let (subject, log) = start(|_| {});
    subject.do_send(Panic);
    settle().await;
    assert_eq!(*log.borrow(), ["stopping", "stopped", "dropped"]);
}

#[actix::test]
async fn a_message_to_a_stopped_actor_is_dropped() {
    let (subject, _log) = start(|_| {});
    subject.do_send(Stop);
    settle().await;
    let drops = Arc::new(AtomicUsize::new(0));
    subject.do_send(Guarded(drops.clone()));
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    subject.recipient::<Guarded>().do_send(Guarded(drops.clone()));
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

/// Polls a future once, without a waker.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(std::task::Waker::noop()))
}
