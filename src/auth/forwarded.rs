//! Certificates that a gateway saw and forwarded (`x-forwarded-client-cert`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Caller, Credentials, Reason, Via};

#[cfg(test)]
mod tests;

/// Gateways whose word counts (`TRUSTED_GATEWAY_CIDR`).
#[derive(Debug)]
pub(super) struct TrustedGateways(pub(super) Vec<IpNet>);

impl TrustedGateways {
    /// All names that the header holds, if the peer may be believed (istiod:
    /// `XfccAuthenticator`).
    pub(super) fn check(&self, credentials: &Credentials) -> Result<Caller, Reason> {
        let header = credentials.forwarded.as_deref().ok_or(Reason::Absent)?;
        let peer = credentials.peer.ip().to_canonical();
        if !self.trust(peer) {
            return Err(Reason::Untrusted(peer));
        }
        let identities = names(header).ok_or(Reason::Forwarded)?;
        if identities.is_empty() {
            return Err(Reason::NoIdentity);
        }
        Ok(Caller {
            identities,
            via: Via::ForwardedCertificate,
        })
    }

    /// istiod: loopback is trusted as soon as any range is.
    fn trust(&self, peer: IpAddr) -> bool {
        peer.is_loopback() || self.0.iter().any(|range| range.contains(&peer))
    }
}

/// The URIs, DNS names and common names of all elements, element by element;
/// none where the header does not parse.
fn names(header: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for element in split(header, ',')? {
        let (mut uris, mut hosts, mut common) = (Vec::new(), Vec::new(), None);
        for pair in split(element, ';')? {
            let (key, value) = pair.split_once('=')?;
            let value = unquote(value.trim())?;
            match key.trim().to_ascii_lowercase().as_str() {
                "uri" => uris.push(value),
                "dns" => hosts.push(value),
                "subject" => common = common_name(&value),
                "by" | "hash" | "cert" | "chain" => {}
                _ => return None,
            }
        }
        let all = uris.into_iter().chain(hosts).chain(common);
        names.extend(all.filter(|name| !name.is_empty()));
    }
    Some(names)
}

/// Splits where a separator stands outside of quotes; none where a quote stays
/// open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(text.get(start..at)?);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

/// The value without its quotes and their escapes; none where a quote stands
/// inside a value that is not quoted.
fn unquote(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let inner = inner.strip_suffix('"')?;
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?),
            '"' => return None,
            _ => out.push(c),
        }
    }
    Some(out)
}

/// `CN` of a subject as RFC 2253 writes it, or as OpenSSL does (`/CN=…`).
fn common_name(subject: &str) -> Option<String> {
    let separator = if subject.starts_with('/') { '/' } else { ',' };
    let mut parts = split_escaped(subject, separator).into_iter();
    parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let is_common = key.trim().eq_ignore_ascii_case("CN");
        is_common.then(|| value.trim().to_owned())
    })
}

/// Splits where a separator has no backslash before it, and takes the
/// backslashes away.
fn split_escaped(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == separator {
            parts.push(String::new());
            continue;
        }
        let plain = if c == '\\' { chars.next() } else { Some(c) };
        if let Some(last) = parts.last_mut() {
            last.extend(plain);
        }
    }
    parts
}
