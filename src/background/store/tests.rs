//! Disks that fail: full ones, and ones that lose power between any two writes.
//!
//! The disk of these tests remembers what was written since it was last synced. A crash keeps any of those writes, in
//! whole or in part, and loses the others; what was synced stays. That is more than most disks do, and less than none.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use redb::StorageBackend;

use super::*;

/// A disk in memory.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    now: Vec<u8>,
    /// Since the last sync, in order.
    unsynced: Vec<Write>,
    /// Octets that may still be written before the disk is full.
    room: Option<u64>,
    /// All of the disk, and the pages of it that were ever written to.
    size: Option<u64>,
    pages: BTreeSet<u64>,
    /// What was synced, and what was not, when the disk first was full.
    failed: Option<(Vec<u8>, Vec<Write>)>,
}

const PAGE: u64 = 4096;

#[derive(Debug, Clone)]
enum Write {
    At(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    fn apply(&self, octets: &mut Vec<u8>) {
        match self {
            Self::At(place, data) => {
                let (place, end) = (*place as usize, *place as usize + data.len());
                if octets.len() < end {
                    octets.resize(end, 0);
                }
                octets[place..end].copy_from_slice(data);
            }
            Self::Length(length) => octets.resize(*length as usize, 0),
        }
    }
}

impl Disk {
    fn full(&self, room: Option<u64>) {
        let mut state = self.0.lock();
        (state.room, state.failed) = (room, None);
    }

    /// A disk of so many octets, of which only those count as taken that were written to.
    pub fn of_size(size: u64) -> Self {
        Self(Arc::new(Mutex::new(State { size: Some(size), ..State::default() })))
    }

    /// It has so many octets from now on.
    pub fn resize(&self, size: u64) {
        self.0.lock().size = Some(size);
    }

    pub(in crate::background) fn space(&self) -> Option<Space> {
        let state = self.0.lock();
        let (total, own) = (state.size?, state.pages.len() as u64 * PAGE);
        Some(Space { free: total.saturating_sub(own), total, own })
    }

    /// What a crash leaves, as `fates` say: each write since the last sync is lost, torn or there.
    fn after_crash(&self, fates: &[u8]) -> Self {
        let state = self.0.lock();
        let (synced, unsynced) = match &state.failed {
            Some((synced, unsynced)) => (synced, unsynced),
            None => (&state.synced, &state.unsynced),
        };
        let mut octets = synced.clone();
        for (write, fate) in unsynced.iter().zip(fates.iter().copied().chain(std::iter::repeat(0))) {
            match (fate % 3, write) {
                (0, _) => {}
                (1, Write::At(place, data)) => {
                    let cut = data.len() * usize::from(fate) / 256;
                    Write::At(*place, data[..cut].to_vec()).apply(&mut octets);
                }
                _ => write.apply(&mut octets),
            }
        }
        Self(Arc::new(Mutex::new(State { synced: octets.clone(), now: octets, ..State::default() })))
    }

    fn change(&self, write: Write) -> io::Result<()> {
        let mut state = self.0.lock();
        if let (Some(room), Write::At(_, data)) = (&mut state.room, &write) {
            match room.checked_sub(data.len() as u64) {
                Some(left) => *room = left,
                None => {
                    let state = &mut *state;
                    state.failed.get_or_insert_with(|| (state.synced.clone(), state.unsynced.clone()));
                    return Err(io::ErrorKind::StorageFull.into());
                }
            }
        }
        if let Write::At(place, data) = &write {
            let new =
                (place / PAGE..(place + data.len() as u64).div_ceil(PAGE)).filter(|page| !state.pages.contains(page));
            let new: Vec<u64> = new.collect();
            if !new.is_empty() && state.size.is_some_and(|size| (state.pages.len() + new.len()) as u64 * PAGE > size) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.pages.extend(new);
        }
        let state = &mut *state;
        write.apply(&mut state.now);
        state.unsynced.push(write);
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let from = offset as usize;
        let part = state.now.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(part);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Write::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.room == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.synced = state.now.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Write::At(offset, data.to_vec()))
    }
}

fn writer(disk: &Disk) -> Writer {
    let place = Place::Disk(disk.clone());
    let database = open(&place).expect("it opens");
    let file = Arc::new(File { place, room: Room::default(), open: Mutex::new(Some(Arc::new(database))) });
    Writer { file, half_accepted: BTreeSet::new() }
}

fn order(change: Change) -> Order {
    Order { change, done: Box::new(|_| {}) }
}

fn accept(seq: Seq, length: usize) -> Order {
    order(Change::Accept { seq, record: record(seq), request: vec![seq as u8; length] })
}

fn record(seq: Seq) -> Vec<u8> {
    format!("record {seq}").into_bytes()
}

