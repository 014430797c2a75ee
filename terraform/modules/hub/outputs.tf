output "operator_role_arn" {
  description = "The operator's role, for the annotation eks.amazonaws.com/role-arn or a Pod Identity association. Null with existing_role_name."
  value       = one(aws_iam_role.operator[*].arn)
}

output "operator_policy_arn" {
  description = "The operator's policy, for those who attach it to an identity of their own."
  value       = aws_iam_policy.operator.arn
}
