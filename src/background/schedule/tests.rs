//! The order of jobs: examples, and arrivals, failures and outages at random against rules that must always hold.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn start() -> Instant {
    crate::time::now()
}

fn placing(lane: Option<&str>, upstream: &str) -> Placing {
    Placing { lane: lane.map(Arc::from), width: 1, upstream: upstream.into(), route: "r".into(), tries: 0 }
}

fn of_route(route: &str, lane: Option<&str>) -> Placing {
    Placing { route: route.into(), ..placing(lane, "u") }
}

fn wide(lane: &str, width: usize) -> Placing {
    Placing { width, ..placing(Some(lane), "u") }
}

/// Jobs that are on disk, numbered from 1.
fn with(jobs: impl IntoIterator<Item = Placing>) -> Schedule {
    let mut schedule = Schedule::default();
    for (seq, placing) in (1..).zip(jobs) {
        schedule.enter(seq, placing);
        schedule.ready(seq);
    }
    schedule
}

fn all(schedule: &mut Schedule, now: Instant) -> Vec<Seq> {
    std::iter::from_fn(|| schedule.next(now)).collect()
}

#[test]
fn jobs_begin_in_order_and_those_of_one_lane_one_after_another() {
    let now = start();
    let mut schedule =
        with([placing(Some("a"), "u"), placing(None, "u"), placing(Some("a"), "u"), placing(Some("b"), "u")]);
    assert_eq!(all(&mut schedule, now), [1, 2, 4]);
    schedule.leave(2);
    assert_eq!(schedule.next(now), None);
    schedule.leave(1);
    assert_eq!(all(&mut schedule, now), [3]);
    assert_eq!(schedule.running(), 2);
}

#[test]
fn a_wide_lane_has_as_many_at_once() {
    let now = start();
    let mut schedule = with([wide("a", 2), wide("a", 2), wide("a", 2)]);
    assert_eq!(all(&mut schedule, now), [1, 2]);
    schedule.delay(1, now + SECOND);
    assert_eq!(schedule.next(now), None, "one that is to be tried again keeps its place");
    schedule.leave(2);
    assert_eq!(all(&mut schedule, now), [3]);
    assert_eq!(all(&mut schedule, now + SECOND), [1]);
}

#[test]
fn one_that_is_not_on_disk_yet_is_not_overtaken_in_its_lane() {
    let now = start();
    let mut schedule = Schedule::default();
    schedule.enter(1, placing(Some("a"), "u"));
    schedule.enter(2, placing(Some("a"), "u"));
    schedule.ready(2);
    assert_eq!(schedule.next(now), None);
    schedule.leave(1);
    assert_eq!(schedule.next(now), Some(2), "it could not be written, so it never was");
}

#[test]
fn one_that_is_run_again_has_its_old_place() {
    let now = start();
    let mut schedule = Schedule::default();
    schedule.enter(2, placing(Some("a"), "u"));
    schedule.ready(2);
    schedule.enter(1, placing(Some("a"), "u"));
    schedule.ready(1);
    assert_eq!(all(&mut schedule, now), [1]);
    schedule.leave(1);
    assert_eq!(all(&mut schedule, now), [2]);
}

#[test]
fn a_failing_job_holds_back_its_lane_and_nobody_else() {
    let now = start();
    let mut schedule = with([placing(Some("a"), "u"), placing(Some("a"), "u"), placing(Some("b"), "u")]);
    assert_eq!(schedule.next(now), Some(1));
    schedule.fared(1, Health::Failed, SECOND, now, Some(now + SECOND));
    schedule.delay(1, now + SECOND);
    assert_eq!(all(&mut schedule, now), [3]);
    assert_eq!(schedule.next_due(), Some(now + SECOND));
    assert_eq!(all(&mut schedule, now + SECOND), [1]);
}

#[test]
fn an_upstream_that_is_down_costs_one_try_for_each_look() {
    let mut now = start();
    let mut schedule = with((0..50).map(|_| placing(None, "down")).chain([placing(None, "up")]));
    assert_eq!(schedule.next(now), Some(1));
    assert_eq!(schedule.next(now), Some(2));
    for seq in [1, 2] {
        schedule.fared(seq, Health::Down, SECOND, now, Some(now + SECOND));
        schedule.delay(seq, now + SECOND);
    }
    assert_eq!(all(&mut schedule, now), [51], "the other upstream goes on");
    schedule.leave(51);
    let mut looks = Vec::new();
    for _ in 0..8 {
        let look = loop {
            let due = schedule.next_due().expect("a look is due");
            assert!(due > now, "nothing is begun before");
            now = due;
            if let Some(look) = schedule.next(now) {
                break look;
            }
        };
        assert_eq!(schedule.next(now), None, "one only");
        schedule.fared(look, Health::Down, SECOND, now, Some(now + SECOND));
        schedule.delay(look, now + SECOND);
        looks.push(look);
    }
    assert_eq!(looks, [3, 4, 5, 6, 7, 8, 9, 10], "those that have not failed yet, in their order");
    now += Duration::from_secs(60);
    assert_eq!(schedule.next(now), Some(11));
    schedule.fared(11, Health::Well, SECOND, now, None);
    schedule.leave(11);
    assert_eq!(all(&mut schedule, now).len(), 49, "it is up again");
}

