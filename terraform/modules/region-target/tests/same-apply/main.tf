# The module, fed with what the same apply makes.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0, < 7.0"
    }
  }
}

resource "aws_vpc" "this" {
  region     = "us-east-1"
  cidr_block = "10.0.0.0/16"
}

resource "aws_subnet" "this" {
  for_each = { use1-az1 = 1, use1-az2 = 2 }

  region               = "us-east-1"
  vpc_id               = aws_vpc.this.id
  availability_zone_id = each.key
  cidr_block           = cidrsubnet("10.0.0.0/16", 4, each.value)
}

resource "aws_security_group" "nodes" {
  region = "us-east-1"
  vpc_id = aws_vpc.this.id
}

resource "aws_eip" "gateway" {
  region = "us-east-1"
  domain = "vpc"
}

resource "aws_iam_policy" "own" {
  policy = "{}"
}

resource "aws_ec2_capacity_reservation" "batch" {
  region            = "us-east-1"
  availability_zone = "us-east-1a"
  instance_type     = "g6.xlarge"
  instance_platform = "Linux/UNIX"
  instance_count    = 1
}

module "region" {
  source = "../.."

  region                  = "us-east-1"
  cluster_name            = "prod"
  subnets                 = { for zone, subnet in aws_subnet.this : zone => subnet.id }
  cluster_security_groups = { nodes = aws_security_group.nodes.id }
  node_policies           = { own = aws_iam_policy.own.arn }
  reservations            = { batch = aws_ec2_capacity_reservation.batch.id }
  mesh_cidrs              = { gateway = "${aws_eip.gateway.public_ip}/32" }
}

output "planned" {
  value = {
    subnets  = keys(aws_subnet.this)
    groups   = ["nodes"]
    policies = ["own"]
    mesh     = ["gateway"]
  }
}
