use super::*;
use proptest::prelude::*;

const WIDE: QueueLimits = QueueLimits { all: 1000, share: 1000 };

fn wish(route: Scope, upstream: Scope, class: usize, key: u64) -> Wish {
    Wish { route, upstream, class, key: FairKey(key) }
}

/// One request of a test: in line, or with a place of its own.
#[derive(Debug, Clone, Copy)]
struct Asked {
    wish: Wish,
    waits: Option<PlaceId>,
}

fn ask(places: &mut Places<u32>, wish: Wish, now: Instant, name: u32) -> Result<Asked, QueueFull> {
    places.arrive(wish, now, name).map(|waits| Asked { wish, waits })
}

fn leave(places: &mut Places<u32>, asked: Asked) {
    match asked.waits {
        Some(id) => assert!(places.leave(id).is_some()),
        None => assert!(!places.counts().give_back(asked.wish), "only the gate marks the count"),
    }
}

/// Drains whatever fits now and names it.
fn granted(places: &mut Places<u32>, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| places.advance(now).map(|value| *value)).collect()
}

#[test]
fn a_place_is_taken_in_all_scopes_or_in_none() {
    let now = Instant::now();
    let mut places = Places::new(10, WIDE);
    let (route, upstream) = (places.add_scope(None), places.add_scope(Some(1)));
    let first = ask(&mut places, wish(route, upstream, 1, 0), now, 1).expect("room");
    let second = ask(&mut places, wish(route, upstream, 1, 0), now, 2).expect("room");
    assert!(first.waits.is_none() && second.waits.is_some());
    assert_eq!(places.in_use(), 1, "the one who waits holds nothing");
    leave(&mut places, first);
    assert_eq!(granted(&mut places, now), [2]);
}

#[test]
fn who_waits_for_a_full_route_lets_others_pass() {
    let now = Instant::now();
    let mut places = Places::new(2, WIDE);
    let (narrow, wide, upstream) = (places.add_scope(Some(1)), places.add_scope(None), places.add_scope(None));
    places.arrive(wish(narrow, upstream, 1, 0), now, 1).expect("room");
    assert!(places.arrive(wish(narrow, upstream, 1, 0), now, 2).expect("room").is_some());
    assert!(places.arrive(wish(wide, upstream, 1, 0), now, 3).expect("room").is_none());
}

#[test]
fn places_go_round_the_keys() {
    let now = Instant::now();
    let mut places = Places::new(1, WIDE);
    let (route, upstream) = (places.add_scope(None), places.add_scope(None));
    let mut holder = ask(&mut places, wish(route, upstream, 1, 9), now, 0).expect("room");
    let mut ids = HashMap::new();
    for (name, key) in [(11, 1), (12, 1), (13, 1), (21, 2), (31, 3)] {
        ids.insert(name, ask(&mut places, wish(route, upstream, 1, key), now, name).expect("room"));
    }
    let mut order: Vec<u32> = vec![];
    for _ in 0..5 {
        leave(&mut places, holder);
        let next = granted(&mut places, now);
        order.extend(&next);
        holder = ids[&next[0]];
    }
    assert_eq!(order, [11, 21, 31, 12, 13]);
}

#[test]
fn a_high_priority_goes_first_and_a_low_one_rises() {
    let start = Instant::now();
    let mut places = Places::new(1, WIDE);
    let (route, upstream) = (places.add_scope(None), places.add_scope(None));
    let holder = ask(&mut places, wish(route, upstream, 1, 0), start, 0).expect("room");
    places.arrive(wish(route, upstream, 2, 0), start, 1).expect("room");
    let late = start + RISE_AFTER * 2;
    places.arrive(wish(route, upstream, 0, 0), late, 2).expect("room");
    leave(&mut places, holder);
    assert_eq!(granted(&mut places, late), [1], "after two rises the low one is in the highest class, and came first");
}

#[test]
fn queue_and_share_refuse_and_change_nothing() {
    let now = Instant::now();
    let mut places = Places::new(1, QueueLimits { all: 3, share: 2 });
    let (route, upstream) = (places.add_scope(None), places.add_scope(None));
    places.arrive(wish(route, upstream, 1, 1), now, 0).expect("room");
    for _ in 0..2 {
        places.arrive(wish(route, upstream, 1, 1), now, 1).expect("room");
    }
    assert_eq!(places.arrive(wish(route, upstream, 1, 1), now, 1), Err(QueueFull::Share));
    places.arrive(wish(route, upstream, 1, 2), now, 1).expect("room");
    assert_eq!(places.arrive(wish(route, upstream, 1, 3), now, 1), Err(QueueFull::Limit));
    assert_eq!(places.waiting(), 3);
}

#[test]
fn a_raised_limit_admits_and_a_lowered_one_drains() {
    let now = Instant::now();
    let mut places = Places::new(1, WIDE);
    let (route, upstream) = (places.add_scope(None), places.add_scope(None));
    let ids: Vec<_> = (0..4).map(|n| ask(&mut places, wish(route, upstream, 1, 0), now, n).expect("room")).collect();
    places.resize(3, WIDE);
    assert_eq!(granted(&mut places, now), [1, 2]);
    places.resize(1, WIDE);
    leave(&mut places, ids[0]);
    leave(&mut places, ids[1]);
    assert_eq!(granted(&mut places, now), [0; 0]);
    leave(&mut places, ids[2]);
    assert_eq!(granted(&mut places, now), [3]);
}