/// Runs all with so many workers for so long. `fails` says who does; whoever fails is to be tried again after a second.
fn run(
    schedule: &mut Schedule,
    workers: usize,
    mut now: Instant,
    bound: Duration,
    fails: impl Fn(Seq) -> bool,
) -> Vec<Seq> {
    let (end, mut done) = (now + bound, Vec::new());
    while now < end {
        let begun: Vec<Seq> = std::iter::from_fn(|| schedule.next(now)).take(workers).collect();
        for seq in &begun {
            if fails(*seq) {
                schedule.fared(*seq, Health::Failed, SECOND, now, Some(now + SECOND));
                schedule.delay(*seq, now + SECOND);
            } else {
                schedule.fared(*seq, Health::Well, SECOND, now, None);
                schedule.leave(*seq);
                done.push(*seq);
            }
        }
        if begun.is_empty() {
            let Some(due) = schedule.next_due() else { break };
            now = due.max(now + Duration::from_millis(1));
        }
    }
    done
}

#[test]
fn a_few_jobs_that_always_fail_do_not_keep_the_others_from_being_run() {
    let mut schedule = with((0..20).map(|_| placing(None, "u")));
    let done = run(&mut schedule, 5, start(), Duration::from_secs(30), |seq| seq <= 10);
    assert_eq!(done, (11..=20).collect::<Vec<_>>());
}

#[test]
fn jobs_that_fail_again_and_again_do_not_pause_the_others() {
    let mut schedule = with((0..210).map(|_| placing(None, "u")));
    // Six looks, a second apart; from then on those that have failed cannot take five in a row.
    let done = run(&mut schedule, 5, start(), Duration::from_secs(15), |seq| seq <= 10);
    assert_eq!(done, (11..=210).collect::<Vec<_>>());
}

#[test]
fn looks_that_are_answered_grow_apart_only_after_some_and_go_round() {
    let mut now = start();
    let mut schedule = with((0..40).map(|_| placing(None, "u")));
    for _ in 0..5 {
        let seq = schedule.next(now).expect("it is not down yet");
        schedule.fared(seq, Health::Failed, SECOND, now, None);
        schedule.delay(seq, now + 3600 * SECOND);
    }
    let mut looks = Vec::new();
    while looks.len() < 12 {
        let due = schedule.next_due().expect("a look is due").max(now);
        let Some(seq) = schedule.next(due) else { panic!("nobody looks") };
        looks.push((seq, (due - now).as_secs()));
        now = due;
        schedule.fared(seq, Health::Failed, SECOND, now, None);
        schedule.delay(seq, now + 3600 * SECOND);
    }
    let pauses: Vec<u64> = looks.iter().map(|look| look.1).collect();
    assert_eq!(pauses, [1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 60]);
    assert_eq!(looks.iter().map(|look| look.0).collect::<Vec<_>>(), (6..=17).collect::<Vec<_>>());
}

#[test]
fn when_all_have_failed_looks_begin_again_with_the_first() {
    let mut now = start();
    let mut schedule = with((0..3).map(|_| placing(None, "u")));
    let mut looks = Vec::new();
    for _ in 0..7 {
        let seq = schedule.next(now).expect("a look is due");
        looks.push(seq);
        schedule.fared(seq, Health::Down, SECOND, now, None);
        schedule.delay(seq, now);
        now += Duration::from_secs(60);
    }
    assert_eq!(looks, [1, 2, 3, 1, 2, 3, 1]);
}

#[test]
fn a_route_that_is_shut_keeps_its_order_and_holds_back_no_other() {
    let now = start();
    let due = now + SECOND;
    let mut schedule = with(["r", "r", "other", "r", "r"].map(|route| of_route(route, None)));
    assert_eq!([schedule.next(now), schedule.next(now)], [Some(1), Some(2)]);
    schedule.leave(1);
    schedule.put_off(2, due);
    assert_eq!(all(&mut schedule, now), [3], "those that came later wait, those of another route do not");
    assert_eq!(schedule.next_due(), Some(due));
    schedule.enter(6, of_route("r", None));
    schedule.ready(6);
    assert_eq!(schedule.next(now), None);
    assert_eq!(schedule.next(due), Some(2), "the one that was put off goes first");
    assert_eq!(schedule.next(due), None, "and by itself");
    assert_eq!(schedule.next_due(), Some(due + HEAD_START));
    assert_eq!(all(&mut schedule, due + HEAD_START), [4, 5, 6]);
}

