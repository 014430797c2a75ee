# The operator's identity: who may assume it. What it may do is in policy.tf.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  name      = "lowtide-${var.cluster_name}-operator"
  tags      = merge(var.tags, { "lowtide-cluster" = var.cluster_name })

  # Whoever holds the operator's rights must not start an image that anybody published.
  image_owners = sort(tolist(var.image_owners == null ? toset(["amazon", local.account]) : var.image_owners))

  irsa         = var.identity.oidc
  pod_identity = var.identity.pod_identity
  machines     = var.identity.existing_role
  new_role     = local.machines == null
  role_name    = local.new_role ? aws_iam_role.operator[0].name : local.machines.name

  # One namespace and one ServiceAccount for both the trust policy and the chart (output helm_values).
  subject = "system:serviceaccount:${var.namespace}:${var.service_account}"

  trust_irsa = local.irsa == null ? null : {
    Effect    = "Allow"
    Principal = { Federated = local.irsa.provider_arn }
    Action    = ["sts:AssumeRoleWithWebIdentity"]
    Condition = {
      StringEquals = {
        "${local.irsa.issuer}:sub" = local.subject
        "${local.irsa.issuer}:aud" = "sts.amazonaws.com"
      }
    }
  }

  trust_pod_identity = local.pod_identity == null ? null : {
    Effect    = "Allow"
    Principal = { Service = "pods.eks.amazonaws.com" }
    Action    = ["sts:AssumeRole", "sts:TagSession"]
    Condition = {
      StringEquals = {
        "aws:SourceAccount"                         = local.account
        "aws:RequestTag/eks-cluster-name"           = local.pod_identity.eks_cluster_name
        "aws:RequestTag/kubernetes-namespace"       = var.namespace
        "aws:RequestTag/kubernetes-service-account" = var.service_account
      }
    }
  }
}

resource "aws_iam_role" "operator" {
  count = local.new_role ? 1 : 0

  name        = local.name
  description = "lowtide operator of cluster ${var.cluster_name}"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [for trust in [local.trust_irsa, local.trust_pod_identity] : trust if trust != null]
  })
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_eks_pod_identity_association" "operator" {
  count = local.pod_identity == null ? 0 : 1

  region          = local.pod_identity.region
  cluster_name    = local.pod_identity.eks_cluster_name
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.operator[0].arn
  tags            = local.tags
}

# A machine's role belongs to everyone who can reach its instance metadata. With a hop limit of 1 that is what runs in the host network:
# the operator (operator.hostNetwork of the chart), and no ordinary pod.
data "aws_instance" "operator" {
  for_each = local.machines == null ? {} : local.machines.instances

  region      = local.machines.region
  instance_id = each.value

  lifecycle {
    postcondition {
      condition     = alltrue([for options in self.metadata_options : options.http_put_response_hop_limit == 1 && options.http_tokens == "required"])
      error_message = "Instance ${each.key} gives its role to every pod: set its metadata options to http_tokens = \"required\" and http_put_response_hop_limit = 1. The operator can still reach them with the chart's operator.hostNetwork=true."
    }
  }
}

resource "aws_iam_policy" "operator" {
  name        = local.name
  description = "What the lowtide operator of cluster ${var.cluster_name} may do"
  policy      = local.operator_policy
  tags        = local.tags

  lifecycle {
    precondition {
      # The quota "Managed policy length"; jsonencode writes no white space, which AWS does not count.
      condition     = length(local.operator_policy) <= 6144
      error_message = "The operator's policy would have ${length(local.operator_policy)} characters, but AWS allows 6144: shorten instance_types, image_owners or the cluster's name."
    }
  }
}

resource "aws_iam_role_policy_attachment" "operator" {
  role       = local.role_name
  policy_arn = aws_iam_policy.operator.arn
}

# For whoever runs `lowtide ledger fetch`; the operator reads bills only where that is asked for.
resource "aws_iam_policy" "bill" {
  count = var.bill == null ? 0 : 1

  name        = "lowtide-${var.cluster_name}-bill"
  description = "Reads the bill's files for the ledger of lowtide cluster ${var.cluster_name}"
  policy      = local.bill_policy
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "bill" {
  count = try(var.bill.fetch, false) ? 1 : 0

  role       = local.role_name
  policy_arn = aws_iam_policy.bill[0].arn
}
