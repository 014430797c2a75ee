# Values that must be refused, each by its own variable.

mock_provider "aws" {
  mock_data "aws_subnet" {
    defaults = { vpc_id = "vpc-1", availability_zone_id = "use1-az4" }
  }
}

variables {
  region       = "us-east-1"
  cluster_name = "prod"
  subnets      = { use1-az4 = "subnet-1" }
}

run "refuses_region_1" {
  command = plan

  variables {
    region = "us-east-1a"
  }

  expect_failures = [var.region]
}

run "refuses_cluster_name_1" {
  command = plan

  variables {
    cluster_name = "prod_eu"
  }

  expect_failures = [var.cluster_name]
}

run "refuses_subnets_1" {
  command = plan

  variables {
    subnets = {}
  }

  expect_failures = [var.subnets]
}

run "refuses_mesh_cidrs_1" {
  command = plan

  variables {
    mesh_cidrs = { a = "203.0.113.1" }
  }

  expect_failures = [var.mesh_cidrs]
}

run "refuses_join_token_parameter_1" {
  command = plan

  variables {
    join_token_parameter = "K10abc::server:def"
  }

  expect_failures = [var.join_token_parameter]
}

run "refuses_volume_key_alias_1" {
  command = plan

  variables {
    volume_key_alias = "1234abcd-12ab-34cd-56ef-1234567890ab"
  }

  expect_failures = [var.volume_key_alias]
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
