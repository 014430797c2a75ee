variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart."
  type        = string
}

variable "cluster_uid" {
  description = "The cluster's UID, which tells it from another of the same name: kubectl get namespace kube-system -o jsonpath={.metadata.uid}"
  type        = string
}

variable "home_region" {
  description = "Where the k3s servers run."
  type        = string
  default     = "us-east-1"
}

variable "namespace" {
  description = "Namespace the chart is installed in."
  type        = string
  default     = "lowtide-system"
}

variable "regions" {
  description = "Where to buy, and with what: subnets by zone, at most one per zone, and the GPU node image of the region."
  type = map(object({
    subnets = map(string)
    image   = string
  }))
}

variable "server_url" {
  description = "The k3s server's address as nodes in all regions reach it, e.g. https://203.0.113.10:6443."
  type        = string

  validation {
    condition     = can(regex("^https://[^/]+:[0-9]+$", var.server_url))
    error_message = "server_url must be an https address with a port, e.g. https://203.0.113.10:6443."
  }
}

variable "server_role_name" {
  description = "IAM role of the machines the operator's pods run on: it gets the operator's policy."
  type        = string
}

variable "servers" {
  description = "Instance ids of those machines, by names you choose: the plan fails unless each has a hop limit of 1."
  type        = map(string)
}

variable "join_token_parameter" {
  description = "Name of the SSM parameter with the k3s agent token. It must exist in each of the regions; its value never passes through Terraform."
  type        = string
  default     = "/lowtide/k3s-agent-token"
}

variable "volume_key_alias" {
  description = "Alias of your own KMS key for volumes, the same in every region, if images are encrypted with one."
  type        = string
  default     = null
}

variable "mesh_cidrs" {
  description = "Public address ranges of the cluster's nodes, by names you choose. GPU nodes come and go with new addresses, so WireGuard is open to all by default; it answers nobody without a key."
  type        = map(string)
  default     = { anywhere = "0.0.0.0/0" }
}

variable "tags" {
  description = "Tags for everything created here."
  type        = map(string)
  default     = {}
}
