output "node_classes" {
  description = "One GpuNodeClass per region, ready for kubectl: terraform output -raw node_classes | kubectl apply -f -"
  value = join("---\n", [
    for region, target in module.region : yamlencode({
      apiVersion = "lowtide.dev/v1"
      kind       = "GpuNodeClass"
      metadata   = { name = region }
      spec = merge(target.node_class, {
        image = var.regions[region].image
        bootstrap = {
          kind           = "k3s"
          serverUrl      = var.server_url
          tokenParameter = var.join_token_parameter
        }
      })
    })
  ])
}

output "namespace" {
  description = "Namespace for the chart: helm install lowtide charts/lowtide --namespace THIS."
  value       = module.hub.namespace
}

output "helm_values" {
  description = "Values for the chart: terraform output -raw helm_values > values.yaml"
  value       = module.hub.helm_values
}
