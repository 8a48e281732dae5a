//! What a process takes while it is under load.

use serde::Serialize;

/// What was seen of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Taken {
    /// Resident memory when the run began, at its most, and at its end, in bytes. The most is what the system has noted, if
    /// the process never had so much before the run; else the most that was seen.
    pub first_memory_bytes: u64,
    pub peak_memory_bytes: u64,
    pub last_memory_bytes: u64,
    /// Processor time during the run.
    pub cpu_seconds: f64,
    pub peak_open_files: u64,
    /// It ended amid the run: the figures are those that were seen last.
    pub ended: bool,
}

/// Looks at a process again and again.
#[derive(Debug)]
pub struct Watch {
    #[cfg(target_os = "linux")]
    process: procfs::process::Process,
    cpu_before: f64,
    /// The most memory that it has had before the run.
    most_before: u64,
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
        let mut watch = Self { process, cpu_before: 0.0, most_before: u64::MAX, taken: Taken::default() };
        let (memory, cpu) = watch.stat().ok_or_else(|| format!("process {pid} cannot be looked at"))?;
        watch.cpu_before = cpu;
        watch.most_before = watch.most().unwrap_or(u64::MAX);
        watch.taken.first_memory_bytes = memory;
        watch.look();
        Ok(watch)
    }

    /// `None`: it has ended, also if nobody has taken notice of that yet (a zombie).
    fn stat(&self) -> Option<(u64, f64)> {
        let stat = self.process.stat().ok().filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Some((stat.rss * procfs::page_size(), cpu))
    }

    /// The most memory that it has ever had.
    fn most(&self) -> Option<u64> {
        let kibibytes = self.process.status().ok()?.vmhwm?;
        Some(kibibytes * 1024)
    }

    /// Once more. A process that has gone keeps what was seen of it last.
    pub fn look(&mut self) {
        let Some((memory, cpu)) = self.stat() else {
            self.taken.ended = true;
            return;
        };
        // Between two looks it may have had more than at either, and given it back.
        let noted = self.most().filter(|most| *most > self.most_before);
        self.taken.last_memory_bytes = memory;
        self.taken.peak_memory_bytes = self.taken.peak_memory_bytes.max(memory).max(noted.unwrap_or(0));
        self.taken.cpu_seconds = cpu - self.cpu_before;
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
        let _ = (self.cpu_before, self.most_before);
        self.taken
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_was_given_back_between_two_looks_is_seen() {
        let mut watch = Watch::of(std::process::id()).expect("this process");
        // More than it has ever had: the tests beside this one have theirs.
        let most = usize::try_from(watch.most().expect("Linux notes it")).expect("it fits");
        let much = most + (64 << 20);
        let mut block = vec![0_u8; much];
        block.iter_mut().step_by(1024).for_each(|byte| *byte = 1);
        assert_eq!(
            std::hint::black_box(&block).iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            much.div_ceil(1024)
        );
        drop(block);
        watch.look();
        let taken = watch.taken();
        assert!(taken.peak_memory_bytes >= much as u64 && !taken.ended, "{taken:?}");
    }

    #[test]
    fn a_process_that_ends_is_said_to_have_ended() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("a process");
        let mut watch = Watch::of(child.id()).expect("our child");
        watch.look();
        assert!(!watch.taken.ended);
        child.kill().expect("our child");
        child.wait().expect("our child");
        let taken = watch.taken();
        assert!(taken.ended, "{taken:?}");
    }
}
