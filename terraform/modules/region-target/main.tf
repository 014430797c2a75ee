# What lowtide needs in one region to buy there: network access for nodes, an identity for them, and a queue that reports interruptions.
# It launches nothing: instances and their launch templates are created by the operator.
#
# Every for_each iterates over keys that are known at plan time, so that subnets, groups and policies may come from the same apply.

data "aws_partition" "current" {}
data "aws_caller_identity" "current" {}

data "aws_subnet" "node" {
  for_each = var.subnets

  region = var.region
  id     = each.value
}

locals {
  name   = "lowtide-${var.cluster_name}"
  vpc_id = one(distinct([for subnet in data.aws_subnet.node : subnet.vpc_id]))
  tags = merge(
    var.tags,
    { "lowtide-cluster" = var.cluster_name },
    var.cluster_uid == null ? {} : { "lowtide-cluster-uid" = var.cluster_uid },
  )

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
}

# --- The nodes' network

resource "aws_security_group" "node" {
  region      = var.region
  name        = "${local.name}-node"
  description = "GPU nodes of lowtide cluster ${var.cluster_name}"
  vpc_id      = local.vpc_id
  # The operator may launch with security groups that carry its cluster's tag, and with no others (modules/hub).
  tags = merge(local.tags, { Name = "${local.name}-node" })

  lifecycle {
    precondition {
      condition     = length(distinct([for subnet in data.aws_subnet.node : subnet.availability_zone_id])) == length(var.subnets)
      error_message = "Two of the subnets are in the same zone: a launch uses one subnet per zone."
    }
  }
}

# The operator may launch into subnets with this tag, and into no others. The key contains the cluster's name, so that clusters can share a subnet.
resource "aws_ec2_tag" "subnet" {
  for_each = var.tag_subnets ? var.subnets : {}

  region      = var.region
  resource_id = each.value
  key         = "lowtide-subnet/${var.cluster_name}"
  value       = "buy"
}

# The same for reservations: the operator may launch into those with this tag, and into no others.
resource "aws_ec2_tag" "reservation" {
  for_each = var.reservations

  region      = var.region
  resource_id = each.value
  key         = "lowtide-reservation/${var.cluster_name}"
  value       = "use"
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
  for_each = var.cluster_security_groups

  region                       = var.region
  security_group_id            = aws_security_group.node.id
  description                  = "Other nodes of the cluster: ${each.key}"
  ip_protocol                  = "-1"
  referenced_security_group_id = each.value
  tags                         = local.tags
}

resource "aws_vpc_security_group_ingress_rule" "mesh" {
  for_each = var.mesh_cidrs

  region            = var.region
  security_group_id = aws_security_group.node.id
  description       = "WireGuard from the cluster's nodes in other regions: ${each.key}"
  ip_protocol       = "udp"
  from_port         = 51820
  to_port           = 51820
  cidr_ipv4         = each.value
  tags              = local.tags
}

# --- The nodes' identity. IAM has no regions, so the region is in the name. The path contains the cluster: the operator may pass roles below
# it, and `/lowtide/prod/` is not a prefix of `/lowtide/prod-eu/`, as a name would be.

resource "aws_iam_role" "node" {
  name        = "${local.name}-${var.region}"
  path        = "/lowtide/${var.cluster_name}/"
  description = "GPU nodes of lowtide cluster ${var.cluster_name} in ${var.region}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
  permissions_boundary = var.permissions_boundary_arn
  tags                 = local.tags
}

resource "aws_iam_instance_profile" "node" {
  name = aws_iam_role.node.name
  path = aws_iam_role.node.path
  role = aws_iam_role.node.name
  tags = local.tags
}

resource "aws_iam_role_policy" "join" {
  count = var.join_token_parameter == null ? 0 : 1

  name = "join-token"
  role = aws_iam_role.node.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid      = "ReadJoinToken"
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter${var.join_token_parameter}"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = var.node_policies

  role       = aws_iam_role.node.name
  policy_arn = each.value
}

# --- Encrypted volumes. With a key of your own EC2 needs grants for the roles that launch spot machines and fleets, or the machine terminates at
# once with Client.InternalError.

