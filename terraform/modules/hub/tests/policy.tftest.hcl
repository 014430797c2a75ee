# The operator's policy: its size, and what it depends on. What it allows is evaluated in tests/terraform/iam.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

variables {
  cluster_name = "prod"
  regions      = ["us-east-1"]
  identity     = { pod_identity = { eks_cluster_name = "prod", region = "us-east-1" } }
}

run "one_region" {
  command = plan

  assert {
    condition     = length(output.operator_policy) < 4100
    error_message = "The policy of one region has ${length(output.operator_policy)} characters."
  }
  assert {
    condition     = aws_iam_policy.operator.policy == output.operator_policy
    error_message = "The output is not what is attached."
  }
  assert {
    condition     = output.bill_policy == null && length(aws_iam_policy.bill) == 0
    error_message = "Without a bucket there is nothing to read."
  }
}

# Every region that AWS has or has announced, the longest allowed cluster name, and every option.
run "every_region_and_every_option" {
  command = plan

  variables {
    cluster_name = "a-cluster-of-thirty-two-letters1"
    regions = [
      "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
      "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
      "ca-central-1", "ca-west-1", "cn-north-1", "cn-northwest-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2",
      "eu-west-1", "eu-west-2", "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "me-west-1", "mx-central-1", "sa-east-1",
      "sa-west-1", "us-east-1", "us-east-2", "us-gov-east-1", "us-gov-west-1", "us-west-1", "us-west-2",
    ]
    image_owners     = ["amazon", "123456789012", "210987654321"]
    volume_key_alias = "alias/lowtide-gpu"
    instance_types = [
      "g4dn.*", "g5.*", "g5g.*", "g6.*", "g6e.*", "g6f.*", "g7.*", "g7e.*", "gr6.*", "gr6f.*", "p3dn.*", "p4d.*", "p4de.*", "p5.*", "p5e.*",
      "p5en.*", "p6-b200.*", "p6-b300.*", "p6e-gb200.*",
    ]
  }

  assert {
    condition     = length(output.operator_policy) <= 6144
    error_message = "AWS allows 6144 characters, the policy has ${length(output.operator_policy)}."
  }
}

run "images_of_amazon_and_of_this_account_unless_asked_otherwise" {
  command = plan

  assert {
    condition = join(" ", flatten([for statement in jsondecode(output.operator_policy).Statement : statement.Condition.StringEquals["ec2:Owner"]
    if statement.Sid == "LaunchImages"])) == join(" ", sort(["amazon", data.aws_caller_identity.current.account_id]))
    error_message = "Any image could be launched."
  }
}

run "any_image_if_asked_for" {
  command = plan

  variables {
    image_owners = []
  }

  assert {
    condition     = [for statement in jsondecode(output.operator_policy).Statement : can(statement.Condition) if statement.Sid == "LaunchImages"] == [false]
    error_message = "[] allows any image."
  }
}

run "more_than_aws_takes" {
  command = plan

  variables {
    instance_types = [for number in range(500) : "g${number}-family.*"]
  }

  expect_failures = [aws_iam_policy.operator]
}

run "the_bill_has_a_policy_of_its_own" {
  command = plan

  variables {
    bill = { bucket = "billing-exports", prefix = "lowtide/", kms_key_arn = "arn:aws:kms:us-east-1:123456789012:key/1" }
  }

  assert {
    condition     = length(jsondecode(output.bill_policy).Statement) == 3
    error_message = "The bill's policy should list, read and decrypt."
  }
  assert {
    condition     = !strcontains(output.operator_policy, "s3:")
    error_message = "The operator reads no bill."
  }
  assert {
    condition     = length(aws_iam_role_policy_attachment.bill) == 0
    error_message = "The operator reads no bill unless that is asked for."
  }
}

run "the_operator_reads_the_bill_where_that_is_asked_for" {
  command = plan

  variables {
    bill = { bucket = "billing-exports", prefix = "lowtide/", fetch = true }
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.bill) == 1
    error_message = "With fetch the operator's role should have the bill's policy."
  }
}

# What tests/terraform/iam also evaluates: the cluster of the other runs, with every option.
run "for_evaluation" {
  command = plan

  variables {
    image_owners     = ["amazon", "123456789012"]
    volume_key_alias = "alias/lowtide-gpu"
  }

  assert {
    condition     = strcontains(output.operator_policy, "alias/lowtide-gpu")
    error_message = "The key is not in the policy."
  }
}
