//! Every order of locks in which the wait queues can be met, up to a few preemptions (`LOOM_MAX_PREEMPTIONS`).
//!
//! ```text
//! cargo test --release --features loom --test loom
//! ```
//!
//! A model holds if in every order nobody waits for ever (loom reports that as a deadlock), no more than the width run
//! at once, and nothing is left behind.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};
use loom::thread;

use turnwise::limit::gate::{Gate, Place};
use turnwise::limit::joining::{AHEAD, Entered, Follower, Joining, Keep, Likeness};
use turnwise::limit::keys::KeyBudget;
use turnwise::limit::lanes::{Lanes, Newcomer, Turn};
use turnwise::limit::places::{FairKey, QueueLimits, Scope, Wish};

/// All orders with up to three preemptions, unless the environment says otherwise: more find nothing and take long.
fn model(orders: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(orders);
}

/// A waker that loom sees: a bell with a memory.
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { rung: Mutex::new(false), heard: Condvar::new() })
    }

    fn wait(&self) {
        let mut rung = self.rung.lock().expect("no model panics here");
        while !*rung {
            rung = self.heard.wait(rung).expect("no model panics here");
        }
        *rung = false;
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().expect("no model panics here") = true;
        self.heard.notify_one();
    }
}

/// Polls only when it was woken: a wake-up that is lost is a deadlock, which loom finds.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let bell = Bell::new();
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => bell.wait(),
        }
    }
}

/// One look, as of a request whose client leaves right after it.
fn look<T>(future: impl Future<Output = T>) -> bool {
    let waker = Waker::from(Bell::new());
    pin!(future).poll(&mut Context::from_waker(&waker)).is_ready()
}

/// Who runs at once. loom runs one thread at a time and switches at locks only, so a plain counter is exact.
#[derive(Default)]
struct Running {
    now: AtomicUsize,
    most: AtomicUsize,
    total: AtomicUsize,
}

impl Running {
    /// Runs to its end, with a point in the middle at which others may run.
    fn run(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.total.fetch_add(1, Ordering::SeqCst);
        thread::yield_now();
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn total(&self) -> usize {
        self.total.load(Ordering::SeqCst)
    }
}

type OurLanes = Arc<Lanes<u8, u8>>;

struct LaneHouse {
    lanes: OurLanes,
    keys: Arc<KeyBudget>,
}

impl LaneHouse {
    fn new() -> Self {
        let keys = Arc::new(KeyBudget::new(1));
        Self { lanes: Arc::new(Lanes::new(keys.clone())), keys }
    }

    fn arrive(&self, width: usize) -> Turn<u8, u8> {
        arrive(&self.lanes, width)
    }

    fn at_rest(&self) {
        assert_eq!((self.lanes.active(), self.lanes.waiting(), self.keys.used()), (0, 0, 0), "something was left");
        assert!(self.lanes.members(&1).is_none());
    }
}

fn arrive(lanes: &OurLanes, width: usize) -> Turn<u8, u8> {
    lanes.arrive(1, width, 9, 0).expect("there is room, and it is the only key")
}

fn take_turn(mut turn: Turn<u8, u8>, running: &Running) {
    wait_for(turn.granted()).expect("nobody takes its stead");
    running.run();
}

#[test]
fn one_who_waits_either_gets_its_turn_or_hears_that_it_was_put_out() {
    model(|| {
        let house = LaneHouse::new();
        let running = Arc::new(Running::default());
        let holder = house.arrive(1);
        let mut waits = house.arrive(1);
        let waiting = {
            let running = running.clone();
            thread::spawn(move || {
                let granted = wait_for(waits.granted()).is_ok();
                if granted {
                    running.run();
                }
                granted
            })
        };
        let newcomer = {
            let (lanes, running) = (house.lanes.clone(), running.clone());
            thread::spawn(move || {
                let arrived = lanes.arrive_as(Newcomer::Replaces, 1, 1, 1, 0);
                take_turn(arrived.expect("whoever waits makes room").0, &running);
            })
        };
        drop(holder);
        let granted = waiting.join().expect("no panic");
        newcomer.join().expect("no panic");
        assert_eq!((running.most(), running.total()), (1, 1 + usize::from(granted)));
        house.at_rest();
    });
}

#[test]
fn a_turn_released_while_another_stands_in_line_is_never_lost() {
    model(|| {
        let house = LaneHouse::new();
        let running = Arc::new(Running::default());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (lanes, running) = (house.lanes.clone(), running.clone());
                thread::spawn(move || take_turn(arrive(&lanes, 1), &running))
            })
            .collect();
        take_turn(house.arrive(1), &running);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!((running.most(), running.total()), (1, 3));
        house.at_rest();
    });
}

