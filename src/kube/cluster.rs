//! The live cluster: the port [`Cluster`] over the API server.

use std::sync::Arc;

use kube::{Client, Config};

use super::pods::AttributionKeys;
use super::watch::Watches;
use super::{apply, memory, outbox};
use crate::core::action::ClusterAction;
use crate::core::record::LedgerRecord;
use crate::ports::{Applied, Clock, Cluster, ClusterError, ClusterView};

/// What the adapter must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster's name, as decisions and instance tags carry it.
    pub cluster: String,
    /// The namespace lowtide runs in.
    pub namespace: String,
    /// Who reports events: the name of lowtide's own pod.
    pub instance: String,
    /// Which labels say who pays.
    pub attribution: AttributionKeys,
}

/// The cluster lowtide runs in.
pub struct LiveCluster {
    pub(super) client: Client,
    pub(super) settings: ClusterSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watches: Watches,
}

/// A client for the cluster of this pod, or of the kubeconfig.
///
/// The client's own retries are off: they repeat a 429 for minutes, and that is how a PodDisruptionBudget refuses an eviction. The
/// next pass asks again.
///
/// # Errors
/// When there is no configuration, or it cannot be used.
pub async fn connect() -> Result<Client, ClusterError> {
    let mut config = Config::infer().await.map_err(|e| ClusterError::Refused(format!("find the cluster: {e}")))?;
    config.default_retry = false;
    Client::try_from(config).map_err(|e| ClusterError::Refused(format!("connect to the cluster: {e}")))
}

impl LiveCluster {
    /// Starts every watch. Give a client made by [`connect`], or one whose `default_retry` is off.
    pub fn start(client: Client, settings: ClusterSettings, clock: Arc<dyn Clock>) -> Self {
        let watches = Watches::start(&client, settings.attribution.clone());
        LiveCluster { client, settings, clock, watches }
    }
}

impl Cluster for LiveCluster {
    fn view(&self) -> Option<ClusterView> {
        self.watches.view()
    }

    async fn changed(&self) {
        self.watches.changed().await;
    }

    async fn apply(&self, action: &ClusterAction) -> Result<Applied, ClusterError> {
        apply::apply(self, action).await
    }

    async fn record(&self, records: &[LedgerRecord]) -> Result<(), ClusterError> {
        outbox::record(&self.client, records).await
    }

    async fn outbox(&self, limit: usize) -> Result<Vec<LedgerRecord>, ClusterError> {
        outbox::waiting(&self.client, limit).await
    }

    async fn outbox_size(&self) -> Result<usize, ClusterError> {
        outbox::size(&self.client).await
    }

    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        memory::read(&self.client, &self.settings.namespace).await
    }

    async fn keep_market_memory(&self, text: &str) -> Result<(), ClusterError> {
        memory::keep(&self.client, &self.settings.namespace, text).await
    }

    async fn forget(&self, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
        outbox::forget(&self.client, records).await
    }
}
