//! What the process itself takes: the collector of the prometheus crate, with processor time to a tick of the system, mostly
//! a hundredth of a second. That crate counts whole seconds, by which a gateway that mostly waits would seem to take none.

use procfs::process::Process;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};

/// `process_*`.
pub(super) struct ProcessMetrics(ProcessCollector);

impl ProcessMetrics {
    pub(super) fn new() -> Self {
        Self(ProcessCollector::for_self())
    }
}

impl Collector for ProcessMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let time = families.iter_mut().find(|family| family.name() == "process_cpu_seconds_total");
        if let (Some(family), Some(seconds)) = (time, processor_time()) {
            for metric in family.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(seconds);
                metric.set_counter(counter);
            }
        }
        families
    }
}

/// In user and system mode, in seconds.
fn processor_time() -> Option<f64> {
    let stat = Process::myself().and_then(|process| process.stat()).ok()?;
    Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_has_parts_of_a_second_and_never_goes_back() {
        let read = || {
            let families = ProcessMetrics::new().collect();
            let time = families.iter().find(|family| family.name() == "process_cpu_seconds_total").expect("it is told");
            time.get_metric()[0].get_counter().get_value()
        };
        let mut last = read();
        while last.fract() == 0.0 {
            let next = read();
            assert!(next >= last, "{next} after {last}");
            last = next;
        }
    }
}
