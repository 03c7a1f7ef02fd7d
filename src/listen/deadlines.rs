//! How long a listener waits, and for what, in milliseconds: they are added to a clock on the way of every request. Tests set their own.

use super::clock::Millis;

/// Of the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the connection, a handshake included, to the first byte of its first request.
    pub first: Millis,
    /// From the first byte of a head to its last.
    pub head: Millis,
    /// Between an answer and the next request.
    pub idle: Millis,
    /// A body gets this long, and a second more for every KiB that came.
    pub body: Millis,
    /// But never longer.
    pub body_most: Millis,
    /// And never so long in silence: what came fast must not buy time to hold it.
    pub body_silence: Millis,
    /// A caller that takes nothing for so long is gone, whatever its socket says.
    pub write_stall: Millis,
    /// Behind an early refusal the rest of the request is read for so long and thrown away, so that the caller comes to read it.
    pub linger: Millis,
}

impl Deadlines {
    /// Of the public listener.
    pub const PUBLIC: Self = Self {
        first: 10_000,
        head: 10_000,
        // Longer than the 90 s that cloudflared keeps its own pool.
        idle: 120_000,
        body: 10_000,
        body_most: 600_000,
        body_silence: 20_000,
        write_stall: 30_000,
        linger: 5_000,
    };

    /// Of the operators' listener: whoever asks there asks at once. All alike, so that of those who wait, the oldest has the least left.
    pub const OPS: Self = Self {
        first: 5_000,
        head: 5_000,
        idle: 5_000,
        body: 5_000,
        body_most: 30_000,
        body_silence: 5_000,
        write_stall: 10_000,
        linger: 5_000,
    };
}
