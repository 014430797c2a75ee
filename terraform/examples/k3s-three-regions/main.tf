# A k3s cluster stretched over three regions: WireGuard between the nodes, one operator, three markets.
# The cluster, its VPCs and the machine images exist already; see docs/install-aws.md.

provider "aws" {
  # The operator's home region. Everything in other regions sets its region explicitly.
  region = var.home_region
}

module "region" {
  source   = "../../modules/region-target"
  for_each = var.regions

  region               = each.key
  cluster_name         = var.cluster_name
  cluster_uid          = var.cluster_uid
  subnets              = each.value.subnets
  mesh_cidrs           = var.mesh_cidrs
  join_token_parameter = var.join_token_parameter
  volume_key_alias     = var.volume_key_alias
  tags                 = var.tags
}

module "hub" {
  source = "../../modules/hub"

  cluster_name     = var.cluster_name
  regions          = keys(var.regions)
  namespace        = var.namespace
  volume_key_alias = var.volume_key_alias
  # The role of the k3s servers. Only the operator's pod can reach it: hop limit 1, checked here, and operator.hostNetwork in helm_values.
  identity = {
    existing_role = {
      name      = var.server_role_name
      region    = var.home_region
      instances = var.servers
    }
  }
  tags = var.tags
}
