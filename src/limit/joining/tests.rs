use std::collections::HashMap as Model;

use futures_util::task::noop_waker;
use proptest::prelude::*;

use super::*;
use std::task::{Context, Poll};

type OurJoining = Joining<(), &'static str, (u32, usize)>;
type OurFollower = Follower<(), &'static str, (u32, usize)>;
type OurLead = Lead<(), &'static str, (u32, usize)>;

fn likeness(key: u8, body: u8) -> Likeness {
    Likeness { key: [key; 32], body: [body; 32] }
}

fn keep_for(seconds: u64) -> Keep {
    Keep { whole: false, afterwards: Duration::from_secs(seconds) }
}

fn leads(joining: &Arc<OurJoining>, key: u8, keep: u64) -> (OurLead, OurFollower) {
    match joining.enter(likeness(key, 0), keep_for(keep), Instant::now()) {
        Entered::Leads(lead, follower) => (lead, follower),
        other => panic!("{other:?}"),
    }
}

fn follows(joining: &Arc<OurJoining>, key: u8) -> OurFollower {
    match joining.enter(likeness(key, 0), Keep::default(), Instant::now()) {
        Entered::Follows { follower, .. } => follower,
        other => panic!("{other:?}"),
    }
}

/// All that can be read now, and how it ended.
fn read(follower: &OurFollower) -> (Vec<u32>, Poll<Option<Cut>>) {
    let waker = noop_waker();
    let cx = Context::from_waker(&waker);
    let mut all = Vec::new();
    loop {
        match follower.poll_piece(&cx) {
            Poll::Ready(Some(Ok((number, _)))) => all.push(number),
            Poll::Ready(Some(Err(cut))) => return (all, Poll::Ready(Some(cut))),
            Poll::Ready(None) => return (all, Poll::Ready(None)),
            Poll::Pending => return (all, Poll::Pending),
        }
    }
}

fn has_room(lead: &OurLead) -> bool {
    let waker = noop_waker();
    lead.poll_room(&Context::from_waker(&waker)).is_ready()
}

fn is_deserted(lead: &OurLead) -> bool {
    let waker = noop_waker();
    lead.is_deserted(&Context::from_waker(&waker))
}

#[test]
fn whoever_joins_reads_from_the_beginning_to_the_end() {
    let joining = Arc::new(OurJoining::default());
    let (mut lead, first) = leads(&joining, 1, 0);
    lead.begin("head", false);
    lead.push((1, 10), 10, false);
    let second = follows(&joining, 1);
    lead.push((2, 10), 10, false);
    assert_eq!(read(&second), (vec![1, 2], Poll::Pending));
    assert!(!second.has_ended());
    lead.finish(Instant::now());
    assert!(second.has_ended() && !first.has_ended());
    assert_eq!(read(&second), (vec![], Poll::Ready(None)));
    assert_eq!(read(&first), (vec![1, 2], Poll::Ready(None)));
    assert_eq!(joining.size(), (0, 0), "nothing is kept");
}

#[test]
fn an_answer_that_breaks_off_is_never_whole_and_can_be_joined_no_more() {
    let joining = Arc::new(OurJoining::default());
    let (mut lead, first) = leads(&joining, 1, 9);
    lead.begin("head", false);
    lead.push((1, 10), 10, false);
    drop(lead);
    assert_eq!(read(&first), (vec![1], Poll::Ready(Some(Cut::BrokeOff))));
    assert_eq!(joining.size(), (0, 10 + PIECE_BYTES), "whoever reads it still has it");
    drop(first);
    assert_eq!(joining.size(), (0, 0));
    let (_lead, _follower) = leads(&joining, 1, 9);
}

#[test]
fn one_that_has_come_to_the_key_since_is_not_kept_by_the_end_of_another() {
    let joining = Arc::new(OurJoining::default());
    let (mut left, follower) = leads(&joining, 1, 0);
    left.afterwards = Duration::from_secs(9);
    drop(follower);
    assert!(left.stop_if_deserted());
    let (_anew, _follower) = leads(&joining, 1, 0);
    left.finish(Instant::now());
    assert!(joining.table.lock().entries.values().all(|entry| entry.kept.is_none()));
}

#[test]
fn whoever_comes_after_the_end_of_one_that_is_still_being_written_begins_anew() {
    let joining = Arc::new(OurJoining::default());
    let (left, follower) = leads(&joining, 1, 0);
    drop(follower);
    assert!(left.stop_if_deserted());
    let (refused, _follower) = leads(&joining, 1, 0);
    drop(left);
    assert_eq!(joining.size().0, 1, "the end of the old one is no end of the new one");
    let mut refused = refused;
    let early = follows(&joining, 1);
    refused.withdraw();
    let (_anew, _) = leads(&joining, 1, 0);
    refused.begin("no", false);
    let waker = noop_waker();
    assert_eq!(early.poll_head(&Context::from_waker(&waker)), Poll::Ready(Some("no")));
}

