//! This program as another process, in one of its roles.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// A process that is told and answers in lines. It ends when dropped.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    pub fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env::current_exe().expect("own path"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            input,
            output,
        }
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("it runs");
    }

    /// The next line that it says.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it runs");
        line.trim_end().to_owned()
    }

    /// Waits until it says `line`.
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }

    fn file(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.child.id())
    }

    /// CPU time of all its threads.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(self.file("task")).expect("it runs");
        let nanos = tasks.flatten().map(|task| {
            let times = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ran = times.split_whitespace().next();
            ran.and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Its CPU time once it has nothing left to do.
    pub fn rest(&self) -> Duration {
        let mut last = self.cpu();
        loop {
            thread::sleep(Duration::from_millis(20));
            let now = self.cpu();
            if now.saturating_sub(last) < Duration::from_micros(100) {
                return now;
            }
            last = now;
        }
    }

    /// KiB of `field` in its status.
    pub fn memory(&self, field: &str) -> usize {
        let status = fs::read_to_string(self.file("status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a figure").parse().expect("a number")
    }

    /// Lets its peak start from what it holds now.
    pub fn forget_peak(&self) {
        fs::write(self.file("clear_refs"), "5").expect("it runs");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
