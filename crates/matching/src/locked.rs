//! Memory for templates: locked against being written to swap, left out of core dumps, zeroised when it goes.
//!
//! The only unsafe code of this crate besides the choice of instruction set in `popcount`. Pages come from the system
//! directly, so that nothing else shares them and no allocator keeps a copy.

#![expect(
    unsafe_code,
    reason = "mapping, locking and unmapping pages has no safe interface; every block says why it is sound"
)]

use std::ops::{Deref, DerefMut};

use zeroize::{DefaultIsZeroes, Zeroize};

/// Are the templates in memory protected from reaching a disk?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "templates in unlocked memory can be swapped out or dumped; report it or refuse to run"]
pub enum Protection {
    /// All of it is locked and left out of core dumps.
    Locked,
    /// The system refused to lock so many bytes (`RLIMIT_MEMLOCK`, `LimitMEMLOCK=` in a systemd unit), or this platform
    /// cannot; the templates are there, and a swap file or core dump may carry them.
    NotLocked {
        /// Bytes that are not protected.
        bytes: usize,
    },
}

/// Numbers of which every bit pattern, all zeros too, is a value. For the types below only.
pub(crate) trait Plain: DefaultIsZeroes + Send + Sync + 'static {}
impl Plain for f32 {}
impl Plain for f64 {}
impl Plain for i8 {}
impl Plain for u64 {}

/// A fixed number of zeroed numbers on pages of their own.
pub(crate) struct LockedSlice<T: Plain> {
    pages: Pages,
    length: usize,
    _numbers: std::marker::PhantomData<T>,
}

impl<T: Plain> LockedSlice<T> {
    /// So many zeros. Ends the process when there is no memory, as any allocation does.
    pub(crate) fn zeroed(length: usize) -> Self {
        let layout = std::alloc::Layout::array::<T>(length.max(1))
            .expect("a block of references is far smaller than the address space");
        Self {
            pages: Pages::map(layout),
            length,
            _numbers: std::marker::PhantomData,
        }
    }

    /// Bytes that are not protected; zero when all are.
    pub(crate) fn unprotected_bytes(&self) -> usize {
        if self.pages.locked {
            0
        } else {
            self.pages.bytes
        }
    }
}

impl<T: Plain> Deref for LockedSlice<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping is page-aligned, at least `length` numbers long, was zeroed by the system, lives as long
        // as `self`, and every bit pattern is a value of `T` (see `Plain`).
        unsafe { std::slice::from_raw_parts(self.pages.start.cast::<T>().as_ptr(), self.length) }
    }
}

impl<T: Plain> DerefMut for LockedSlice<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `&mut self` is the only way to the pages.
        unsafe {
            std::slice::from_raw_parts_mut(self.pages.start.cast::<T>().as_ptr(), self.length)
        }
    }
}

impl<T: Plain> Drop for LockedSlice<T> {
    fn drop(&mut self) {
        self.deref_mut().zeroize();
    }
}

/// A private mapping; unlocked and unmapped when dropped.
struct Pages {
    start: std::ptr::NonNull<u8>,
    bytes: usize,
    locked: bool,
}

// SAFETY: the mapping belongs to this value alone and is reached through its owner's borrows only.
unsafe impl Send for Pages {}
// SAFETY: likewise; shared borrows only read.
unsafe impl Sync for Pages {}

#[cfg(target_os = "linux")]
impl Pages {
    fn map(layout: std::alloc::Layout) -> Self {
        let bytes = layout.size();
        // SAFETY: a fresh anonymous mapping touches no existing memory; the result is checked.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            std::alloc::handle_alloc_error(layout);
        }
        let Some(pointer) = std::ptr::NonNull::new(start.cast::<u8>()) else {
            std::alloc::handle_alloc_error(layout);
        };
        // SAFETY: both calls concern exactly the mapping made above and change no content.
        // What cannot be locked is left out of dumps all the same.
        let locked = unsafe {
            let undumped = libc::madvise(start, bytes, libc::MADV_DONTDUMP) == 0;
            libc::mlock(start, bytes) == 0 && undumped
        };
        Self {
            start: pointer,
            bytes,
            locked,
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly the mapping of `map`, once; unmapping unlocks.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Pages {
    fn map(layout: std::alloc::Layout) -> Self {
        let layout = layout.align_to(64).expect("64 is a power of two");
        // SAFETY: the layout is not empty (`LockedSlice::zeroed` asks for at least one number).
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(start) = std::ptr::NonNull::new(start) else {
            std::alloc::handle_alloc_error(layout);
        };
        Self {
            start,
            bytes: layout.size(),
            locked: false,
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Drop for Pages {
    fn drop(&mut self) {
        let layout = std::alloc::Layout::from_size_align(self.bytes, 64)
            .expect("the layout of `map` was valid");
        // SAFETY: allocated by `map` with this layout, freed once.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_memory_is_zero_and_holds_what_is_written() {
        let mut slice = LockedSlice::<u64>::zeroed(5_000);
        assert_eq!(slice.len(), 5_000);
        assert!(slice.iter().all(|word| *word == 0));
        slice[4_999] = 7;
        assert_eq!(slice.last(), Some(&7));
        assert_eq!(LockedSlice::<f32>::zeroed(0).len(), 0);
    }
}
