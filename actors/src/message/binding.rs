//! The one shape of the four binding messages.

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
            /// Each has 255 bytes at most (`Limit` when it is sent); an empty routing key is a key like any other.
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
            /// Bindings that differ only in their arguments are different ones: to unbind takes the same arguments.
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

            /// Adds all arguments of a table; of two of the same name the later one counts.
            ///
            /// Keys have 255 bytes at most (`Codec` when it is sent).
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::{", stringify!($name), ", Table};")]
            /// let pictures = Table::new().with("x-match", "all").with("format", "png");
            #[doc = concat!("let binding = ", stringify!($name), "::new(\"thumbnails\", \"images\", \"\")")]
            ///     .arguments(pictures);
            /// ```
            pub fn arguments(mut self, arguments: $crate::wire::Table) -> Self {
                self.arguments.extend(arguments);
                self
            }

            /// Sets whether a connection that recovers repeats it after a reconnect (a bind), or forgets the bind of which
            /// it is the opposite (an unbind); so by default. What binds something that is not declared again should
            /// not be repeated either; only handles of queues and exchanges that were declared so see to it by
            /// themselves.
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

            /// Tells what is bound.
            #[doc(hidden)]
            pub fn bound(&self) -> &str {
                &self.$to
            }
        }

        impl actix::Message for $name {
            type Result = $crate::error::Result<()>;
        }
    };
}

pub(super) use binding;
