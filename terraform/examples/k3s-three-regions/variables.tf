variable "cluster_name" {
  description = "The cluster's name, the same as cluster.name of the Helm chart."
  type        = string
}

variable "home_region" {
  description = "Where the k3s server runs."
  type        = string
  default     = "us-east-1"
}

variable "regions" {
  description = "Where to buy, and with what: subnets, at most one per zone, and the GPU node image of the region."
  type = map(object({
    subnet_ids = set(string)
    image      = string
  }))
}

variable "server_url" {
  description = "The k3s server as nodes of all regions reach it, as in https://203.0.113.10:6443."
  type        = string
}

variable "server_role_name" {
  description = "IAM role of the machines the operator's pods run on: it gets the operator's policy."
  type        = string
}

variable "join_token_parameter" {
  description = "Name of the SSM parameter with the k3s agent token. It must exist in each of the regions; its value never passes through Terraform."
  type        = string
  default     = "/lowtide/k3s-agent-token"
}

variable "mesh_cidrs" {
  description = "Public addresses of the cluster's nodes. GPU nodes come and go with new addresses, so WireGuard is open to all by default; it answers nobody without a key."
  type        = set(string)
  default     = ["0.0.0.0/0"]
}

variable "tags" {
  description = "Tags for everything made here."
  type        = map(string)
  default     = {}
}