#[test]
fn the_same_key_with_another_body_differs() {
    let joining = Arc::new(OurJoining::default());
    let (_lead, _first) = leads(&joining, 1, 0);
    assert!(matches!(joining.enter(likeness(1, 9), Keep::default(), Instant::now()), Entered::Differs));
    assert!(matches!(joining.enter(likeness(2, 9), Keep::default(), Instant::now()), Entered::Leads(..)));
}

#[test]
fn the_fastest_reader_sets_the_pace_and_one_that_falls_behind_is_cut() {
    let joining = Arc::new(OurJoining::default());
    let (mut lead, fast) = leads(&joining, 1, 0);
    let slow = follows(&joining, 1);
    let piece = AHEAD as usize;
    lead.push((0, piece), piece, false);
    assert!(!has_room(&lead), "nobody has read yet");
    let mut number = 0;
    while u64::from(number) * AHEAD < WINDOW {
        assert_eq!(read(&fast).0, [number]);
        assert!(has_room(&lead));
        number += 1;
        lead.push((number, piece), piece, false);
    }
    // One more than the window has come: the first is gone.
    assert_eq!(read(&slow), (vec![], Poll::Ready(Some(Cut::FellBehind))));
    assert_eq!(read(&fast).0, [number]);
    assert!(matches!(joining.enter(likeness(1, 0), Keep::default(), Instant::now()), Entered::Apart));
    lead.finish(Instant::now());
    assert_eq!(read(&slow).1, Poll::Ready(Some(Cut::FellBehind)));
    assert_eq!(read(&fast), (vec![], Poll::Ready(None)));
}

#[test]
fn whoever_leads_hears_that_nobody_follows_and_that_somebody_does_again() {
    let joining = Arc::new(OurJoining::default());
    let (lead, first) = leads(&joining, 1, 0);
    assert!(!is_deserted(&lead));
    drop(first);
    assert!(is_deserted(&lead) && has_room(&lead));
    let _second = follows(&joining, 1);
    assert!(!is_deserted(&lead));
}

#[test]
fn a_whole_answer_is_kept_for_its_time_and_no_longer() {
    let joining = Arc::new(OurJoining::default());
    let now = Instant::now();
    for (key, keep) in [(1, 5), (2, 50)] {
        let (mut lead, _) = leads(&joining, key, keep);
        lead.begin("head", false);
        lead.push((7, 100), 100, false);
        lead.finish(now);
    }
    assert_eq!(joining.size(), (2, 2 * (100 + PIECE_BYTES)));
    let late = |key, seconds| joining.enter(likeness(key, 0), Keep::default(), now + Duration::from_secs(seconds));
    let Entered::Follows { follower, kept: true } = late(1, 4) else { panic!("it is kept") };
    assert_eq!(read(&follower), (vec![7], Poll::Ready(None)));
    drop(follower);
    joining.sweep(now + Duration::from_secs(5));
    assert_eq!(joining.size(), (1, 100 + PIECE_BYTES));
    assert!(matches!(late(2, 49), Entered::Follows { kept: true, .. }));
    assert!(matches!(late(2, 50), Entered::Leads(..)), "even before the sweep");
    joining.sweep(now + Duration::from_secs(500));
    assert_eq!(joining.size(), (0, 0));
}

#[test]
fn the_oldest_answers_make_room_and_one_that_is_too_large_is_not_kept() {
    let joining = Arc::new(OurJoining::default());
    let half = (KEPT_BYTES / 2 - PIECE_BYTES) as usize;
    for key in [1, 2, 3] {
        let (mut lead, _) = leads(&joining, key, 9);
        lead.push((0, half), half, false);
        lead.finish(Instant::now());
    }
    assert_eq!(joining.size(), (2, KEPT_BYTES));
    assert!(matches!(joining.enter(likeness(1, 0), Keep::default(), Instant::now()), Entered::Leads(..)));
    let (mut lead, follower) = leads(&joining, 4, 9);
    for number in 0..3 {
        lead.push((number, half), half, false);
        assert_eq!(read(&follower).0, [number], "whoever reads along loses nothing");
    }
    lead.finish(Instant::now());
    assert_eq!(joining.size(), (0, 0), "the others had to go for it, and then it was too large itself");
}

