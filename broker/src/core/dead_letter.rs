//! Dead letters: the message that a queue publishes when one of its messages dies, and `x-death`.

use std::collections::{BTreeMap, HashMap};

use actix_pika_actors::{Table, Value};

use super::{
    message::{Message, Name},
    octets::octets_of,
    properties::sorted,
    queue::Dead,
    rules::Rules,
};

const DEATHS: &str = "x-death";

/// Where and why a message died.
struct Death<'a> {
    queue: &'a str,
    reason: &'static str,
}

impl Death<'_> {
    fn is(&self, entry: &Table) -> bool {
        let is = |key: &str, name: &str| entry.get(key).and_then(octets) == Some(name.as_bytes());
        is("queue", self.queue) && is("reason", self.reason)
    }
}

fn text<'a>(entry: &'a Table, key: &str) -> Option<&'a [u8]> {
    if let Some(Value::LongString(text)) = entry.get(key) { Some(text.as_bytes()) } else { None }
}

/// Returns the message that is published to the exchange `to` for one that died in `queue`; `key` is the routing key, if
/// the queue has one for its dead letters. Without it, the message keeps its key and its further keys.
pub(crate) fn next_message(
    rules: &'static Rules,
    dead: &Dead,
    queue: &str,
    to: &Name,
    key: Option<&Name>,
    unix_seconds: u64,
) -> Message {
    let before = &dead.stored.message;
    let death = Death { queue, reason: dead.reason.as_str() };
    let mut headers = before.headers().cloned().unwrap_or_default();
    // What a client has published in it is no death, if the line does not go on with it.
    let earlier = if rules.published_death_counts || before.has_died { headers.remove(DEATHS) } else { None };
    if earlier.is_none() {
        set_death(&mut headers, "x-first-death", &death, before);
        headers.remove(DEATHS);
    }
    if rules.last_death {
        set_death(&mut headers, "x-last-death", &death, before);
    }
    headers.insert(DEATHS, deaths(rules, earlier, &death, before, unix_seconds));
    if key.is_some() && rules.dead_letter_drops_cc {
        headers.remove("CC");
    }
    before.dead_letter(to, key, &sorted(headers))
}

fn set_death(headers: &mut Table, prefix: &str, death: &Death<'_>, message: &Message) {
    headers.insert(format!("{prefix}-reason"), death.reason);
    headers.insert(format!("{prefix}-queue"), death.queue);
    headers.insert(format!("{prefix}-exchange"), &*message.exchange);
}

/// The array of deaths, the newest one first.
fn deaths(
    rules: &Rules,
    earlier: Option<Value>,
    death: &Death<'_>,
    message: &Message,
    unix_seconds: u64,
) -> Vec<Value> {
    let mut others: Vec<Table> = match earlier {
        Some(Value::Array(entries)) => entries.into_iter().filter_map(into_table).collect(),
        // It is replaced.
        _ => Vec::new(),
    };
    if rules.deaths_grouped && others.len() > 1 {
        others = grouped(others);
    }
    let repeated = others.iter().position(|entry| death.is(entry)).map(|at| others.remove(at));
    let first = match repeated {
        Some(mut entry) => {
            let count = entry.get("count").and_then(Value::as_i64).unwrap_or(0);
            entry.insert("count", count.saturating_add(1));
            entry
        }
        None => first_death(rules, death, message, unix_seconds),
    };
    std::iter::once(first).chain(others).map(Value::Table).collect()
}

/// Merges the entries of one queue and reason into the first of them, which counts them if it has no count, and turns
/// the order around.
fn grouped(entries: Vec<Table>) -> Vec<Table> {
    let mut groups: Vec<(Table, i64)> = Vec::new();
    let mut places = HashMap::new();
    for entry in entries {
        let place = *places.entry(["queue", "reason"].map(|key| part(&entry, key))).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, merged)) => *merged += 1,
            None => groups.push((entry, 1)),
        }
    }
    let counted = groups.into_iter().rev().map(|(mut entry, merged)| {
        if entry.get("count").is_none() {
            entry.insert("count", merged);
        }
        entry
    });
    counted.collect()
}

/// What a field of an entry is compared by. Strings and arrays of octets are alike.
fn part(entry: &Table, key: &str) -> Option<Vec<u8>> {
    entry.get(key).map(|value| match octets(value) {
        Some(octets) => octets.to_vec(),
        None => format!("{value:?}").into_bytes(),
    })
}

fn octets(value: &Value) -> Option<&[u8]> {
    match value {
        Value::LongString(text) => Some(text.as_bytes()),
        Value::ByteArray(octets) => Some(octets),
        _ => None,
    }
}

fn into_table(value: Value) -> Option<Table> {
    if let Value::Table(table) = value { Some(table) } else { None }
}

fn first_death(rules: &Rules, death: &Death<'_>, message: &Message, unix_seconds: u64) -> Table {
    let keys = keys_to_name(rules, message);
    let keys: Vec<Value> = keys.into_iter().map(|key| Value::LongString((&*octets_of(key)).into())).collect();
    let mut entry = Table::new()
        .with("count", 1i64)
        .with("reason", death.reason)
        .with("queue", death.queue)
        .with("time", Value::Timestamp(unix_seconds))
        .with("exchange", &*message.exchange)
        .with("routing-keys", keys);
    if let Some(expiration) = message.expiration_text() {
        entry.insert("original-expiration", expiration);
    }
    entry
}

/// The keys of a message that its death names. Each key of `BCC` takes away the first one that is equal, which may be a
/// key that everybody knows.
fn keys_to_name<'a>(rules: &Rules, message: &'a Message) -> Vec<&'a Name> {
    if !rules.bcc_hides_first_key {
        return std::iter::once(&message.routing_key).chain(&message.cc).collect();
    }
    let mut hidden: BTreeMap<&Name, usize> = BTreeMap::new();
    for key in &message.bcc {
        *hidden.entry(key).or_default() += 1;
    }
    let is_named = |key: &&Name| match hidden.get_mut(*key) {
        Some(left @ 1..) => {
            *left -= 1;
            false
        }
        _ => true,
    };
    message.keys().filter(is_named).collect()
}

/// Returns whether a dead letter must not go to a queue: it has died there before, and no death since then, that one
/// included, was a rejection.
pub(crate) fn is_cycle(message: &Message, target_queue: &str) -> bool {
    let Some(Value::Array(deaths)) = message.headers().and_then(|headers| headers.get(DEATHS)) else {
        return false;
    };
    for death in deaths.iter().filter_map(Value::as_table) {
        if text(death, "reason") == Some(b"rejected") {
            return false;
        }
        if text(death, "queue") == Some(target_queue.as_bytes()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
