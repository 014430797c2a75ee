output "operator_role_arn" {
  description = "The operator's role. Null with existing_role."
  value       = one(aws_iam_role.operator[*].arn)
}

output "operator_policy_arn" {
  description = "The operator's policy, if you attach it to an identity of your own."
  value       = aws_iam_policy.operator.arn
}

output "operator_policy" {
  description = "The operator's policy as JSON, for review."
  value       = local.operator_policy
}

output "bill_policy_arn" {
  description = "The policy that reads the bill's files. Null without bill."
  value       = one(aws_iam_policy.bill[*].arn)
}

output "bill_policy" {
  description = "That policy as JSON. Null without bill."
  value       = local.bill_policy
}

output "namespace" {
  description = "Namespace for the chart: helm install lowtide charts/lowtide --namespace THIS."
  value       = var.namespace
}

output "helm_values" {
  description = "Chart values for the identity that is trusted here: terraform output -raw helm_values > values.yaml."
  value = yamlencode({
    cluster = { name = var.cluster_name }
    serviceAccount = {
      name        = var.service_account
      annotations = local.irsa == null ? {} : { "eks.amazonaws.com/role-arn" = aws_iam_role.operator[0].arn }
    }
    operator = { hostNetwork = local.machines != null }
  })
}