/// What is known of each job.
type All = BTreeMap<Seq, (Vec<u8>, Option<usize>, Option<usize>)>;

/// All that is on a disk: records, and the lengths of requests and answers.
fn found(disk: &Disk) -> All {
    let writer = writer(disk);
    let database = writer.file.open.lock().clone().expect("open");
    let store = Store { file: writer.file.clone(), line: Line::Here(Mutex::new(writer)) };
    let records = all(&database).expect("readable");
    drop(database);
    let length = |octets: Result<Option<Vec<u8>>, String>| octets.expect("readable").map(|octets| octets.len());
    records
        .into_iter()
        .map(|(seq, record)| (seq, (record, length(store.request(seq)), length(store.answer(seq)))))
        .collect()
}

#[test]
fn what_does_not_fit_on_the_disk_has_not_happened_and_the_store_goes_on() {
    let disk = Disk::default();
    let mut writer = writer(&disk);
    writer.write(&[accept(1, 1000), accept(2, 1000)]).expect("there is room");
    for room in [0, 1, 5000, 100_000] {
        disk.full(Some(room));
        assert_eq!(writer.write(&[accept(3, 2_000_000)]), Err(NotWritten), "{room}");
        assert_eq!(writer.write(&[accept(4, 3_000_000)]), Err(NotWritten), "{room}");
        disk.full(None);
        assert_eq!(found(&disk.after_crash(&[])).keys().copied().collect::<Vec<_>>(), [1, 2], "{room}");
    }
    writer.write(&[accept(5, 10), order(Change::Remove { seq: 1 })]).expect("there is room again");
    drop(writer);
    assert_eq!(found(&disk).keys().copied().collect::<Vec<_>>(), [2, 5]);
}

#[test]
fn what_ends_is_written_though_what_is_to_begin_does_not_fit() {
    let disk = Disk::of_size(4 << 20);
    let mut writer = writer(&disk);
    writer.write(&[accept(1, 1000)]).expect("there is room");
    let (tell, told) = mpsc::channel();
    let order = |name: &'static str, change| {
        let tell = tell.clone();
        Order { change, done: Box::new(move |written| tell.send((name, written)).expect("somebody listens")) }
    };
    let (orders, line) = mpsc::channel();
    let large = |seq| Change::Accept { seq, record: record(seq), request: vec![0; 3_000_000] };
    let ended = Change::Update { seq: 1, record: b"ended".to_vec(), answer: None, done_with_request: true };
    for order in [order("large", large(2)), order("ended", ended), order("another", large(3))] {
        orders.send(order).expect("it listens");
    }
    drop(orders);
    write_all(writer, &line);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [("large", false), ("ended", true), ("another", false)]);
    let left = found(&disk);
    assert_eq!(left, BTreeMap::from([(1, (b"ended".to_vec(), None, None))]));
}

#[test]
fn a_store_on_a_full_disk_opens_and_can_be_read() {
    let disk = Disk::default();
    let mut writer = writer(&disk);
    writer.write(&[accept(1, 1000)]).expect("there is room");
    writer.file.close();
    // Enough to say that somebody has it open, which is written over what is there, and for no page.
    disk.full(Some(PAGE / 4));
    assert_eq!(found(&disk).keys().copied().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_disk_of_ones_own_tells_its_space() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Place::Folder(folder.path().into())).expect("it is made");
    let space = store.space().expect("it is known");
    assert!(space.free <= space.total && space.total > 0 && space.own > 0, "{space:?}");
}

#[test]
fn requests_leave_room_for_answers_and_answers_for_ends() {
    const MB: u64 = 1_000_000;
    let space = |free, total, own| Space { free: free * MB, total: total * MB, own: own * MB };
    // A tenth of a small disk, no more than so much of a large one, and the answers of all workers where there is room.
    assert_eq!(space(1, 100, 0).kept_for_answers(0), 10 * MB);
    assert_eq!(space(1, 100_000, 0).kept_for_answers(0), 64 << 20);
    assert_eq!(space(1, 100, 0).kept_for_answers(8 * MB), 16 * MB);
    assert_eq!(space(1, 100, 0).kept_for_answers(80 * MB), 25 * MB);
    assert_eq!(space(1, 100, 0).kept_for_ends(), 2_500_000);
    assert_eq!(space(12, 100, 50).bound(MB, 10 * MB), None);
    // What is free in the file is room as well, once there is enough of it.
    assert_eq!(space(11, 100, 50).bound(MB, 10 * MB), Some(25_500_000));
    assert_eq!(space(1, 100, 5).bound(MB, 10 * MB), Some(0));
}