#[test]
fn a_turn_granted_to_one_who_leaves_passes_on() {
    model(|| {
        let house = LaneHouse::new();
        let running = Arc::new(Running::default());
        let holder = house.arrive(1);
        let mut leaver = house.arrive(1);
        let stayer = house.arrive(1);
        let leaving = thread::spawn(move || {
            look(leaver.granted());
            drop(leaver);
        });
        let staying = {
            let running = running.clone();
            thread::spawn(move || take_turn(stayer, &running))
        };
        drop(holder);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        assert_eq!((running.most(), running.total()), (1, 1));
        house.at_rest();
    });
}

#[test]
fn a_lane_widened_while_some_wait_and_some_leave_lets_in_who_fits() {
    model(|| {
        let house = LaneHouse::new();
        let running = Arc::new(Running::default());
        let holder = house.arrive(1);
        let mut leaver = house.arrive(1);
        let stayer = house.arrive(1);
        let leaving = thread::spawn(move || {
            look(leaver.granted());
            drop(leaver);
        });
        let staying = {
            let running = running.clone();
            thread::spawn(move || take_turn(stayer, &running))
        };
        // The holder stays until the other one has run: only the wider lane lets it in.
        house.lanes.resize(|_| Some(2));
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        drop(holder);
        assert_eq!(running.total(), 1);
        house.at_rest();
    });
}

#[test]
fn a_lane_narrowed_while_turns_pass_never_exceeds_the_width_that_was() {
    model(|| {
        let house = LaneHouse::new();
        let running = Arc::new(Running::default());
        let (first, second) = (house.arrive(2), house.arrive(2));
        let third = house.arrive(2);
        let passing = {
            let running = running.clone();
            thread::spawn(move || take_turn(first, &running))
        };
        let waiting = {
            let running = running.clone();
            thread::spawn(move || take_turn(third, &running))
        };
        house.lanes.resize(|_| Some(1));
        take_turn(second, &running);
        passing.join().expect("no panic");
        waiting.join().expect("no panic");
        assert!(running.most() <= 2, "{} at once", running.most());
        assert_eq!(running.total(), 3);
        house.at_rest();
    });
}

#[derive(Clone)]
struct GateHouse {
    gate: Arc<Gate>,
    scopes: [(Scope, Scope); 2],
}

impl GateHouse {
    /// `limit` places, and a scope of its own for each of two routes, with room for `of_route`.
    fn new(limit: usize, of_route: Option<usize>) -> Self {
        let gate = Gate::new(limit, QueueLimits { all: 9, share: 9 });
        let upstream = gate.add_scope(None);
        let scopes = [(gate.add_scope(of_route), upstream), (gate.add_scope(of_route), upstream)];
        Self { gate: Arc::new(gate), scopes }
    }

    fn arrive(&self, route: usize) -> Place {
        let (route, upstream) = self.scopes[route];
        let wish = Wish { route, upstream, class: 0, key: FairKey::default() };
        self.gate.arrive(wish).expect("there is room in the queue")
    }

    fn resize(&self, limit: usize, of_route: Option<usize>) {
        let scopes = self.scopes.map(|(route, _)| (route, of_route));
        self.gate.resize(limit, QueueLimits { all: 9, share: 9 }, &scopes);
    }

    fn at_rest(&self) {
        assert_eq!((self.gate.in_use(), self.gate.waiting()), (0, 0), "something was left");
        assert!(self.gate.oldest_wait().is_none());
    }
}

fn take_place(mut place: Place, running: &Running) {
    wait_for(place.granted());
    running.run();
}

