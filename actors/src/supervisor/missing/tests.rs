//! Tests of the entries.