/// The rules of the module's head, written as a search over a plain list.
#[derive(Default)]
struct Model {
    limit: usize,
    scopes: Vec<Option<usize>>,
    held: Vec<(u32, Wish)>,
    waiting: Vec<(u32, Wish, Instant)>,
    round: Vec<(FairKey, u64)>,
    next: u64,
}

impl Model {
    fn fits(&self, wish: Wish) -> bool {
        let used = |scope: Scope| self.held.iter().filter(|(_, w)| w.route == scope || w.upstream == scope).count();
        self.held.len() < self.limit
            && [wish.route, wish.upstream].iter().all(|s| self.scopes[s.0].is_none_or(|limit| used(*s) < limit))
    }

    fn arrive(&mut self, id: u32, wish: Wish, now: Instant) -> bool {
        if self.fits(wish) {
            self.held.push((id, wish));
            return true;
        }
        if !self.waiting.iter().any(|(_, w, _)| w.key == wish.key) {
            self.next += 1;
            self.round.retain(|(key, _)| *key != wish.key);
            self.round.push((wish.key, self.next));
        }
        self.waiting.push((id, wish, now));
        false
    }

    fn advance(&mut self, now: Instant) -> Option<u32> {
        let rank = |(id, wish, since): &(u32, Wish, Instant)| {
            let rises = (now.duration_since(*since).as_secs() / RISE_AFTER.as_secs()) as usize;
            let position = self.round.iter().find(|(key, _)| *key == wish.key).map_or(0, |(_, p)| *p);
            (wish.class.saturating_sub(rises), position, *id)
        };
        let first = self.waiting.iter().filter(|(_, wish, _)| self.fits(*wish)).min_by_key(|w| rank(w))?.0;
        let place = self.waiting.iter().position(|(id, ..)| *id == first)?;
        let (id, wish, _) = self.waiting.remove(place);
        self.next += 1;
        let next = self.next;
        self.round.iter_mut().filter(|(key, _)| *key == wish.key).for_each(|(_, p)| *p = next);
        self.held.push((id, wish));
        Some(id)
    }

    fn leave(&mut self, id: u32) {
        self.held.retain(|(other, _)| *other != id);
        self.waiting.retain(|(other, ..)| *other != id);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Arrive { route: usize, upstream: usize, class: usize, key: u64 },
    Leave(usize),
    Look(usize),
    Pass(u64),
    Limit(usize),
    ScopeLimit(usize, Option<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..3, 3usize..5, 0usize..3, 0u64..4)
            .prop_map(|(route, upstream, class, key)| Step::Arrive { route, upstream, class, key }),
        4 => (0usize..20).prop_map(Step::Leave),
        1 => (0usize..20).prop_map(Step::Look),
        1 => (1u64..15).prop_map(Step::Pass),
        1 => (1usize..6).prop_map(Step::Limit),
        1 => (0usize..5, prop::option::of(1usize..4)).prop_map(|(scope, limit)| Step::ScopeLimit(scope, limit)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Every decision equals that of the plain list, and whoever could go has gone.
    #[test]
    fn it_decides_as_a_plain_list_does(limit in 1usize..5, steps in prop::collection::vec(step(), 1..120)) {
        let mut now = Instant::now();
        let mut places: Places<u32> = Places::new(limit, WIDE);
        let mut model = Model { limit, scopes: vec![None; 5], ..Model::default() };
        let scopes: Vec<Scope> = (0..5).map(|_| places.add_scope(None)).collect();
        let mut ids: Vec<(u32, Asked)> = vec![];
        let mut name = 0;
        for step in steps {
            match step {
                Step::Arrive { route, upstream, class, key } => {
                    name += 1;
                    let wish = wish(scopes[route], scopes[upstream], class, key);
                    let asked = ask(&mut places, wish, now, name).expect("the queue is wide");
                    prop_assert_eq!(asked.waits.is_none(), model.arrive(name, wish, now));
                    ids.push((name, asked));
                }
                Step::Leave(n) if n < ids.len() => {
                    let (name, asked) = ids.remove(n);
                    leave(&mut places, asked);
                    model.leave(name);
                }
                Step::Leave(_) => {}
                Step::Look(n) => {
                    if let Some((name, asked)) = ids.get_mut(n) && let Some(id) = asked.waits {
                        let granted = places.take_note(id);
                        prop_assert_eq!(granted, model.held.iter().any(|(held, _)| held == name));
                        asked.waits = (!granted).then_some(id);
                    }
                }
                Step::Pass(seconds) => now += Duration::from_secs(seconds),
                Step::Limit(limit) => {
                    places.resize(limit, WIDE);
                    model.limit = limit;
                }
                Step::ScopeLimit(scope, limit) => {
                    places.resize_scope(scopes[scope], limit);
                    model.scopes[scope] = limit;
                }
            }
            loop {
                let next = places.advance(now).copied();
                prop_assert_eq!(next, model.advance(now));
                if next.is_none() {
                    break;
                }
            }
            prop_assert_eq!((places.in_use(), places.waiting()), (model.held.len(), model.waiting.len()));
        }
        for (_, asked) in ids {
            leave(&mut places, asked);
        }
        prop_assert_eq!((places.in_use(), places.waiting(), places.round.len(), places.groups.len()), (0, 0, 0, 0));
        prop_assert!(places.entries.is_empty());
    }
}
