//! The blocks that were read and are still referred to: by deliveries, or by views that applications keep.

use std::collections::VecDeque;

use bytes::Bytes;

/// All blocks are looked at when there are this many, or twice as many as remained last time.
const FIRST_LOOK: usize = 16;

#[derive(Debug, Default)]
pub(super) struct HeldBlocks {
    /// The oldest first.
    blocks: VecDeque<Block>,
    bytes: usize,
    look_at: usize,
}

#[derive(Debug)]
struct Block {
    /// Refers to the block, and to no byte of it.
    handle: Bytes,
    size: usize,
}

impl HeldBlocks {
    /// Returns the bytes of all blocks that may be referred to.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a block that the reader has left, and forgets those that nothing refers to any more.
    pub(super) fn add(&mut self, handle: Bytes, size: usize) {
        self.bytes += size;
        self.blocks.push_back(Block { handle, size });
        // Mostly the oldest is free first.
        while self.blocks.front().is_some_and(|block| block.handle.is_unique()) {
            self.bytes -= self.blocks.pop_front().map_or(0, |block| block.size);
        }
        if self.blocks.len() >= self.look_at.max(FIRST_LOOK) {
            self.look();
        }
    }

    /// Looks at all blocks.
    fn look(&mut self) {
        let bytes = &mut self.bytes;
        self.blocks.retain(|block| {
            let is_free = block.handle.is_unique();
            if is_free {
                *bytes -= block.size;
            }
            !is_free
        });
        self.look_at = 2 * self.blocks.len();
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Reads a block, and returns a view of it and its handle.
    fn block(size: usize) -> (Bytes, Bytes) {
        let mut buffer = BytesMut::zeroed(size);
        let view = buffer.split_to(1).freeze();
        (view, buffer.split_to(0).freeze())
    }

    #[test]
    fn a_block_counts_as_long_as_a_view_of_it_exists() {
        let mut held = HeldBlocks::default();
        let (first, handle) = block(1000);
        held.add(handle, 1000);
        let (second, handle) = block(2000);
        held.add(handle, 2000);
        assert_eq!(held.bytes(), 3000);
        drop((first, second));
        let (_third, handle) = block(500);
        held.add(handle, 500);
        assert_eq!(held.bytes(), 500);
    }

    #[test]
    fn blocks_behind_one_that_is_held_are_found_free() {
        let mut held = HeldBlocks::default();
        let (_first, handle) = block(1000);
        held.add(handle, 1000);
        for _ in 0..10 * FIRST_LOOK {
            let (view, handle) = block(1000);
            drop(view);
            held.add(handle, 1000);
            assert!(held.bytes() <= FIRST_LOOK * 1000, "{}", held.bytes());
        }
    }

    #[test]
    fn blocks_are_looked_at_seldom_while_all_are_held() {
        let mut held = HeldBlocks::default();
        let mut views = Vec::new();
        let mut looks = 0;
        for n in 1..=1000 {
            let (view, handle) = block(64);
            views.push(view);
            let before = held.look_at;
            held.add(handle, 64);
            looks += u32::from(held.look_at != before);
            assert_eq!(held.bytes(), n * 64);
        }
        assert!(looks <= 7, "{looks}");
    }
}
