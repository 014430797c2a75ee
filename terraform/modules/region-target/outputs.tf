output "region" {
  description = "The region."
  value       = var.region
}

output "permissions" {
  description = "What module hub must let the operator use here."
  value = {
    region             = var.region
    queue_arn          = aws_sqs_queue.interruption.arn
    node_role_arn      = aws_iam_role.node.arn
    subnet_arns        = [for subnet in data.aws_subnet.node : subnet.arn]
    security_group_arn = aws_security_group.node.arn
  }
}

output "node_class" {
  description = "The part of a GpuNodeClass' spec that is known here; image and bootstrap are yours to add."
  value = {
    region            = var.region
    subnets           = sort([for subnet in data.aws_subnet.node : subnet.id])
    securityGroups    = [aws_security_group.node.id]
    instanceProfile   = aws_iam_instance_profile.node.name
    interruptionQueue = aws_sqs_queue.interruption.name
  }
}

output "zones" {
  description = "Subnet id by zone id: the zones in which lowtide can buy."
  value       = { for subnet in data.aws_subnet.node : subnet.availability_zone_id => subnet.id }
}
