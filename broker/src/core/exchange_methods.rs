//! `exchange.declare` and `exchange.delete`.

use std::fmt::Display;

use actix_pika_actors::{
    Table, Value,
    wire::{
        field_table::from_field_table,
        method::{AMQPClass, exchange},
    },
};

use super::{
    ChannelAt, Core, arguments,
    dispatch::{Handled, unless},
    entities::{Counted, Entity},
    error::Failure,
    keys::{ExchangeKey, VhostKey},
    message::Name,
    names::{exchange_text, is_reserved, strip},
    permissions::Resource,
    routing::{ExchangeType, Router},
    term::type_name,
    topology::{Destination, Exchange},
    users::Access,
};

/// The type of exchanges that hold messages back.
const DELAYED: &str = "x-delayed-message";
/// The argument with the exchange for what an exchange cannot route.
pub(crate) const ALTERNATE: &str = "alternate-exchange";

/// What an exchange is declared with.
#[derive(Debug)]
struct Declared {
    kind: Name,
    router: ExchangeType,
    durable: bool,
    auto_delete: bool,
    internal: bool,
    arguments: Table,
}

impl Core {
    pub(super) fn declare_exchange(&mut self, at: ChannelAt, declare: &exchange::Declare) -> Handled {
        let vhost = self.connection(at)?.vhost;
        let name = strip(declare.exchange.as_str()).into_owned();
        if declare.passive {
            check_not_default(&name)?;
            self.check_any_access(at, Resource::Exchange(&name))?;
            self.find_exchange(vhost, &name)?;
        } else {
            let arguments = from_field_table(&declare.arguments);
            let router = self.exchange_type(declare.kind.as_str(), &arguments)?;
            check_not_default(&name)?;
            self.check_access(at, Access::Configure, Resource::Exchange(&name))?;
            let declared = Declared {
                kind: declare.kind.as_str().into(),
                router,
                durable: declare.durable,
                auto_delete: declare.auto_delete,
                internal: declare.internal,
                arguments,
            };
            match self.topology.exchange(vhost, &name) {
                Some(exchange) => self.check_same_exchange(exchange, &declared)?,
                None => self.declare_new_exchange(at, vhost, &name, declared)?,
            }
        }
        unless(declare.nowait, || {
            AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {}))
        })
    }

    /// Returns what routes in an exchange of a type.
    fn exchange_type(&self, kind: &str, arguments: &Table) -> Result<ExchangeType, Failure> {
        if kind == DELAYED {
            return arguments
                .get("x-delayed-type")
                .and_then(Value::as_str)
                .and_then(ExchangeType::of)
                .filter(|kind| kind.is_of(self.rules))
                .ok_or_else(|| {
                    Failure::channel(
                        406,
                        "Invalid argument, 'x-delayed-type' must be an existing exchange type",
                    )
                });
        }
        ExchangeType::of(kind).filter(|kind| kind.is_of(self.rules)).ok_or_else(|| {
            // A text that some module of a node has as an atom is "invalid". Of those, only the empty one is known.
            let adjective = if kind.is_empty() { "invalid" } else { "unknown" };
            let text = format!("{adjective} exchange type '{kind}'");
            if self.rules.unknown_type_closes_connection {
                Failure::connection(503, text)
            } else {
                Failure::channel(406, text)
            }
        })
    }

    fn check_same_exchange(&self, exchange: ExchangeKey, declared: &Declared) -> Result<(), Failure> {
        let Some(exchange) = self.topology.exchanges.get(exchange) else { return Ok(()) };
        let resource = exchange_text(&self.topology.vhost_name(exchange.vhost), &exchange.name);
        same_field("type", &resource, &exchange.kind, &declared.kind)?;
        same_field("durable", &resource, exchange.durable, declared.durable)?;
        same_field("auto_delete", &resource, exchange.auto_delete, declared.auto_delete)?;
        same_field("internal", &resource, exchange.internal, declared.internal)?;
        arguments::same_arguments(&exchange.arguments, &declared.arguments, &[ALTERNATE], &resource)
    }

    fn declare_new_exchange(
        &mut self,
        at: ChannelAt,
        vhost: VhostKey,
        name: &str,
        declared: Declared,
    ) -> Result<(), Failure> {
        if is_reserved(name) {
            return Err(Failure::channel(
                403,
                format!("exchange name '{name}' contains reserved prefix 'amq.*'"),
            ));
        }
        let alternate: Option<Name> = match declared.arguments.get(ALTERNATE) {
            None => None,
            Some(Value::LongString(text)) => Some(text.to_string_lossy().into()),
            Some(other) => {
                let resource = exchange_text(&self.topology.vhost_name(vhost), name);
                let text = format!("invalid type '{}' for arg '{ALTERNATE}' in {resource}", type_name(other));
                return Err(Failure::channel(406, text));
            }
        };
        if let Some(alternate) = &alternate {
            self.check_access(at, Access::Read, Resource::Exchange(name))?;
            self.check_access(at, Access::Write, Resource::Exchange(alternate))?;
        }
        declared.router.check(&declared.arguments).map_err(|text| Failure::channel(406, text))?;
        let counted = self.count_entity(Entity::Exchange, name, &declared.arguments)?;
        self.add_exchange(vhost, name, declared, alternate, Some(counted));
        Ok(())
    }

    /// Adds an exchange that was not asked for by a client.
    pub(super) fn add_system_exchange(
        &mut self,
        vhost: VhostKey,
        name: &str,
        router: ExchangeType,
        internal: bool,
    ) {
        let kind = router.name().into();
        let declared =
            Declared { kind, router, durable: true, auto_delete: false, internal, arguments: Table::new() };
        self.add_exchange(vhost, name, declared, None, None);
    }

    fn add_exchange(
        &mut self,
        vhost: VhostKey,
        name: &str,
        declared: Declared,
        alternate: Option<Name>,
        counted: Option<Counted>,
    ) {
        let name: Name = name.into();
        let by_policy = self.alternate_by_policy(vhost, &name);
        let exchange = self.topology.exchanges.insert(Exchange {
            name: name.clone(),
            vhost,
            durable: declared.durable,
            auto_delete: declared.auto_delete,
            internal: declared.internal,
            alternate: alternate.clone().or(by_policy),
            declared_alternate: alternate,
            router: Router::new(declared.router, self.rules, &declared.arguments),
            delays: &*declared.kind == DELAYED,
            is_topic: &*declared.kind == "topic",
            kind: declared.kind,
            arguments: declared.arguments,
            _counted: counted,
        });
        if let Some(vhost) = self.topology.vhosts.get_mut(vhost) {
            vhost.exchanges.insert(name, exchange);
        }
    }

    pub(super) fn delete_exchange_method(&mut self, at: ChannelAt, delete: &exchange::Delete) -> Handled {
        let vhost = self.connection(at)?.vhost;
        let name = strip(delete.exchange.as_str());
        check_not_default(&name)?;
        let resource = exchange_text(&self.topology.vhost_name(vhost), &name);
        if is_reserved(&name) {
            return Err(Failure::channel(403, format!("deletion of system {resource} not allowed")));
        }
        self.check_access(at, Access::Configure, Resource::Exchange(&name))?;
        if let Some(key) = self.topology.exchange(vhost, &name) {
            let used = self.topology.exchanges.get(key).is_some_and(|exchange| !exchange.router.is_empty());
            if delete.if_unused && used {
                return Err(Failure::channel(406, format!("{resource} in use")));
            }
            self.remove_exchange(key);
        }
        unless(delete.nowait, || AMQPClass::Exchange(exchange::AMQPMethod::DeleteOk(exchange::DeleteOk {})))
    }

    /// Removes an exchange and the bindings to it, and thereby auto-delete exchanges in front of it.
    pub(super) fn remove_exchange(&mut self, key: ExchangeKey) {
        if let Some(vhost) = self.take_exchange(key) {
            self.unbind_destination(vhost, Destination::Exchange(key));
        }
    }

    /// Removes an exchange with the messages that it holds back, and leaves the bindings to it. Returns its virtual host.
    pub(super) fn take_exchange(&mut self, key: ExchangeKey) -> Option<VhostKey> {
        self.delayed.forget(key);
        Some(self.topology.take_exchange(key)?.vhost)
    }

    /// Returns an exchange, or the error that there is none.
    pub(super) fn find_exchange(&self, vhost: VhostKey, name: &str) -> Result<ExchangeKey, Failure> {
        self.topology.exchange(vhost, name).ok_or_else(|| {
            Failure::channel(404, format!("no {}", exchange_text(&self.topology.vhost_name(vhost), name)))
        })
    }
}

pub(crate) fn check_not_default(exchange: &str) -> Result<(), Failure> {
    if exchange.is_empty() {
        Err(Failure::channel(403, "operation not permitted on the default exchange"))
    } else {
        Ok(())
    }
}

/// Checks that a field of a declaration is what the entity has.
pub(crate) fn same_field<T: PartialEq + Display>(
    field: &str,
    resource: &str,
    current: T,
    received: T,
) -> Result<(), Failure> {
    if current == received {
        return Ok(());
    }
    let text = format!(
        "inequivalent arg '{field}' for {resource}: received '{received}' but current is '{current}'"
    );
    Err(Failure::channel(406, text))
}
