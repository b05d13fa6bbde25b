//! The client over TLS, with certificates that the broker makes.
