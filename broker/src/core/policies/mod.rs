//! Policies: options of queues and exchanges by the pattern of their names.

mod apply;
mod settings;

use std::{collections::BTreeMap, fmt};

use actix_pika_actors::{Table, Value};
use regex_lite::Regex;

use self::settings::Setting;
use super::{
    Line,
    arguments::{Kind, QueueOptions},
    message::Name,
    users::InvalidPattern,
};

/// A policy: what queues and exchanges do whose names match a pattern.
///
/// # Examples
/// ```
/// use actix_pika_broker::{ApplyTo, Policy};
///
/// let policy = Policy::new("^orders\\.")
///     .set("max-length", 100)
///     .set("dead-letter-exchange", "dead")
///     .apply_to(ApplyTo::Queues)
///     .priority(1);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a policy does nothing until it is set"]
pub struct Policy {
    pattern: String,
    apply_to: ApplyTo,
    priority: i32,
    definition: Table,
}

/// What a policy applies to.
///
/// # Examples
/// ```
/// # use actix_pika_broker::ApplyTo;
/// assert_eq!(ApplyTo::default(), ApplyTo::All);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyTo {
    /// Queues of all kinds, and exchanges.
    #[default]
    All,
    /// Queues of all kinds.
    Queues,
    /// Classic queues. Not in 3.10.
    ClassicQueues,
    /// Quorum queues. Not in 3.10.
    QuorumQueues,
    /// Streams. Not in 3.10.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    fn has_queue(self, kind: Kind) -> bool {
        match self {
            Self::All | Self::Queues => true,
            Self::ClassicQueues => matches!(kind, Kind::Classic { .. }),
            Self::QuorumQueues => kind == Kind::Quorum,
            Self::Streams => kind == Kind::Stream,
            Self::Exchanges => false,
        }
    }

    fn has_exchanges(self) -> bool {
        matches!(self, Self::All | Self::Exchanges)
    }

    /// 3.10 does not tell kinds of queues apart.
    fn is_known(self, line: Line) -> bool {
        matches!(self, Self::All | Self::Queues | Self::Exchanges) || line > Line::V3_10
    }
}

/// Why a policy was not set. The texts are RabbitMQ's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// There is no such virtual host.
    NoVirtualHost(String),
    /// The pattern is no regular expression.
    Pattern(InvalidPattern),
    /// The line does not know what it is to be applied to.
    ApplyTo(ApplyTo),
    /// It sets nothing.
    Empty,
    /// A setting is not known, or has a wrong value.
    Setting(String),
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVirtualHost(name) => write!(f, "vhost {name} not found"),
            Self::Pattern(pattern) => write!(f, "pattern {pattern}"),
            Self::ApplyTo(apply_to) => write!(f, "apply-to '{apply_to:?}' unrecognised"),
            Self::Empty => f.write_str("no policy provided"),
            Self::Setting(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for InvalidPolicy {}

impl Policy {
    /// Creates a policy without settings for all names that match a regular expression.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Policy;
    /// let everything = Policy::new("").set("message-ttl", 60_000);
    /// ```
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), apply_to: ApplyTo::All, priority: 0, definition: Table::new() }
    }

    /// Adds a setting under its name in RabbitMQ, such as `max-length`.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Policy;
    /// let short = Policy::new("^q$").set("max-length", 10).set("overflow", "reject-publish");
    /// ```
    pub fn set(mut self, setting: &str, value: impl Into<Value>) -> Self {
        self.definition.insert(setting, value);
        self
    }

    /// Sets what it applies to, all unless set.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::{ApplyTo, Policy};
    /// let policy = Policy::new("").set("alternate-exchange", "unrouted").apply_to(ApplyTo::Exchanges);
    /// ```
    pub fn apply_to(mut self, apply_to: ApplyTo) -> Self {
        self.apply_to = apply_to;
        self
    }

    /// Sets the priority; 0 unless set. Of the policies that match a name, the one of the highest priority applies, and of
    /// these the first by name.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Policy;
    /// let stronger = Policy::new("^orders").set("expires", 60_000).priority(10);
    /// ```
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }
}

/// Who sets a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    User,
    Operator,
}

/// The policies of a virtual host, by name.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    user: BTreeMap<Name, Checked>,
    operator: BTreeMap<Name, Checked>,
}

/// A policy that a line takes.
#[derive(Debug)]
struct Checked {
    pattern: Regex,
    apply_to: ApplyTo,
    priority: i32,
    settings: Vec<&'static Setting>,
    options: QueueOptions,
    alternate: Option<Name>,
}

/// The policies of a queue, and what they say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) policy: Option<Name>,
    pub(crate) operator: Option<Name>,
    pub(crate) options: QueueOptions,
}

impl Policy {
    fn checked(&self, line: Line, by: By) -> Result<Checked, InvalidPolicy> {
        let pattern = Regex::new(&self.pattern)
            .map_err(|_| InvalidPolicy::Pattern(InvalidPattern(self.pattern.clone())))?;
        if !self.apply_to.is_known(line) {
            return Err(InvalidPolicy::ApplyTo(self.apply_to));
        }
        if self.definition.is_empty() {
            return Err(InvalidPolicy::Empty);
        }
        let settings = settings::check(&self.definition, line, by).map_err(InvalidPolicy::Setting)?;
        let alternate = self.definition.get("alternate-exchange").and_then(Value::as_str);
        Ok(Checked {
            pattern,
            apply_to: self.apply_to,
            priority: self.priority,
            settings,
            options: QueueOptions::read(|option| self.definition.get(option)),
            alternate: alternate.map(Name::from),
        })
    }
}

impl Policies {
    fn by(&mut self, by: By) -> &mut BTreeMap<Name, Checked> {
        match by {
            By::User => &mut self.user,
            By::Operator => &mut self.operator,
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Returns what applies to a queue. A policy with one setting that is not for its kind does not apply at all.
    fn of_queue(&self, name: &str, kind: Kind, line: Line) -> Applied {
        let applies = |policy: &Checked| {
            policy.apply_to.has_queue(kind)
                && policy.settings.iter().all(|setting| setting.is_for(kind, line))
        };
        let user = highest(&self.user, name, applies);
        let operator = highest(&self.operator, name, applies);
        let options = match (user, operator) {
            (Some((_, user)), Some((_, operator))) => operator.options.or(&user.options),
            (one, other) => one.or(other).map(|(_, policy)| policy.options.clone()).unwrap_or_default(),
        };
        Applied {
            policy: user.map(|(name, _)| name.clone()),
            operator: operator.map(|(name, _)| name.clone()),
            options,
        }
    }

    /// Returns the alternate exchange that a policy gives to an exchange.
    fn alternate(&self, name: &str) -> Option<Name> {
        let (_, policy) = highest(&self.user, name, |policy| policy.apply_to.has_exchanges())?;
        policy.alternate.clone()
    }
}

/// Of the policies for a name the one of the highest priority. Of equal ones RabbitMQ takes any.
fn highest<'a>(
    policies: &'a BTreeMap<Name, Checked>,
    name: &str,
    applies: impl Fn(&Checked) -> bool,
) -> Option<(&'a Name, &'a Checked)> {
    let matching = policies.iter().filter(|(_, policy)| policy.pattern.is_match(name) && applies(policy));
    // The first one of several.
    matching.rev().max_by_key(|(_, policy)| policy.priority)
}
