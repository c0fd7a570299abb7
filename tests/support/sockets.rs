//! Who listens where, as the kernel tells it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
};

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// `ip:port`.
    pub(crate) address: String,
    /// Processes that have it open.
    pub(crate) owners: BTreeSet<u32>,
}

/// The processes that a process has started, and those that they have.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let parents: Vec<_> = processes()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == pid)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Whether a process is there, and not only its status.
pub(crate) fn is_running(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != "Z")
}

/// The IPv4 sockets of some processes that listen.
pub(crate) fn listeners(of: &[u32]) -> Vec<Listener> {
    let mut owners = BTreeMap::<_, BTreeSet<_>>::new();
    for pid in of {
        for inode in sockets(*pid) {
            owners.entry(inode).or_default().insert(*pid);
        }
    }
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect());
    let listening = rows.filter(|row: &Vec<&str>| row[3] == "0A");
    let found = listening.filter_map(|row| {
        let owners = owners.get(row[9])?.clone();
        let address = address(row[1])?;
        Some(Listener { address, owners })
    });
    found.collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields after the name of the program, which may have spaces.
fn status(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn state(pid: u32) -> Option<String> {
    status(pid)?.first().cloned()
}

fn parent(pid: u32) -> Option<u32> {
    status(pid)?.get(1)?.parse().ok()
}

/// Inodes of the sockets that a process has open.
fn sockets(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let links = entries
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes = links.filter_map(|link| {
        let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    });
    inodes.collect()
}

/// `0100007F:1F90` is 127.0.0.1:8080.
fn address(hex: &str) -> Option<String> {
    let (ip, port) = hex.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(format!("{ip}:{port}"))
}
