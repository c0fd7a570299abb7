//! Listening addresses in Go's form: `:8080`, `127.0.0.1:8080`, `localhost:0`.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs},
};

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// Address and port; `[::]` takes IPv4 as well.
    pub socket: SocketAddr,
    /// No host was given: where the machine has no IPv6, `0.0.0.0` does.
    pub any_host: bool,
}

/// Why a text is no listening address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Not `[HOST]:PORT`.
    #[error("{0:?} is not [HOST]:PORT")]
    Form(String),
    /// The host has no address.
    #[error("cannot resolve {0:?}; give an IP address")]
    Resolve(String),
}

impl ListenAddress {
    /// Reads `[HOST]:PORT`; none for an empty text, which turns the listener off.
    pub fn parse(text: &str) -> Result<Option<Self>, ListenError> {
        if text.is_empty() {
            return Ok(None);
        }
        let form = || ListenError::Form(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let port: u16 = port.parse().map_err(|_| form())?;
        if host.is_empty() {
            let socket = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            return Ok(Some(Self {
                socket,
                any_host: true,
            }));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut found = (host, port).to_socket_addrs().ok().into_iter().flatten();
        let socket = found
            .next()
            .ok_or_else(|| ListenError::Resolve(host.to_owned()))?;
        Ok(Some(Self {
            socket,
            any_host: false,
        }))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_listens_on_every_address() {
        let address = ListenAddress::parse(":15010").unwrap().unwrap();
        assert_eq!(address.to_string(), "[::]:15010");
        assert!(address.any_host);
    }

    #[test]
    fn an_empty_address_turns_the_listener_off() {
        assert_eq!(ListenAddress::parse(""), Ok(None));
    }

    #[test]
    fn an_address_without_port_is_refused() {
        let error = ListenAddress::parse("localhost").unwrap_err();
        assert_eq!(error, ListenError::Form("localhost".into()));
    }
}
