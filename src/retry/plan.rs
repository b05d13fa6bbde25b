//! What a ladder declares, and which step a message takes. Plain decisions.

use std::time::Duration;

use actix_pika_actors::facade;

use super::Retry;
use crate::{
    DeclareQueue, Result,
    options::{DeadLetterStrategy, Overflow, QueueType},
};

/// The largest `x-message-ttl` that RabbitMQ accepts: ten years.
const LONGEST: u128 = 315_360_000_000;

/// Steps of a ladder.
const MOST_STEPS: usize = 32;

/// Redeliveries after which a quorum queue of a ladder dead-letters a message.
const DELIVERY_LIMIT: u32 = 20;

/// So many redeliveries that the queue of dead letters, which has no dead letters of its own, does not drop a message.
const NO_DELIVERY_LIMIT: u32 = 1_000_000_000;

/// A step: how long it delays, and its queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) delay: Duration,
    pub(super) queue: String,
}

/// The queues of a ladder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) jobs: String,
    pub(super) dead_letters: String,
    pub(super) steps: Vec<Step>,
    pub(super) classic: bool,
}

impl Plan {
    /// Returns the plan of a ladder for a queue.
    ///
    /// # Errors
    /// `Limit` for too many steps, a delay or a name that is too long; `Refused` for a queue named by the broker.
    pub(super) fn new(retry: &Retry, jobs: &str) -> Result<Self> {
        if jobs.is_empty() || jobs.starts_with("amq.") {
            let why = "a queue that the broker names has another name after a reconnect, and its retries would be lost";
            return Err(facade::queue_refused(why, jobs));
        }
        if retry.steps.len() > MOST_STEPS {
            return Err(facade::limit(format!("a ladder has {MOST_STEPS} steps at most")));
        }
        let mut steps = Vec::with_capacity(retry.steps.len());
        for delay in &retry.steps {
            let millis = delay.as_nanos().div_ceil(1_000_000);
            if millis > LONGEST {
                return Err(facade::limit("a step of a ladder is ten years at most"));
            }
            let delay = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
            steps.push(Step { delay, queue: short(format!("{jobs}.retry.{millis}"))? });
        }
        let dead_letters = match &retry.dead_letters {
            Some(name) => name.clone(),
            None => format!("{jobs}.dead"),
        };
        let dead_letters = short(dead_letters)?;
        if dead_letters == jobs {
            return Err(facade::queue_refused("the dead letters of a queue need another queue", jobs));
        }
        Ok(Self { jobs: short(jobs.to_owned())?, dead_letters, steps, classic: retry.classic })
    }

    /// Returns the step for a message whose `attempt`th try has failed; `None` after the last one.
    ///
    /// Each try takes the next step. If that is shorter than `at_least`, it is the first later one that is not, or the
    /// longest of the later ones.
    pub(super) fn step(&self, attempt: u32, at_least: Option<Duration>) -> Option<&Step> {
        let next = usize::try_from(attempt.saturating_sub(1)).ok()?;
        let steps = self.steps.get(next..)?;
        let at_least = at_least.unwrap_or_default();
        if at_least.is_zero() {
            return steps.first();
        }
        steps
            .iter()
            .find(|step| step.delay >= at_least)
            .or_else(|| steps.iter().max_by_key(|step| step.delay))
    }

    /// Returns the declaration of the queue of dead letters.
    pub(super) fn dead_letter_queue(&self) -> DeclareQueue {
        let declare = DeclareQueue::new(&*self.dead_letters);
        if self.classic { declare } else { declare.quorum().delivery_limit(NO_DELIVERY_LIMIT) }
    }

