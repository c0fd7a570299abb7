//! One Linux network namespace, and ways to be in it.

use std::{
    ffi::OsStr,
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// All names begin so; the process id that follows tells whose they are.
const PREFIX: &str = "isthmus-";

/// How long a connection may take: the networks are in this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// A network namespace. Dropping it ends all processes in it and removes it.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

/// The way into a namespace, for what may outlive it.
#[derive(Debug, Clone)]
pub(crate) struct Entrance(PathBuf);

impl Namespace {
    /// Makes a namespace with a loopback interface of its own.
    pub(crate) fn create(what: &str) -> Self {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}-{what}", std::process::id());
        run("ip", ["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs lines of `ip` in it.
    pub(crate) fn ip(&self, lines: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-batch", "-"]);
        feed(ip, lines);
    }

    /// Runs lines of `iptables-restore` in it, and nowhere else.
    pub(crate) fn iptables(&self, lines: &str) {
        let mut restore = Command::new("ip");
        restore.args(["netns", "exec", &self.name, "iptables-restore", "-w"]);
        feed(restore, lines);
    }

    /// How many packets each rule of a chain has met, in their order.
    pub(crate) fn counted(&self, chain: &str) -> Vec<u64> {
        let iptables = ["iptables", "-w", "-nvxL", chain];
        let output = run(
            "ip",
            [&["netns", "exec", &self.name], &iptables[..]].concat(),
        );
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let rules = text
            .lines()
            .skip(2)
            .filter_map(|line| line.split_whitespace().next());
        rules
            .map(|packets| packets.parse().expect("a number"))
            .collect()
    }

    /// Lets it pass packets on from one interface to another.
    pub(crate) fn forward(&self) {
        self.entrance()
            .inside(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
            .expect("a router");
    }

    /// The way into it.
    pub(crate) fn entrance(&self) -> Entrance {
        Entrance(Path::new("/run/netns").join(&self.name))
    }

    /// A connection that begins in it.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.entrance().connect(to)
    }

    /// A listener in it.
    pub(crate) fn listen(&self, at: SocketAddr) -> TcpListener {
        let listener = self.entrance().inside(|| std::net::TcpListener::bind(at));
        let listener = listener.unwrap_or_else(|error| panic!("{}: {at}: {error}", self.name));
        listener.set_nonblocking(true).expect("a listener");
        TcpListener::from_std(listener).expect("a listener")
    }

    /// A program to run in it, where these files are in `/etc`.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Replaces a file of `/etc` for what [`Self::command`] runs.
    pub(crate) fn etc(&self, file: &str, text: &str) {
        let folder = etc_folder(&self.name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(file), text).expect("a written file");
    }
}

impl Entrance {
    /// Runs `work` on a thread in the namespace. A socket made there stays
    /// there, whoever uses it later.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let handle = fs::File::open(&self.0).expect("a namespace");
        let enter = move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(handle.as_fd(), kind).expect("setns: not root?");
            work()
        };
        thread::scope(|scope| scope.spawn(enter).join()).expect("no panic")
    }

    /// A connection that begins in it.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.inside(|| std::net::TcpStream::connect_timeout(&to, CONNECT))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }

    /// A UDP socket in it.
    pub(crate) fn udp(&self) -> io::Result<UdpSocket> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let socket = self.inside(|| std::net::UdpSocket::bind(any))?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what tests that were killed have left.
fn sweep() {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !is_running_test(owner)) {
            remove(&name);
        }
    }
}

/// Whether the process is one of this program: process ids are used again.
fn is_running_test(process: &str) -> bool {
    let link = |process: &str| fs::read_link(format!("/proc/{process}/exe")).ok();
    let stem = |path: PathBuf| Some(path.file_name()?.to_str()?.split('-').next()?.to_owned());
    let own = link("self").and_then(stem);
    own.is_some() && link(process).and_then(stem) == own
}

/// Ends what runs in a namespace and removes it. Nothing here may panic: it
/// runs while a failed test unwinds.
fn remove(name: &str) {
    let quiet = |args: &[&str]| {
        let mut ip = Command::new("ip");
        ip.arg("netns").args(args).stderr(Stdio::null()).output()
    };
    if let Ok(output) = quiet(&["pids", name]) {
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        let own = std::process::id().to_string();
        for pid in pids.split_whitespace().filter(|pid| *pid != own) {
            let mut kill = Command::new("kill");
            let _ = kill.args(["-KILL", pid]).stderr(Stdio::null()).status();
        }
    }
    let _ = quiet(&["delete", name]);
    let _ = fs::remove_dir_all(etc_folder(name));
}

fn etc_folder(name: &str) -> PathBuf {
    Path::new("/etc/netns").join(name)
}

/// Runs a command that must succeed.
fn run<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Output {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: use `make test-netns`"));
    assert!(output.status.success(), "{program}: {}", said(&output));
    output
}

/// Runs a command that reads `lines` and must succeed.
fn feed(mut command: Command, lines: &str) {
    command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("ip: use `make test-netns`");
    let mut input = child.stdin.take().expect("stdin");
    // A command that ended at once says below why.
    let _ = input.write_all(lines.as_bytes());
    drop(input);
    let output = child.wait_with_output().expect("a status");
    assert!(output.status.success(), "{lines}\n{}", said(&output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
