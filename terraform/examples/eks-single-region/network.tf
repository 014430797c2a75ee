# One private subnet per zone for nodes, with internet egress; one public subnet for the NAT gateway.

resource "aws_vpc" "this" {
  region               = var.region
  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  tags                 = merge(var.tags, { Name = var.cluster_name })
}

resource "aws_subnet" "private" {
  for_each = { for index, zone in var.zones : zone => index }

  region            = var.region
  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  # A sixteenth of the VPC for each zone.
  cidr_block = cidrsubnet(var.vpc_cidr, 4, each.value)
  tags = merge(var.tags, {
    Name = "${var.cluster_name}-${each.key}"
    # The operator may launch into subnets with this tag, and into no others (modules/hub).
    "lowtide-subnet/${var.cluster_name}" = "buy"
  })
}

resource "aws_subnet" "public" {
  region            = var.region
  vpc_id            = aws_vpc.this.id
  availability_zone = var.zones[0]
  cidr_block        = cidrsubnet(var.vpc_cidr, 8, 255)
  tags              = merge(var.tags, { Name = "${var.cluster_name}-public" })
}

resource "aws_internet_gateway" "this" {
  region = var.region
  vpc_id = aws_vpc.this.id
  tags   = var.tags
}

resource "aws_eip" "nat" {
  region = var.region
  domain = "vpc"
  tags   = var.tags
}

resource "aws_nat_gateway" "this" {
  region        = var.region
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public.id
  tags          = var.tags
  depends_on    = [aws_internet_gateway.this]
}

resource "aws_route_table" "public" {
  region = var.region
  vpc_id = aws_vpc.this.id
  tags   = var.tags
}

resource "aws_route" "public" {
  region                 = var.region
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  region         = var.region
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

resource "aws_route_table" "private" {
  region = var.region
  vpc_id = aws_vpc.this.id
  tags   = var.tags
}

resource "aws_route" "private" {
  region                 = var.region
  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this.id
}

resource "aws_route_table_association" "private" {
  for_each = aws_subnet.private

  region         = var.region
  subnet_id      = each.value.id
  route_table_id = aws_route_table.private.id
}
