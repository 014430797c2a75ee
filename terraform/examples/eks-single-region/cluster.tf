# The cluster, and nodes for everything that is not a GPU: the operator must not run on a machine that can be interrupted.

resource "aws_iam_role" "cluster" {
  name = "${var.cluster_name}-cluster"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "eks.amazonaws.com" }, Action = ["sts:AssumeRole", "sts:TagSession"] }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

resource "aws_eks_cluster" "this" {
  region   = var.region
  name     = var.cluster_name
  role_arn = aws_iam_role.cluster.arn
  version  = var.kubernetes_version
  tags     = var.tags

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true
  }

  vpc_config {
    subnet_ids              = [for subnet in aws_subnet.private : subnet.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.public_access_cidrs) > 0
    public_access_cidrs     = length(var.public_access_cidrs) > 0 ? var.public_access_cidrs : null
  }

  # nodeadm needs it (output node_classes), so it is chosen here.
  kubernetes_network_config {
    service_ipv4_cidr = var.service_cidr
  }

  depends_on = [aws_iam_role_policy_attachment.cluster]
}

resource "aws_eks_addon" "this" {
  for_each = toset(concat(["coredns", "kube-proxy", "vpc-cni"], var.identity == "irsa" ? [] : ["eks-pod-identity-agent"]))

  region       = var.region
  cluster_name = aws_eks_cluster.this.name
  addon_name   = each.key
  # The chart's NetworkPolicy only has an effect where something enforces it.
  configuration_values = each.key == "vpc-cni" ? jsonencode({ enableNetworkPolicy = "true" }) : null
  tags                 = var.tags

  # coredns only becomes ready with a node to run on.
  depends_on = [aws_eks_node_group.own]
}

# Its certificate is not pinned: AWS knows EKS's issuers.
resource "aws_iam_openid_connect_provider" "cluster" {
  count = var.identity == "irsa" ? 1 : 0

  url            = aws_eks_cluster.this.identity[0].oidc[0].issuer
  client_id_list = ["sts.amazonaws.com"]
  tags           = var.tags
}

resource "aws_iam_role" "own" {
  name = "${var.cluster_name}-nodes"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
  tags = var.tags
}

resource "aws_iam_role_policy_attachment" "own" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.own.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.key}"
}

# Pods cannot reach these nodes' role: hop limit 1.
resource "aws_launch_template" "own" {
  region      = var.region
  name_prefix = "${var.cluster_name}-own-"
  tags        = var.tags

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_eks_node_group" "own" {
  region          = var.region
  cluster_name    = aws_eks_cluster.this.name
  node_group_name = "own"
  node_role_arn   = aws_iam_role.own.arn
  subnet_ids      = [for subnet in aws_subnet.private : subnet.id]
  instance_types  = ["m7i.large"]
  tags            = var.tags

  scaling_config {
    desired_size = 2
    max_size     = 3
    min_size     = 2
  }

  launch_template {
    id      = aws_launch_template.own.id
    version = aws_launch_template.own.latest_version
  }

  depends_on = [aws_iam_role_policy_attachment.own]
}
