# Who may assume the operator's role: its ServiceAccount in the chart's namespace, or machines whose role no pod can reach.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_instance" {
    defaults = {
      metadata_options = [{
        http_endpoint = "enabled", http_protocol_ipv6 = "disabled", http_put_response_hop_limit = 1, http_tokens = "required", instance_metadata_tags = "disabled"
      }]
    }
  }
}

variables {
  cluster_name = "prod"
  regions      = ["us-east-1"]
}

run "irsa_trusts_the_namespace_of_the_chart" {
  command = plan

  variables {
    identity = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/1", issuer = "oidc.example/1" } }
  }

  assert {
    condition     = jsondecode(aws_iam_role.operator[0].assume_role_policy).Statement[0].Condition.StringEquals["oidc.example/1:sub"] == "system:serviceaccount:lowtide-system:lowtide"
    error_message = "IRSA trusts ${aws_iam_role.operator[0].assume_role_policy}."
  }
  assert {
    condition     = jsondecode(aws_iam_role.operator[0].assume_role_policy).Statement[0].Condition.StringEquals["oidc.example/1:aud"] == "sts.amazonaws.com"
    error_message = "Tokens for another audience are trusted."
  }
  assert {
    condition     = output.namespace == "lowtide-system"
    error_message = "The chart goes into a namespace that is not trusted."
  }
}

run "another_namespace_is_another_for_trust_association_and_chart" {
  command = plan

  variables {
    namespace       = "gpu"
    service_account = "buyer"
    identity        = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/1", issuer = "oidc.example/1" }, pod_identity = { eks_cluster_name = "prod", region = "us-east-1" } }
  }

  assert {
    condition     = jsondecode(aws_iam_role.operator[0].assume_role_policy).Statement[0].Condition.StringEquals["oidc.example/1:sub"] == "system:serviceaccount:gpu:buyer"
    error_message = "IRSA does not follow the namespace."
  }
  assert {
    condition = jsondecode(aws_iam_role.operator[0].assume_role_policy).Statement[1].Condition.StringEquals == {
      "aws:SourceAccount"                         = "123456789012"
      "aws:RequestTag/eks-cluster-name"           = "prod"
      "aws:RequestTag/kubernetes-namespace"       = "gpu"
      "aws:RequestTag/kubernetes-service-account" = "buyer"
    }
    error_message = "Pod Identity's trust does not follow the namespace."
  }
  assert {
    condition     = aws_eks_pod_identity_association.operator[0].namespace == "gpu" && aws_eks_pod_identity_association.operator[0].service_account == "buyer"
    error_message = "The association does not follow the namespace."
  }
  assert {
    condition     = output.namespace == "gpu"
    error_message = "The chart does not follow the namespace."
  }
}

run "values_for_the_chart" {
  command = apply

  variables {
    namespace       = "gpu"
    service_account = "buyer"
    identity        = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/1", issuer = "oidc.example/1" } }
  }

  assert {
    condition     = yamldecode(output.helm_values).cluster.name == "prod" && yamldecode(output.helm_values).serviceAccount.name == "buyer"
    error_message = "helm_values are ${output.helm_values}"
  }
  assert {
    condition     = yamldecode(output.helm_values).serviceAccount.annotations["eks.amazonaws.com/role-arn"] == output.operator_role_arn
    error_message = "helm_values are ${output.helm_values}"
  }
  assert {
    condition     = yamldecode(output.helm_values).operator.hostNetwork == false
    error_message = "With IRSA the operator needs no host network."
  }
}

run "machines_with_hop_limit_1" {
  command = plan

  variables {
    identity = { existing_role = { name = "k3s-server", region = "us-east-1", instances = { a = "i-0aaaaaaaaaaaaaaaa" } } }
  }

  assert {
    condition     = length(aws_iam_role.operator) == 0 && aws_iam_role_policy_attachment.operator.role == "k3s-server"
    error_message = "The policy should be attached to the existing role."
  }
  assert {
    condition     = yamldecode(output.helm_values).operator.hostNetwork == true
    error_message = "Behind a hop limit of 1 the operator needs the host network."
  }
}

run "machines_whose_role_pods_reach" {
  command = plan

  variables {
    identity = { existing_role = { name = "k3s-server", region = "us-east-1", instances = { a = "i-0aaaaaaaaaaaaaaaa" } } }
  }

  override_data {
    target = data.aws_instance.operator
    values = {
      metadata_options = [{
        http_endpoint = "enabled", http_protocol_ipv6 = "disabled", http_put_response_hop_limit = 2, http_tokens = "required", instance_metadata_tags = "disabled"
      }]
    }
  }

  expect_failures = [data.aws_instance.operator]
}

run "machines_without_imdsv2" {
  command = plan

  variables {
    identity = { existing_role = { name = "k3s-server", region = "us-east-1", instances = { a = "i-0aaaaaaaaaaaaaaaa" } } }
  }

  override_data {
    target = data.aws_instance.operator
    values = {
      metadata_options = [{
        http_endpoint = "enabled", http_protocol_ipv6 = "disabled", http_put_response_hop_limit = 1, http_tokens = "optional", instance_metadata_tags = "disabled"
      }]
    }
  }

  expect_failures = [data.aws_instance.operator]
}

run "a_permissions_boundary" {
  command = plan

  variables {
    identity                 = { oidc = { provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/1", issuer = "oidc.example/1" } }
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition     = aws_iam_role.operator[0].permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "The role has no boundary."
  }
}
