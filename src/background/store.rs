//! Where jobs are written down: one file, in a folder of its own.
//!
//! Changes go to a thread that writes all that have come meanwhile in one transaction, and syncs once for all of them.
//! Whoever asked is told when it is on disk, and not before. A change that could not be written (a full disk) has not
//! happened: what the failed transaction may have left behind is taken back before anything else is written. Who asks for
//! much is to look first how much the disk still takes ([`room`]).
//!
//! The file is a B-tree that is never changed in place, with checksums and two syncs for each transaction (redb): a crash at
//! any moment leaves the last transaction whole or not there. See `docs/adr/0020-jobs-on-disk.md`.

mod room;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

pub use self::room::Space;

use self::room::Room;
use super::schedule::Seq;
use crate::sync::Mutex;

const RECORDS: TableDefinition<Seq, &[u8]> = TableDefinition::new("jobs");
const REQUESTS: TableDefinition<Seq, &[u8]> = TableDefinition::new("requests");
const ANSWERS: TableDefinition<Seq, &[u8]> = TableDefinition::new("answers");

const FILE: &str = "jobs.redb";
/// What is kept in memory of the file; the system keeps more of it.
const CACHE: usize = 16 << 20;
/// What goes into one transaction at most.
const MOST_CHANGES: usize = 1000;
const MOST_BYTES: usize = 32 << 20;
/// How long readers may keep a file open that is to be opened anew.
const LET_GO: Duration = Duration::from_secs(5);

/// What becomes of one job on disk.
#[derive(Debug)]
pub enum Change {
    /// It is there from now on.
    Accept { seq: Seq, record: Vec<u8>, request: Vec<u8> },
    /// It stands otherwise. An answer that is given replaces what there was; a request that is done with goes.
    Update { seq: Seq, record: Vec<u8>, answer: Option<Vec<u8>>, done_with_request: bool },
    /// It is forgotten.
    Remove { seq: Seq },
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Accept { record, request, .. } => record.len() + request.len(),
            Self::Update { record, answer, .. } => record.len() + answer.as_ref().map_or(0, Vec::len),
            Self::Remove { .. } => 0,
        }
    }
}

/// It could not be written. The log has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotWritten;

impl fmt::Display for NotWritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the job store cannot be written to at the moment")
    }
}

impl std::error::Error for NotWritten {}

/// Told on which side of the disk a change is.
type Done = Box<dyn FnOnce(bool) + Send>;

struct Order {
    change: Change,
    done: Done,
}

impl Order {
    fn accepts(&self) -> bool {
        matches!(self.change, Change::Accept { .. })
    }
}

/// Where the jobs are.
#[derive(Debug, Clone)]
pub enum Place {
    Folder(PathBuf),
    /// For tests: gone with the process.
    Memory,
    #[cfg(test)]
    Disk(tests::Disk),
}

/// All jobs on disk, in their order: their records as they were written.
pub type Found = Vec<(Seq, Vec<u8>)>;

/// See the module.
pub struct Store {
    line: Line,
    file: Arc<File>,
}

enum Line {
    Thread(Mutex<Option<(mpsc::Sender<Order>, JoinHandle<()>)>>),
    /// Written by whoever asks, at once.
    Here(Mutex<Writer>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("place", &self.file.place).finish_non_exhaustive()
    }
}

/// The open file; `None` while it is opened anew.
struct File {
    place: Place,
    room: Room,
    open: Mutex<Option<Arc<Database>>>,
}

impl Store {
    /// Opens the store, and makes it if there is none.
    ///
    /// # Errors
    /// Why it cannot be used: in use by another process, not to be written to, or damaged.
    pub fn open(place: Place) -> Result<(Self, Found), String> {
        let database = open(&place)?;
        let found = all(&database).map_err(|error| error.to_string())?;
        let memory = matches!(place, Place::Memory);
        let file = Arc::new(File { place, room: Room::default(), open: Mutex::new(Some(Arc::new(database))) });
        let writer = Writer { file: file.clone(), half_accepted: BTreeSet::new() };
        let line = if memory {
            Line::Here(Mutex::new(writer))
        } else {
            let (orders, line) = mpsc::channel();
            let thread = thread::Builder::new().name("job-store".into()).spawn(move || write_all(writer, &line));
            Line::Thread(Mutex::new(Some((orders, thread.map_err(|error| error.to_string())?))))
        };
        Ok((Self { line, file }, found))
    }

