//! `lowtide adopt`: takes over machines that carry this cluster's name, after a rebuilt control plane, a restored backup, or an upgrade
//! from a version that wrote no cluster UID. Without `--yes` it only says what it would do.
//!
//! It may run alongside the operator, and again if it was interrupted: the claim is written first and says which machine it is for, so
//! nothing is ever launched for it; the machine's tags follow.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use kube::api::{ListParams, PostParams};
use kube::core::{DeserializeGuard, ObjectMeta};
use kube::{Api, Client, ResourceExt};

use super::endpoints::EndpointArgs;
use crate::aws::{AwsCloud, AwsSettings};
use crate::core::fleet::{Claim, ClaimSpec, Instance, NodeClass, NodePool, UnreadableClaim, tags};
use crate::core::market::catalog::Catalog;
use crate::core::market::{CapacityType, Quote};

use crate::core::plan::claims::adoption::{AdoptedPrices, Allowed, Ours, Proposal, propose};
use crate::core::units::ids::{ClaimName, ClassName, InstanceId, PoolName, Region, Uid};
use crate::core::units::money::MicroUsdPerHour;
use crate::engine::wall_clock::WallClock;
use crate::kube::api::{CLAIM_FINALIZER, GpuNodeClaim, GpuNodeClass, GpuNodePool};
use crate::kube::errors::call;
use crate::kube::{claims, classes, connect, names, pools, read_uid};
use crate::ports::Cloud;

/// Takes over machines with this cluster's name that have no claim; without --yes it only says what it would do.
#[derive(Debug, clap::Args)]
pub struct AdoptArgs {
    /// The cluster's name, as in the machines' tags.
    #[arg(long, env = "LOWTIDE_CLUSTER", default_value = "default")]
    pub cluster: String,
    /// Take over machines with this cluster UID, that of a cluster that is gone. May be repeated.
    #[arg(long)]
    pub from_uid: Vec<String>,
    /// Take over machines without a cluster UID.
    #[arg(long)]
    pub unmarked: bool,
    /// Also close the books of machines that ended while no claim stood for them, as far as EC2 still shows them (an hour). What is recorded
    /// again of one whose books are closed changes nothing.
    #[arg(long)]
    pub ended: bool,
    /// Make the changes.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    endpoint: EndpointArgs,
}

