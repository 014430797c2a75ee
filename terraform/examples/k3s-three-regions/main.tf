# A k3s cluster stretched over three regions: WireGuard between the nodes, one operator, three markets.
# The cluster, its VPCs and the machine images exist already; see docs/install-aws.md.

provider "aws" {
  # The operator's home. Everything in other regions names its region itself.
  region = var.home_region
}

module "region" {
  source   = "../../modules/region-target"
  for_each = var.regions

  region               = each.key
  cluster_name         = var.cluster_name
  subnet_ids           = each.value.subnet_ids
  mesh_cidrs           = var.mesh_cidrs
  join_token_parameter = var.join_token_parameter
  tags                 = var.tags
}

module "hub" {
  source = "../../modules/hub"

  cluster_name = var.cluster_name
  targets      = [for target in module.region : target.permissions]
  identity     = { existing_role_name = var.server_role_name }
  tags         = var.tags
}
