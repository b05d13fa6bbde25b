//! The one shape of the four binding messages.

/// Defines a message with the two ends of a binding, its routing key and its arguments.
macro_rules! binding {
    ($(#[$doc:meta])* $name:ident { $to:ident, $from:ident }, $new:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub struct $name {
            pub(crate) $to: String,
            pub(crate) $from: String,
            pub(crate) routing_key: String,
            pub(crate) arguments: $crate::wire::Table,
        }

        impl $name {
            #[doc = $new]
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
                }
            }

            /// Adds an argument, such as a header to match.
            pub fn argument(mut self, key: &str, value: impl Into<$crate::wire::Value>) -> Self {
                self.arguments.insert(key, value);
                self
            }
        }

        impl actix::Message for $name {
            type Result = $crate::error::Result<()>;
        }
    };
}

pub(super) use binding;
