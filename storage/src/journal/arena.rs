//! Memory for groups: large page-aligned buffers, cut into pieces without a copy and joined
//! again without one, used anew when the last reader lets go.

use bytes::BytesMut;

use crate::disk::BLOCK;

/// Gives aligned empty buffers and takes their memory back when nobody holds a piece any more.
///
/// Everything stands on three properties of [`BytesMut`]: `split_off` beyond the length divides
/// capacity, `unsplit` of neighbours joins without copying, and `try_reclaim` gives the whole
/// allocation to the only handle left.
#[derive(Debug)]
pub(crate) struct ArenaPool {
    /// Capacity of an ordinary arena.
    bytes: usize,
    /// One handle of no capacity for each arena given out.
    handles: Vec<BytesMut>,
}

impl ArenaPool {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, handles: Vec::new() }
    }

    /// An empty buffer, page-aligned, with at least this capacity.
    pub(crate) fn take(&mut self, capacity: usize) -> BytesMut {
        if capacity > self.bytes {
            return aligned(BytesMut::with_capacity(capacity + BLOCK), capacity);
        }
        for index in 0..self.handles.len() {
            if self.handles[index].try_reclaim(self.bytes + BLOCK) {
                let arena = self.handles.swap_remove(index);
                return self.hand_out(arena);
            }
        }
        let arena = BytesMut::with_capacity(self.bytes + BLOCK);
        self.hand_out(arena)
    }

    /// Forgets arenas beyond `keep` that nobody uses; their memory goes back to the system.
    pub(crate) fn shrink(&mut self, keep: usize) {
        let mut free = 0;
        let bytes = self.bytes;
        self.handles.retain_mut(|handle| {
            let is_free = handle.try_reclaim(bytes + BLOCK);
            if is_free {
                free += 1;
                // A handle of full capacity is found again by `take`.
            }
            !is_free || free <= keep
        });
    }

    fn hand_out(&mut self, arena: BytesMut) -> BytesMut {
        let mut arena = aligned(arena, self.bytes);
        let end = arena.capacity();
        self.handles.push(arena.split_off(end));
        arena
    }
}

fn aligned(mut buffer: BytesMut, capacity: usize) -> BytesMut {
    let misaligned = buffer.as_ptr().addr() % BLOCK;
    let mut rest = if misaligned == 0 { buffer } else { buffer.split_off(BLOCK - misaligned) };
    rest.truncate(0);
    debug_assert!(rest.as_ptr().addr().is_multiple_of(BLOCK) && rest.capacity() >= capacity);
    rest
}

/// Takes the next `length` bytes of capacity off the front.
pub(crate) fn cut(rest: &mut BytesMut, length: usize) -> BytesMut {
    let tail = rest.split_off(length);
    std::mem::replace(rest, tail)
}

/// Joins neighbours again. Both must be full; they are by construction.
pub(crate) fn join(front: &mut BytesMut, next: BytesMut) {
    debug_assert_eq!(front.len(), front.capacity(), "a piece was not filled");
    debug_assert!(next.is_empty() || front.as_ptr().addr() + front.len() == next.as_ptr().addr());
    front.unsplit(next);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_filled_in_any_order_join_without_a_copy() {
        let mut pool = ArenaPool::new(1 << 16);
        let mut arena = pool.take(1 << 16);
        let start = arena.as_ptr().addr();
        assert!(start.is_multiple_of(BLOCK));
        let mut first = cut(&mut arena, 100);
        let mut second = cut(&mut arena, 50);
        second.extend_from_slice(&[2; 50]);
        first.extend_from_slice(&[1; 100]);
        join(&mut first, second);
        assert_eq!((first.as_ptr().addr(), first.len()), (start, 150));
        assert_eq!(first[100..], [2; 50]);
    }

    #[test]
    fn memory_is_used_again_once_nobody_reads_it() {
        let mut pool = ArenaPool::new(1 << 16);
        let mut arena = pool.take(1 << 16);
        let address = arena.as_ptr().addr();
        let mut piece = cut(&mut arena, 10);
        piece.extend_from_slice(&[1; 10]);
        let held = piece.freeze();
        drop(arena);
        let other = pool.take(1 << 16);
        assert_ne!(other.as_ptr().addr(), address, "a reader still holds the first arena");
        drop(held);
        let again = pool.take(1 << 16);
        assert_eq!(again.as_ptr().addr(), address);
        assert_eq!(pool.handles.len(), 2);
    }
}
