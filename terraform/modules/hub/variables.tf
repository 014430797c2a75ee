variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart: the tag lowtide-cluster carries it."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$", var.cluster_name))
    error_message = "cluster_name must be 1 to 32 letters, digits and hyphens: the role's name is made of it."
  }
}

variable "targets" {
  description = "Output permissions of every region-target."
  type = list(object({
    region             = string
    queue_arn          = string
    node_role_arn      = string
    subnet_arns        = list(string)
    security_group_arn = string
  }))

  validation {
    condition     = length(var.targets) > 0 && length(distinct([for target in var.targets : target.region])) == length(var.targets)
    error_message = "targets must name at least one region, and each region once."
  }
}

variable "image_owners" {
  description = "Accounts whose machine images may be launched, and aliases such as amazon. Empty: any image."
  type        = list(string)
  default     = []
}

variable "identity" {
  description = <<-EOT
    How the operator comes to its permissions; exactly one of:
    oidc (IRSA): a role for the cluster's OIDC provider, its issuer without https://, and the operator's ServiceAccount;
    pod_identity: a role for EKS Pod Identity;
    existing_role_name: no new role; the policy is attached to this one, such as that of the machines the operator runs on.
  EOT
  type = object({
    oidc = optional(object({
      provider_arn    = string
      issuer          = string
      namespace       = optional(string, "lowtide")
      service_account = optional(string, "lowtide")
    }))
    pod_identity       = optional(bool, false)
    existing_role_name = optional(string)
  })

  validation {
    condition = length([
      for way in [var.identity.oidc != null, var.identity.pod_identity, var.identity.existing_role_name != null] : way if way
    ]) == 1
    error_message = "identity must name exactly one of oidc, pod_identity and existing_role_name."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the operator's role, where the account demands one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
}
