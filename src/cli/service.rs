//! What a service manager hears (`sd_notify(3)`): ready, alive, stopping. Silent where nobody asked.

use std::time::Duration;

use sd_notify::{NotifyState, notify, watchdog_enabled};

fn tell(state: NotifyState<'_>) {
    if let Err(error) = notify(&[state]) {
        tracing::warn!(error = %error.kind(), "the service manager does not listen");
    }
}

/// `stop`, of which the manager is told before anything else hears of it.
pub(super) async fn stopping(stop: impl Future<Output = ()>) {
    stop.await;
    tell(NotifyState::Stopping);
}

/// `serving`, with the manager told that it began, and that it lives for as long as it does.
pub(super) async fn told(serving: impl Future<Output = ()>) {
    tell(NotifyState::Ready);
    tokio::select! {
        () = serving => {}
        () = alive() => {}
    }
}

/// Twice in each interval that the manager asks for, from the runtime that serves: one that hangs is silent.
async fn alive() {
    let Some(interval) = watchdog_enabled().filter(|interval| !interval.is_zero()) else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(100)));
    loop {
        tick.tick().await;
        tell(NotifyState::Watchdog);
    }
}
