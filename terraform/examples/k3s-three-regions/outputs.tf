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
