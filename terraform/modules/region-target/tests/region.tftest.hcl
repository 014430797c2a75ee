# What is created in one region, and that the parts fit together.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_kms_alias" {
    defaults = { target_key_arn = "arn:aws:kms:eu-south-2:123456789012:key/1" }
  }
}

override_data {
  target = data.aws_subnet.node["a"]
  values = { id = "subnet-a", vpc_id = "vpc-1", availability_zone_id = "eus2-az1" }
}

override_data {
  target = data.aws_subnet.node["b"]
  values = { id = "subnet-b", vpc_id = "vpc-1", availability_zone_id = "eus2-az2" }
}

variables {
  region       = "eu-south-2"
  cluster_name = "prod"
  subnets      = { a = "subnet-a", b = "subnet-b" }
}

run "everything_is_in_the_region_and_carries_the_tag" {
  command = plan

  assert {
    condition     = aws_security_group.node.region == "eu-south-2" && aws_sqs_queue.interruption.region == "eu-south-2" && alltrue([for rule in aws_cloudwatch_event_rule.interruption : rule.region == "eu-south-2"])
    error_message = "Something is created in another region."
  }
  assert {
    condition     = aws_security_group.node.tags["lowtide-cluster"] == "prod"
    error_message = "The operator may not launch with this security group."
  }
  assert {
    condition     = aws_ec2_tag.subnet["a"].key == "lowtide-subnet/prod" && aws_ec2_tag.subnet["a"].value == "buy" && length(aws_ec2_tag.subnet) == 2
    error_message = "The operator may not launch into these subnets."
  }
  assert {
    condition     = aws_iam_role.node.path == "/lowtide/prod/" && aws_iam_role.node.name == "lowtide-prod-eu-south-2"
    error_message = "The operator may not pass this role."
  }
  assert {
    condition     = output.zones == { a = "eus2-az1", b = "eus2-az2" }
    error_message = "The zones are those of the subnets."
  }
}

run "what_feeds_the_queue" {
  command = plan

  assert {
    condition = { for key, rule in aws_cloudwatch_event_rule.interruption : key => jsondecode(rule.event_pattern) } == {
      interruption = { source = ["aws.ec2"], "detail-type" = ["EC2 Spot Instance Interruption Warning"] }
      rebalance    = { source = ["aws.ec2"], "detail-type" = ["EC2 Instance Rebalance Recommendation"] }
      state-change = { source = ["aws.ec2"], "detail-type" = ["EC2 Instance State-change Notification"] }
      health       = { source = ["aws.health"], "detail-type" = ["AWS Health Event"], detail = { service = ["EC2"], eventTypeCategory = ["scheduledChange"] } }
    }
    error_message = "Events other than those the operator reads."
  }
  assert {
    # The names in the queue's policy are literals, not taken from the rules: they must match the rules.
    condition     = [for statement in jsondecode(aws_sqs_queue_policy.interruption.policy).Statement : statement.Condition.ArnEquals["aws:SourceArn"] if statement.Sid == "EventBridgeSends"] == [[for rule in aws_cloudwatch_event_rule.interruption : "arn:aws:events:eu-south-2:123456789012:rule/${rule.name}"]]
    error_message = "The queue accepts messages from senders other than the rules."
  }
  assert {
    condition     = [for statement in jsondecode(aws_sqs_queue_policy.interruption.policy).Statement : statement.Condition.ArnNotEquals["aws:SourceArn"] if statement.Sid == "NobodyElseSends"] == [[for rule in aws_cloudwatch_event_rule.interruption : "arn:aws:events:eu-south-2:123456789012:rule/${rule.name}"]]
    error_message = "Senders are kept out that are none, or let in that are not rules."
  }
  assert {
    condition     = [for statement in jsondecode(aws_sqs_queue_policy.interruption.policy).Statement : "${statement.Effect} ${statement.Sid}"] == ["Allow EventBridgeSends", "Deny NobodyElseSends", "Deny EncryptedOnly"]
    error_message = "The queue's policy says something else."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(aws_sqs_queue_policy.interruption.policy).Statement : statement.Resource == "arn:aws:sqs:eu-south-2:123456789012:${aws_sqs_queue.interruption.name}"])
    error_message = "The queue's policy refers to another queue."
  }
  assert {
    condition     = jsondecode(aws_sqs_queue.interruption.redrive_allow_policy) == { redrivePermission = "denyAll" }
    error_message = "A queue of the account may name this one for its dead letters, and so send to it."
  }
}

