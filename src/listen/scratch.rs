//! One read buffer per thread: whoever reads a socket copies out what is meant to stay, so a silent connection holds none.

use std::cell::RefCell;

use tokio::io::ReadBuf;

const SIZE: usize = 64 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SIZE]);
}

/// Lends the buffer, empty. Must not be called within itself.
pub fn with<T>(work: impl FnOnce(ReadBuf<'_>) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| work(ReadBuf::new(buffer)))
}
