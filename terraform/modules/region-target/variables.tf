variable "region" {
  description = "The region to buy in, as in us-east-1."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]+$", var.region))
    error_message = "region must be a region's name, as in us-east-1 (a zone such as us-east-1a is none)."
  }
}

variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart: the tag lowtide-cluster carries it. Never the same for two clusters of one account."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$", var.cluster_name))
    error_message = "cluster_name must be 1 to 32 letters, digits and hyphens: names of roles and queues are made of it."
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
  description = "Subnets for GPU nodes, at most one per zone, all of one VPC: id by a name of your own, such as the zone. Names are known when a plan is made, so the ids may come from the same apply. Nodes in them must reach the cluster's API server, AWS and the registries."
  type        = map(string)

  validation {
    condition     = length(var.subnets) > 0
    error_message = "subnets must name at least one subnet: capacity is bought in a zone, and without a subnet there is none to buy in."
  }
}

variable "tag_subnets" {
  description = "Puts the tag lowtide-subnet/CLUSTER = buy on the subnets; the operator may launch into no others. False where whoever made the subnets sets that tag, and would take a foreign one away."
  type        = bool
  default     = true
}

variable "mesh_cidrs" {
  description = "Addresses from which WireGuard traffic (UDP 51820) of the cluster's other nodes may come, by a name of your own. Empty when all nodes share the VPC."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for cidr in values(var.mesh_cidrs) : can(cidrhost(cidr, 0))])
    error_message = "mesh_cidrs must be address ranges, as in 203.0.113.0/24."
  }
}

variable "cluster_security_groups" {
  description = "Security groups of the cluster's other nodes in the same VPC, by a name of your own: all traffic from them is let in."
  type        = map(string)
  default     = {}
}

variable "join_token_parameter" {
  description = "Name of the SSM parameter (SecureString, in this region) with the join token, as in /lowtide/k3s-agent-token. Null for EKS."
  type        = string
  default     = null

  validation {
    condition     = var.join_token_parameter == null || can(regex("^/[a-zA-Z0-9_./-]+$", var.join_token_parameter))
    error_message = "join_token_parameter must begin with a slash, as in /lowtide/k3s-agent-token. It is the parameter's name, never the token."
  }
}

variable "node_policies" {
  description = "ARNs of further policies for the nodes' role, by a name of your own, as EKS wants: AmazonEKSWorkerNodePolicy, AmazonEC2ContainerRegistryPullOnly."
  type        = map(string)
  default     = {}
}

variable "volume_key_alias" {
  description = "Alias of your own KMS key for volumes, as in alias/lowtide-gpu, when images or volumes are encrypted with one. The same alias in every region, and in module hub."
  type        = string
  default     = null

  validation {
    condition     = var.volume_key_alias == null || can(regex("^alias/[a-zA-Z0-9/_-]+$", var.volume_key_alias))
    error_message = "volume_key_alias must be an alias, as in alias/lowtide-gpu, not a key's id or ARN."
  }
}

variable "health_events" {
  description = "Passes on AWS Health's scheduled changes of EC2 (retirement, maintenance)."
  type        = bool
  default     = true
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the nodes' role, where the account demands one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam::[0-9]*:policy/", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn must be the ARN of an IAM policy."
  }
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.tags), ["lowtide-cluster", "lowtide-cluster-uid"])) == 0
    error_message = "The tags lowtide-cluster and lowtide-cluster-uid are set by this module: the operator's rights hang on the first."
  }
}
