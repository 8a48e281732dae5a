//! How a connection hears that the gateway drains.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::sync::watch;

use crate::server::Stage;

/// The stage, and who is to be woken when it changes.
pub(super) struct StageWatch {
    receiver: watch::Receiver<Stage>,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    stage: Stage,
    /// Whom the last wait for a change wakes.
    waker: Option<Waker>,
}

impl StageWatch {
    pub(super) fn new(mut receiver: watch::Receiver<Stage>) -> Self {
        let stage = *receiver.borrow_and_update();
        Self { changed: change_of(receiver.clone()), receiver, stage, waker: None }
    }

    /// The stage now. Has `cx` woken when it changes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        let same = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        // The wait takes a lock that all connections share, so it is polled only if that can make a difference.
        if !same || self.receiver.has_changed().unwrap_or(true) {
            while self.changed.as_mut().poll(cx).is_ready() {
                self.stage = *self.receiver.borrow_and_update();
                self.changed = change_of(self.receiver.clone());
            }
            self.waker = Some(cx.waker().clone());
        }
        self.stage
    }
}

/// Waits for the next stage. Never ready once there is none.
fn change_of(mut stage: watch::Receiver<Stage>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    // A poll that tokio puts off for the sake of other tasks would leave nobody to be woken.
    Box::pin(tokio::task::unconstrained(async move {
        if stage.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;

    #[test]
    fn every_stage_is_seen_and_the_last_one_stays_when_there_will_be_no_other() {
        let (sender, receiver) = watch::channel(Stage::Serving);
        let mut watch = StageWatch::new(receiver);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert_eq!(watch.poll(&mut cx), Stage::Serving);
        sender.send_replace(Stage::Ending);
        assert_eq!(watch.poll(&mut cx), Stage::Ending);
        assert_eq!(watch.poll(&mut cx), Stage::Ending);
        sender.send_replace(Stage::Closing);
        drop(sender);
        assert_eq!(watch.poll(&mut cx), Stage::Closing);
        assert_eq!(watch.poll(&mut cx), Stage::Closing);
    }
}
