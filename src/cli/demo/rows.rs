//! What a proxy sees of the service: one row an endpoint.

use std::{collections::BTreeSet, fmt::Write};

use anstyle::{AnsiColor, Style};

/// All endpoints a proxy sees.
pub(super) type Rows = BTreeSet<Row>;

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) address: String,
    pub(super) weight: u32,
    pub(super) kind: Kind,
}

/// What stands behind an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A pod of the proxy's own network.
    Pod,
    /// The gateway of another network.
    Gateway(String),
}

const DIM: Style = Style::new().dimmed();
const POD: Style = AnsiColor::Green.on_default();
const GATEWAY: Style = AnsiColor::Cyan.on_default();

/// The rows as lines of text; anstream drops the colours where no terminal
/// reads them.
pub(super) fn table(rows: &Rows) -> String {
    let mut out = String::new();
    for Row {
        address,
        weight,
        kind,
    } in rows
    {
        let (style, what) = match kind {
            Kind::Pod => (POD, "own network, direct".to_owned()),
            Kind::Gateway(network) => (GATEWAY, format!("gateway of {network}")),
        };
        let _ = writeln!(
            out,
            "    {style}{address:<22}{style:#} weight {weight:<3} {DIM}{what}{DIM:#}"
        );
    }
    out
}
