# What the operator may do: read the market, launch machines of allowed types that carry its cluster's tag into networks that carry it
# too, and terminate machines with that tag. Nothing else.
#
# Regions are wildcards. A launch needs a subnet, a security group and a template with the cluster's tag, and those exist in the target
# regions only; so the policy for thirty regions is as long as for one, except for their names, which appear once.

locals {
  tag       = "lowtide-cluster"
  requested = { "aws:RequestTag/${local.tag}" = var.cluster_name }
  carried   = { "aws:ResourceTag/${local.tag}" = var.cluster_name }
  ec2       = "arn:${local.partition}:ec2:*:${local.account}:"
  iam       = "arn:${local.partition}:iam::${local.account}:"

  launch = ["ec2:CreateFleet", "ec2:RunInstances"]

  operator_statements = concat(
    [
      # These actions do not support resource-level permissions.
      {
        Sid    = "SeeTheMarketAndMachines"
        Effect = "Allow"
        Action = [
          "ec2:DescribeAvailabilityZones",
          "ec2:DescribeCapacityReservations",
          "ec2:DescribeImages",
          "ec2:DescribeInstances",
          "ec2:DescribeInstanceStatus",
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
        Resource  = "*"
        Condition = { StringEquals = { "aws:RequestedRegion" = sort(tolist(var.regions)) } }
      },
      # Which image an alias or a parameter of a node class means. Public parameters have no account in their ARN.
      {
        Sid      = "ReadImageIds"
        Effect   = "Allow"
        Action   = "ssm:GetParameter"
        Resource = [for name in sort(tolist(var.image_parameters)) : "arn:${local.partition}:ssm:*:*:parameter${name}"]
      },
      # The price list is served from us-east-1 whatever the target region.
      {
        Sid      = "SeeListPrices"
        Effect   = "Allow"
        Action   = "pricing:GetProducts"
        Resource = "*"
      },
      {
        Sid       = "MakeTaggedTemplates"
        Effect    = "Allow"
        Action    = "ec2:CreateLaunchTemplate"
        Resource  = "${local.ec2}launch-template/*"
        Condition = { StringEquals = local.requested }
      },
      {
        Sid      = "LaunchTaggedMachines"
        Effect   = "Allow"
        Action   = local.launch
        Resource = ["${local.ec2}fleet/*", "${local.ec2}instance/*", "${local.ec2}volume/*"]
        Condition = {
          StringEquals = local.requested
          # Fleets and volumes have none of these, hence IfExists; an instance always has them.
          StringLikeIfExists            = { "ec2:InstanceType" = sort(tolist(var.instance_types)) }
          StringEqualsIfExists          = { "ec2:MetadataHttpTokens" = "required" }
          NumericLessThanEqualsIfExists = { "ec2:MetadataHttpPutResponseHopLimit" = tostring(var.node_hop_limit) }
        }
      },
      {
        Sid       = "LaunchFromAndIntoWhatIsOurs"
        Effect    = "Allow"
        Action    = local.launch
        Resource  = ["${local.ec2}launch-template/*", "${local.ec2}security-group/*"]
        Condition = { StringEquals = local.carried }
      },
      {
        Sid       = "LaunchIntoSubnetsOfTheCluster"
        Effect    = "Allow"
        Action    = local.launch
        Resource  = "${local.ec2}subnet/*"
        Condition = { StringEquals = { "aws:ResourceTag/lowtide-subnet/${var.cluster_name}" = "buy" } }
      },
      # A reservation is paid for by whoever made it: launched into are those that its owner tagged for this cluster. A fleet names none.
      {
        Sid       = "LaunchIntoReservations"
        Effect    = "Allow"
        Action    = "ec2:RunInstances"
        Resource  = "${local.ec2}capacity-reservation/*"
        Condition = { StringEquals = { "aws:ResourceTag/lowtide-reservation/${var.cluster_name}" = "use" } }
      },
      # What else a launch creates that CreateFleet cannot tag.
      {
        Sid      = "LaunchWithTheRest"
        Effect   = "Allow"
        Action   = local.launch
        Resource = [for kind in ["network-interface", "placement-group", "spot-instances-request"] : "${local.ec2}${kind}/*"]
      },
      # Images and snapshots have no account in their ARN; a snapshot's owner follows from its image.
      merge(
        {
          Sid      = "LaunchImages"
          Effect   = "Allow"
          Action   = local.launch
          Resource = "arn:${local.partition}:ec2:*::image/*"
        },
        length(local.image_owners) == 0 ? null : { Condition = { StringEquals = { "ec2:Owner" = local.image_owners } } },
      ),
      {
        Sid      = "LaunchSnapshots"
        Effect   = "Allow"
        Action   = local.launch
        Resource = "arn:${local.partition}:ec2:*::snapshot/*"
      },
      {
        Sid      = "TagWhatIsBeingMade"
        Effect   = "Allow"
        Action   = "ec2:CreateTags"
        Resource = [for kind in ["fleet", "instance", "launch-template", "volume"] : "${local.ec2}${kind}/*"]
        Condition = {
          StringEquals = merge(local.requested, { "ec2:CreateAction" = ["CreateFleet", "CreateLaunchTemplate", "RunInstances"] })
        }
      },
      {
        Sid       = "EndOurMachines"
        Effect    = "Allow"
        Action    = "ec2:TerminateInstances"
        Resource  = "${local.ec2}instance/*"
        Condition = { StringEquals = local.carried }
      },
      # The roles that module region-target creates, and no others: a path cannot be a prefix of another cluster's.
      {
        Sid       = "GiveNodesTheirRole"
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = "${local.iam}role/lowtide/${var.cluster_name}/*"
        Condition = { StringEquals = { "iam:PassedToService" = "ec2.amazonaws.com" } }
      },
      # An account that has never used spot or fleets has no such role yet, and its first launch would fail.
      {
        Sid       = "MakeServiceLinkedRoles"
        Effect    = "Allow"
        Action    = "iam:CreateServiceLinkedRole"
        Resource  = "${local.iam}role/aws-service-role/*"
        Condition = { StringEquals = { "iam:AWSServiceName" = ["ec2fleet.amazonaws.com", "spot.amazonaws.com"] } }
      },
      {
        Sid      = "ReadInterruptions"
        Effect   = "Allow"
        Action   = ["sqs:DeleteMessage", "sqs:GetQueueUrl", "sqs:ReceiveMessage"]
        Resource = "arn:${local.partition}:sqs:*:${local.account}:lowtide-${var.cluster_name}-interruptions"
      },
    ],
    # For on-demand machines EC2 uses the key on the caller's behalf. Only through EC2, and only the key with that alias.
    [
      for alias in var.volume_key_alias == null ? [] : [var.volume_key_alias] : {
        Sid      = "EncryptVolumes"
        Effect   = "Allow"
        Action   = ["kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
        Resource = "arn:${local.partition}:kms:*:${local.account}:key/*"
        Condition = {
          "ForAnyValue:StringEquals" = { "kms:ResourceAliases" = alias }
          StringLike                 = { "kms:ViaService" = "ec2.*.amazonaws.com" }
        }
      }
    ],
  )

  operator_policy = jsonencode({ Version = "2012-10-17", Statement = local.operator_statements })

  bill_policy = var.bill == null ? null : jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Sid       = "FindTheFiles"
          Effect    = "Allow"
          Action    = "s3:ListBucket"
          Resource  = "arn:${local.partition}:s3:::${var.bill.bucket}"
          Condition = { StringLike = { "s3:prefix" = ["${var.bill.prefix}*"] } }
        },
        {
          Sid      = "ReadTheFiles"
          Effect   = "Allow"
          Action   = "s3:GetObject"
          Resource = "arn:${local.partition}:s3:::${var.bill.bucket}/${var.bill.prefix}*"
        },
      ],
      [
        for key in var.bill.kms_key_arn == null ? [] : [var.bill.kms_key_arn] : {
          Sid      = "DecryptTheFiles"
          Effect   = "Allow"
          Action   = "kms:Decrypt"
          Resource = key
        }
      ],
    )
  })
}
