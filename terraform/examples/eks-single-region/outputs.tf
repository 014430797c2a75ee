output "node_classes" {
  description = "The GpuNodeClass, ready for kubectl: terraform output -raw node_classes | kubectl apply -f -"
  value = yamlencode({
    apiVersion = "lowtide.dev/v1"
    kind       = "GpuNodeClass"
    metadata   = { name = var.region }
    spec = merge(module.region.node_class, {
      image = nonsensitive(data.aws_ssm_parameter.image.value)
      bootstrap = {
        kind      = "eks"
        serverUrl = aws_eks_cluster.this.endpoint
        extra = {
          clusterName          = aws_eks_cluster.this.name
          certificateAuthority = aws_eks_cluster.this.certificate_authority[0].data
          serviceCidr          = var.service_cidr
        }
      }
    })
  })
}

output "namespace" {
  description = "Namespace for the chart: helm install lowtide charts/lowtide --namespace THIS."
  value       = module.hub.namespace
}

output "helm_values" {
  description = "Values for the chart: terraform output -raw helm_values > values.yaml"
  value       = module.hub.helm_values
}

output "ledger_address" {
  description = "Address and port of Postgres."
  value       = aws_db_instance.ledger.endpoint
}

output "ledger_owner_secret" {
  description = "Secrets Manager secret with the password of the Postgres owner, for `lowtide ledger migrate`."
  value       = aws_db_instance.ledger.master_user_secret[0].secret_arn
}
