//! Decides whether a process is ready, from what was asked.

use serde::Serialize;

use crate::events::{Degradation, Health};

/// What a connection has answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Health(Health),
    /// Its arbiter has ended, or it is closed for good.
    Ended,
    /// Nothing in time.
    None,
}

/// What is known of the process.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) is_draining: bool,
    /// The name of each connection, and what it has answered.
    pub(super) connections: Vec<(String, Answer)>,
    /// The names of what does not take work.
    pub(super) stopped: Vec<String>,
}

/// The body of the route.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_ready: Vec<Reason>,
}

#[derive(Debug, Serialize)]
struct Reason {
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    why: &'static str,
}

impl Facts {
    pub(super) fn readiness(self) -> Readiness {
        let mut reasons = Vec::new();
        let mut add = |what: &str, name: Option<String>, why| {
            reasons.push(Reason { what: what.to_owned(), name, why });
        };
        if self.is_draining {
            add("process", None, "draining");
        }
        for (name, answer) in self.connections {
            let name = Some(name);
            let degraded = match answer {
                Answer::Health(Health::Up) => continue,
                Answer::Health(Health::Degraded(degraded)) => degraded,
                Answer::None => {
                    add("connection", name, "does not answer");
                    continue;
                }
                Answer::Ended => {
                    add("connection", name, "ended");
                    continue;
                }
                Answer::Health(_) => {
                    add("connection", name, "down");
                    continue;
                }
            };
            for why in degraded {
                match why {
                    Degradation::Recovering => add("connection", name.clone(), "recovering"),
                    Degradation::Blocked(_) => add("connection", name.clone(), "blocked"),
                    Degradation::Missing(one) => add(&one.kind.to_string(), Some(one.name), "missing"),
                    _ => add("connection", name.clone(), "degraded"),
                }
            }
        }
        for name in self.stopped {
            add("consumer", Some(name), "stopped");
        }
        Readiness { ready: reasons.is_empty(), not_ready: reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    fn body(facts: Facts) -> String {
        serde_json::to_string(&facts.readiness()).unwrap()
    }

    fn of_connection(answer: Answer) -> String {
        let connections = vec![("0".into(), Answer::Health(Health::Up)), ("orders".into(), answer)];
        body(Facts { connections, ..Facts::default() })
    }

    fn not_ready(reason: &str) -> String {
        format!(r#"{{"ready":false,"not_ready":[{reason}]}}"#)
    }

    /// WEB-04
    #[test]
    fn a_process_is_ready_when_everything_is() {
        let connections = vec![("0".into(), Answer::Health(Health::Up)); 2];
        assert_eq!(body(Facts { connections, ..Facts::default() }), r#"{"ready":true}"#);
        assert_eq!(body(Facts::default()), r#"{"ready":true}"#);
    }

    /// WEB-04
    #[test]
    fn the_body_names_what_is_not_ready() {
        let down = Health::Down(Some(Error::credentials("amqp://app:secret@broker is sealed")));
        for (answer, why) in [
            (Answer::Ended, "ended"),
            (Answer::None, "does not answer"),
            (Answer::Health(down), "down"),
            (Answer::Health(Health::Degraded(vec![Degradation::Recovering])), "recovering"),
            (Answer::Health(Health::Degraded(vec![Degradation::Blocked("low on memory".into())])), "blocked"),
        ] {
            let reason = format!(r#"{{"what":"connection","name":"orders","why":"{why}"}}"#);
            assert_eq!(of_connection(answer), not_ready(&reason));
        }
        let draining = Facts { is_draining: true, stopped: vec!["mail".into()], ..Facts::default() };
        let reasons =
            r#"{"what":"process","why":"draining"},{"what":"consumer","name":"mail","why":"stopped"}"#;
        assert_eq!(body(draining), not_ready(reasons));
    }
}
