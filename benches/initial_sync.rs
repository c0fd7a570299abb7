//! From the start of `isthmus discovery` to ready, with the API servers of
//! three clusters replayed by `isthmus replay`, each in a process of its own.
//!
//! `cargo bench --bench initial_sync [-- SERVICES:ENDPOINTS …]`, of each cluster;
//! without, 300 k and 1 M endpoints over all clusters. Linux only.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench may panic and prints its figures"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use tokio::time::Instant;

const CLUSTERS: u64 = 3;
const DEFAULT: [&str; 2] = ["1000:100", "3400:100"];
/// How long a synchronisation may take.
const LIMIT: Duration = Duration::from_mins(5);
/// Ticks of `/proc/PID/stat` in a second, as everywhere on Linux.
const TICKS: u64 = 100;

/// A child that is killed when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("isthmus starts"))
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.0.id());
        fs::read_to_string(path).expect("Linux")
    }

    /// CPU time so far, in milliseconds.
    fn cpu(&self) -> u64 {
        let stat = self.read("stat");
        let (_, behind_name) = stat.rsplit_once(')').expect("a name");
        let times = behind_name.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|t| t.parse::<u64>().ok()).sum();
        ticks * 1000 / TICKS
    }

    /// A size of `/proc/PID/status` in MiB.
    fn size(&self, field: &str) -> u64 {
        let status = self.read("status");
        let line = status.lines().find(|line| line.starts_with(field));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("a figure").parse::<u64>().expect("a number") / 1024
    }
}

fn isthmus() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_isthmus"));
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn replay(services: u64, endpoints: u64, folder: &Path) -> Running {
    let mut running = Running::start(
        isthmus()
            .args(["replay", "--gateways"])
            .arg(format!("--clusters={CLUSTERS}"))
            .arg(format!("--services={services}"))
            .arg(format!("--endpoints={endpoints}"))
            .arg("--dir")
            .arg(folder)
            .stdout(Stdio::piped()),
    );
    let stdout = running.0.stdout.take().expect("stdout");
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line);
    read.expect("a line");
    assert!(line.starts_with("ready"), "{line}");
    running
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn discovery(folder: &Path, http: &str) -> Running {
    Running::start(
        isthmus()
            .args(["discovery", "--clusterID=c1"])
            .args(["--grpcAddr", &free_address(), "--httpAddr", http])
            .args(["--monitoringAddr=", "--secureGRPCAddr="])
            .arg("--kubeconfig")
            .arg(folder.join("c1.yaml"))
            .current_dir(folder)
            .env("POD_NAMESPACE", "istio-system")
            .stdout(Stdio::null()),
    )
}

fn is_ready(http: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(http) else {
        return false;
    };
    let asked = stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}

fn measure(services: u64, endpoints: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let servers = replay(services, endpoints, folder.path());
    let (http, started) = (free_address(), Instant::now());
    let plane = discovery(folder.path(), &http);
    while !is_ready(&http) {
        assert!(started.elapsed() < LIMIT, "not ready in {LIMIT:?}");
        sleep(Duration::from_millis(10));
    }
    let took = started.elapsed();
    println!(
        "{} endpoints: ready after {:.2} s, CPU {:.2} s, peak {} MiB, resident {} MiB; \
         replay: CPU {:.2} s, peak {} MiB",
        CLUSTERS * services * endpoints,
        took.as_secs_f64(),
        Duration::from_millis(plane.cpu()).as_secs_f64(),
        plane.size("VmHWM"),
        plane.size("VmRSS"),
        Duration::from_millis(servers.cpu()).as_secs_f64(),
        servers.size("VmHWM"),
    );
}

fn main() {
    // cargo adds `--bench`.
    let given: Vec<String> = env::args().skip(1).filter(|a| a.contains(':')).collect();
    let default = DEFAULT.map(str::to_owned);
    let shapes = if given.is_empty() {
        &default[..]
    } else {
        &given
    };
    for shape in shapes {
        let (services, endpoints) = shape.split_once(':').expect("SERVICES:ENDPOINTS");
        let number = |text: &str| text.parse().expect("a number");
        measure(number(services), number(endpoints));
    }
}
