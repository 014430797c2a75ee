# Values that must be refused, each by its own variable.

mock_provider "aws" {}

variables {
  cluster_name = "prod"
  regions      = ["us-east-1"]
  identity     = { pod_identity = { eks_cluster_name = "prod", region = "us-east-1" } }
}

run "refuses_cluster_name_1" {
  command = plan

  variables {
    cluster_name = "prod/eu"
  }

  expect_failures = [var.cluster_name]
}

run "refuses_cluster_name_2" {
  command = plan

  variables {
    cluster_name = "a-cluster-of-thirty-three-letters1"
  }

  expect_failures = [var.cluster_name]
}

run "refuses_regions_1" {
  command = plan

  variables {
    regions = []
  }

  expect_failures = [var.regions]
}

run "refuses_regions_2" {
  command = plan

  variables {
    regions = ["us-east-1a"]
  }

  expect_failures = [var.regions]
}

run "refuses_namespace_1" {
  command = plan

  variables {
    namespace = "*"
  }

  expect_failures = [var.namespace]
}

run "refuses_service_account_1" {
  command = plan

  variables {
    service_account = "low*"
  }

  expect_failures = [var.service_account]
}

run "refuses_identity_1" {
  command = plan

  variables {
    identity = {}
  }

  expect_failures = [var.identity]
}

run "refuses_identity_2" {
  command = plan

  variables {
    identity = { oidc = { provider_arn = "a", issuer = "b" }, existing_role = { name = "c", region = "us-east-1", instances = { a = "i-1" } } }
  }

  expect_failures = [var.identity]
}

run "refuses_identity_3" {
  command = plan

  variables {
    identity = { oidc = { provider_arn = "a", issuer = "https://oidc.example/1" } }
  }

  expect_failures = [var.identity]
}

run "refuses_identity_4" {
  command = plan

  variables {
    identity = { existing_role = { name = "c", region = "us-east-1", instances = {} } }
  }

  expect_failures = [var.identity]
}

run "refuses_instance_types_1" {
  command = plan

  variables {
    instance_types = ["*"]
  }

  expect_failures = [var.instance_types]
}

run "refuses_instance_types_2" {
  command = plan

  variables {
    instance_types = []
  }

  expect_failures = [var.instance_types]
}

run "refuses_image_owners_1" {
  command = plan

  variables {
    image_owners = ["123"]
  }

  expect_failures = [var.image_owners]
}

run "refuses_image_parameters_1" {
  command = plan

  variables {
    image_parameters = ["/*"]
  }

  expect_failures = [var.image_parameters]
}

run "refuses_node_hop_limit_1" {
  command = plan

  variables {
    node_hop_limit = 0
  }

  expect_failures = [var.node_hop_limit]
}

run "refuses_node_hop_limit_2" {
  command = plan

  variables {
    node_hop_limit = 1.5
  }

  expect_failures = [var.node_hop_limit]
}

run "refuses_volume_key_alias_1" {
  command = plan

  variables {
    volume_key_alias = "arn:aws:kms:us-east-1:123456789012:key/1"
  }

  expect_failures = [var.volume_key_alias]
}

run "refuses_bill_1" {
  command = plan

  variables {
    bill = { bucket = "arn:aws:s3:::bill" }
  }

  expect_failures = [var.bill]
}

run "refuses_bill_2" {
  command = plan

  variables {
    bill = { bucket = "bill", prefix = "low" }
  }

  expect_failures = [var.bill]
}

run "refuses_permissions_boundary_arn_1" {
  command = plan

  variables {
    permissions_boundary_arn = "boundary"
  }

  expect_failures = [var.permissions_boundary_arn]
}

run "refuses_tags_1" {
  command = plan

  variables {
    tags = { lowtide-cluster = "x" }
  }

  expect_failures = [var.tags]
}
