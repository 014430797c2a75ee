variable "cluster_name" {
  description = "Name of the EKS cluster, and cluster.name of the Helm chart."
  type        = string
  default     = "gpu"
}

variable "cluster_uid" {
  description = "The cluster's UID (kubectl get namespace kube-system -o jsonpath={.metadata.uid}). Null for the first apply, which makes the cluster."
  type        = string
  default     = null
}

variable "region" {
  description = "The region of the cluster and therefore of all its machines."
  type        = string
  default     = "us-east-1"
}

variable "zones" {
  description = "Zones to buy in, by their names in this account, at least two; more zones are a larger market. A zone's position in the list determines its address range: append new ones at the end."
  type        = list(string)
  default     = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d", "us-east-1f"]

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 15 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones must contain 2 to 15 different zones: EKS needs two, and the VPC has room for fifteen."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && tonumber(split("/", var.vpc_cidr)[1]) <= 18
    error_message = "vpc_cidr must be an address range of at least /18: each zone gets a sixteenth."
  }
}

variable "service_cidr" {
  description = "Address range of the cluster's Services."
  type        = string
  default     = "172.20.0.0/16"

  validation {
    condition     = can(cidrhost(var.service_cidr, 0))
    error_message = "service_cidr must be an address range, e.g. 172.20.0.0/16."
  }
}

variable "kubernetes_version" {
  description = "The cluster's Kubernetes version; 1.36 or later for the admission policies."
  type        = string
  default     = "1.36"

  validation {
    condition     = can(regex("^1[.][0-9]{2}$", var.kubernetes_version))
    error_message = "kubernetes_version must be a minor version, e.g. 1.36."
  }
}

variable "public_access_cidrs" {
  description = "Address ranges from which the API server may be reached over the internet. Empty: only from inside the VPC."
  type        = set(string)
  default     = []
}

variable "namespace" {
  description = "Namespace the chart is installed in."
  type        = string
  default     = "lowtide-system"
}

variable "identity" {
  description = "How the operator gets its permissions: pod-identity or irsa."
  type        = string
  default     = "pod-identity"

  validation {
    condition     = contains(["pod-identity", "irsa"], var.identity)
    error_message = "identity must be pod-identity or irsa."
  }
}

variable "volume_key_alias" {
  description = "Alias of your own KMS key for volumes, if images are encrypted with one."
  type        = string
  default     = null
}

variable "bill" {
  description = "Bucket and prefix of the bill's files, to create a policy that reads them; with fetch the operator gets it as well, for `ledger.fetch` of the chart."
  type = object({
    bucket      = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
    fetch       = optional(bool, false)
  })
  default = null
}

variable "tags" {
  description = "Tags for everything created here."
  type        = map(string)
  default     = {}
}
