//! What a process costs, as the kernel tells it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// CPU time and memory of a process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Seconds of CPU time since its start.
    pub(super) cpu_s: f64,
    /// Resident memory.
    pub(super) rss_mb: f64,
    /// The most it ever had resident.
    pub(super) peak_mb: f64,
}

/// Linux tells `utime` and `stime` in hundredths of a second on every
/// architecture that runs an Envoy.
const TICKS: f64 = 100.0;

/// Reads what a process has used so far.
pub(super) fn of_process(pid: u32) -> io::Result<Usage> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = fs::read_to_string(folder.join("status"))?;
    let stat = fs::read_to_string(folder.join("stat"))?;
    Ok(Usage {
        // The threads tell nanoseconds, but those that ended are not there.
        cpu_s: of_its_threads(pid, |_| true).max(ticks(&stat) / TICKS),
        rss_mb: megabytes(&status, "VmRSS:"),
        peak_mb: megabytes(&status, "VmHWM:"),
    })
}

/// Seconds of CPU time of the threads with this name.
pub(super) fn of_threads(pid: u32, name: &str) -> f64 {
    of_its_threads(pid, |folder| {
        let comm = fs::read_to_string(folder.join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    })
}

fn of_its_threads(pid: u32, counts: impl Fn(&Path) -> bool) -> f64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut nanos = 0;
    // Threads come and go while the folder is read.
    for thread in threads.into_iter().flatten().flatten() {
        let folder = thread.path();
        if counts(&folder) {
            let schedstat = fs::read_to_string(folder.join("schedstat"));
            nanos += schedstat.map_or(0, |text| on_cpu_nanos(&text));
        }
    }
    seconds(nanos)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn on_cpu_nanos(schedstat: &str) -> u64 {
    let first = schedstat.split_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// `utime` + `stime`. The name, which may hold anything, ends at the last
/// parenthesis.
fn ticks(stat: &str) -> f64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|text| text.parse::<f64>().ok()).sum()
}

fn megabytes(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|text| text.parse::<f64>().ok())
        .unwrap_or_default()
        / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_are_found_behind_any_name() {
        let stat = "77 (a) b) S 1 77 77 0 -1 4194560 12 0 0 0 250 50 0 0 20 0 4 0 99";
        assert!((ticks(stat) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn memory_is_read_in_mebibytes() {
        let status = "Name:\tx\nVmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n";
        assert!((megabytes(status, "VmRSS:") - 2.0).abs() < 1e-9);
        assert!((megabytes(status, "VmHWM:") - 4.0).abs() < 1e-9);
        assert!(megabytes(status, "VmSwap:").abs() < 1e-9);
    }

    #[test]
    fn a_process_can_be_asked_for_its_own_usage() {
        let usage = of_process(std::process::id()).unwrap();
        assert!(usage.rss_mb > 0.0 && usage.peak_mb >= usage.rss_mb);
    }
}
