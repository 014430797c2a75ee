# What the example prints.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_instance" {
    defaults = {
      metadata_options = [{
        http_endpoint = "enabled", http_protocol_ipv6 = "disabled", http_put_response_hop_limit = 1, http_tokens = "required", instance_metadata_tags = "disabled"
      }]
    }
  }
}

override_module {
  target = module.region
  outputs = {
    node_class = {
      region            = "us-east-1"
      subnets           = ["subnet-0aaaaaaaaaaaaaaa1"]
      securityGroups    = ["sg-0aaaaaaaaaaaaaaa1"]
      instanceProfile   = "lowtide-gpu-us-east-1"
      interruptionQueue = "lowtide-gpu-interruptions"
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

run "three_node_classes_and_the_values_of_the_chart" {
  command = plan

  assert {
    condition     = [for text in split("---\n", output.node_classes) : yamldecode(text).metadata.name] == ["eu-south-2", "us-east-1", "us-east-2"]
    error_message = "node_classes are ${output.node_classes}"
  }
  assert {
    condition     = [for text in split("---\n", output.node_classes) : yamldecode(text).spec.image] == ["ami-0cccccccccccccccc", "ami-0aaaaaaaaaaaaaaaa", "ami-0bbbbbbbbbbbbbbbb"]
    error_message = "A region has another region's image."
  }
  assert {
    condition     = yamldecode(output.helm_values) == { cluster = { name = "gpu" }, operator = { hostNetwork = true }, serviceAccount = { name = "lowtide", annotations = {} } }
    error_message = "helm_values are ${output.helm_values}"
  }
  assert {
    condition     = output.namespace == "lowtide-system"
    error_message = "The chart goes to ${output.namespace}."
  }
}

run "an_address_that_is_none" {
  command = plan

  variables {
    server_url = "203.0.113.10"
  }

  expect_failures = [var.server_url]
}