#[test]
fn whoever_falls_behind_is_cut_whatever_is_kept_and_whoever_joins_late_is_not() {
    let joining = Arc::new(OurJoining::default());
    let (mut lead, fast) = leads(&joining, 1, 9);
    let slow = follows(&joining, 1);
    let piece = WINDOW as usize / 2;
    for number in 0..3 {
        lead.push((number, piece), piece, false);
        assert_eq!(read(&fast).0, [number]);
    }
    assert_eq!(read(&slow), (vec![], Poll::Ready(Some(Cut::FellBehind))));
    let late = follows(&joining, 1);
    assert_eq!(read(&late), (vec![0, 1, 2], Poll::Pending));
    let later = follows(&joining, 1);
    lead.push((3, piece), piece, true);
    assert_eq!(read(&fast), (vec![3], Poll::Ready(None)));
    assert_eq!(read(&later), (vec![], Poll::Ready(Some(Cut::FellBehind))), "it was as far behind as it might be");
    assert_eq!(read(&late), (vec![3], Poll::Ready(None)));
}

#[test]
fn many_small_pieces_are_a_window_too() {
    let joining = Arc::new(OurJoining::default());
    let (mut lead, fast) = leads(&joining, 1, 0);
    let slow = follows(&joining, 1);
    for number in 0..=WINDOW_PIECES as u32 {
        lead.push((number, 1), 1, false);
        assert_eq!(read(&fast).0.len(), 1);
    }
    assert_eq!(read(&slow), (vec![], Poll::Ready(Some(Cut::FellBehind))));
}

#[test]
fn a_key_that_comes_again_and_again_leaves_nothing_on_the_list_of_what_is_kept() {
    let joining = Arc::new(OurJoining::default());
    let start = Instant::now();
    for second in 0..50 {
        let now = start + Duration::from_secs(second * 2);
        let Entered::Leads(mut lead, _) = joining.enter(likeness(1, 0), keep_for(1), now) else { panic!("it is over") };
        lead.finish(now);
        joining.sweep(now);
        assert_eq!(joining.table.lock().kept.len(), 1);
    }
}

#[test]
fn no_more_answers_are_kept_than_may_be() {
    let joining = Arc::new(OurJoining::default());
    for number in 0..KEPT_ANSWERS as u32 + 10 {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        let entered = joining.enter(Likeness { key, body: [0; 32] }, keep_for(9), Instant::now());
        let Entered::Leads(mut lead, _) = entered else { panic!("all differ") };
        lead.finish(Instant::now());
    }
    assert_eq!(joining.size(), (KEPT_ANSWERS, 0));
}

proptest! {
    /// Whatever the pace of its readers, each one reads exactly what was written up to the end, or is cut.
    #[test]
    fn each_reader_reads_all_or_is_cut(
        keep in any::<bool>(),
        steps in prop::collection::vec((0u8..6, 0usize..5, 1usize..200_000), 1..80),
        whole in any::<bool>(),
    ) {
        let joining = Arc::new(OurJoining::default());
        let (mut lead, first) = leads(&joining, 1, u64::from(keep));
        let mut readers: Model<usize, (OurFollower, Vec<u32>, bool)> = Model::new();
        readers.insert(0, (first, Vec::new(), false));
        let (mut next, mut written) = (1, Vec::new());
        let waker = noop_waker();
        let cx = Context::from_waker(&waker);
        for (step, which, length) in steps {
            match step {
                0 | 1 => if has_room(&lead) {
                    written.push(written.len() as u32);
                    lead.push((written.len() as u32 - 1, length), length, false);
                },
                2 => if let Entered::Follows { follower, .. } = joining.enter(likeness(1, 0), Keep::default(), Instant::now()) {
                    readers.insert(next, (follower, Vec::new(), false));
                    next += 1;
                },
                3 => drop(readers.remove(&which)),
                _ => if let Some((follower, read, cut)) = readers.get_mut(&which) {
                    match follower.poll_piece(&cx) {
                        Poll::Ready(Some(Ok((number, _)))) => read.push(number),
                        Poll::Ready(Some(Err(why))) => {
                            prop_assert_eq!(why, Cut::FellBehind);
                            *cut = true;
                        }
                        Poll::Ready(None) => prop_assert!(false, "it has not ended"),
                        Poll::Pending => prop_assert_eq!(&*read, &written),
                    }
                },
            }
            let state: u64 = readers.values().map(|_| 1).sum();
            prop_assert_eq!(state == 0, is_deserted(&lead));
        }
        if whole { lead.finish(Instant::now()) } else { drop(lead) }
        for (follower, mut so_far, cut) in readers.into_values() {
            let (rest, end) = read(&follower);
            so_far.extend(rest);
            prop_assert!(written.starts_with(&so_far));
            match end {
                Poll::Ready(None) => prop_assert!(whole && !cut && so_far == written),
                Poll::Ready(Some(Cut::BrokeOff)) => prop_assert!(!whole && so_far == written),
                Poll::Ready(Some(Cut::FellBehind)) => prop_assert!(so_far.len() < written.len()),
                Poll::Pending => prop_assert!(false, "it has ended"),
            }
        }
    }
}
