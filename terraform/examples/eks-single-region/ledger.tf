# Postgres for the savings ledger. Clients must use TLS; the operator verifies the certificate against RDS's own CA
# (docs/install-aws.md says how the chart gets it).

resource "aws_db_subnet_group" "ledger" {
  region     = var.region
  name       = "${var.cluster_name}-ledger"
  subnet_ids = [for subnet in aws_subnet.private : subnet.id]
  tags       = var.tags
}

resource "aws_security_group" "ledger" {
  region      = var.region
  name        = "${var.cluster_name}-ledger"
  description = "Postgres of the savings ledger"
  vpc_id      = aws_vpc.this.id
  tags        = var.tags
}

# The operator's pods have the addresses of the cluster's own nodes, never those of GPU nodes.
resource "aws_vpc_security_group_ingress_rule" "ledger" {
  region                       = var.region
  security_group_id            = aws_security_group.ledger.id
  description                  = "The operator"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  tags                         = var.tags
}

resource "aws_db_parameter_group" "ledger" {
  region = var.region
  name   = "${var.cluster_name}-ledger"
  family = "postgres17"
  tags   = var.tags

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

resource "aws_db_instance" "ledger" {
  region                      = var.region
  identifier                  = "${var.cluster_name}-ledger"
  engine                      = "postgres"
  engine_version              = "17"
  instance_class              = "db.t4g.small"
  allocated_storage           = 50
  max_allocated_storage       = 500
  storage_type                = "gp3"
  storage_encrypted           = true
  db_name                     = "lowtide"
  username                    = "owner"
  manage_master_user_password = true
  ca_cert_identifier          = "rds-ca-rsa2048-g1"
  db_subnet_group_name        = aws_db_subnet_group.ledger.name
  vpc_security_group_ids      = [aws_security_group.ledger.id]
  parameter_group_name        = aws_db_parameter_group.ledger.name
  publicly_accessible         = false
  multi_az                    = true
  backup_retention_period     = 14
  deletion_protection         = true
  skip_final_snapshot         = false
  final_snapshot_identifier   = "${var.cluster_name}-ledger-final"
  tags                        = var.tags
}