#[test]
fn one_that_was_put_off_and_is_gone_holds_back_nobody() {
    let now = start();
    let mut schedule = with((0..3).map(|_| of_route("r", None)));
    assert_eq!(schedule.next(now), Some(1));
    schedule.put_off(1, now + SECOND);
    // A cancellation that is being written down already takes it out of the way.
    schedule.hold(1);
    assert_eq!(all(&mut schedule, now), [2, 3]);
    schedule.leave(1);
    assert!(schedule.gates.values().all(|gate| gate.put_off.is_empty()));
}

#[test]
fn a_job_that_waits_for_its_session_holds_back_no_other_session() {
    let now = start();
    let mut schedule = with(["a", "a", "b"].map(|lane| of_route("r", Some(lane))));
    assert_eq!(schedule.next(now), Some(1));
    schedule.delay(1, now + SECOND);
    assert_eq!(all(&mut schedule, now), [3]);
    assert_eq!(all(&mut schedule, now + SECOND), [1]);
}

#[test]
fn whatever_is_put_off_goes_in_the_order_of_acceptance() {
    // A limit that lets in one each second, and four workers that come to it in any order.
    let mut now = start();
    let mut schedule = with((0..40).map(|_| of_route("r", None)));
    let (mut order, mut token, mut tries) = (Vec::new(), now, 0);
    while order.len() < 40 {
        let begun: Vec<Seq> = std::iter::from_fn(|| schedule.next(now)).take(4).collect();
        for seq in begun.iter().rev() {
            tries += 1;
            if token <= now {
                token = now + SECOND;
                order.push(*seq);
                schedule.leave(*seq);
            } else {
                schedule.put_off(*seq, token);
            }
        }
        if begun.is_empty() {
            now = schedule.next_due().expect("something is due").max(now + Duration::from_millis(1));
        }
    }
    assert_eq!(order[1..], (1..=40).filter(|seq| *seq != order[0]).collect::<Vec<_>>());
    assert!(tries <= 3 * 40, "{tries} tries for 40 jobs");
}

#[test]
fn pauses_grow_to_a_minute() {
    let mut now = start();
    let mut schedule = with([placing(None, "u")]);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        assert_eq!(schedule.next(now), Some(1));
        schedule.fared(1, Health::Down, SECOND, now, None);
        schedule.delay(1, now);
        assert_eq!(schedule.next(now), None);
        let due = schedule.next_due().expect("a look is due");
        pauses.push((due - now).as_secs());
        now = due;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
}

#[test]
fn a_look_that_was_none_is_another_ones() {
    let now = start();
    let mut schedule = with([placing(None, "u"), placing(None, "u")]);
    assert_eq!(schedule.next(now), Some(1));
    schedule.fared(1, Health::Down, SECOND, now, None);
    schedule.leave(1);
    let later = now + SECOND;
    assert_eq!(schedule.next(later), Some(2));
    schedule.not_looked(2);
    schedule.ready(2);
    assert_eq!(schedule.next(later), Some(2));
    // One that goes away while it looks has not looked either.
    schedule.leave(2);
    schedule.enter(3, placing(None, "u"));
    schedule.ready(3);
    assert_eq!(schedule.next(later), Some(3));
}

