//! Many deliveries settled at once, so that their settling leaves at once.

use super::Delivery;
use crate::{error::Result, outbox::Outcome};

/// Acknowledges deliveries, or refuses them; those of one consumer that stand next to one another under one lock, so that
/// nothing is flushed half done. The answer is the first error; the others are settled all the same.
#[doc(hidden)]
pub fn settle_all(deliveries: Vec<Delivery>, ack: bool, requeue: bool) -> Result<()> {
    let verdict = if ack { Outcome::Ack } else { Outcome::Nack { requeue } };
    let mut answer = Ok(());
    let mut group: Vec<Delivery> = Vec::new();
    for delivery in deliveries {
        if group.last().is_some_and(|last| !last.goes_with(&delivery)) {
            answer = answer.and(Delivery::settle_group(&mut group, verdict));
        }
        group.push(delivery);
    }
    answer.and(Delivery::settle_group(&mut group, verdict))
}
