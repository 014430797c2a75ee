variable "region" {
  description = "The region to buy in, as in us-east-1."
  type        = string
}

variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart: the tag lowtide-cluster carries it."
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9][a-zA-Z0-9-]{0,31}$", var.cluster_name))
    error_message = "cluster_name must be 1 to 32 letters, digits and hyphens: names of roles and queues are made of it."
  }
}

variable "subnet_ids" {
  description = "Subnets for GPU nodes, at most one per zone, all of one VPC. Nodes in them must reach the cluster's API server, AWS and the registries."
  type        = set(string)

  validation {
    condition     = length(var.subnet_ids) > 0
    error_message = "subnet_ids must name at least one subnet: a pool of capacity is a zone, and without a subnet nothing can be bought in it."
  }
}

variable "mesh_cidrs" {
  description = "Addresses from which WireGuard traffic (UDP 51820) of the cluster's other nodes may come. Empty when all nodes share the VPC."
  type        = set(string)
  default     = []
}

variable "cluster_security_group_ids" {
  description = "Security groups of the cluster's other nodes in the same VPC: all traffic from them is let in."
  type        = set(string)
  default     = []
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

variable "node_policy_arns" {
  description = "Further policies for the nodes' role, as EKS wants: AmazonEKSWorkerNodePolicy, AmazonEC2ContainerRegistryPullOnly."
  type        = set(string)
  default     = []
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary of the nodes' role, where the account demands one."
  type        = string
  default     = null
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
}