/// What stopped an adoption.
#[derive(Debug, thiserror::Error)]
enum AdoptError {
    /// The API server.
    #[error(transparent)]
    Cluster(#[from] crate::ports::ClusterError),
    /// EC2.
    #[error(transparent)]
    Cloud(#[from] crate::ports::CloudError),
}

/// What the cluster has.
struct Seen {
    uid: String,
    claims: BTreeMap<ClaimName, Claim>,
    unreadable: BTreeMap<ClaimName, UnreadableClaim>,
    pools: BTreeMap<PoolName, NodePool>,
    classes: BTreeMap<ClassName, NodeClass>,
}

async fn look(client: &Client) -> Result<Seen, AdoptError> {
    let params = ListParams::default();
    let (mut claims_read, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    let all: Api<DeserializeGuard<GpuNodeClaim>> = Api::all(client.clone());
    for object in call("list the claims", all.list(&params)).await? {
        match claims::read_guarded(&object) {
            Ok(claim) => drop(claims_read.insert(claim.name.clone(), claim)),
            Err(Some(claim)) => drop(unreadable.insert(claim.name.clone(), claim)),
            Err(None) => {}
        }
    }
    let found = call("list the pools", Api::<GpuNodePool>::all(client.clone()).list(&params)).await?;
    let read = |pool: &GpuNodePool| pools::read(pool, &BTreeMap::new(), "").inspect_err(|fault| eprintln!("lowtide adopt: {fault}")).ok();
    let pools = found.iter().filter_map(read).map(|pool| (pool.name.clone(), pool)).collect();
    let found = call("list the classes", Api::<GpuNodeClass>::all(client.clone()).list(&params)).await?;
    let classes = found.iter().map(classes::read).map(|class| (class.name.clone(), class)).collect();
    Ok(Seen { uid: read_uid(client).await?, claims: claims_read, unreadable, pools, classes })
}

/// The machine's price when it was launched, and what it would cost on-demand.
async fn prices(cloud: &AwsCloud, machine: &Instance) -> Result<AdoptedPrices, AdoptError> {
    let (capacity, types) = (&machine.capacity, [machine.capacity.instance_type.clone()]);
    let earliest = |quotes: Vec<Quote>| {
        let here = quotes.into_iter().filter(|q| q.zone.as_ref().is_none_or(|zone| *zone == capacity.zone));
        here.min_by_key(|q| q.effective_from).map(|q| q.price_per_hour)
    };
    let on_demand = earliest(cloud.on_demand_quotes(&capacity.region, &types).await?);
    let at_launch = match capacity.capacity_type {
        CapacityType::Spot => earliest(cloud.spot_quotes(&capacity.region, &types, machine.launched_at).await?),
        CapacityType::OnDemand => on_demand,
        CapacityType::Reserved => Some(MicroUsdPerHour(0)),
    };
    Ok(AdoptedPrices { at_launch, on_demand })
}

/// Creates the claim; returns its uid.
async fn make_claim(client: &Client, name: &ClaimName, spec: &ClaimSpec) -> Result<Uid, AdoptError> {
    let mut claim = GpuNodeClaim::new(name.as_str(), claims::write_spec(spec));
    claim.metadata = ObjectMeta { finalizers: Some(vec![CLAIM_FINALIZER.to_owned()]), ..claim.metadata };
    let params = PostParams { field_manager: Some(names::FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let made = call(format!("create claim {name}"), Api::<GpuNodeClaim>::all(client.clone()).create(&params, &claim)).await?;
    Ok(Uid::from(made.uid().unwrap_or_default()))
}

async fn adopt(args: &AdoptArgs) -> Result<(usize, usize), AdoptError> {
    let client = connect().await?;
    let seen = look(&client).await?;
    let settings = AwsSettings { cluster_uid: seen.uid.clone(), ..AwsSettings::new(args.cluster.clone(), Arc::new(WallClock)) };
    let cloud = AwsCloud::new(args.endpoint.of(settings)).await;
    let catalog = Catalog::snapshot();
    let Seen { uid, claims, unreadable, pools, classes } = &seen;
    let ours = Ours { cluster: &args.cluster, uid, claims, unreadable, pools, classes, catalog: &catalog };
    let allowed = Allowed { from_uids: args.from_uid.iter().cloned().collect(), unmarked: args.unmarked, ended: args.ended };
    let regions: std::collections::BTreeSet<&Region> = seen.classes.values().map(|class| &class.region).collect();
    println!(
        "this cluster: {} ({}); regions of its classes: {}",
        args.cluster,
        seen.uid,
        regions.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ")
    );
    let (mut taken, mut left) = (0, 0);
    for region in regions {
        for machine in cloud.instances(region, &args.cluster).await? {
            match propose(&ours, &allowed, &machine, prices(&cloud, &machine).await?) {
                None => {}
                Some(Proposal::Leave { because }) => {
                    left += 1;
                    println!("leave   {} ({}): {because}", machine.id, machine.capacity);
                }
                Some(Proposal::Adopt { name, spec, claimed }) => {
                    taken += 1;
                    let (id, at, deed) = (&machine.id, &machine.capacity, deed(args.yes, machine.is_alive()));
                    println!("{deed} {id} ({at}) as claim {name}, pool {}, ${}/h", spec.node_pool, spec.price_per_hour);
                    if args.yes {
                        let known = seen.claims.get(&name).filter(|_| claimed).map(|claim| claim.uid.clone());
                        take((&client, &cloud), &seen.uid, &machine, (&name, &spec, known)).await?;
                    }
                }
            }
        }
    }
    Ok((taken, left))
}

/// What is done with a machine, or would be.
fn deed(done: bool, alive: bool) -> &'static str {
    match (done, alive) {
        (true, true) => "adopt  ",
        (false, true) => "would adopt",
        (true, false) => "close the books of",
        (false, false) => "would close the books of",
    }
}

/// Creates the claim unless it is `known`, and then writes it on the machine, if that is alive.
async fn take(
    (client, cloud): (&Client, &AwsCloud),
    uid: &str,
    machine: &Instance,
    (name, spec, known): (&ClaimName, &ClaimSpec, Option<Uid>),
) -> Result<(), AdoptError> {
    let claim = match known {
        Some(claim) => claim,
        None => make_claim(client, name, spec).await?,
    };
    if !machine.is_alive() {
        return Ok(());
    }
    mark(cloud, &machine.capacity.region, &machine.id, (uid, &claim, spec.books.as_ref().unwrap_or(&claim))).await
}

/// Writes on the machine whose it is, which claim holds it, and under which uid its books are kept.
async fn mark(cloud: &AwsCloud, region: &Region, id: &InstanceId, (uid, claim, books): (&str, &Uid, &Uid)) -> Result<(), AdoptError> {
    let words = [(tags::CLUSTER_UID, uid), (tags::CLAIM_UID, claim.as_str()), (tags::BOOKS, books.as_str())];
    Ok(cloud.mark_instance(region, id, &words).await?)
}

/// Runs `lowtide adopt`.
pub async fn run(args: AdoptArgs) -> ExitCode {
    if let Err(fault) = args.endpoint.check() {
        eprintln!("lowtide adopt: {fault}");
        return ExitCode::FAILURE;
    }
    match adopt(&args).await {
        Ok((taken, left)) => {
            let said = if args.yes { "adopted" } else { "would be adopted; nothing was changed, run with --yes to do it" };
            println!("{taken} machines {said}; {left} left alone");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("lowtide adopt: {fault}; run it again, what was done is kept");
            ExitCode::FAILURE
        }
    }
}
