# The complete example, planned with each identity; none of it exists at plan time.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
}

run "pod_identity" {
  command = plan

  assert {
    condition     = length(aws_iam_openid_connect_provider.cluster) == 0 && contains(keys(aws_eks_addon.this), "eks-pod-identity-agent")
    error_message = "Pod Identity needs its agent, and no OIDC provider."
  }
  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.tags["lowtide-subnet/gpu"] == "buy"])
    error_message = "The operator may not launch into the subnets."
  }
  assert {
    condition     = length(distinct([for subnet in aws_subnet.private : subnet.cidr_block])) == 5 && !contains([for subnet in aws_subnet.private : subnet.cidr_block], aws_subnet.public.cidr_block)
    error_message = "Subnets overlap."
  }
  assert {
    condition     = aws_eks_access_entry.gpu_nodes.type == "EC2_LINUX"
    error_message = "GPU nodes may not join."
  }
  assert {
    condition     = aws_launch_template.own.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Pods reach the nodes' role."
  }
  assert {
    condition     = one([for parameter in aws_db_parameter_group.ledger.parameter : parameter.value if parameter.name == "rds.force_ssl"]) == "1"
    error_message = "Postgres takes connections without TLS."
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access == false
    error_message = "The API server is open to the internet without having been configured so."
  }
}

run "irsa" {
  command = plan

  variables {
    identity            = "irsa"
    public_access_cidrs = ["203.0.113.0/24"]
    volume_key_alias    = "alias/lowtide-gpu"
    bill                = { bucket = "billing-exports", prefix = "lowtide/" }
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.cluster) == 1 && !contains(keys(aws_eks_addon.this), "eks-pod-identity-agent")
    error_message = "IRSA needs an OIDC provider, and no agent."
  }
  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_public_access == true
    error_message = "The API server should be reached from the addresses given."
  }
}

run "an_identity_that_is_none" {
  command = plan

  variables {
    identity = "keys"
  }

  expect_failures = [var.identity]
}

run "one_zone_is_too_few" {
  command = plan

  variables {
    zones = ["us-east-1a"]
  }

  expect_failures = [var.zones]
}

run "a_network_that_is_too_small" {
  command = plan

  variables {
    vpc_cidr = "10.0.0.0/24"
  }

  expect_failures = [var.vpc_cidr]
}

run "a_version_that_is_none" {
  command = plan

  variables {
    kubernetes_version = "latest"
  }

  expect_failures = [var.kubernetes_version]
}
