//! The live cluster: the port [`Cluster`] over the API server.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config};

use super::api::GpuNodeClaim;
use super::api_clock::ApiClock;
use super::errors::call;
use super::pods::AttributionKeys;
use super::watch::{Ignored, Watches};
use super::{apply, claims, memory, outbox};
use crate::core::action::ClusterAction;
use crate::core::fleet::ClaimsNow;
use crate::core::record::LedgerRecord;
use crate::core::units::time::Millis;
use crate::ports::{Applied, Clock, Cluster, ClusterError, ClusterView};

/// Claims per page.
const PAGE: u32 = 500;

/// What the adapter must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// The cluster's name, as in decisions and instance tags.
    pub cluster: String,
    /// The cluster's UID: see [`read_uid`].
    pub uid: String,
    /// The namespace lowtide runs in.
    pub namespace: String,
    /// Who reports events: the name of lowtide's own pod.
    pub instance: String,
    /// Which labels say who pays.
    pub attribution: AttributionKeys,
    /// The label of namespaces that lowtide leaves alone: the chart's `admission.ignoreLabel`.
    pub ignore_label: String,
    /// Namespaces that the chart's policies leave out: nothing keeps their pods' owners from our marks, so that lowtide leaves these alone too.
    pub exempt_namespaces: Vec<String>,
}

/// The cluster lowtide runs in.
pub struct LiveCluster {
    pub(super) client: Client,
    pub(super) settings: ClusterSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watches: Watches,
    api_clock: ApiClock,
    packs: outbox::packs::Packs,
}

/// A client for the cluster of this pod, or of the kubeconfig.
///
/// The client's own retries are off: they repeat a 429 for minutes, and that is how a PodDisruptionBudget refuses an eviction. The next
/// pass tries again.
///
/// # Errors
/// When there is no configuration, or it cannot be used.
pub async fn connect() -> Result<Client, ClusterError> {
    let mut config = Config::infer().await.map_err(|e| ClusterError::Refused(format!("find the cluster: {e}")))?;
    config.default_retry = false;
    Client::try_from(config).map_err(|e| ClusterError::Refused(format!("connect to the cluster: {e}")))
}

/// The namespace whose UID is the cluster's: every cluster has it from the start, and nobody can recreate it.
const UID_OF: &str = "kube-system";

/// The cluster's UID.
///
/// # Errors
/// When the namespace `kube-system` cannot be read.
pub async fn read_uid(client: &Client) -> Result<String, ClusterError> {
    let found = call("read the cluster's UID", Api::<Namespace>::all(client.clone()).get_metadata(UID_OF)).await?;
    let missing = || ClusterError::Refused(format!("namespace {UID_OF} has no uid, and so the cluster has no identity"));
    found.metadata.uid.filter(|uid| !uid.is_empty()).ok_or_else(missing)
}

impl LiveCluster {
    /// Starts every watch. Pass a client created by [`connect`], or one with `default_retry` off.
    pub fn start(client: Client, settings: ClusterSettings, clock: Arc<dyn Clock>) -> Self {
        let ignored = Ignored { label: settings.ignore_label.clone(), names: settings.exempt_namespaces.iter().cloned().collect() };
        let watches = Watches::start(&client, settings.uid.clone(), settings.attribution.clone(), ignored);
        let api_clock = ApiClock::start(client.clone(), Arc::clone(&clock));
        LiveCluster { client, settings, clock, watches, api_clock, packs: outbox::packs::Packs::default() }
    }
}

impl Cluster for LiveCluster {
    fn uid(&self) -> String {
        self.settings.uid.clone()
    }

    fn ahead(&self) -> Option<Millis> {
        self.api_clock.ahead()
    }

    async fn claims_now(&self) -> Result<ClaimsNow, ClusterError> {
        let api: Api<DeserializeGuard<GpuNodeClaim>> = Api::all(self.client.clone());
        // Without a resourceVersion the API server reads from etcd's quorum, not from its cache.
        let (mut params, mut found) = (ListParams::default().limit(PAGE), Vec::new());
        loop {
            let page = call("list the claims", api.list(&params)).await?;
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(claims::claims_now(&found)),
            }
        }
    }

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
        outbox::waiting(&self.client, &self.packs, limit).await
    }

    async fn outbox_size(&self) -> Result<usize, ClusterError> {
        outbox::size(&self.client, &self.packs).await
    }

    async fn pack_outbox(&self, above: usize) -> Result<usize, ClusterError> {
        outbox::pack(&self.client, &self.packs, above).await
    }

    async fn market_memory(&self) -> Result<Option<String>, ClusterError> {
        memory::read(&self.client, &self.settings.namespace).await
    }

    async fn keep_market_memory(&self, text: &str) -> Result<(), ClusterError> {
        memory::keep(&self.client, &self.settings.namespace, text).await
    }

    async fn forget(&self, records: &[uuid::Uuid]) -> Result<(), ClusterError> {
        outbox::forget(&self.client, &self.packs, records).await
    }
}
