//! How long a listener waits, and for what. Tests set their own.

use std::time::Duration;

/// Of the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the connection, a handshake included, to the first byte of its first request.
    pub first: Duration,
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Between an answer and the next request.
    pub idle: Duration,
    /// A body gets this long, and a second more for every KiB that came.
    pub body: Duration,
    /// But never longer.
    pub body_most: Duration,
    /// And never so long in silence: what came fast must not buy time to hold it.
    pub body_silence: Duration,
    /// A caller that takes nothing for so long is gone, whatever its socket says.
    pub write_stall: Duration,
    /// Behind an early refusal the rest of the request is read for so long and thrown away, so that the caller comes to read it.
    pub linger: Duration,
}

impl Deadlines {
    /// Of the public listener.
    pub const PUBLIC: Self = Self {
        first: Duration::from_secs(10),
        head: Duration::from_secs(10),
        // Longer than the 90 s that cloudflared keeps its own pool.
        idle: Duration::from_mins(2),
        body: Duration::from_secs(10),
        body_most: Duration::from_mins(10),
        body_silence: Duration::from_secs(20),
        write_stall: Duration::from_secs(30),
        linger: Duration::from_secs(5),
    };

    /// Of the operators' listener: whoever asks there asks at once. All alike, so that of those who wait, the oldest has the least left.
    pub const OPS: Self = Self {
        first: Duration::from_secs(5),
        head: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        body: Duration::from_secs(5),
        body_most: Duration::from_secs(30),
        body_silence: Duration::from_secs(5),
        write_stall: Duration::from_secs(10),
        linger: Duration::from_secs(5),
    };
}
