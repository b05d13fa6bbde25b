//! The properties that the client sends in `connection.start-ok`.

use super::{table::Table, value::Value};

/// Returns the default properties merged with those of the user. Capabilities are merged one by one.
pub(super) fn client_properties(added: &Table) -> Table {
    let mut capabilities: Table = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "authentication_failure_close",
    ]
    .into_iter()
    .map(|capability| (capability, true))
    .collect();
    let mut properties = Table::new()
        .with("product", "actix-pika")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("platform", "Rust");
    for (key, value) in added.iter() {
        match value {
            Value::Table(more) if *key == "capabilities" => {
                capabilities.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            _ => {
                properties.insert(key.clone(), value.clone());
            }
        }
    }
    properties.insert("capabilities", capabilities);
    properties
}
