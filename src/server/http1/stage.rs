//! How a connection hears that the gateway drains.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;

use crate::server::Stage;

/// The stage, and who is to be woken when it changes.
pub(super) struct StageWatch {
    receiver: watch::Receiver<Stage>,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    stage: Stage,
    bell: Arc<Bell>,
    /// Whom it wakes.
    waker: Option<Waker>,
}

/// Woken by the wait for the next stage. It remembers that it was: the wait has to be polled again then even if there is
/// no new stage, since it is not registered any more.
struct Bell {
    rung: AtomicBool,
    connection: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.connection.wake();
    }
}

impl StageWatch {
    pub(super) fn new(mut receiver: watch::Receiver<Stage>) -> Self {
        let stage = *receiver.borrow_and_update();
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), connection: AtomicWaker::new() });
        Self { changed: change_of(receiver.clone()), receiver, stage, bell, waker: None }
    }

    /// The stage now. Has `cx` woken when it changes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Stage {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.bell.connection.register(cx.waker());
            self.waker = Some(cx.waker().clone());
        }
        // The wait takes a lock that all connections share, so it is polled only when it asks for it.
        while self.bell.rung.swap(false, Ordering::AcqRel) {
            // A ring has used the registration up.
            self.bell.connection.register(cx.waker());
            let waker = Waker::from(self.bell.clone());
            while self.changed.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                self.stage = *self.receiver.borrow_and_update();
                self.changed = change_of(self.receiver.clone());
            }
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
    use std::sync::atomic::AtomicUsize;

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

    #[test]
    fn whoever_is_woken_for_nothing_still_hears_of_the_next_stage() {
        // The sender goes through several lists of those who wait, one after the other: one that waits anew in between is
        // woken once more, for a stage that it has seen.
        let (sender, receiver) = watch::channel(Stage::Serving);
        let mut watch = StageWatch::new(receiver);
        let rings = Arc::new(Rings(AtomicUsize::new(0)));
        let waker = Waker::from(rings.clone());
        let mut cx = Context::from_waker(&waker);
        for stage in [Stage::Ending, Stage::Closing] {
            assert_ne!(watch.poll(&mut cx), stage);
            let before = rings.0.load(Ordering::Relaxed);
            watch.bell.clone().wake();
            let _ = watch.poll(&mut cx);
            sender.send_replace(stage);
            assert_eq!(rings.0.load(Ordering::Relaxed), before + 2, "{stage:?} wakes the connection");
            assert_eq!(watch.poll(&mut cx), stage);
        }
    }

    struct Rings(AtomicUsize);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