    /// Returns the declarations of the steps, whose messages expire to the job queue.
    pub(super) fn step_queues(&self) -> impl Iterator<Item = DeclareQueue> + '_ {
        self.steps.iter().map(|step| {
            let declare = DeclareQueue::new(&*step.queue)
                .message_ttl(step.delay)
                .dead_letter_exchange("")
                .dead_letter_routing_key(&self.jobs);
            if self.classic { declare } else { at_least_once(declare.quorum()) }
        })
    }

    /// Adds to the declaration of the job queue what the ladder needs, and keeps what it has: a delivery limit, for
    /// example.
    ///
    /// # Errors
    /// `Refused` if the declaration has what contradicts the ladder.
    pub(super) fn job_queue(&self, declare: DeclareQueue) -> Result<DeclareQueue> {
        let refused = |why| Err(facade::queue_refused(why, &self.jobs));
        if facade::is_passive(&declare) {
            return refused(
                "a passive declare adds no arguments: declare the queue, or use it by Channel::queue",
            );
        }
        if facade::is_temporary(&declare) {
            return refused("jobs are not kept in a queue that is exclusive or deleted automatically");
        }
        let (queue_type, arguments) = (facade::queue_type(&declare), facade::queue_arguments(&declare));
        for argument in ["x-dead-letter-exchange", "x-dead-letter-routing-key"] {
            if arguments.contains_key(argument) {
                return refused(
                    "the ladder sets the dead-letter exchange and its routing key (Retry::dead_letters)",
                );
            }
        }
        let has_limit = arguments.contains_key("x-delivery-limit");
        let declare = match (queue_type, self.classic) {
            (Some(QueueType::Stream), _) => {
                return refused("a stream has no retries: nothing is removed from it");
            }
            (Some(QueueType::Classic), false) => {
                return refused("a classic queue has a ladder by Retry::classic only");
            }
            (Some(QueueType::Quorum), true) => return refused("Retry::classic is for classic queues"),
            (_, true) => declare,
            (_, false) if has_limit => at_least_once(declare.quorum()),
            (_, false) => at_least_once(declare.quorum()).delivery_limit(DELIVERY_LIMIT),
        };
        Ok(declare.dead_letter_exchange("").dead_letter_routing_key(&self.dead_letters))
    }
}

/// At-least-once dead-lettering needs the overflow setting: without it, RabbitMQ falls back to at most once.
fn at_least_once(declare: DeclareQueue) -> DeclareQueue {
    declare.dead_letter_strategy(DeadLetterStrategy::AtLeastOnce).overflow(Overflow::RejectPublish)
}

