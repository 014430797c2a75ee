# What lowtide needs in one region to buy there: a way in for nodes, an identity for them, and a queue that tells of interruptions.
# It launches nothing: instances, and the launch templates they are made from, are the operator's.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

data "aws_subnet" "node" {
  for_each = var.subnet_ids

  region = var.region
  id     = each.value
}

locals {
  name   = "lowtide-${var.cluster_name}"
  vpc_id = one(distinct([for subnet in data.aws_subnet.node : subnet.vpc_id]))
  tags   = merge(var.tags, { "lowtide-cluster" = var.cluster_name })

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}

# --- The nodes' network

resource "aws_security_group" "node" {
  region      = var.region
  name        = "${local.name}-node"
  description = "GPU nodes of lowtide cluster ${var.cluster_name}"
  vpc_id      = local.vpc_id
  tags        = merge(local.tags, { Name = "${local.name}-node" })

  lifecycle {
    precondition {
      condition     = length(distinct([for subnet in data.aws_subnet.node : subnet.availability_zone_id])) == length(var.subnet_ids)
      error_message = "Two of subnet_ids are in one zone: a launch names one subnet per zone."
    }
  }
}

resource "aws_vpc_security_group_egress_rule" "all" {
  region            = var.region
  security_group_id = aws_security_group.node.id
  description       = "API server, registries, AWS"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
  tags              = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "among_nodes" {
  region                       = var.region
  security_group_id            = aws_security_group.node.id
  description                  = "GPU nodes among themselves"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.node.id
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "cluster" {
  for_each = var.cluster_security_group_ids

  region                       = var.region
  security_group_id            = aws_security_group.node.id
  description                  = "Other nodes of the cluster"
  ip_protocol                  = "-1"
  referenced_security_group_id = each.value
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "mesh" {
  for_each = var.mesh_cidrs

  region            = var.region
  security_group_id = aws_security_group.node.id
  description       = "WireGuard from the cluster's nodes in other regions"
  ip_protocol       = "udp"
  from_port         = 51820
  to_port           = 51820
  cidr_ipv4         = each.value
  tags              = local.tags
}

# --- The nodes' identity. IAM knows no regions, so the region is in the name.

data "aws_iam_policy_document" "node_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name                 = "${local.name}-${var.region}"
  description          = "GPU nodes of lowtide cluster ${var.cluster_name} in ${var.region}"
  assume_role_policy   = data.aws_iam_policy_document.node_trust.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_iam_instance_profile" "node" {
  name = aws_iam_role.node.name
  role = aws_iam_role.node.name
  tags = local.tags
}

data "aws_iam_policy_document" "join" {
  count = var.join_token_parameter == null ? 0 : 1

  statement {
    sid       = "ReadJoinToken"
    actions   = ["ssm:GetParameter"]
    resources = ["arn:${local.partition}:ssm:${var.region}:${local.account}:parameter${var.join_token_parameter}"]
  }
}

resource "aws_iam_role_policy" "join" {
  count = var.join_token_parameter == null ? 0 : 1

  name   = "join-token"
  role   = aws_iam_role.node.id
  policy = data.aws_iam_policy_document.join[0].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = var.node_policy_arns

  role       = aws_iam_role.node.name
  policy_arn = each.value
}

# --- Interruptions. A rule's target must be in the rule's region, so every region has its own queue.

resource "aws_sqs_queue" "interruption" {
  region                    = var.region
  name                      = "${local.name}-interruptions"
  sqs_managed_sse_enabled   = true
  receive_wait_time_seconds = 20
  # A notice is worth something for two minutes; five minutes outlast a restart of the operator.
  message_retention_seconds = 300
  tags                      = local.tags
}

locals {
  # The events that src/aws/notice.rs reads. Anything else on the queue is reported as a message that cannot be read.
  events = {
    interruption = "EC2 Spot Instance Interruption Warning"
    rebalance    = "EC2 Instance Rebalance Recommendation"
    state-change = "EC2 Instance State-change Notification"
  }
}

# EventBridge cannot select by tag: the rules pass on the events of all instances of the region, and the operator keeps its own.
resource "aws_cloudwatch_event_rule" "interruption" {
  for_each = local.events

  region      = var.region
  name        = "${local.name}-${each.key}"
  description = "${each.value}, for lowtide cluster ${var.cluster_name}"
  event_pattern = jsonencode({
    source        = ["aws.ec2"]
    "detail-type" = [each.value]
  })
  tags = local.tags
}

resource "aws_cloudwatch_event_target" "interruption" {
  for_each = local.events

  region    = var.region
  rule      = aws_cloudwatch_event_rule.interruption[each.key].name
  target_id = "queue"
  arn       = aws_sqs_queue.interruption.arn
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "EventBridgeSends"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruption.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.interruption : rule.arn]
    }
  }

  statement {
    sid       = "EncryptedOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.interruption.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "interruption" {
  region    = var.region
  queue_url = aws_sqs_queue.interruption.url
  policy    = data.aws_iam_policy_document.queue.json
}
