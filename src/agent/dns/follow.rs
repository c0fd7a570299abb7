//! Gets the name table from the control plane, on a stream of the agent's own.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::{debug, info, warn};

use super::Names;
use crate::agent::certificate::{WorkloadCertificate, bearer};
use crate::agent::dial::{self, ClientCertificate, DialError};
use crate::agent::{Clock, random};
use crate::client::{AdsClient, ClientError, ProxySpec, SpecLocality, decode};
use crate::config::{AgentConfig, CertificateSource};
use crate::model::TypeUrl;
use crate::proto::nds::NameTable;

/// A stream that lived this long was no failed try.
const SETTLED: Duration = Duration::from_secs(10);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// What the stream is opened with.
#[derive(Debug)]
pub(in crate::agent) struct Source {
    pub(in crate::agent) config: AgentConfig,
    pub(in crate::agent) clock: Clock,
    pub(in crate::agent) issued: watch::Receiver<Option<Arc<WorkloadCertificate>>>,
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Keeps `names` current, for ever. What was known stays known while the
/// control plane is away.
pub(in crate::agent) async fn follow(names: Names, mut source: Source) {
    let mut tries = 0;
    loop {
        source.wait_for_certificate().await;
        let begun = Instant::now();
        let Err(problem) = source.stream(&names).await;
        tries = if begun.elapsed() > SETTLED {
            0
        } else {
            tries + 1
        };
        let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(tries));
        let wait = doubled.min(LONGEST_BACKOFF).mul_f64(0.5 + random() / 2.0);
        let retry_in_ms = wait.as_millis();
        if names.are_known() {
            info!(%problem, retry_in_ms, "the stream of names ended; those known stay");
        } else {
            warn!(%problem, retry_in_ms, "no names of the mesh yet");
        }
        sleep(wait).await;
    }
}

/// The stream never ends well.
enum Never {}

impl Source {
    /// Before it there is nothing to say who asks with.
    async fn wait_for_certificate(&mut self) {
        if let CertificateSource::Authority(_) = self.config.certificates {
            // Its sender lives as long as the agent.
            let _ = self.issued.wait_for(Option::is_some).await;
        }
    }

    async fn stream(&mut self, names: &Names) -> Result<Never, FollowError> {
        let client = self.client_certificate().await;
        let channel = dial::dial(&self.config.discovery, client).await?;
        let asked = (TypeUrl::NameTable, Vec::new());
        let node = self.node().node();
        let headers = self.headers().await;
        let mut stream = AdsClient::open_on(channel, headers, node, asked).await?;
        loop {
            let response = stream.next().await?;
            if response.type_url != TypeUrl::NameTable.as_str() {
                continue;
            }
            // There is one resource, whatever it is called.
            for (_, table) in decode::<NameTable>(response)?.into_iter().take(1) {
                debug!(names = table.table.len(), "names received");
                names.set(&table);
            }
        }
    }

    async fn client_certificate(&self) -> Option<ClientCertificate> {
        match &self.config.certificates {
            CertificateSource::Authority(_) => {
                let issued = self.issued.borrow().clone();
                issued?.as_client((self.clock)())
            }
            CertificateSource::Files(files) => Some(ClientCertificate {
                chain: dial::certificates(&files.chain).await.ok()?,
                key: dial::private_key(&files.key).await.ok()?,
            }),
        }
    }

    /// The proxy's own node: the table is for what it sees.
    fn node(&self) -> ProxySpec {
        let node = &self.config.node;
        ProxySpec {
            name: node.service_cluster.clone(),
            id: node.id(),
            locality: SpecLocality {
                region: node.locality.region().to_owned(),
                zone: node.locality.zone().to_owned(),
                sub_zone: node.locality.subzone().to_owned(),
            },
            metadata: node.metadata.clone(),
            extensions: Vec::new(),
        }
    }

    /// A control plane that takes no client certificate takes the token.
    async fn headers(&self) -> MetadataMap {
        let mut headers = MetadataMap::new();
        for (name, value) in &self.config.discovery_headers.0 {
            let name = MetadataKey::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, MetadataValue::try_from(value)) {
                headers.insert(name, value);
            }
        }
        if let CertificateSource::Authority(authority) = &self.config.certificates
            && let Ok(Some(token)) = bearer(&authority.token).await
        {
            headers.insert("authorization", token);
        }
        headers
    }
}
