output "region" {
  description = "The region."
  value       = var.region
}

output "node_role_arn" {
  description = "The nodes' role, e.g. for an EKS access entry of type EC2_LINUX."
  value       = aws_iam_role.node.arn
}

output "queue_url" {
  description = "The interruption queue."
  value       = aws_sqs_queue.interruption.url
}

output "security_group_id" {
  description = "The nodes' security group, for rules in other groups that admit it, such as the API server's."
  value       = aws_security_group.node.id
}

output "node_class" {
  description = "The part of a GpuNodeClass spec that is known here; add image and bootstrap yourself."
  value = {
    region            = var.region
    subnets           = sort([for subnet in data.aws_subnet.node : subnet.id])
    securityGroups    = [aws_security_group.node.id]
    instanceProfile   = aws_iam_instance_profile.node.name
    interruptionQueue = aws_sqs_queue.interruption.name
  }
}

output "zones" {
  description = "Zone ids by subnet name: the zones in which lowtide can buy."
  value       = { for name, subnet in data.aws_subnet.node : name => subnet.availability_zone_id }
}