/// What happens at random.
#[derive(Debug, Clone)]
enum Event {
    Enter {
        lane: Option<u8>,
        width: usize,
        upstream: u8,
    },
    OnDisk(usize),
    Begin,
    /// One that runs comes to an end.
    Ends(usize, u8),
    /// One that runs was not let in, and its route waits with it.
    PutOff(usize),
    /// One that waits is cancelled.
    Cancel(usize),
    Later(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (proptest::option::of(0..3_u8), 0..2_u8)
            .prop_map(|(lane, upstream)| Event::Enter { lane, width: lane.map_or(1, |lane| usize::from(lane) + 1), upstream }),
        3 => any::<usize>().prop_map(Event::OnDisk),
        4 => Just(Event::Begin),
        3 => (any::<usize>(), 0..5_u8).prop_map(|(which, how)| Event::Ends(which, how)),
        1 => any::<usize>().prop_map(Event::PutOff),
        1 => any::<usize>().prop_map(Event::Cancel),
        2 => (0..5000_u64).prop_map(Event::Later),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_lanes_keep_their_order_and_nobody_is_forgotten(
        events in proptest::collection::vec(event(), 0..200),
    ) {
        let mut now = start();
        let mut schedule = Schedule::default();
        // In the order of acceptance: seq, lane, width, whether on disk, whether it runs.
        let mut model: Vec<(Seq, Option<u8>, usize, bool, bool)> = Vec::new();
        let mut next = 1;
        for event in events {
            match event {
                Event::Enter { lane, width, upstream } => {
                    let name = lane.map(|lane| lane.to_string());
                    let placing = Placing {
                        lane: name.as_deref().map(Arc::from),
                        width,
                        upstream: upstream.to_string().into(),
                        route: (next % 2).to_string().into(),
                        tries: 0,
                    };
                    schedule.enter(next, placing);
                    model.push((next, lane, width, false, false));
                    next += 1;
                }
                Event::OnDisk(which) => {
                    let fresh: Vec<_> = model.iter_mut().filter(|job| !job.3).collect();
                    let count = fresh.len();
                    if let Some(job) = fresh.into_iter().nth(which % count.max(1)) {
                        job.3 = true;
                        schedule.ready(job.0);
                    }
                }
                Event::Begin => {
                    if let Some(seq) = schedule.next(now) {
                        let place = model.iter().position(|job| job.0 == seq).expect("it is here");
                        prop_assert!(model[place].3 && !model[place].4, "on disk, and not running already");
                        let (lane, width) = (model[place].1, model[place].2);
                        if lane.is_some() {
                            let before = model[..place].iter().filter(|job| job.1 == lane).count();
                            prop_assert!(before < width, "{before} of its lane were accepted before it");
                        }
                        model[place].4 = true;
                    }
                }
                Event::Ends(which, how) => {
                    let running: Vec<usize> = (0..model.len()).filter(|place| model[*place].4).collect();
                    let Some(place) = running.get(which % running.len().max(1)) else { continue };
                    let seq = model[*place].0;
                    let due = now + SECOND;
                    match how {
                        0 | 1 => {
                            schedule.fared(seq, Health::Well, SECOND, now, None);
                            schedule.leave(seq);
                            model.remove(*place);
                            continue;
                        }
                        2 => schedule.fared(seq, Health::Failed, SECOND, now, Some(due)),
                        3 => schedule.fared(seq, Health::Down, SECOND, now, Some(due)),
                        _ => schedule.not_looked(seq),
                    }
                    schedule.delay(seq, due);
                    model[*place].4 = false;
                }
                Event::PutOff(which) => {
                    let running: Vec<usize> = (0..model.len()).filter(|place| model[*place].4).collect();
                    let Some(place) = running.get(which % running.len().max(1)) else { continue };
                    schedule.not_looked(model[*place].0);
                    schedule.put_off(model[*place].0, now + SECOND);
                    model[*place].4 = false;
                }
                Event::Cancel(which) => {
                    let waiting: Vec<usize> = (0..model.len()).filter(|place| !model[*place].4).collect();
                    if let Some(place) = waiting.get(which % waiting.len().max(1)) {
                        schedule.leave(model[*place].0);
                        model.remove(*place);
                    }
                }
                Event::Later(millis) => now += Duration::from_millis(millis),
            }
            prop_assert_eq!(schedule.running(), model.iter().filter(|job| job.4).count());
        }
        // All upstreams are well from now on: everybody gets to run, in the end.
        for job in model.iter().filter(|job| !job.3) {
            schedule.ready(job.0);
        }
        for job in model.iter().filter(|job| job.4) {
            schedule.fared(job.0, Health::Well, SECOND, now, None);
            schedule.leave(job.0);
        }
        let mut left: BTreeSet<Seq> = model.iter().filter(|job| !job.4).map(|job| job.0).collect();
        for _ in 0..20 * left.len() {
            let due = schedule.next_due();
            while let Some(seq) = schedule.next(now) {
                schedule.fared(seq, Health::Well, SECOND, now, None);
                schedule.leave(seq);
                left.remove(&seq);
            }
            now = due.map_or(now, |due| due.max(now)) + Duration::from_millis(1);
        }
        prop_assert!(left.is_empty(), "forgotten: {left:?}");
        prop_assert!(schedule.entries.is_empty() && schedule.lanes.is_empty() && schedule.ready.is_empty());
        prop_assert!(schedule.delayed.is_empty() && schedule.breakers.len() <= 2);
        prop_assert!(schedule.running_again.is_empty());
        prop_assert!(schedule.gates.values().all(|gate| gate.put_off.is_empty()));
    }
}