#[test]
fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = Place::Folder(folder.path().join("jobs"));
    let (store, found) = Store::open(place.clone()).expect("it is made");
    assert!(found.is_empty());
    assert_eq!(Store::open(place.clone()).expect_err("it is open"), "it is in use by another process");
    store.close();
    Store::open(place).expect("it is free again");
}

#[test]
fn others_may_not_read_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().join("a").join("jobs");
    let _store = Store::open(Place::Folder(place.clone())).expect("it is made");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&place), mode(&place.join(FILE))), (0o700, 0o600));
}

#[test]
fn a_file_that_is_none_is_told_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(FILE);
    for junk in [&b"junk"[..], &[0; 100_000][..], &[0xff; 5000][..]] {
        std::fs::write(&file, junk).expect("written");
        let why = Store::open(Place::Folder(folder.path().into())).expect_err("no store");
        assert!(why.contains(FILE), "{why}");
        assert_eq!(std::fs::read(&file).expect("there"), junk);
    }
    let why = Store::open(Place::Folder(file)).expect_err("a file is no folder");
    assert!(!why.is_empty() && !why.contains('\n'), "{why}");
}

#[test]
fn changes_are_told_of_in_the_order_in_which_they_were_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = Store::open(Place::Folder(folder.path().into())).expect("it is made");
    let (tell, told) = mpsc::channel();
    for seq in 0..500 {
        let tell = tell.clone();
        let change = Change::Accept { seq, record: record(seq), request: vec![1; 100] };
        store.submit(change, move |written| tell.send((seq, written)).expect("somebody listens"));
    }
    store.close();
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told, (0..500).map(|seq| (seq, true)).collect::<Vec<_>>());
    store.submit(Change::Remove { seq: 1 }, move |written| tell.send((0, written)).expect("somebody listens"));
    let (_, found) = Store::open(Place::Folder(folder.path().into())).expect("it opens");
    assert_eq!(found.len(), 500, "nothing is written after the end");
}

/// One change of the model: what, with which number, how long.
fn changes() -> impl Strategy<Value = Vec<Vec<(u8, Seq, usize)>>> {
    let change = (0..4_u8, 0..12_u64, prop_oneof![0..200_usize, 3000..20_000_usize]);
    proptest::collection::vec(proptest::collection::vec(change, 1..5), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A crash in the middle of a transaction, whatever becomes of the writes that were not synced: what was told to be on
    /// disk is there, and what is there is either that, or the transaction that was under way as a whole.
    #[test]
    fn a_crash_at_any_write_leaves_the_last_transaction_whole_or_not_there(
        groups in changes(), crash_at in any::<u64>(), fates: Vec<u8>,
    ) {
        let disk = Disk::default();
        let mut writer = writer(&disk);
        let mut model = BTreeMap::new();
        let mut crashes = Vec::new();
        let count = groups.len() as u64;
        for (number, group) in (0..).zip(groups) {
            let before = model.clone();
            let orders: Vec<Order> = group.into_iter().map(|(what, seq, length)| {
                match what {
                    0 | 1 => {
                        model.insert(seq, (record(seq), Some(length), None));
                        // As accepting does: no number is used twice, but for what is there of it here.
                        order(Change::Accept { seq, record: record(seq), request: vec![1; length] })
                    }
                    2 => {
                        let there = model.contains_key(&seq);
                        let text = format!("ended {seq}").into_bytes();
                        if there {
                            model.insert(seq, (text.clone(), None, Some(length)));
                            order(Change::Update { seq, record: text, answer: Some(vec![2; length]), done_with_request: true })
                        } else {
                            order(Change::Remove { seq })
                        }
                    }
                    _ => {
                        model.remove(&seq);
                        order(Change::Remove { seq })
                    }
                }
            }).collect();
            if number == crash_at % count {
                // The disk stops taking anything after some of the writes: the transaction fails in its middle.
                let room = (crash_at >> 8) % 60_000;
                disk.full(Some(room));
                let written = writer.write(&orders).is_ok();
                crashes.push((disk.after_crash(&fates), before.clone(), model.clone(), written));
                break;
            }
            prop_assert!(writer.write(&orders).is_ok());
            crashes.push((disk.after_crash(&fates), before, model.clone(), true));
        }
        for (left, before, after, written) in crashes {
            let there = strip(found(&left));
            if written {
                prop_assert_eq!(there, strip(after));
            } else {
                let (before, after) = (strip(before), strip(after));
                prop_assert!(there == before || there == after, "{there:?} is neither {before:?} nor {after:?}");
            }
        }
    }
}

/// Answers of numbers that were used twice are of no account.
fn strip(all: All) -> All {
    all.into_iter().map(|(seq, (record, request, _))| (seq, (record, request, None))).collect()
}