    /// Has `change` written. `done` is told what came of it, in the thread that writes; for one store in the order in
    /// which they were asked for.
    pub fn submit(&self, change: Change, done: impl FnOnce(bool) + Send + 'static) {
        let order = Order { change, done: Box::new(done) };
        match &self.line {
            Line::Here(writer) => {
                let written = writer.lock().write(std::slice::from_ref(&order)).is_ok();
                (order.done)(written);
            }
            Line::Thread(line) => {
                let bytes = order.change.bytes() as u64;
                self.file.room.comes(bytes);
                let refused = match &*line.lock() {
                    Some((orders, _)) => orders.send(order).err().map(|refused| refused.0),
                    None => Some(order),
                };
                if let Some(order) = refused {
                    self.file.room.came(bytes);
                    (order.done)(false);
                }
            }
        }
    }

    /// Has `change` written, and waits until it is. Dropping the future does not take it back.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub async fn write(&self, change: Change) -> Result<(), NotWritten> {
        let (tell, told) = oneshot::channel();
        self.submit(change, move |written| {
            let _ = tell.send(written);
        });
        if told.await.unwrap_or(false) { Ok(()) } else { Err(NotWritten) }
    }

    /// What the disk still takes, as it was a moment ago, less what is on its way. `None`: nobody knows.
    #[must_use]
    pub fn space(&self) -> Option<Space> {
        self.file.room.space(&self.file.place)
    }

    /// The request of a job as it was written. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Whatever is wrong with the file.
    pub fn request(&self, seq: Seq) -> Result<Option<Vec<u8>>, String> {
        self.read(REQUESTS, seq)
    }

    /// The answer to a job as it was written. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Whatever is wrong with the file.
    pub fn answer(&self, seq: Seq) -> Result<Option<Vec<u8>>, String> {
        self.read(ANSWERS, seq)
    }

    fn read(&self, table: TableDefinition<'_, Seq, &'static [u8]>, seq: Seq) -> Result<Option<Vec<u8>>, String> {
        let database = self.file.open.lock().clone().ok_or("it is being opened anew")?;
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = database.begin_read()?.open_table(table)?;
            Ok(table.get(seq)?.map(|octets| octets.value().to_vec()))
        };
        read().map_err(|error| error.to_string())
    }

    /// Writes what was asked for, and closes the file. What is asked for afterwards is refused.
    pub fn close(&self) {
        match &self.line {
            Line::Thread(line) => {
                let taken = line.lock().take();
                if let Some((orders, thread)) = taken {
                    drop(orders);
                    let _ = thread.join();
                }
            }
            Line::Here(_) => drop(self.file.open.lock().take()),
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_all(mut writer: Writer, line: &mpsc::Receiver<Order>) {
    while let Ok(first) = line.recv() {
        let mut bytes = first.change.bytes();
        let mut orders = vec![first];
        while orders.len() < MOST_CHANGES && bytes < MOST_BYTES {
            let Ok(next) = line.try_recv() else { break };
            bytes += next.change.bytes();
            orders.push(next);
        }
        let mut write = |which| {
            let written = catch_unwind(AssertUnwindSafe(|| writer.write_those(&orders, which)));
            written.unwrap_or(Err(NotWritten)).is_ok()
        };
        let all = write(Which::All);
        // What ends does not suffer for what is to begin, which may be far more.
        let is_mixed = orders.iter().any(Order::accepts) && !orders.iter().all(Order::accepts);
        let others = all || (is_mixed && write(Which::Others));
        for order in orders {
            writer.file.room.came(order.change.bytes() as u64);
            let written = if order.accepts() { all } else { others };
            (order.done)(written);
        }
    }
    if !writer.half_accepted.is_empty() {
        let _ = writer.write(&[]);
    }
    writer.file.close();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// All but what is to be accepted.
    Others,
}

struct Writer {
    file: Arc<File>,
    /// What was to be accepted by transactions that failed, and may be on disk for all that is known.
    half_accepted: BTreeSet<Seq>,
}

impl Writer {
    fn write(&mut self, orders: &[Order]) -> Result<(), NotWritten> {
        self.write_those(orders, Which::All)
    }

    fn write_those(&mut self, orders: &[Order], which: Which) -> Result<(), NotWritten> {
        if self.file.open.lock().is_none() {
            self.file.reopen();
        }
        let database = self.file.open.lock().clone();
        let written = match database {
            Some(database) => self.transaction(&database, orders, which).map_err(|error| error.to_string()),
            None => Err("it is not open".to_owned()),
        };
        let Err(error) = written else {
            self.half_accepted.clear();
            return Ok(());
        };
        tracing::error!(%error, changes = orders.len(), "the job store cannot be written to");
        let accepted = orders.iter().filter_map(|order| match order.change {
            Change::Accept { seq, .. } => Some(seq),
            _ => None,
        });
        self.half_accepted.extend(accepted);
        // After a failed write nothing that is kept in memory of the file may be trusted.
        self.file.reopen();
        Err(NotWritten)
    }

    fn transaction(&self, database: &Database, orders: &[Order], which: Which) -> Result<(), Box<redb::Error>> {
        self.try_transaction(database, orders, which).map_err(Box::new)
    }

    fn try_transaction(&self, database: &Database, orders: &[Order], which: Which) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        // Also writes down which pages are free, so that after a crash the file opens at once, however large it is.
        transaction.set_quick_repair(true);
        {
            let mut records = transaction.open_table(RECORDS)?;
            let mut requests = transaction.open_table(REQUESTS)?;
            let mut answers = transaction.open_table(ANSWERS)?;
            for seq in &self.half_accepted {
                records.remove(seq)?;
                requests.remove(seq)?;
            }
            for order in orders.iter().filter(|order| which == Which::All || !order.accepts()) {
                match &order.change {
                    Change::Accept { seq, record, request } => {
                        records.insert(seq, &record[..])?;
                        requests.insert(seq, &request[..])?;
                    }
                    Change::Update { seq, record, answer, done_with_request } => {
                        records.insert(seq, &record[..])?;
                        match answer {
                            Some(answer) => drop(answers.insert(seq, &answer[..])?),
                            None => drop(answers.remove(seq)?),
                        }
                        if *done_with_request {
                            requests.remove(seq)?;
                        }
                    }
                    Change::Remove { seq } => {
                        records.remove(seq)?;
                        requests.remove(seq)?;
                        answers.remove(seq)?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl File {
    /// Closes it, once nobody reads any more.
    fn close(&self) {
        let Some(mut database) = self.open.lock().take() else { return };
        let step = Duration::from_millis(1);
        for _ in 0..LET_GO.as_millis() {
            match Arc::try_unwrap(database) {
                Ok(database) => return drop(database.close()),
                Err(shared) => database = shared,
            }
            thread::sleep(step);
        }
    }

    fn reopen(&self) {
        if matches!(self.place, Place::Memory) {
            return;
        }
        self.close();
        match open(&self.place) {
            Ok(database) => *self.open.lock() = Some(Arc::new(database)),
            Err(error) => tracing::error!(%error, "the job store cannot be opened again"),
        }
    }
}

fn open(place: &Place) -> Result<Database, String> {
    let folder = match place {
        Place::Folder(folder) => folder,
        Place::Memory => return with_tables(InMemoryBackend::new()),
        #[cfg(test)]
        Place::Disk(disk) => return with_tables(disk.clone()),
    };
    make_folder(folder).map_err(|error| error.to_string())?;
    let path = folder.join(FILE);
    // Requests carry credentials: nobody else is to read them.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(|error| format!("{FILE}: {error}"))?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(|error| format!("{FILE}: {error}"))?;
    let backend = FileBackend::new(file).map_err(|error| error.to_string())?;
    // A file that is no store, or no longer one, may be more than its reader can bear.
    let opened = catch_unwind(AssertUnwindSafe(|| with_tables(backend)));
    let database = opened.unwrap_or_else(|_| Err(format!("{FILE} is damaged")))?;
    // A new file's name must be as durable as what is in it.
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| error.to_string())?;
    Ok(database)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Opens it, with tables to read from.
fn with_tables(backend: impl redb::StorageBackend) -> Result<Database, String> {
    let opened = Database::builder().set_cache_size(CACHE).create_with_backend(backend);
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => "it is in use by another process".to_owned(),
        other => format!("{FILE}: {other}"),
    })?;
    // A file that has them is not written to: its disk may be full.
    let has_tables = || -> Result<(), redb::Error> {
        let transaction = database.begin_read()?;
        for table in [RECORDS, REQUESTS, ANSWERS] {
            transaction.open_table(table)?;
        }
        Ok(())
    };
    if has_tables().is_ok() {
        return Ok(database);
    }
    let tables = || -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_quick_repair(true);
        for table in [RECORDS, REQUESTS, ANSWERS] {
            transaction.open_table(table)?;
        }
        transaction.commit()?;
        Ok(())
    };
    tables().map_err(|error| format!("{FILE}: {error}"))?;
    Ok(database)
}

fn all(database: &Database) -> Result<Found, Box<redb::Error>> {
    let read = || -> Result<Found, redb::Error> {
        let records = database.begin_read()?.open_table(RECORDS)?;
        let mut found = Vec::new();
        for entry in records.iter()? {
            let (seq, record) = entry?;
            found.push((seq.value(), record.value().to_vec()));
        }
        Ok(found)
    };
    read().map_err(Box::new)
}

#[cfg(test)]
pub(super) mod tests;
