//! Checks of what a user may do, with the texts of RabbitMQ.

use super::{
    ChannelAt, Core,
    error::Failure,
    names::{DEFAULT_EXCHANGE, exchange_text, queue_text},
    users::Access,
};

/// An entity by its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl Core {
    /// Checks that the user of a connection may use an entity.
    pub(super) fn check_access(
        &self,
        at: ChannelAt,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), Failure> {
        let info = &self.connection(at)?.info;
        let (Resource::Queue(name) | Resource::Exchange(name)) = resource;
        if self.users.may(&info.user, &info.vhost, access, name) {
            return Ok(());
        }
        let resource = match resource {
            Resource::Queue(name) => queue_text(&info.vhost, name),
            Resource::Exchange("") => exchange_text(&info.vhost, DEFAULT_EXCHANGE),
            Resource::Exchange(name) => exchange_text(&info.vhost, name),
        };
        let what = self.access_text(access);
        Err(Failure::channel(403, format!("{what} to {resource} refused for user '{}'", info.user)))
    }

    /// What a text says of an access that is refused.
    fn access_text(&self, access: Access) -> String {
        if self.rules.refusal_names_access { format!("{} access", access.as_str()) } else { "access".into() }
    }

    /// Checks that the user of a connection has one of the three permissions, if the line wants one for a passive
    /// declaration.
    pub(super) fn check_any_access(&self, at: ChannelAt, resource: Resource<'_>) -> Result<(), Failure> {
        let others = [Access::Write, Access::Read];
        let has = |access: Access| self.check_access(at, access, resource).is_ok();
        if !self.rules.passive_needs_permission || others.into_iter().any(has) {
            return Ok(());
        }
        self.check_access(at, Access::Configure, resource)
    }

    /// Checks that the user of a connection may use a routing key at a topic exchange.
    pub(super) fn check_topic(
        &self,
        at: ChannelAt,
        access: Access,
        exchange: &str,
        key: &str,
    ) -> Result<(), Failure> {
        let info = &self.connection(at)?.info;
        if self.users.may_use_topic(&info.user, &info.vhost, access, exchange, key) {
            return Ok(());
        }
        let what = self.access_text(access);
        let text = format!(
            "{what} to topic '{key}' in exchange '{exchange}' in vhost '{}' refused for user '{}'",
            info.vhost, info.user
        );
        Err(Failure::channel(403, text))
    }
}
