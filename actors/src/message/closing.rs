//! The macro for the two messages that close a channel or a connection.

/// Defines a message with a reply code and a text for the broker.
macro_rules! closing {
    ($(#[$doc:meta])* $name:ident $({ $($field:ident: $type:ty),+ })?) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        #[must_use = "a message does nothing until it is sent or passed to a call"]
        pub struct $name {
            pub(crate) code: u16,
            pub(crate) text: String,
            $($(pub(crate) $field: $type,)+)?
        }

        impl $name {
            /// Creates a close with reply code 200.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::", stringify!($name), ";")]
            #[doc = concat!("let close = ", stringify!($name), "::new();")]
            /// ```
            pub fn new() -> Self {
                let text = "closed by the application".into();
                Self { code: 200, text, $($($field: Default::default(),)+)? }
            }

            /// Sets the reply code and text that the broker receives. The text is cut to 255 bytes.
            ///
            /// # Examples
            /// ```
            #[doc = concat!("# use actix_pika_actors::", stringify!($name), ";")]
            #[doc = concat!("let close = ", stringify!($name), "::new().reason(320, \"this node is going down\");")]
            /// ```
            pub fn reason(mut self, code: u16, text: impl Into<String>) -> Self {
                self.code = code;
                self.text = text.into();
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl actix::Message for $name {
            type Result = $crate::error::Result<()>;
        }
    };
}

pub(super) use closing;