fn short(name: String) -> Result<String> {
    if name.len() > 255 {
        return Err(facade::limit(format!(
            "the name of a queue of a ladder has {} bytes, over 255",
            name.len()
        )));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(seconds: &[u64]) -> Plan {
        let steps: Vec<_> = seconds.iter().map(|&seconds| Duration::from_secs(seconds)).collect();
        Plan::new(&Retry::ladder(&steps), "mail").unwrap()
    }

    fn arguments(declare: &DeclareQueue) -> Vec<String> {
        let entries = facade::queue_arguments(declare).iter();
        let mut entries: Vec<_> =
            entries.map(|(key, value)| format!("{key}={value}").replace('"', "")).collect();
        entries.sort();
        entries
    }

    #[test]
    fn each_try_takes_the_next_step() {
        let plan = plan(&[1, 30, 600]);
        let taken = |attempt| plan.step(attempt, None).map(|step| step.queue.as_str());
        let all: Vec<_> = (0..6).map(taken).collect();
        let [one, two, three] = ["mail.retry.1000", "mail.retry.30000", "mail.retry.600000"].map(Some);
        assert_eq!(all, [one, one, two, three, None, None]);
        assert_eq!(taken(u32::MAX), None);
        assert_eq!(self::plan(&[]).step(1, None), None);
    }

    #[test]
    fn a_pause_takes_the_first_step_that_is_long_enough() {
        let plan = plan(&[1, 30, 600]);
        let delay = |attempt, seconds| {
            let step = plan.step(attempt, Some(Duration::from_secs(seconds)));
            step.map(|step| step.delay.as_secs())
        };
        assert_eq!([delay(1, 0), delay(1, 1), delay(1, 2)], [Some(1), Some(1), Some(30)]);
        assert_eq!([delay(1, 600), delay(1, 601), delay(2, 1)], [Some(600), Some(600), Some(30)]);
        assert_eq!([delay(3, 1), delay(4, 1)], [Some(600), None], "the pause gives no further try");
    }

    #[test]
    fn the_queues_of_a_ladder_lose_nothing() {
        let plan = plan(&[1]);
        let jobs = plan.job_queue(DeclareQueue::new("mail").quorum()).unwrap();
        let expected = [
            "x-dead-letter-exchange=",
            "x-dead-letter-routing-key=mail.dead",
            "x-dead-letter-strategy=at-least-once",
            "x-delivery-limit=20",
            "x-overflow=reject-publish",
            "x-queue-type=quorum",
        ];
        assert_eq!(arguments(&jobs), expected);
        let step = plan.step_queues().next().unwrap();
        assert_eq!(step.name(), "mail.retry.1000");
        let expected = [
            "x-dead-letter-exchange=",
            "x-dead-letter-routing-key=mail",
            "x-dead-letter-strategy=at-least-once",
            "x-message-ttl=1000",
            "x-overflow=reject-publish",
            "x-queue-type=quorum",
        ];
        assert_eq!(arguments(&step), expected);
        let dead = arguments(&plan.dead_letter_queue());
        assert_eq!(dead, ["x-delivery-limit=1000000000", "x-queue-type=quorum"]);
    }

    #[test]
    fn classic_queues_have_no_arguments_of_quorum_queues() {
        let plan = Plan::new(&Retry::ladder(&[SECOND]).classic().dead_letters("d"), "mail").unwrap();
        let jobs = arguments(&plan.job_queue("mail".into()).unwrap());
        assert_eq!(jobs, ["x-dead-letter-exchange=", "x-dead-letter-routing-key=d"]);
        let step = arguments(&plan.step_queues().next().unwrap());
        let expected = ["x-dead-letter-exchange=", "x-dead-letter-routing-key=mail", "x-message-ttl=1000"];
        assert_eq!(step, expected);
        assert_eq!(arguments(&plan.dead_letter_queue()), [""; 0]);
    }

    #[test]
    fn a_limit_of_the_declaration_is_kept() {
        let jobs = plan(&[]).job_queue(DeclareQueue::new("mail").delivery_limit(3)).unwrap();
        assert!(arguments(&jobs).contains(&"x-delivery-limit=3".to_owned()));
    }

    #[test]
    fn declarations_that_contradict_the_ladder_are_refused() {
        let mail = || DeclareQueue::new("mail");
        for declare in [
            mail().passive(true),
            mail().exclusive(true),
            mail().auto_delete(true),
            mail().stream(),
            mail().classic(),
            mail().dead_letter_exchange("other"),
        ] {
            let error = plan(&[1]).job_queue(declare).unwrap_err();
            assert_eq!((error.kind(), error.entity()), (ErrorKind::Refused, Some("mail")), "{error}");
        }
        let classic = Plan::new(&Retry::ladder(&[]).classic(), "mail").unwrap();
        assert_eq!(classic.job_queue(mail().quorum()).unwrap_err().kind(), ErrorKind::Refused);
    }

    #[test]
    fn names_and_numbers_have_limits() {
        let refused = |retry: &Retry, jobs: &str| Plan::new(retry, jobs).unwrap_err().kind();
        assert_eq!(refused(&Retry::ladder(&[SECOND; 33]), "mail"), ErrorKind::Limit);
        assert_eq!(refused(&Retry::ladder(&[Duration::MAX]), "mail"), ErrorKind::Limit);
        assert_eq!(refused(&Retry::ladder(&[SECOND]), &"x".repeat(250)), ErrorKind::Limit);
        for jobs in ["", "amq.gen-x"] {
            assert_eq!(refused(&Retry::ladder(&[SECOND]), jobs), ErrorKind::Refused);
        }
        assert_eq!(refused(&Retry::ladder(&[]).dead_letters("mail"), "mail"), ErrorKind::Refused);
    }
}