data "aws_kms_alias" "volume" {
  count = var.volume_key_alias == null ? 0 : 1

  region = var.region
  name   = var.volume_key_alias
}

locals {
  launching_roles = {
    fleet = "ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet"
    spot  = "spot.amazonaws.com/AWSServiceRoleForEC2Spot"
  }
}

resource "aws_kms_grant" "launch" {
  for_each = var.volume_key_alias == null ? {} : local.launching_roles

  region            = var.region
  name              = "${local.name}-${each.key}"
  key_id            = data.aws_kms_alias.volume[0].target_key_arn
  grantee_principal = "arn:${local.partition}:iam::${local.account}:role/aws-service-role/${each.value}"
  operations = [
    "CreateGrant", "Decrypt", "DescribeKey", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo",
  ]
}

# --- Interruptions. A rule's target must be in the rule's region, so every region has its own queue.

resource "aws_sqs_queue" "interruption" {
  region                    = var.region
  name                      = "${local.name}-interruptions"
  sqs_managed_sse_enabled   = true
  receive_wait_time_seconds = 20
  # A notice is useful for two minutes; five minutes outlast a restart of the operator.
  message_retention_seconds = 300
  # What a queue hands to its dead-letter queue is sent by SQS itself, past the policy below; and by default any queue of the account may name
  # this one as its own.
  redrive_allow_policy = jsonencode({ redrivePermission = "denyAll" })
  tags                 = local.tags
}

locals {
  instance_events = {
    interruption = "EC2 Spot Instance Interruption Warning"
    rebalance    = "EC2 Instance Rebalance Recommendation"
    state-change = "EC2 Instance State-change Notification"
  }
  patterns = merge(
    { for key, type in local.instance_events : key => { source = ["aws.ec2"], "detail-type" = [type] } },
    # Retirement and maintenance of EC2's hardware, days ahead.
    var.health_events ? {
      health = {
        source        = ["aws.health"]
        "detail-type" = ["AWS Health Event"]
        detail        = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] }
      }
    } : {},
  )
}

# EventBridge cannot filter by tag: the rules forward the events of all instances in the region, and the operator keeps its own.
resource "aws_cloudwatch_event_rule" "interruption" {
  for_each = local.patterns

  region        = var.region
  name          = "${local.name}-${each.key}"
  description   = "${one(each.value["detail-type"])}, for lowtide cluster ${var.cluster_name}"
  event_pattern = jsonencode(each.value)
  tags          = local.tags
}

resource "aws_cloudwatch_event_target" "interruption" {
  for_each = local.patterns

  region    = var.region
  rule      = aws_cloudwatch_event_rule.interruption[each.key].name
  target_id = "queue"
  arn       = aws_sqs_queue.interruption.arn
}

# Only the rules above may send: a forged notice would move work.
locals {
  # Literals, not the resources' ARNs: the policy can be read in the plan, before anything is there.
  queue_arn = "arn:${local.partition}:sqs:${var.region}:${local.account}:${local.name}-interruptions"
  rule_arns = [for key in keys(local.patterns) : "arn:${local.partition}:events:${var.region}:${local.account}:rule/${local.name}-${key}"]
}

resource "aws_sqs_queue_policy" "interruption" {
  region    = var.region
  queue_url = aws_sqs_queue.interruption.url
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "EventBridgeSends"
        Effect    = "Allow"
        Principal = { Service = "events.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = local.queue_arn
        Condition = { ArnEquals = { "aws:SourceArn" = local.rule_arns } }
      },
      # Within an account either policy suffices, the queue's or the sender's own ("Policy evaluation for requests within a single account"):
      # a role with sqs:* needs no allowance here, and only a denial keeps it out. A call of a principal has no aws:SourceArn, and a negated
      # operator holds where its key is absent ("IAM JSON policy elements: Condition operators"): that is what is wanted.
      {
        Sid       = "NobodyElseSends"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:SendMessage"
        Resource  = local.queue_arn
        Condition = { ArnNotEquals = { "aws:SourceArn" = local.rule_arns } }
      },
      {
        Sid       = "EncryptedOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = local.queue_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}
