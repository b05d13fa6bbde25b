use super::{
    line::Rules,
    message::{Message, Name},
    queue::Dead,
};
pub(crate) fn next_message(
    _: &'static Rules,
    dead: &Dead,
    _: &str,
    to: &Name,
    key: Option<&Name>,
    _: u64,
) -> Message {
    let mut m = dead.stored.message.copy();
    m.exchange = to.clone();
    if let Some(key) = key {
        m.routing_key = key.clone();
    }
    m
}
pub(crate) fn is_cycle(_: &Message, _: &str) -> bool {
    false
}
