//! NDS: what the DNS server of an agent answers.

mod table;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use prost::Message;

use self::table::NameTableClass;
use super::client::Client;
use super::resources::ResourceList;
use crate::model::TypeUrl;
use crate::wire::EncodedResource;

/// The name table of a proxy, one resource without a name.
pub(super) fn list(client: &Client) -> ResourceList {
    let class = NameTableClass::of(client);
    let table = client
        .snapshot
        .names()
        .get_or_make(class, |class| resource(client, class));
    Arc::clone(&table)
}

fn resource(client: &Client, class: &NameTableClass) -> ResourceList {
    let table = table::build(client, class);
    let body = table.encode_to_vec();
    let resource = EncodedResource::new(TypeUrl::NameTable.as_str(), Arc::from(""), &body);
    Arc::from([Arc::new(resource)])
}
