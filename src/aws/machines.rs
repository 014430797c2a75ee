//! What can be bought: NVIDIA machine types, and the zones that sell each type.

use std::sync::LazyLock;

use aws_sdk_ec2::types::{ArchitectureType, AttachmentLimitType, InstanceTypeInfo, LocationType, UsageClassType};

use crate::core::market::catalog::{Architecture, Catalog, MachineType, common_volumes, volumes_for_pods};
use crate::core::units::Mebibytes;
use crate::core::units::ids::{GpuModel, InstanceType, Region, ZoneId};
use crate::ports::CloudError;

use super::conversion::named;
use super::errors::from_sdk;
use super::{AwsCloud, all_pages};

/// The shipped catalogue: for what an answer leaves out.
static SHIPPED: LazyLock<Catalog> = LazyLock::new(Catalog::snapshot);
/// `MaxResults` of DescribeInstanceTypes goes to 100, of DescribeInstanceTypeOfferings to 1,000 (EC2 API reference).
const TYPES_PAGE: i32 = 100;
const OFFERINGS_PAGE: i32 = 1_000;

impl AwsCloud {
    /// NVIDIA machine types that the region knows.
    pub(super) async fn nvidia_types(&self, region: &Region) -> Result<Vec<MachineType>, CloudError> {
        let clients = self.clients(region);
        let rows = all_pages("DescribeInstanceTypes", |token| {
            let ask = clients.ec2.describe_instance_types().max_results(TYPES_PAGE).set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeInstanceTypes", region, error))?;
                Ok((page.instance_types.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let mut types: Vec<MachineType> = rows.iter().filter_map(machine_type).collect();
        types.sort_by(|a, b| a.instance_type.cmp(&b.instance_type));
        Ok(types)
    }

    /// Which types are sold in which zones.
    pub(super) async fn types_by_zone(&self, region: &Region) -> Result<Vec<(InstanceType, ZoneId)>, CloudError> {
        let clients = self.clients(region);
        let rows = all_pages("DescribeInstanceTypeOfferings", |token| {
            let ask = clients.ec2.describe_instance_type_offerings().location_type(LocationType::AvailabilityZoneId);
            let ask = ask.max_results(OFFERINGS_PAGE).set_next_token(token);
            async move {
                let page = ask.send().await.map_err(|error| from_sdk("DescribeInstanceTypeOfferings", region, error))?;
                Ok((page.instance_type_offerings.unwrap_or_default(), page.next_token))
            }
        })
        .await?;
        let mut offerings: Vec<(InstanceType, ZoneId)> = rows
            .iter()
            .filter_map(|row| Some((named(row.instance_type().map(|it| it.as_str()))?.into(), named(row.location())?.into())))
            .collect();
        offerings.sort();
        offerings.dedup();
        Ok(offerings)
    }
}

/// A GPU's name in lowtide's notation: lower case, words joined by `-` (`L4` is `l4`, `RTX PRO 4500` is `rtx-pro-4500`).
pub fn gpu_model(name: &str) -> GpuModel {
    name.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join("-").into()
}

/// No machine has more of anything than this, in MiB or pieces: a larger number is a mistake, and sums of it would overflow.
const MOST: i64 = 1 << 32;

fn plausible(number: i64) -> Option<i64> {
    (1..=MOST).contains(&number).then_some(number)
}

/// A type as EC2 describes it; `None` if it has no NVIDIA GPU, EC2 does not say how much memory the GPU has, or a number of it cannot be.
pub fn machine_type(info: &InstanceTypeInfo) -> Option<MachineType> {
    let gpus = info.gpu_info()?.gpus();
    let gpu = gpus.iter().find(|gpu| gpu.manufacturer().is_some_and(|maker| maker.eq_ignore_ascii_case("nvidia")))?;
    // A fractional type (g6f) has Count 0 and LogicalGpuCount 1; older answers have no LogicalGpuCount.
    let count = gpu.logical_gpu_count().filter(|n| *n > 0).or(gpu.count()).filter(|n| *n > 0)?;
    let architectures = info.processor_info()?.supported_architectures();
    let architecture = match architectures.iter().find(|it| matches!(it, ArchitectureType::X8664 | ArchitectureType::Arm64))? {
        ArchitectureType::Arm64 => Architecture::Arm64,
        _ => Architecture::Amd64,
    };
    Some(MachineType {
        instance_type: info.instance_type()?.as_str().into(),
        gpu_model: gpu_model(gpu.name()?),
        gpus: plausible(i64::from(count))?,
        gpu_memory: Mebibytes(plausible(i64::from(gpu.memory_info()?.size_in_mib()?))?),
        vcpus: plausible(i64::from(info.v_cpu_info()?.default_v_cpus()?))?,
        memory: Mebibytes(plausible(info.memory_info()?.size_in_mib()?)?),
        architecture,
        spot_supported: info.supported_usage_classes().contains(&UsageClassType::Spot),
        volumes: volumes(info),
        // In GB of 10^9 bytes; a type without instance store has none.
        instance_store: Mebibytes(
            info.instance_storage_info().and_then(|s| s.total_size_in_gb()).unwrap_or(0).clamp(0, MOST) * 1_000_000_000 / (1 << 20),
        ),
    })
}

/// EBS volumes that pods can attach. Where EC2 does not say, the shipped catalogue may know the type.
fn volumes(info: &InstanceTypeInfo) -> i64 {
    let said = info.ebs_info().and_then(|ebs| Some((i64::from(ebs.maximum_ebs_attachments()?), ebs.attachment_limit_type()?)));
    match said {
        Some((most, kind)) => volumes_for_pods(most, *kind != AttachmentLimitType::Dedicated),
        None => info
            .instance_type()
            .and_then(|name| SHIPPED.types.get(&InstanceType::from(name.as_str())))
            .map_or_else(common_volumes, |known| known.volumes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ec2::types::{GpuDeviceInfo, GpuDeviceMemoryInfo, GpuInfo, InstanceType as SdkType, MemoryInfo, ProcessorInfo, VCpuInfo};

    fn info(name: &str, gpu: GpuDeviceInfo) -> InstanceTypeInfo {
        InstanceTypeInfo::builder()
            .instance_type(SdkType::from(name))
            .gpu_info(GpuInfo::builder().gpus(gpu).build())
            .processor_info(ProcessorInfo::builder().supported_architectures(ArchitectureType::X8664).build())
            .v_cpu_info(VCpuInfo::builder().default_v_cpus(4).build())
            .memory_info(MemoryInfo::builder().size_in_mib(16_384).build())
            .supported_usage_classes(UsageClassType::OnDemand)
            .supported_usage_classes(UsageClassType::Spot)
            .build()
    }

    fn gpu(name: &str, maker: &str, mib: i32) -> aws_sdk_ec2::types::builders::GpuDeviceInfoBuilder {
        GpuDeviceInfo::builder().name(name).manufacturer(maker).memory_info(GpuDeviceMemoryInfo::builder().size_in_mib(mib).build())
    }

    #[test]
    fn a_fractional_type_counts_one_gpu_with_its_share_of_memory() {
        let eighth = gpu("L4", "NVIDIA", 2_861).count(0).logical_gpu_count(1).gpu_partition_size(0.125).build();
        let read = machine_type(&info("g6f.xlarge", eighth)).unwrap();
        assert_eq!((read.gpus, read.gpu_memory, read.gpu_model.as_str()), (1, Mebibytes(2_861), "l4"));
        assert!(read.spot_supported);
    }

    #[test]
    fn a_type_without_a_logical_count_counts_its_whole_gpus() {
        let read = machine_type(&info("g6.12xlarge", gpu("L4", "NVIDIA", 22_888).count(4).build())).unwrap();
        assert_eq!((read.gpus, read.vcpus, read.memory), (4, 4, Mebibytes(16_384)));
    }

    #[test]
    fn other_makers_and_gpus_of_unknown_memory_are_left_out() {
        assert_eq!(machine_type(&info("g4ad.xlarge", gpu("Radeon Pro V520", "AMD", 8_192).count(1).build())), None);
        let dark = GpuDeviceInfo::builder().name("GB200").manufacturer("NVIDIA").count(4).build();
        assert_eq!(machine_type(&info("p6e-gb200.36xlarge", dark)), None);
    }

    #[test]
    fn model_names_of_several_words_become_one() {
        assert_eq!(gpu_model("RTX PRO Server 6000").as_str(), "rtx-pro-server-6000");
    }
}
