# EKS from nothing: a VPC, a cluster with nodes of its own for the operator, everything that lowtide needs, and Postgres for the ledger.
# EKS accepts nodes only in its own VPC, so the market is the zones of one region.

provider "aws" {
  region = var.region
}

module "region" {
  source = "../../modules/region-target"

  region       = var.region
  cluster_name = var.cluster_name
  cluster_uid  = var.cluster_uid
  subnets      = { for zone, subnet in aws_subnet.private : zone => subnet.id }
  # network.tf sets it.
  tag_subnets = false
  # The control plane and the other nodes.
  cluster_security_groups = { cluster = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id }
  node_policies = {
    for name in ["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"] : name => "arn:${data.aws_partition.current.partition}:iam::aws:policy/${name}"
  }
  volume_key_alias = var.volume_key_alias
  tags             = var.tags
}

module "hub" {
  source = "../../modules/hub"

  cluster_name     = var.cluster_name
  regions          = [var.region]
  namespace        = var.namespace
  volume_key_alias = var.volume_key_alias
  identity = var.identity == "irsa" ? {
    oidc = {
      provider_arn = aws_iam_openid_connect_provider.cluster[0].arn
      issuer       = trimprefix(aws_eks_cluster.this.identity[0].oidc[0].issuer, "https://")
    }
    } : {
    pod_identity = {
      eks_cluster_name = aws_eks_cluster.this.name
      region           = var.region
    }
  }
  bill = var.bill
  tags = var.tags
}

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

# GPU nodes may join.
resource "aws_eks_access_entry" "gpu_nodes" {
  region        = var.region
  cluster_name  = aws_eks_cluster.this.name
  principal_arn = module.region.node_role_arn
  type          = "EC2_LINUX"
  tags          = var.tags
}

# The GPU nodes' group admits the cluster; the cluster's group admits the GPU nodes.
resource "aws_vpc_security_group_ingress_rule" "from_gpu_nodes" {
  region                       = var.region
  security_group_id            = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  description                  = "GPU nodes of lowtide"
  ip_protocol                  = "-1"
  referenced_security_group_id = module.region.security_group_id
  tags                         = var.tags
}

# EKS's image for NVIDIA GPUs, by architecture.
data "aws_ssm_parameter" "image" {
  region = var.region
  name   = "/aws/service/eks/optimized-ami/${var.kubernetes_version}/amazon-linux-2023/x86_64/nvidia/recommended/image_id"
}