#[test]
fn a_place_released_while_another_arrives_is_never_lost() {
    model(|| {
        let house = GateHouse::new(1, None);
        let running = Arc::new(Running::default());
        let others: Vec<_> = (0..2)
            .map(|route| {
                let (house, running) = (house.clone(), running.clone());
                thread::spawn(move || take_place(house.arrive(route), &running))
            })
            .collect();
        take_place(house.arrive(0), &running);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!((running.most(), running.total()), (1, 3));
        house.at_rest();
    });
}

#[test]
fn a_place_granted_to_one_who_leaves_passes_on_also_to_another_route() {
    model(|| {
        let house = GateHouse::new(1, None);
        let running = Arc::new(Running::default());
        let holder = house.arrive(0);
        let mut leaver = house.arrive(0);
        let stayer = house.arrive(1);
        let leaving = thread::spawn(move || {
            look(leaver.granted());
            drop(leaver);
        });
        let staying = {
            let running = running.clone();
            thread::spawn(move || take_place(stayer, &running))
        };
        drop(holder);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        assert_eq!((running.most(), running.total()), (1, 1));
        house.at_rest();
    });
}

#[test]
fn a_raised_limit_lets_in_who_waits_whoever_else_leaves() {
    model(|| {
        let house = GateHouse::new(9, Some(1));
        let running = Arc::new(Running::default());
        let holder = house.arrive(0);
        let mut leaver = house.arrive(0);
        let stayer = house.arrive(0);
        let leaving = thread::spawn(move || {
            look(leaver.granted());
            drop(leaver);
        });
        let staying = {
            let running = running.clone();
            thread::spawn(move || take_place(stayer, &running))
        };
        house.resize(9, Some(2));
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        drop(holder);
        assert_eq!(running.total(), 1);
        house.at_rest();
    });
}

#[test]
fn a_lowered_limit_drains_and_loses_nobody() {
    model(|| {
        let house = GateHouse::new(2, None);
        let running = Arc::new(Running::default());
        let (first, second) = (house.arrive(0), house.arrive(1));
        let third = house.arrive(1);
        let passing = {
            let running = running.clone();
            thread::spawn(move || take_place(first, &running))
        };
        let waiting = {
            let running = running.clone();
            thread::spawn(move || take_place(third, &running))
        };
        house.resize(1, None);
        take_place(second, &running);
        passing.join().expect("no panic");
        waiting.join().expect("no panic");
        assert!(running.most() <= 2, "{} at once", running.most());
        assert_eq!(running.total(), 3);
        house.at_rest();
    });
}

#[test]
fn what_is_taken_of_a_route_for_a_moment_is_not_missing_to_who_waits_for_it() {
    model(|| {
        // Whoever finds its route free and the gateway full gives the route back, and the other may wait for that.
        let house = GateHouse::new(1, Some(1));
        let running = Arc::new(Running::default());
        let holder = house.arrive(1);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let (house, running) = (house.clone(), running.clone());
                thread::spawn(move || take_place(house.arrive(0), &running))
            })
            .collect();
        drop(holder);
        others.into_iter().for_each(|other| other.join().expect("no panic"));
        assert_eq!((running.most(), running.total()), (1, 2));
        house.at_rest();
    });
}

#[test]
fn nobody_who_comes_later_overtakes_who_waits() {
    model(|| {
        let house = GateHouse::new(1, None);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let come = |order: &std::sync::Mutex<Vec<u8>>, who| order.lock().expect("no panic").push(who);
        let holder = house.arrive(0);
        let mut first = house.arrive(0);
        let late = {
            let (house, order) = (house.clone(), order.clone());
            thread::spawn(move || {
                let mut place = house.arrive(1);
                wait_for(place.granted());
                come(&order, 2);
            })
        };
        let leaving = thread::spawn(move || drop(holder));
        wait_for(first.granted());
        come(&order, 1);
        drop(first);
        leaving.join().expect("no panic");
        late.join().expect("no panic");
        assert_eq!(*order.lock().expect("no panic"), [1, 2]);
        house.at_rest();
    });
}

