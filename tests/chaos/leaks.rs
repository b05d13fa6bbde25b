//! Memory and file descriptors of the process, before and after a part.

use std::{cell::Cell, fs, rc::Rc, time::Duration};

/// Returns the resident memory in bytes, 0 if the system has no /proc.
pub fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages: Option<u64> = pages.and_then(|text| text.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or_default() * 4096
}

fn descriptors() -> usize {
    // Includes the one that reads the folder, each time.
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[derive(Debug)]
pub struct Leaks {
    resident: u64,
    descriptors: usize,
    peak: Rc<Cell<u64>>,
    sampler: actix_rt::task::JoinHandle<()>,
}

impl Leaks {
    pub fn snapshot() -> Self {
        let peak = Rc::new(Cell::new(resident()));
        let sampled = peak.clone();
        let sampler = actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                sampled.set(sampled.get().max(resident()));
            }
        });
        Self { resident: resident(), descriptors: descriptors(), peak, sampler }
    }

    /// Returns the largest growth of the memory so far, in bytes.
    pub fn growth(&self) -> u64 {
        self.peak.get().saturating_sub(self.resident)
    }

    /// Waits until no descriptor is left over, for 30 seconds at most. Returns how many are left over.
    pub async fn leaked_descriptors(&self) -> usize {
        for _ in 0..300 {
            if descriptors() <= self.descriptors {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        descriptors().saturating_sub(self.descriptors)
    }
}

impl Drop for Leaks {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}
