terraform {
  required_version = ">= 1.9"

  required_providers {
    # 6.0 gave every regional resource a region argument: one provider configuration serves all regions.
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}
