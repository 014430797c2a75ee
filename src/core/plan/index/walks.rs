//! How the large parts of the world are walked: a block of objects at a time.
//!
//! Decides: nothing. Fifty thousand claims do not fit the processor's caches. Whoever reads an object, then a text that it keeps elsewhere, then looks that
//! up, waits for the memory each time. Of a block, all objects are read first, then all texts: the processor then waits for several at once, and what was
//! read of the block is still at hand.

/// Objects that are read together: with what is read of each they fit the cache of one processor.
const BLOCK: usize = 64;

/// Calls `take` with one block of `things` after the other.
pub(super) fn in_blocks<T>(things: impl Iterator<Item = T>, mut take: impl FnMut(&[T])) {
    let mut things = things.fuse();
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        block.extend(things.by_ref().take(BLOCK));
        if block.is_empty() {
            return;
        }
        take(&block);
    }
}

/// A position among objects of one kind.
pub(super) fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