run "without_health" {
  command = plan

  variables {
    health_events = false
  }

  assert {
    condition     = keys(aws_cloudwatch_event_rule.interruption) == ["interruption", "rebalance", "state-change"] && length(aws_cloudwatch_event_target.interruption) == 3
    error_message = "Health's rule should be gone."
  }
}

run "nothing_that_was_not_asked_for" {
  command = plan

  assert {
    condition     = length(aws_kms_grant.launch) == 0 && length(aws_ec2_tag.reservation) == 0 && length(aws_iam_role_policy.join) == 0 && length(aws_vpc_security_group_ingress_rule.mesh) == 0 && length(aws_vpc_security_group_ingress_rule.cluster) == 0
    error_message = "Something was created without being requested."
  }
}

run "every_option" {
  command = plan

  variables {
    cluster_uid              = "01234567-89ab-cdef-0123-456789abcdef"
    join_token_parameter     = "/lowtide/token"
    volume_key_alias         = "alias/lowtide-gpu"
    tag_subnets              = false
    reservations             = { batch = "cr-1" }
    mesh_cidrs               = { office = "203.0.113.0/24" }
    cluster_security_groups  = { own = "sg-1" }
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = jsondecode(aws_iam_role_policy.join[0].policy).Statement[0].Resource == "arn:aws:ssm:eu-south-2:123456789012:parameter/lowtide/token"
    error_message = "Nodes may read a parameter other than the join token."
  }
  assert {
    condition = toset([for grant in aws_kms_grant.launch : grant.grantee_principal]) == toset([
      "arn:aws:iam::123456789012:role/aws-service-role/ec2fleet.amazonaws.com/AWSServiceRoleForEC2Fleet",
      "arn:aws:iam::123456789012:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot",
    ])
    error_message = "The key is granted to principals other than those that launch."
  }
  assert {
    condition     = aws_sqs_queue.interruption.tags["lowtide-cluster-uid"] == "01234567-89ab-cdef-0123-456789abcdef" && aws_sqs_queue.interruption.tags["lowtide-cluster"] == "prod"
    error_message = "The queue does not say whose it is."
  }
  assert {
    condition     = aws_ec2_tag.reservation["batch"].resource_id == "cr-1" && aws_ec2_tag.reservation["batch"].key == "lowtide-reservation/prod" && aws_ec2_tag.reservation["batch"].value == "use" && aws_ec2_tag.reservation["batch"].region == "eu-south-2"
    error_message = "The operator may not launch into the reservation."
  }
  assert {
    condition     = length(aws_ec2_tag.subnet) == 0
    error_message = "Subnets of others should be left alone."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.mesh["office"].from_port == 51820 && aws_vpc_security_group_ingress_rule.mesh["office"].ip_protocol == "udp"
    error_message = "The mesh is WireGuard."
  }
  assert {
    condition     = aws_iam_role.node.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "The nodes' role has no boundary."
  }
}

run "two_subnets_in_one_zone" {
  command = plan

  override_data {
    target = data.aws_subnet.node["b"]
    values = { id = "subnet-b", vpc_id = "vpc-1", availability_zone_id = "eus2-az1" }
  }

  expect_failures = [aws_security_group.node]
}

# Everything that for_each walks over comes from the same apply: ids, ARNs and addresses are not known when the plan is made.
run "from_the_same_apply" {
  command = plan

  module {
    source = "./tests/same-apply"
  }

  assert {
    condition     = output.planned == { subnets = ["use1-az1", "use1-az2"], groups = ["nodes"], policies = ["own"], mesh = ["gateway"] }
    error_message = "Not everything was planned."
  }
}
