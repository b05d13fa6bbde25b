//! Whose turn it is to use a node that others may not use meanwhile.

use std::{
    fs::{File, TryLockError},
    io::Write,
    time::Duration,
};

use super::nodes::root;

/// Exclusive use of the second node or the cluster, across threads and processes.
///
/// Holds the lock of a file under `.broker/`. The file has content while the node is in use. If the next user finds
/// content, the last one panicked or was killed, and the node may be in any state.
#[derive(Debug)]
pub(super) struct Turn {
    file: File,
    leaves: Left,
}

/// How a user leaves a node to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It can be used as it is.
    Clean,
    /// It has other settings, or its user has not ended normally: it is made anew.
    InAnyState,
}

impl Turn {
    /// Waits until nobody uses the node. Also returns how the last user has left it.
    pub(super) async fn take(name: &str) -> (Self, Left) {
        let folder = root().join(".broker");
        std::fs::create_dir_all(&folder).expect("the folder .broker");
        let path = folder.join(format!("{name}.in-use"));
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .expect("the lock file opens");
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(TryLockError::Error(error)) => panic!("cannot lock {path:?}: {error}"),
            }
        }
        let is_empty = file.metadata().expect("metadata").len() == 0;
        file.write_all(b"in use\n").expect("the lock file takes content");
        (Self { file, leaves: Left::Clean }, if is_empty { Left::Clean } else { Left::InAnyState })
    }

    /// The next user gets the node without what this one has set.
    pub(super) fn leave_in_any_state(&mut self) {
        self.leaves = Left::InAnyState;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.leaves == Left::Clean && !std::thread::panicking() {
            let _ = self.file.set_len(0);
        }
    }
}
