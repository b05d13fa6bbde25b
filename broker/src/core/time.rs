//! Virtual time.

use std::{ops, time::Duration};

/// A point in time as the core sees it: milliseconds since the start of the broker.
///
/// # Examples
/// ```
/// # use actix_pika_broker::Time;
/// use std::time::Duration;
/// assert_eq!(Time::ZERO + Duration::from_secs(1), Time::from_millis(1000));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// The longest expiration or time to live in milliseconds: ten years.
pub(crate) const LONGEST_MILLIS: u64 = 315_360_000_000;

impl Time {
    /// The start of the broker.
    pub const ZERO: Self = Self(0);

    /// Creates a time from milliseconds since the start.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Time;
    /// assert_eq!(Time::from_millis(5).as_millis(), 5);
    /// ```
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the start.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Time;
    /// assert_eq!(Time::ZERO.as_millis(), 0);
    /// ```
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the time `millis` later, at most the last one that can be told.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Time;
    /// assert_eq!(Time::from_millis(5).after_millis(u64::MAX), Time::from_millis(u64::MAX));
    /// ```
    #[must_use]
    pub const fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

impl ops::Add<Duration> for Time {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        self.after_millis(u64::try_from(later.as_millis()).unwrap_or(u64::MAX))
    }
}
