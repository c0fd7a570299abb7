//! `VirtualService`s: who may use them, in which order.

mod delegate;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use crate::model::{ExportTo, GatewayName, Namespace, VirtualService};

type List = Vec<Arc<VirtualService>>;

/// All `VirtualService`s of the mesh, by the gateway they are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VirtualServices {
    by_gateway: BTreeMap<GatewayName, Visible>,
}

/// Those of one gateway, each list oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Visible {
    /// Of a namespace, for itself.
    own: BTreeMap<Namespace, List>,
    /// Of others, for one namespace.
    exported: BTreeMap<Namespace, List>,
    /// For everybody.
    public: List,
}

impl VirtualServices {
    /// Indexes `all`, delegates put in place; those that name no `exportTo` get
    /// `default_export`.
    pub fn new(
        all: impl IntoIterator<Item = Arc<VirtualService>>,
        default_export: &ExportTo,
    ) -> Self {
        let mut sorted = delegate::merged(all, default_export);
        sorted.sort_by(|a, b| a.meta.cmp(&b.meta));
        let mut index = Self::default();
        for service in &sorted {
            index.add(service, default_export);
        }
        index
    }

    fn add(&mut self, service: &Arc<VirtualService>, default_export: &ExportTo) {
        let own = &service.meta.namespace;
        let default = || default_export.in_namespace(own);
        let export = service.export_to.clone().unwrap_or_else(default);
        let mut gateways = service.gateways.clone();
        gateways.sort();
        gateways.dedup();
        for gateway in gateways {
            let visible = self.by_gateway.entry(gateway).or_default();
            let namespaces = match &export {
                ExportTo::Everyone => {
                    visible.public.push(Arc::clone(service));
                    continue;
                }
                ExportTo::Nobody => continue,
                ExportTo::Namespaces(namespaces) => namespaces,
            };
            for namespace in namespaces {
                let lists = if namespace == own {
                    &mut visible.own
                } else {
                    &mut visible.exported
                };
                let list = lists.entry(namespace.clone()).or_default();
                list.push(Arc::clone(service));
            }
        }
    }

    /// Those that a proxy of `namespace`, configured for `gateway`, may use, in
    /// the order in which they win over each other (istiod:
    /// `virtualServiceIndex`): the namespace's own, those exported to it, those
    /// for everybody.
    pub fn visible(
        &self,
        namespace: &Namespace,
        gateway: &GatewayName,
    ) -> impl Iterator<Item = &Arc<VirtualService>> {
        let visible = self.by_gateway.get(gateway).into_iter();
        visible.flat_map(move |visible| {
            let own = visible.own.get(namespace).into_iter().flatten();
            let exported = visible.exported.get(namespace).into_iter().flatten();
            own.chain(exported).chain(&visible.public)
        })
    }

    /// All of them; some more than once.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<VirtualService>> {
        self.by_gateway.values().flat_map(|visible| {
            let own = visible.own.values().flatten();
            let exported = visible.exported.values().flatten();
            own.chain(exported).chain(&visible.public)
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_gateway.is_empty()
    }
}
