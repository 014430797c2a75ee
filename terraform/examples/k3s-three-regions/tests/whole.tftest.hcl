# The whole example, with the real modules.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-1", availability_zone_id = "use1-az4" }
  }
  mock_data "aws_instance" {
    defaults = {
      metadata_options = [{
        http_endpoint = "enabled", http_protocol_ipv6 = "disabled", http_put_response_hop_limit = 1, http_tokens = "required", instance_metadata_tags = "disabled"
      }]
    }
  }
}

variables {
  cluster_name     = "gpu"
  cluster_uid      = "01234567-89ab-cdef-0123-456789abcdef"
  server_url       = "https://203.0.113.10:6443"
  server_role_name = "k3s-server"
  servers          = { server-1 = "i-0aaaaaaaaaaaaaaa1" }
  regions = {
    us-east-1  = { subnets = { use1-az4 = "subnet-0aaaaaaaaaaaaaaa1" }, image = "ami-0aaaaaaaaaaaaaaaa" }
    us-east-2  = { subnets = { use2-az1 = "subnet-0bbbbbbbbbbbbbbb1" }, image = "ami-0bbbbbbbbbbbbbbbb" }
    eu-south-2 = { subnets = { eus2-az2 = "subnet-0cccccccccccccc1" }, image = "ami-0cccccccccccccccc" }
  }
}

run "everything" {
  command = apply

  assert {
    condition     = length(split("---\n", output.node_classes)) == 3
    error_message = "node_classes are ${output.node_classes}"
  }
}
