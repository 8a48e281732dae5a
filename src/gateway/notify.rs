//! Tells systemd how the gateway is (sd_notify, `Type=notify`). Without a service manager that listens, nothing is told.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::control::Control;
use crate::time;

/// All listeners are open and all workers run.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The policy is being read again; [`ready`] follows.
pub(super) fn reloading() {
    let now = NotifyState::monotonic_usec_now();
    tell(&[NotifyState::Reloading, now.unwrap_or(NotifyState::Status("reloading"))]);
}

pub(super) fn draining() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager could not be told");
    }
}

/// Lets the service manager know, as often as it wants, that the gateway lives: that every worker has come round lately. One
/// that hangs takes the gateway down with it, and then it is started anew.
pub(super) async fn live(control: Arc<Control>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval((patience / 3).max(Duration::from_millis(10)));
    loop {
        ticks.tick().await;
        let oldest = control.pulses.iter().map(|pulse| pulse.since(time::now())).max();
        if oldest.is_none_or(|oldest| oldest < patience / 2 + super::workers::SWEEP) {
            tell(&[NotifyState::Watchdog]);
        }
    }
}
