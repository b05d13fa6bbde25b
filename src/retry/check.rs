//! Whether a queue that was declared otherwise can have a ladder, as far as its handle knows its arguments. Plain
//! decisions.

use std::borrow::Cow;

use super::plan::Plan;
use crate::{
    events::BrokerRules,
    message::{Table, Value},
};

/// An argument that a queue lacks, as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing<'a> {
    pub(super) argument: &'static str,
    pub(super) value: &'a str,
    pub(super) why: &'static str,
}

/// Returns the first argument that the queue lacks for a ladder.
pub(super) fn missing<'a>(
    arguments: &Table,
    plan: &'a Plan,
    rules: Option<&BrokerRules>,
) -> Option<Missing<'a>> {
    let text = |argument| arguments.get(argument).and_then(Value::as_str);
    let lacks = |argument, value, why| Some(Missing { argument, value, why });
    let Some(exchange) = text("x-dead-letter-exchange") else {
        return lacks("x-dead-letter-exchange", "\"\"", "the broker would drop what it rejects");
    };
    if exchange.is_empty() && text("x-dead-letter-routing-key").is_none_or(|key| key == plan.jobs) {
        return lacks(
            "x-dead-letter-routing-key",
            &plan.dead_letters,
            "dead letters would return to the queue itself",
        );
    }
    let quorum = text("x-queue-type") == Some("quorum");
    if plan.classic {
        return quorum.then_some(Missing {
            argument: "x-queue-type",
            value: "classic",
            why: "Retry::classic is set",
        });
    }
    if !quorum {
        return lacks("x-queue-type", "quorum", "a classic queue has a ladder by Retry::classic only");
    }
    if text("x-dead-letter-strategy") != Some("at-least-once") {
        return lacks("x-dead-letter-strategy", "at-least-once", "dead letters could be lost");
    }
    if text("x-overflow") != Some("reject-publish") {
        return lacks("x-overflow", "reject-publish", "dead letters could be lost");
    }
    let has_limit = arguments.contains_key("x-delivery-limit")
        || rules.is_some_and(|rules| rules.delivery_limit.is_some());
    if !has_limit {
        return lacks("x-delivery-limit", "20", "a message that ends the process would come back for ever");
    }
    None
}

/// Returns how to get a queue with other arguments. RabbitMQ cannot change them.
pub(super) fn how_to_migrate(queue: &str, argument: Option<&str>) -> Cow<'static, str> {
    let what = argument.map(|argument| format!(" ({argument})")).unwrap_or_default();
    format!(
        "queue {queue:?} exists with other arguments{what}, which RabbitMQ cannot change: declare the jobs under a new \
         name, publish to that, and move what is left in {queue:?} to it with Queue::redrive"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Retry;
    use actix_pika_actors::facade;

    fn rules(version: &str) -> Option<BrokerRules> {
        BrokerRules::of("RabbitMQ", version)
    }

    #[test]
    fn the_first_argument_that_is_missing_is_named() {
        let plan = Plan::new(&Retry::ladder(&[]), "mail").unwrap();
        let mut arguments = Table::new();
        let old = rules("3.10.8");
        for (argument, value) in [
            ("x-dead-letter-exchange", ""),
            ("x-dead-letter-routing-key", "mail.dead"),
            ("x-queue-type", "quorum"),
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-overflow", "reject-publish"),
        ] {
            assert_eq!(missing(&arguments, &plan, old.as_ref()).unwrap().argument, argument);
            arguments.insert(argument, value);
        }
        assert_eq!(missing(&arguments, &plan, old.as_ref()).unwrap().argument, "x-delivery-limit");
        assert_eq!(missing(&arguments, &plan, None).unwrap().argument, "x-delivery-limit");
        assert_eq!(missing(&arguments, &plan, rules("4.0.5").as_ref()), None, "it has a default");
        arguments.insert("x-delivery-limit", 5);
        assert_eq!(missing(&arguments, &plan, old.as_ref()), None);
    }

    #[test]
    fn what_a_ladder_declares_lacks_nothing() {
        for (retry, declare) in [
            (Retry::ladder(&[]), crate::DeclareQueue::new("mail").quorum()),
            (Retry::ladder(&[]).classic(), crate::DeclareQueue::new("mail")),
        ] {
            let plan = Plan::new(&retry, "mail").unwrap();
            let declare = plan.job_queue(declare).unwrap();
            assert_eq!(missing(facade::queue_arguments(&declare), &plan, None), None);
        }
    }

    #[test]
    fn dead_letters_that_return_to_the_queue_are_refused() {
        let plan = Plan::new(&Retry::ladder(&[]).classic(), "mail").unwrap();
        let arguments =
            Table::new().with("x-dead-letter-exchange", "").with("x-dead-letter-routing-key", "mail");
        assert_eq!(missing(&arguments, &plan, None).unwrap().argument, "x-dead-letter-routing-key");
        let arguments = Table::new().with("x-dead-letter-exchange", "dead letters");
        assert_eq!(missing(&arguments, &plan, None), None, "an exchange of the application");
    }
}
