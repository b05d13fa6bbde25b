//! What the process holds: memory and descriptors, before and after.

use std::{cell::Cell, fs, rc::Rc, time::Duration};

/// Resident memory in bytes; 0 where the system does not tell.
pub fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages: Option<u64> = pages.and_then(|text| text.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or_default() * 4096
}

fn descriptors() -> usize {
    // The one that reads the folder counts, too, each time.
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[derive(Debug)]
pub struct Leaks {
    resident: u64,
    descriptors: usize,
    most: Rc<Cell<u64>>,
    sampler: actix_rt::task::JoinHandle<()>,
}

impl Leaks {
    pub fn look() -> Self {
        let most = Rc::new(Cell::new(resident()));
        let peak = most.clone();
        let sampler = actix_rt::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(250)).await;
                peak.set(peak.get().max(resident()));
            }
        });
        Self { resident: resident(), descriptors: descriptors(), most, sampler }
    }

    /// By how many bytes the memory grew at most.
    pub fn growth(&self) -> u64 {
        self.most.get().saturating_sub(self.resident)
    }

    /// Waits until no descriptor is left over; tells how many are after some time.
    pub async fn descriptors(&self) -> usize {
        for _ in 0..150 {
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
