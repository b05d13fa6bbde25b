//! The lines of RabbitMQ.

use super::rules::{Rules, V3_10, V3_13, V4_0, V4_3};

/// A line of RabbitMQ whose answers the broker gives.
///
/// # Examples
/// ```
/// # use actix_pika_broker::Line;
/// assert_eq!(Line::V4_0.rules().frame_min, 4096);
/// assert_eq!(Line::V4_3.version(), "4.3.6");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Line {
    /// Held against a node of 3.10.8.
    V3_10,
    /// As 3.10, with the differences that the source of 3.13.7 shows. Not held against a node.
    V3_13,
    /// Held against a node of 4.0.5.
    V4_0,
    /// Held against a node of 4.3.6.
    #[default]
    V4_3,
}

impl Line {
    /// Returns the version that the broker gives itself.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Line;
    /// assert_eq!(Line::V3_10.version(), "3.10.8");
    /// ```
    pub fn version(self) -> &'static str {
        self.rules().version
    }

    /// Returns what the line does differently.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Line;
    /// assert_eq!(Line::V3_10.rules().default_delivery_limit, None);
    /// assert_eq!(Line::V4_0.rules().default_delivery_limit, Some(20));
    /// ```
    pub fn rules(self) -> &'static Rules {
        match self {
            Self::V3_10 => &V3_10,
            Self::V3_13 => &V3_13,
            Self::V4_0 => &V4_0,
            Self::V4_3 => &V4_3,
        }
    }
}
