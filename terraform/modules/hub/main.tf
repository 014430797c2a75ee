# The operator's identity. It may look at the market of the target regions, launch machines that carry its cluster's tag with the
# subnets, security groups and node roles of those regions, and end machines that carry that tag. Nothing else.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  name      = "lowtide-${var.cluster_name}-operator"
  role_name = var.identity.existing_role_name != null ? var.identity.existing_role_name : aws_iam_role.operator[0].name
  regions   = sort([for target in var.targets : target.region])
  tag       = "lowtide-cluster"
  tags      = merge(var.tags, { (local.tag) = var.cluster_name })

  # arn:aws:ec2:REGION:ACCOUNT: of every target.
  ec2       = [for region in local.regions : "arn:${local.partition}:ec2:${region}:${local.account}"]
  launched  = flatten([for prefix in local.ec2 : [for kind in ["instance", "volume", "fleet"] : "${prefix}:${kind}/*"]])
  templates = [for prefix in local.ec2 : "${prefix}:launch-template/*"]
  # What a launch makes besides, and cannot be tagged by CreateFleet; and the reservations it may go into.
  unowned = flatten([for prefix in local.ec2 : [for kind in ["network-interface", "spot-instances-request", "capacity-reservation"] : "${prefix}:${kind}/*"]])
  # Images and snapshots of Amazon and others have no account in their ARN.
  images = flatten([for region in local.regions : [for kind in ["image", "snapshot"] : "arn:${local.partition}:ec2:${region}:*:${kind}/*"]])
}

# --- Who may become it

data "aws_iam_policy_document" "trust_oidc" {
  count = var.identity.oidc == null ? 0 : 1

  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [var.identity.oidc.provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${var.identity.oidc.issuer}:sub"
      values   = ["system:serviceaccount:${var.identity.oidc.namespace}:${var.identity.oidc.service_account}"]
    }

    condition {
      test     = "StringEquals"
      variable = "${var.identity.oidc.issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "trust_pod_identity" {
  count = var.identity.pod_identity ? 1 : 0

  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "operator" {
  count = var.identity.existing_role_name == null ? 1 : 0

  name        = local.name
  description = "lowtide operator of cluster ${var.cluster_name}"
  assume_role_policy = one(concat(
    data.aws_iam_policy_document.trust_oidc[*].json,
    data.aws_iam_policy_document.trust_pod_identity[*].json,
  ))
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

# --- What it may do

data "aws_iam_policy_document" "operator" {
  # These actions know no resources; the region is all that can be limited.
  statement {
    sid = "SeeTheMarketAndOurMachines"
    actions = [
      "ec2:DescribeAvailabilityZones",
      "ec2:DescribeCapacityReservations",
      "ec2:DescribeInstances",
      "ec2:DescribeInstanceTypeOfferings",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeSpotInstanceRequests",
      "ec2:DescribeSpotPriceHistory",
      "ec2:DescribeSubnets",
      "ec2:GetSpotPlacementScores",
      "servicequotas:GetAWSDefaultServiceQuota",
      "servicequotas:GetServiceQuota",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = local.regions
    }
  }

  # The price list is served from us-east-1 whatever is bought.
  statement {
    sid       = "SeeListPrices"
    actions   = ["pricing:GetProducts"]
    resources = ["*"]
  }

  statement {
    sid       = "MakeTaggedTemplates"
    actions   = ["ec2:CreateLaunchTemplate"]
    resources = local.templates

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.tag}"
      values   = [var.cluster_name]
    }
  }

  statement {
    sid       = "LaunchTaggedMachines"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = local.launched

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.tag}"
      values   = [var.cluster_name]
    }
  }

  statement {
    sid       = "LaunchFromOurTemplates"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = local.templates

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.tag}"
      values   = [var.cluster_name]
    }
  }

  statement {
    sid     = "LaunchIntoOurNetworks"
    actions = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = concat(
      flatten([for target in var.targets : target.subnet_arns]),
      [for target in var.targets : target.security_group_arn],
      local.unowned,
    )
  }

  statement {
    sid       = "LaunchImages"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = local.images

    dynamic "condition" {
      for_each = length(var.image_owners) > 0 ? [1] : []

      content {
        # Snapshots carry no owner of this kind, hence IfExists.
        test     = "StringEqualsIfExists"
        variable = "ec2:Owner"
        values   = var.image_owners
      }
    }
  }

  statement {
    sid       = "TagWhatIsBeingMade"
    actions   = ["ec2:CreateTags"]
    resources = concat(local.launched, local.templates)

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/${local.tag}"
      values   = [var.cluster_name]
    }

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateFleet", "CreateLaunchTemplate", "RunInstances"]
    }
  }

  statement {
    sid       = "EndOurMachines"
    actions   = ["ec2:TerminateInstances"]
    resources = [for prefix in local.ec2 : "${prefix}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.tag}"
      values   = [var.cluster_name]
    }
  }

  statement {
    sid       = "GiveNodesTheirRole"
    actions   = ["iam:PassRole"]
    resources = distinct([for target in var.targets : target.node_role_arn])

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com"]
    }
  }

  # An account that never used spot or fleets has no such role yet, and its first launch would fail.
  statement {
    sid       = "MakeServiceLinkedRoles"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["ec2fleet.amazonaws.com", "spot.amazonaws.com"]
    }
  }

  statement {
    sid       = "ReadInterruptions"
    actions   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
    resources = [for target in var.targets : target.queue_arn]
  }
}

resource "aws_iam_policy" "operator" {
  name        = local.name
  description = "What the lowtide operator of cluster ${var.cluster_name} may do"
  policy      = data.aws_iam_policy_document.operator.json
  tags        = local.tags
}

resource "aws_iam_role_policy_attachment" "operator" {
  role       = local.role_name
  policy_arn = aws_iam_policy.operator.arn
}
