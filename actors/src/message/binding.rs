//! The macro for the four messages that create and remove bindings.

/// Defines a message with the two ends of a binding, its routing key and its arguments.
macro_rules! binding {
    ($(#[$doc:meta])* $name:ident { $to:ident, $from:ident }, $new:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[must_use = "a message does nothing until it is sent or passed to a call"]
        pub struct $name {
            pub(crate) $to: String,
            pub(crate) $from: String,
            pub(crate) routing_key: String,
            pub(crate) arguments: $crate::wire::Table,
            pub(crate) robust: bool,
        }

        impl $name {
            #[doc = $new]
            ///
            /// Each has at most 255 bytes; a longer one fails with `Limit` when the call is sent. An empty
            /// routing key is a valid key.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::", stringify!($name), ";")]
            #[doc = concat!("let binding = ", stringify!($name), "::new(\"billing\", \"orders\", \"order.created\");")]
            /// ```
            pub fn new(
                $to: impl Into<String>,
                $from: impl Into<String>,
                routing_key: impl Into<String>,
            ) -> Self {
                Self {
                    $to: $to.into(),
                    $from: $from.into(),
                    routing_key: routing_key.into(),
                    arguments: $crate::wire::Table::default(),
                    robust: true,
                }
            }

            /// Adds an argument, such as a header to match.
            ///
            /// Bindings with different arguments are different bindings: removing one requires the same
            /// arguments.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::", stringify!($name), ";")]
            #[doc = concat!("let binding = ", stringify!($name), "::new(\"thumbnails\", \"images\", \"\")")]
            ///     .argument("x-match", "all")
            ///     .argument("format", "png");
            /// ```
            pub fn argument(mut self, key: &str, value: impl Into<$crate::wire::Value>) -> Self {
                self.arguments.insert(key, value);
                self
            }

            /// Adds all arguments of a table, replacing those with the same key.
            ///
            /// A key has at most 255 bytes; a longer one fails with `Codec` when the call is sent.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::{", stringify!($name), ", Table};")]
            /// let arguments = Table::new().with("x-match", "all").with("format", "png");
            #[doc = concat!("let binding = ", stringify!($name), "::new(\"thumbnails\", \"images\", \"\")")]
            ///     .arguments(arguments);
            /// ```
            pub fn arguments(mut self, arguments: $crate::wire::Table) -> Self {
                self.arguments.extend(arguments);
                self
            }

            /// Sets whether the call changes what a connection that recovers creates after a reconnect; it
            /// does unless set. A bind is then repeated, and an unbind removes the bind that would be
            /// repeated.
            ///
            /// Use `false` for bindings of queues and exchanges that are not redeclared. Handles of such
            /// queues and exchanges set it themselves.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::", stringify!($name), ";")]
            #[doc = concat!("let once = ", stringify!($name), "::new(\"thumbnails\", \"images\", \"png\").robust(false);")]
            /// ```
            pub fn robust(mut self, robust: bool) -> Self {
                self.robust = robust;
                self
            }
        }

        impl actix::Message for $name {
            type Result = $crate::error::Result<()>;
        }
    };
}

pub(super) use binding;
