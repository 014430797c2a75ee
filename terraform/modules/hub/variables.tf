variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart; the tag lowtide-cluster carries it. Must be unique within the AWS account."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$", var.cluster_name))
    error_message = "cluster_name must be 1 to 32 letters, digits and hyphens: the role's name is derived from it."
  }
}

variable "regions" {
  description = "The regions of all region-target modules."
  type        = set(string)

  validation {
    condition     = length(var.regions) > 0 && alltrue([for region in var.regions : can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", region))])
    error_message = "regions must contain at least one region, e.g. us-east-1."
  }
}

variable "namespace" {
  description = "Namespace the chart is installed in. The role trusts this namespace, and output helm_values is for it."
  type        = string
  default     = "lowtide-system"

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", var.namespace))
    error_message = "namespace must be the name of a Kubernetes namespace, without wildcards: only this one is trusted."
  }
}

variable "service_account" {
  description = "The operator's ServiceAccount (serviceAccount.name of the chart)."
  type        = string
  default     = "lowtide"

  validation {
    condition     = can(regex("^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", var.service_account))
    error_message = "service_account must be the name of a ServiceAccount, without wildcards."
  }
}

variable "identity" {
  description = <<-EOT
    How the operator, and nobody else, gets its permissions:
    oidc (IRSA): a role for the cluster's OIDC provider, and its issuer without https://; EKS, or any cluster whose issuer AWS can reach;
    pod_identity: a role and its association for EKS Pod Identity; may be combined with oidc, to migrate from one to the other;
    existing_role: no new role; the policy goes to the role of the machines the operator runs on. instances lists them, so that their
    hop limit is checked; the operator needs operator.hostNetwork=true.
  EOT
  type = object({
    oidc = optional(object({
      provider_arn = string
      issuer       = string
    }))
    pod_identity = optional(object({
      eks_cluster_name = string
      region           = string
    }))
    existing_role = optional(object({
      name      = string
      region    = string
      instances = map(string)
    }))
  })

  validation {
    condition     = (var.identity.oidc != null || var.identity.pod_identity != null) != (var.identity.existing_role != null)
    error_message = "identity must set oidc, pod_identity or both, or existing_role alone."
  }

  validation {
    condition     = var.identity.oidc == null || !can(regex("^https?://", var.identity.oidc.issuer))
    error_message = "identity.oidc.issuer must be given without https://, as in IAM's condition keys."
  }

  validation {
    condition     = var.identity.existing_role == null || length(var.identity.existing_role.instances) > 0
    error_message = "identity.existing_role.instances must list the machines that have the role: their metadata hop limit is what keeps the role from other pods."
  }
}

variable "instance_types" {
  description = "Patterns of instance types that may be launched. The default is every GPU family."
  type        = set(string)
  default     = ["g*.*", "p*.*"]

  validation {
    condition     = length(var.instance_types) > 0 && alltrue([for pattern in var.instance_types : can(regex("^[a-z][a-z0-9*-]*[.][a-z0-9*-]+$", pattern))])
    error_message = "instance_types must be types or patterns with a family and a size, e.g. g6.xlarge or g6.*."
  }
}

variable "image_owners" {
  description = "Accounts whose machine images may be launched, and aliases such as amazon. Null: amazon and this account. [] allows any image, of whoever published it."
  type        = set(string)
  default     = null

  validation {
    condition     = var.image_owners == null ? true : alltrue([for owner in var.image_owners : can(regex("^([0-9]{12}|[a-z-]+)$", owner))])
    error_message = "image_owners must be account ids of twelve digits, or aliases such as amazon."
  }
}

variable "image_parameters" {
  description = "SSM parameters, or patterns of them, that node classes may name for their images. The default is what AWS and others publish."
  type        = set(string)
  default     = ["/aws/service/*"]

  validation {
    condition     = length(var.image_parameters) > 0 && alltrue([for name in var.image_parameters : can(regex("^/[a-zA-Z0-9_.-]+/[a-zA-Z0-9_./*-]*$", name))])
    error_message = "image_parameters must be names or patterns below a first word, e.g. /images/*, so that none covers the join token by accident."
  }
}

variable "node_hop_limit" {
  description = "Highest metadata hop limit with which a node may be launched: with 1, no ordinary pod can reach the node's role."
  type        = number
  default     = 1

  validation {
    condition     = var.node_hop_limit >= 1 && var.node_hop_limit <= 64 && floor(var.node_hop_limit) == var.node_hop_limit
    error_message = "node_hop_limit must be a whole number from 1 to 64."
  }
}

variable "volume_key_alias" {
  description = "Alias of your own KMS key for volumes, the same in every region, e.g. alias/lowtide-gpu. Null: AWS's key, or none."
  type        = string
  default     = null

  validation {
    condition     = var.volume_key_alias == null || can(regex("^alias/[a-zA-Z0-9/_-]+$", var.volume_key_alias))
    error_message = "volume_key_alias must be an alias, e.g. alias/lowtide-gpu, not a key's id or ARN."
  }
}

variable "bill" {
  description = "Where AWS writes the bill (CUR, data exports, spot data feed): creates a policy to read it, for whoever runs `lowtide ledger fetch`. With fetch the operator gets it as well, for `ledger.fetch` of the chart. prefix ends with a slash, or is empty for the whole bucket."
  type = object({
    bucket      = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
    fetch       = optional(bool, false)
  })
  default = null

  validation {
    condition     = var.bill == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.bill.bucket))
    error_message = "bill.bucket must be a bucket's name, not its ARN or address."
  }

  validation {
    condition     = var.bill == null || var.bill.prefix == "" || can(regex("^[^/*?].*/$", var.bill.prefix))
    error_message = "bill.prefix must end with a slash and not start with one, e.g. exports/lowtide/: otherwise it would match other folders too."
  }
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary for the operator's role, if the account requires one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]*:policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy."
  }
}

variable "tags" {
  description = "Tags for everything created here."
  type        = map(string)
  default     = {}

  validation {
    condition     = !contains(keys(var.tags), "lowtide-cluster")
    error_message = "The tag lowtide-cluster is set by this module."
  }
}
