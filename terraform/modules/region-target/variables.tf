variable "region" {
  description = "The region to buy in, e.g. us-east-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be a region name, e.g. us-east-1 (not a zone such as us-east-1a)."
  }
}

variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart; the tag lowtide-cluster carries it. Must be unique within the AWS account."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$", var.cluster_name))
    error_message = "cluster_name must be 1 to 32 letters, digits and hyphens: the names of roles and queues are derived from it."
  }
}

variable "cluster_uid" {
  description = "The cluster's UID (kubectl get namespace kube-system -o jsonpath={.metadata.uid}): everything made here carries it in the tag lowtide-cluster-uid, as the machines do. Null before the cluster is there; it may be set later."
  type        = string
  default     = null

  validation {
    condition     = var.cluster_uid == null || can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.cluster_uid))
    error_message = "cluster_uid must be the UID of the namespace kube-system, as in 01234567-89ab-cdef-0123-456789abcdef."
  }
}

variable "subnets" {
  description = "Subnets for GPU nodes, at most one per zone, all in one VPC: a map from names you choose, such as the zone, to ids. The names are known at plan time, so the ids may come from the same apply. Nodes in them must be able to reach the cluster's API server, AWS and the registries."
  type        = map(string)

  validation {
    condition     = length(var.subnets) > 0
    error_message = "subnets must contain at least one subnet: capacity is bought in a zone, and without a subnet there is no zone to buy in."
  }
}

variable "tag_subnets" {
  description = "Puts the tag lowtide-subnet/CLUSTER = buy on the subnets; the operator may launch into no others. Set to false if whoever manages the subnets sets that tag and would remove a tag added elsewhere."
  type        = bool
  default     = true
}

variable "reservations" {
  description = "On-demand capacity reservations (ODCR) of this account in this region that the operator may launch into: a map from names you choose to ids. They get the tag lowtide-reservation/CLUSTER = use, without which EC2 refuses. Leave out those whose tags somebody else manages, and have that tag set there."
  type        = map(string)
  default     = {}
}

variable "mesh_cidrs" {
  description = "Address ranges that may send WireGuard traffic (UDP 51820), i.e. those of the cluster's other nodes; the keys are names you choose. Empty when all nodes share the VPC."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for cidr in values(var.mesh_cidrs) : can(cidrhost(cidr, 0))])
    error_message = "mesh_cidrs must be address ranges, e.g. 203.0.113.0/24."
  }
}

variable "cluster_security_groups" {
  description = "Security groups of the cluster's other nodes in the same VPC, by names you choose: all traffic from them is allowed."
  type        = map(string)
  default     = {}
}

variable "join_token_parameter" {
  description = "Name of the SSM parameter (SecureString, in this region) with the join token, e.g. /lowtide/k3s-agent-token. Null for EKS."
  type        = string
  default     = null

  validation {
    condition     = var.join_token_parameter == null || can(regex("^/[a-zA-Z0-9_./-]+$", var.join_token_parameter))
    error_message = "join_token_parameter must start with a slash, e.g. /lowtide/k3s-agent-token. It is the parameter's name, never the token."
  }
}

variable "node_policies" {
  description = "ARNs of additional policies for the nodes' role, by names you choose. EKS needs AmazonEKSWorkerNodePolicy and AmazonEC2ContainerRegistryPullOnly."
  type        = map(string)
  default     = {}
}

variable "volume_key_alias" {
  description = "Alias of your own KMS key for volumes, e.g. alias/lowtide-gpu, if images or volumes are encrypted with one. The same alias in every region, and in module hub."
  type        = string
  default     = null

  validation {
    condition     = var.volume_key_alias == null || can(regex("^alias/[a-zA-Z0-9/_-]+$", var.volume_key_alias))
    error_message = "volume_key_alias must be an alias, e.g. alias/lowtide-gpu, not a key's id or ARN."
  }
}

variable "health_events" {
  description = "Forwards AWS Health's scheduled EC2 changes (retirement, maintenance)."
  type        = bool
  default     = true
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary for the nodes' role, if the account requires one."
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
    condition     = length(setintersection(keys(var.tags), ["lowtide-cluster", "lowtide-cluster-uid"])) == 0
    error_message = "The tags lowtide-cluster and lowtide-cluster-uid are set by this module: the operator's rights hang on the first."
  }
}
