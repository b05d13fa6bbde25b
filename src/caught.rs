//! Calls of code of the user, whose panic must cost no more than that call.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the user. Returns `None` if it panics; what it panics with may panic when it is dropped.
pub(crate) fn caught<R>(of_the_user: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(of_the_user)) {
        Ok(returned) => Some(returned),
        Err(payload) => {
            if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(another);
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_caught_also_if_its_payload_panics() {
        struct Bad;
        impl Drop for Bad {
            fn drop(&mut self) {
                panic!("the end of a payload panics in this test");
            }
        }
        assert_eq!(caught(|| 1), Some(1));
        assert_eq!(caught(|| std::panic::panic_any(Bad)), None::<u8>);
    }
}
