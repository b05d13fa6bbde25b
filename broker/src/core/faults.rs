//! Faults on order, which no real broker gives.

use super::Core;

/// What is to go wrong next.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    refused: u32,
    returned: u32,
}

impl Faults {
    pub(super) fn refuse_next(&mut self) -> bool {
        take_one(&mut self.refused)
    }

    pub(super) fn return_next(&mut self) -> bool {
        take_one(&mut self.returned)
    }
}

fn take_one(left: &mut u32) -> bool {
    let any = *left > 0;
    *left = left.saturating_sub(1);
    any
}

impl Core {
    /// Refuses the next publishes: they reach no queue and are nacked, if their channel has confirms.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).nack_next(3);
    /// ```
    pub fn nack_next(&mut self, publishes: u32) {
        self.faults.refused = self.faults.refused.saturating_add(publishes);
    }

    /// Returns the next publishes with `NO_ROUTE`, mandatory or not, whatever queues there are.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig};
    /// Core::new(CoreConfig::default()).return_next(1);
    /// ```
    pub fn return_next(&mut self, publishes: u32) {
        self.faults.returned = self.faults.returned.saturating_add(publishes);
    }

    /// Neither refuses nor returns the publishes that were to be.
    pub(crate) fn forget_faults(&mut self) {
        self.faults = Faults::default();
    }
}
