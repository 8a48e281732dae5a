//! What a process takes while it is under load.

use serde::Serialize;

/// What was seen of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Taken {
    /// Resident memory when the run began, at its most, and at its end, in bytes.
    pub first_memory_bytes: u64,
    pub peak_memory_bytes: u64,
    pub last_memory_bytes: u64,
    /// Processor time during the run.
    pub cpu_seconds: f64,
    pub peak_open_files: u64,
}

/// Looks at a process again and again.
#[derive(Debug)]
pub struct Watch {
    #[cfg(target_os = "linux")]
    process: procfs::process::Process,
    cpu_before: f64,
    taken: Taken,
}

#[cfg(target_os = "linux")]
impl Watch {
    /// # Errors
    /// In a sentence: there is no such process, or it may not be looked at.
    pub fn of(pid: u32) -> Result<Self, String> {
        let pid = i32::try_from(pid).map_err(|_| format!("{pid} is no process"))?;
        let process = procfs::process::Process::new(pid)
            .map_err(|error| format!("process {pid} cannot be looked at: {error}"))?;
        let mut watch = Self { process, cpu_before: 0.0, taken: Taken::default() };
        let (memory, cpu) = watch.stat().ok_or_else(|| format!("process {pid} cannot be looked at"))?;
        watch.cpu_before = cpu;
        watch.taken.first_memory_bytes = memory;
        watch.look();
        Ok(watch)
    }

    fn stat(&self) -> Option<(u64, f64)> {
        let stat = self.process.stat().ok()?;
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Some((stat.rss * procfs::page_size(), cpu))
    }

    /// Once more. A process that has gone keeps what was seen of it last.
    pub fn look(&mut self) {
        if let Some((memory, cpu)) = self.stat() {
            self.taken.last_memory_bytes = memory;
            self.taken.peak_memory_bytes = self.taken.peak_memory_bytes.max(memory);
            self.taken.cpu_seconds = cpu - self.cpu_before;
        }
        if let Ok(files) = self.process.fd_count() {
            self.taken.peak_open_files = self.taken.peak_open_files.max(files as u64);
        }
    }

    #[must_use]
    pub fn taken(mut self) -> Taken {
        self.look();
        self.taken
    }
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    /// # Errors
    /// Always: it is read from `/proc`.
    pub fn of(_pid: u32) -> Result<Self, String> {
        Err("processes can only be looked at on Linux".to_owned())
    }

    pub fn look(&mut self) {}

    #[must_use]
    pub fn taken(self) -> Taken {
        let _ = self.cpu_before;
        self.taken
    }
}
