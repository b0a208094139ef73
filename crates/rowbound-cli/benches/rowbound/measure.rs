//! Measuring: processes with their CPU and memory, rounds that alternate, medians, and a table that shows each figure beside its peer.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// What a process took from its start to its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// From the start to the end.
    pub wall: Duration,
    /// User and system time, of all its threads.
    pub cpu: Duration,
    /// The most memory that it held at a time, in bytes; read every few milliseconds, so that a short peak at the very end may be missed.
    pub rss: u64,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or its status is not in `statuses`.
pub fn run(command: &mut Command, statuses: &[i32]) -> (Cost, String) {
    let out = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
    let err = tempfile::NamedTempFile::new().expect("cannot make a temporary file");
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.reopen().expect("cannot open the temporary file"))
        .stderr(err.reopen().expect("cannot open the temporary file"))
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let pid = child.id();
    let mut cost = Cost::default();
    // Waited for, but not reaped: a dead process keeps its times until somebody takes its status.
    let id = || WaitId::Pid(Pid::from_child(&child));
    while waitid(id(), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG).expect("cannot wait for our child").is_none()
    {
        cost.rss = cost.rss.max(peak_memory(pid));
        std::thread::sleep(Duration::from_millis(2));
    }
    cost.wall = started.elapsed();
    cost.cpu = cpu(pid);
    let status = child.wait().expect("cannot wait for our child");
    let read = |path: &Path| std::fs::read_to_string(path).expect("cannot read what the child said");
    let (out, err) = (read(out.path()), read(err.path()));
    assert!(status.code().is_some_and(|c| statuses.contains(&c)), "{command:?} ended with {status}\n{out}\n{err}");
    (cost, out)
}

/// User and system time of a process so far, of all its threads, dead ones too. In steps of 10 ms.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("cannot read /proc: this benchmark needs Linux");
    // The name, in parentheses, may hold anything.
    let after = stat.rsplit_once(')').expect("a line of /proc/PID/stat").1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// CPU time of the threads that a process has now, in nanoseconds each.
pub fn threads(pid: u32) -> Vec<(u32, u64)> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            Some((task.file_name().to_str()?.parse().ok()?, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// The most memory that a process has held, in bytes; 0 if it has ended.
pub fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    line.unwrap_or(0) * 1024
}

/// The middle of what was measured.
pub fn median<T: Copy + PartialOrd>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("a number"));
    values[values.len() / 2]
}

/// The median of each part.
pub fn middle(costs: &[Cost]) -> Cost {
    Cost { wall: median(costs.iter().map(|c| c.wall)), cpu: median(costs.iter().map(|c| c.cpu)), rss: median(costs.iter().map(|c| c.rss)) }
}

/// A table that is printed row by row, as soon as a row is known.
#[derive(Debug)]
pub struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Prints the title and the head.
    pub fn begin(title: &str, head: &[&str]) -> Table {
        let table = Table { widths: head.iter().enumerate().map(|(i, h)| h.len().max(if i == 0 { 34 } else { 9 })).collect() };
        println!("\n{title}\n");
        table.row(head);
        table
    }

    /// Prints a row.
    pub fn row<S: AsRef<str>>(&self, cells: &[S]) {
        let mut line = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let (cell, width) = (cell.as_ref(), self.widths.get(i).copied().unwrap_or(0));
            line += &if i == 0 { format!("  {cell:<width$}") } else { format!("  {cell:>width$}") };
        }
        println!("{}", line.trim_end());
    }
}

/// `1.23 s` or `45.6 ms` or `7.8 us`.
pub fn time(d: Duration) -> String {
    let s = d.as_secs_f64();
    if s >= 1.0 {
        format!("{s:.2} s")
    } else if s >= 1e-3 {
        format!("{:.1} ms", s * 1e3)
    } else {
        format!("{:.1} us", s * 1e6)
    }
}

/// `1.23x`.
pub fn ratio(ours: Duration, theirs: Duration) -> String {
    format!("{:.2}x", ours.as_secs_f64() / theirs.as_secs_f64().max(1e-9))
}

/// Whole items per second.
pub fn rate(items: u64, d: Duration) -> String {
    format!("{:.0}", items as f64 / d.as_secs_f64().max(1e-9))
}

/// Mebibytes.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1024.0 / 1024.0)
}