#[test]
fn a_limit_raised_while_some_come_and_go_lets_in_who_waits() {
    model(|| {
        let house = GateHouse::new(1, None);
        let running = Arc::new(Running::default());
        let holder = house.arrive(0);
        let coming = {
            let (house, running) = (house.clone(), running.clone());
            thread::spawn(move || take_place(house.arrive(1), &running))
        };
        // The holder stays until the other one has run: only the higher limit lets it in.
        house.resize(2, None);
        coming.join().expect("no panic");
        drop(holder);
        assert_eq!(running.total(), 1);
        house.at_rest();
    });
}

#[test]
fn a_limit_lowered_while_others_come_is_never_exceeded_after_it() {
    model(|| {
        let house = GateHouse::new(2, None);
        let running = Arc::new(Running::default());
        let passing = house.arrive(0);
        let coming: Vec<_> = (0..2)
            .map(|route| {
                let (house, running) = (house.clone(), running.clone());
                thread::spawn(move || {
                    // Each of the two has lowered it before it comes, so they never run together.
                    house.resize(1, None);
                    take_place(house.arrive(route), &running);
                })
            })
            .collect();
        drop(passing);
        coming.into_iter().for_each(|one| one.join().expect("no panic"));
        assert_eq!((running.most(), running.total()), (1, 2));
        house.at_rest();
    });
}

#[test]
fn whoever_writes_an_answer_and_whoever_reads_it_never_wait_for_one_another() {
    model(|| {
        let joining: Arc<Joining<(), (), u8>> = Arc::default();
        let likeness = Likeness { key: [1; 32], body: [1; 32] };
        let now = std::time::Instant::now();
        let Entered::Leads(mut lead, first) = joining.enter(likeness, Keep::default(), now) else {
            panic!("it is new")
        };
        let Entered::Follows { follower: second, .. } = joining.enter(likeness, Keep::default(), now) else {
            panic!("it is equal")
        };
        // One reads to the end, the other one leaves after a piece.
        let reads = thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(piece) = wait_for(poll_fn(|cx| first.poll_piece(cx))) {
                all.push(piece.expect("it keeps up"));
            }
            all
        });
        let leaves = thread::spawn(move || {
            let _ = wait_for(poll_fn(|cx| second.poll_piece(cx)));
        });
        for piece in [1, 2] {
            wait_for(poll_fn(|cx| lead.poll_room(cx)));
            lead.push(piece, AHEAD as usize, false);
        }
        lead.finish(now);
        assert_eq!(reads.join().expect("no panic"), [1, 2]);
        leaves.join().expect("no panic");
        drop(lead);
        assert_eq!(joining.size(), (0, 0));
    });
}

#[test]
fn whoever_works_for_nobody_hears_of_it() {
    model(|| {
        let joining: Arc<Joining<(), (), u8>> = Arc::default();
        let likeness = Likeness { key: [1; 32], body: [1; 32] };
        let now = std::time::Instant::now();
        let Entered::Leads(lead, first) = joining.enter(likeness, Keep::default(), now) else { panic!("it is new") };
        let leaves = thread::spawn(move || drop(first));
        let comes = {
            let joining = joining.clone();
            thread::spawn(move || match joining.enter(likeness, Keep::default(), now) {
                Entered::Follows { follower, .. } => {
                    // It is served or has been told so: nobody stops the work under it.
                    assert!(!wait_for_end(&follower));
                }
                // It came when the work was being stopped: it has an answer of its own.
                Entered::Apart => {}
                Entered::Leads(lead, own) => {
                    assert!(!wait_for_end(&own));
                    drop((lead, own));
                }
                other @ Entered::Differs => panic!("{other:?}"),
            })
        };
        wait_for(poll_fn(|cx| {
            if lead.is_deserted(cx) && lead.stop_if_deserted() { Poll::Ready(()) } else { Poll::Pending }
        }));
        leaves.join().expect("no panic");
        comes.join().expect("no panic");
        drop(lead);
        assert_eq!(joining.size(), (0, 0));
    });
}

/// Whether an answer has broken off already.
fn wait_for_end(follower: &Follower<(), (), u8>) -> bool {
    look_at(poll_fn(|cx| follower.poll_head(cx))) == Some(None)
}

/// What one look sees.
fn look_at<T>(future: impl Future<Output = T>) -> Option<T> {
    let waker = Waker::from(Bell::new());
    match pin!(future).poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
