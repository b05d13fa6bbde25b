//! Users, and what they may do in which virtual host.

use std::collections::BTreeMap;

use regex_lite::Regex;

use super::{message::Name, names::DEFAULT_EXCHANGE};

/// What a permission is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Configure,
    Write,
    Read,
}

impl Access {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A regular expression that is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern(pub(super) String);

impl std::fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a regular expression: {}", self.0)
    }
}

impl std::error::Error for InvalidPattern {}

/// Why permissions were not set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidPermissions {
    /// There is no such user.
    NoUser(String),
    /// There is no such virtual host.
    NoVirtualHost(String),
    /// A pattern is no regular expression.
    Pattern(InvalidPattern),
}

impl std::fmt::Display for InvalidPermissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoUser(name) => write!(f, "no such user: {name}"),
            Self::NoVirtualHost(name) => write!(f, "no such virtual host: {name}"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl std::error::Error for InvalidPermissions {}

impl From<InvalidPattern> for InvalidPermissions {
    fn from(pattern: InvalidPattern) -> Self {
        Self::Pattern(pattern)
    }
}

/// A pattern of names. RabbitMQ takes an empty one for `^$`.
#[derive(Clone, Debug)]
enum Pattern {
    All,
    None,
    Some(Regex),
}

impl Pattern {
    fn new(text: &str) -> Result<Self, InvalidPattern> {
        match text {
            ".*" => Ok(Self::All),
            "" | "^$" => Ok(Self::None),
            text => Regex::new(text).map(Self::Some).map_err(|_| InvalidPattern(text.to_owned())),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => name.is_empty(),
            Self::Some(regex) => regex.is_match(name),
        }
    }
}

/// The rights of a user in a virtual host.
#[derive(Clone, Debug)]
struct Permissions {
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

/// The patterns of routing keys that a user may use at a topic exchange, with the names of user and virtual host in them.
#[derive(Clone, Debug)]
struct TopicPermissions {
    write: Pattern,
    read: Pattern,
}

/// How much a user may have open.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UserLimits {
    pub(crate) connections: Option<u32>,
    pub(crate) channels: Option<u32>,
}

/// A user.
struct User {
    password: String,
    impersonator: bool,
    limits: UserLimits,
    permissions: BTreeMap<Name, Permissions>,
    /// By virtual host and exchange.
    topics: BTreeMap<Name, BTreeMap<Name, TopicPermissions>>,
}

/// Passwords are not shown.
impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("permissions", &self.permissions).finish_non_exhaustive()
    }
}

/// All users.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<Name, User>);

impl Users {
    /// Adds a user, or changes its password.
    pub(crate) fn add(&mut self, name: &str, password: &str) {
        let user = self.0.entry(name.into()).or_insert_with(|| User {
            password: String::new(),
            impersonator: false,
            limits: UserLimits::default(),
            permissions: BTreeMap::new(),
            topics: BTreeMap::new(),
        });
        password.clone_into(&mut user.password);
    }

    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn password_is(&self, name: &str, password: &str) -> bool {
        self.0.get(name).is_some_and(|user| user.password == password)
    }

    /// Returns false if there is no such user.
    pub(crate) fn set_impersonator(&mut self, name: &str, impersonator: bool) -> bool {
        self.0.get_mut(name).map(|user| user.impersonator = impersonator).is_some()
    }

    pub(crate) fn is_impersonator(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|user| user.impersonator)
    }

    pub(crate) fn limits(&self, name: &str) -> UserLimits {
        self.0.get(name).map_or_else(UserLimits::default, |user| user.limits)
    }

    pub(crate) fn limits_mut(&mut self, name: &str) -> Option<&mut UserLimits> {
        self.0.get_mut(name).map(|user| &mut user.limits)
    }

    pub(crate) fn set_permissions(
        &mut self,
        name: &str,
        vhost: &str,
        [configure, write, read]: [&str; 3],
    ) -> Result<(), InvalidPermissions> {
        let permissions = Permissions {
            configure: Pattern::new(configure)?,
            write: Pattern::new(write)?,
            read: Pattern::new(read)?,
        };
        self.get_mut(name)?.permissions.insert(vhost.into(), permissions);
        Ok(())
    }

    /// Returns whether there were any.
    pub(crate) fn clear_permissions(&mut self, name: &str, vhost: &str) -> bool {
        self.0.get_mut(name).is_some_and(|user| user.permissions.remove(vhost).is_some())
    }

    pub(crate) fn set_topic_permissions(
        &mut self,
        name: &str,
        vhost: &str,
        exchange: &str,
        [write, read]: [&str; 2],
    ) -> Result<(), InvalidPermissions> {
        let pattern = |text| Pattern::new(&expanded(text, name, vhost));
        let topics = TopicPermissions { write: pattern(write)?, read: pattern(read)? };
        self.get_mut(name)?.topics.entry(vhost.into()).or_default().insert(exchange.into(), topics);
        Ok(())
    }

    fn get_mut(&mut self, name: &str) -> Result<&mut User, InvalidPermissions> {
        self.0.get_mut(name).ok_or_else(|| InvalidPermissions::NoUser(name.to_owned()))
    }

    /// Forgets what is said about a virtual host.
    pub(crate) fn forget_vhost(&mut self, vhost: &str) {
        for user in self.0.values_mut() {
            user.permissions.remove(vhost);
            user.topics.remove(vhost);
        }
    }

    /// Returns whether a user may connect to a virtual host.
    pub(crate) fn may_open(&self, name: &str, vhost: &str) -> bool {
        self.0.get(name).is_some_and(|user| user.permissions.contains_key(vhost))
    }

    /// Returns whether a user may use an entity. The default exchange has a name of its own here.
    pub(crate) fn may(&self, name: &str, vhost: &str, access: Access, entity: &str) -> bool {
        let Some(permissions) = self.0.get(name).and_then(|user| user.permissions.get(vhost)) else {
            return false;
        };
        let pattern = match access {
            Access::Configure => &permissions.configure,
            Access::Write => &permissions.write,
            Access::Read => &permissions.read,
        };
        pattern.matches(if entity.is_empty() { DEFAULT_EXCHANGE } else { entity })
    }

    /// Returns whether a user may use a routing key at a topic exchange. All keys are allowed where nothing is
    /// said of that exchange.
    pub(crate) fn may_use_topic(
        &self,
        name: &str,
        vhost: &str,
        access: Access,
        exchange: &str,
        key: &str,
    ) -> bool {
        let Some(user) = self.0.get(name) else { return false };
        let Some(topics) = user.topics.get(vhost).and_then(|topics| topics.get(exchange)) else {
            return true;
        };
        let pattern = if access == Access::Write { &topics.write } else { &topics.read };
        pattern.matches(key)
    }
}

/// Puts the names of user and virtual host into a pattern.
fn expanded(pattern: &str, user: &str, vhost: &str) -> String {
    pattern.replace("{username}", &regex_lite::escape(user)).replace("{vhost}", &regex_lite::escape(vhost))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let mut users = Users::default();
        users.add("u", "p");
        users.set_permissions("u", "v", ["^c", "w", "^$"]).unwrap();
        users
    }

    /// AUTH-09
    #[test]
    fn a_permission_is_a_pattern_of_names() {
        let users = users();
        assert!(
            users.may("u", "v", Access::Configure, "cx") && !users.may("u", "v", Access::Configure, "xc")
        );
        assert!(users.may("u", "v", Access::Write, "xwx") && !users.may("u", "v", Access::Write, ""));
        assert!(
            !users.may("u", "v", Access::Read, "anything") && !users.may("u", "other", Access::Read, "x")
        );
        assert!(users.may_open("u", "v") && !users.may_open("u", "other") && !users.may_open("x", "v"));
    }

    /// AUTH-09: the default exchange is amq.default.
    #[test]
    fn the_default_exchange_has_a_name_for_permissions() {
        let mut users = users();
        users.set_permissions("u", "v", ["", "^amq\\.default$", ""]).unwrap();
        assert!(users.may("u", "v", Access::Write, "") && !users.may("u", "v", Access::Write, "x"));
    }

    /// AUTH-10
    #[test]
    fn topic_permissions_hold_for_their_exchange() {
        let mut users = users();
        users.set_topic_permissions("u", "v", "t", ["^{username}\\.", ""]).unwrap();
        assert!(users.may_use_topic("u", "v", Access::Write, "t", "u.x"));
        assert!(!users.may_use_topic("u", "v", Access::Write, "t", "other.x"));
        assert!(users.may_use_topic("u", "v", Access::Write, "else", "other.x"));
        assert!(users.may_use_topic("u", "other", Access::Write, "t", "other.x"));
        assert!(!users.may_use_topic("u", "v", Access::Read, "t", "u.x"));
        assert!(users.set_topic_permissions("u", "v", "t", ["(", ""]).is_err());
        users.forget_vhost("v");
        assert!(users.may_use_topic("u", "v", Access::Write, "t", "other.x"));
    }

    #[test]
    fn a_broken_pattern_is_an_error_and_passwords_are_not_shown() {
        let mut users = users();
        let broken = InvalidPermissions::Pattern(InvalidPattern("(".to_owned()));
        assert_eq!(users.set_permissions("u", "v", ["(", "", ""]), Err(broken.clone()));
        assert_eq!(users.set_topic_permissions("u", "v", "t", ["(", ""]), Err(broken));
        assert!(!format!("{users:?}").contains("\"p\""));
        assert!(users.password_is("u", "p") && !users.password_is("u", "x") && !users.password_is("x", "p"));
    }
}
