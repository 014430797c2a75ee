"""What AWS authorises for each call of the operator. EC2 checks a launch once for every resource that takes part (Service Authorization
Reference, "Actions, resources, and condition keys for Amazon EC2"); a call goes through only if all of it is allowed."""
from iam import Request

ACCOUNT = "123456789012"
REGION = "us-east-1"
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"


def describe(action, region=REGION):
    return [Request(action, "*", {"aws:RequestedRegion": region})]


def tags(cluster):
    return {"aws:RequestTag/lowtide-cluster": cluster}


def carried(cluster):
    return {"aws:ResourceTag/lowtide-cluster": cluster}


def launch(action, **change):
    """All that is checked for one machine. `change` replaces one part: {kind: (resource, context) or None}."""
    cluster = "prod"
    parts = {
        "instance": (f"{EC2}:instance/*", tags(cluster) | {
            "ec2:InstanceType": "g6.xlarge", "ec2:MetadataHttpTokens": "required", "ec2:MetadataHttpPutResponseHopLimit": "1",
        }),
        "volume": (f"{EC2}:volume/*", tags(cluster)),
        "network-interface": (f"{EC2}:network-interface/*", {}),
        "subnet": (f"{EC2}:subnet/subnet-1", {f"aws:ResourceTag/lowtide-subnet/{cluster}": "buy"}),
        "security-group": (f"{EC2}:security-group/sg-1", carried(cluster)),
        "launch-template": (f"{EC2}:launch-template/lt-1", carried(cluster)),
        "placement-group": (f"{EC2}:placement-group/gpus", {}),
        "image": (f"arn:aws:ec2:{REGION}::image/ami-1", {"ec2:Owner": "amazon"}),
        "snapshot": (f"arn:aws:ec2:{REGION}::snapshot/snap-1", {}),
    }
    if action == "ec2:CreateFleet":
        parts["fleet"] = (f"{EC2}:fleet/*", tags(cluster))
        parts["spot-instances-request"] = (f"{EC2}:spot-instances-request/*", {})
    else:
        parts["capacity-reservation"] = (f"{EC2}:capacity-reservation/cr-1", {f"aws:ResourceTag/lowtide-reservation/{cluster}": "use"})
    parts |= {kind.replace("_", "-"): part for kind, part in change.items()}
    asked = [Request(action, resource, context) for resource, context in filter(None, parts.values())]
    made = {"CreateFleet": ["instance", "volume", "fleet"], "RunInstances": ["instance", "volume"]}[action.removeprefix("ec2:")]
    asked += [
        Request("ec2:CreateTags", f"{EC2}:{kind}/*", tags(cluster) | {"ec2:CreateAction": action.removeprefix("ec2:")}) for kind in made
    ]
    asked.append(Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/lowtide/{cluster}/lowtide-{cluster}-{REGION}", {"iam:PassedToService": "ec2.amazonaws.com"}))
    return asked


def queue(action, region=REGION, cluster="prod"):
    return [Request(action, f"arn:aws:sqs:{region}:{ACCOUNT}:lowtide-{cluster}-interruptions")]


# Where the region-target module is planned for these tests.
QUEUE = f"arn:aws:sqs:eu-south-2:{ACCOUNT}:lowtide-prod-interruptions"
TLS = {"aws:SecureTransport": "true"}
PLAIN = {"aws:SecureTransport": "false"}


def by_service(name, source=None, context=TLS):
    """A service sends to the queue; EventBridge names the rule on whose behalf it does."""
    return Request("sqs:SendMessage", QUEUE, context | ({"aws:SourceArn": source} if source else {}), {"Service": name})


def by_role(action, context=TLS, queue=QUEUE):
    """A role of the account asks something of the queue."""
    return Request(action, queue, context, {"AWS": f"arn:aws:iam::{ACCOUNT}:role/ci"})


RULE = f"arn:aws:events:eu-south-2:{ACCOUNT}:rule/lowtide-prod-"
# A role of the account with all rights on queues, as a function or a pipeline may have.
ALL_OF_SQS = {"Statement": [{"Effect": "Allow", "Action": "sqs:*", "Resource": "*"}]}

# What must be refused although the sender's own policy, or nothing, stands against it.
FORGED = {
    "another rule": by_service("events.amazonaws.com", f"{RULE}other"),
    "a rule of our name in another region": by_service("events.amazonaws.com", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/lowtide-prod-interruption"),
    "a rule of our name in another account": by_service("events.amazonaws.com", "arn:aws:events:eu-south-2:999999999999:rule/lowtide-prod-interruption"),
    "another cluster's rule": by_service("events.amazonaws.com", f"arn:aws:events:eu-south-2:{ACCOUNT}:rule/lowtide-prod-eu-interruption"),
    "EventBridge for no rule": by_service("events.amazonaws.com"),
    "EventBridge by plain http": by_service("events.amazonaws.com", f"{RULE}interruption", PLAIN),
    "a topic": by_service("sns.amazonaws.com", f"arn:aws:sns:eu-south-2:{ACCOUNT}:anything"),
    "another service for our rule": by_service("sns.amazonaws.com", f"{RULE}interruption"),
    "a role with all rights on queues": by_role("sqs:SendMessage"),
    "the same by plain http": by_role("sqs:SendMessage", PLAIN),
    "the same without a word of the transport": by_role("sqs:SendMessage", {}),
}

# The SDK's methods in src/aws. A fleet of type `instant` launches in the caller's name, so both actions are checked.
CALLS = {
    "create_fleet": launch("ec2:CreateFleet") + launch("ec2:RunInstances", capacity_reservation=None),
    "create_launch_template": [
        Request("ec2:CreateLaunchTemplate", f"{EC2}:launch-template/*", tags("prod")),
        Request("ec2:CreateTags", f"{EC2}:launch-template/*", tags("prod") | {"ec2:CreateAction": "CreateLaunchTemplate"}),
    ],
    "delete_message": queue("sqs:DeleteMessage"),
    "describe_availability_zones": describe("ec2:DescribeAvailabilityZones"),
    "describe_capacity_reservations": describe("ec2:DescribeCapacityReservations"),
    "describe_images": describe("ec2:DescribeImages"),
    "describe_instance_type_offerings": describe("ec2:DescribeInstanceTypeOfferings"),
    "describe_instance_types": describe("ec2:DescribeInstanceTypes"),
    "describe_instance_status": describe("ec2:DescribeInstanceStatus"),
    "describe_instances": describe("ec2:DescribeInstances"),
    "describe_launch_templates": describe("ec2:DescribeLaunchTemplates"),
    "describe_spot_instance_requests": describe("ec2:DescribeSpotInstanceRequests"),
    "describe_spot_price_history": describe("ec2:DescribeSpotPriceHistory"),
    "describe_subnets": describe("ec2:DescribeSubnets"),
    "get_aws_default_service_quota": describe("servicequotas:GetAWSDefaultServiceQuota"),
    "get_parameter": [
        Request("ssm:GetParameter", f"arn:aws:ssm:{REGION}::parameter/aws/service/bottlerocket/aws-k8s-1.33-nvidia/x86_64/latest/image_id", {"aws:RequestedRegion": REGION}),
    ],
    "get_products": describe("pricing:GetProducts"),
    "get_queue_url": queue("sqs:GetQueueUrl"),
    "get_service_quota": describe("servicequotas:GetServiceQuota"),
    "get_spot_placement_scores": describe("ec2:GetSpotPlacementScores"),
    "receive_message": queue("sqs:ReceiveMessage"),
    "run_instances": launch("ec2:RunInstances"),
    "terminate_instances": [Request("ec2:TerminateInstances", f"{EC2}:instance/i-1", carried("prod"))],
}

# Calls that only a person's credentials may make; each must be among what the operator is refused.
OF_PEOPLE = {
    "create_tags": "the tag on a machine that is there",  # lowtide adopt
}

# Rights that no call of the SDK shows: AWS asks for them on behalf of one.
BESIDES = {
    "ec2:CreateTags": "tags in the requests that make something",
    "iam:PassRole": "the instance profile of a launch",
    "iam:CreateServiceLinkedRole": "the first launch of an account",
}

CREATE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"

# name: one call that must be refused. Each differs from an allowed one in a single point.
REFUSED = {
    "ending another cluster's machine": [Request("ec2:TerminateInstances", f"{EC2}:instance/i-1", carried("prod-eu"))],
    "ending a machine without the tag": [Request("ec2:TerminateInstances", f"{EC2}:instance/i-1")],
    "ending a machine of another account": [Request("ec2:TerminateInstances", "arn:aws:ec2:us-east-1:999999999999:instance/i-1", carried("prod"))],
    "stopping our own machine": [Request("ec2:StopInstances", f"{EC2}:instance/i-1", carried("prod"))],
    "RunInstances of a CPU type": launch("ec2:RunInstances", instance=(f"{EC2}:instance/*", tags("prod") | {"ec2:InstanceType": "m7i.large", "ec2:MetadataHttpTokens": "required", "ec2:MetadataHttpPutResponseHopLimit": "1"})),
    "CreateFleet of a CPU type": launch("ec2:CreateFleet", instance=(f"{EC2}:instance/*", tags("prod") | {"ec2:InstanceType": "c7i.48xlarge"})),
    "a machine with another cluster's tag": launch("ec2:RunInstances", instance=(f"{EC2}:instance/*", tags("prod-eu") | {"ec2:InstanceType": "g6.xlarge"})),
    "a machine without a tag": launch("ec2:RunInstances", instance=(f"{EC2}:instance/*", {"ec2:InstanceType": "g6.xlarge"})),
    "a machine whose metadata need no token": launch("ec2:RunInstances", instance=(f"{EC2}:instance/*", tags("prod") | {"ec2:InstanceType": "g6.xlarge", "ec2:MetadataHttpTokens": "optional", "ec2:MetadataHttpPutResponseHopLimit": "1"})),
    "a machine whose role pods reach": launch("ec2:RunInstances", instance=(f"{EC2}:instance/*", tags("prod") | {"ec2:InstanceType": "g6.xlarge", "ec2:MetadataHttpTokens": "required", "ec2:MetadataHttpPutResponseHopLimit": "2"})),
    "a launch into a foreign subnet": launch("ec2:RunInstances", subnet=(f"{EC2}:subnet/subnet-9", {})),
    "a launch into another cluster's subnet": launch("ec2:CreateFleet", subnet=(f"{EC2}:subnet/subnet-9", {"aws:ResourceTag/lowtide-subnet/prod-eu": "buy"})),
    "a launch with a foreign security group": launch("ec2:RunInstances", security_group=(f"{EC2}:security-group/sg-9", {})),
    "a launch with another cluster's security group": launch("ec2:RunInstances", security_group=(f"{EC2}:security-group/sg-9", carried("prod-eu"))),
    "a launch from a foreign template": launch("ec2:CreateFleet", launch_template=(f"{EC2}:launch-template/lt-9", {})),
    "a launch into a foreign reservation": launch("ec2:RunInstances", capacity_reservation=(f"{EC2}:capacity-reservation/cr-9", {})),
    "a launch into another cluster's reservation": launch("ec2:RunInstances", capacity_reservation=(f"{EC2}:capacity-reservation/cr-9", {"aws:ResourceTag/lowtide-reservation/prod-eu": "use"})),
    "the tag on a reservation": [Request("ec2:CreateTags", f"{EC2}:capacity-reservation/cr-9", {"aws:RequestTag/lowtide-reservation/prod": "use"})],
    "a launch with somebody's key pair": [Request("ec2:RunInstances", f"{EC2}:key-pair/admin")],
    "PassRole of an administrator": [Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", {"iam:PassedToService": "ec2.amazonaws.com"})],
    "PassRole of another cluster's node": [Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/lowtide/prod-eu/lowtide-prod-eu-us-east-1", {"iam:PassedToService": "ec2.amazonaws.com"})],
    "PassRole of the operator": [Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/lowtide-prod-operator", {"iam:PassedToService": "ec2.amazonaws.com"})],
    "PassRole of a node to a function": [Request("iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/lowtide/prod/lowtide-prod-us-east-1", {"iam:PassedToService": "lambda.amazonaws.com"})],
    "the tag on a machine that is there": [Request("ec2:CreateTags", f"{EC2}:instance/i-1", tags("prod"))],
    "another cluster's tag while making": [Request("ec2:CreateTags", f"{EC2}:instance/*", tags("prod-eu") | {"ec2:CreateAction": "RunInstances"})],
    "the tag on a subnet": [Request("ec2:CreateTags", f"{EC2}:subnet/subnet-9", {"aws:RequestTag/lowtide-subnet/prod": "buy"})],
    "a template without the tag": [Request("ec2:CreateLaunchTemplate", f"{EC2}:launch-template/*")],
    "changing a template": [Request("ec2:CreateLaunchTemplateVersion", f"{EC2}:launch-template/lt-1", carried("prod"))],
    "deleting a template": [Request("ec2:DeleteLaunchTemplate", f"{EC2}:launch-template/lt-1", carried("prod"))],
    "another cluster's queue": queue("sqs:ReceiveMessage", cluster="prod-eu"),
    "sending to the queue": queue("sqs:SendMessage"),
    "emptying the queue": queue("sqs:PurgeQueue"),
    "looking at another region": describe("ec2:DescribeInstances", "eu-west-1"),
    "another service-linked role": [Request("iam:CreateServiceLinkedRole", f"{CREATE_ROLE}/x", {"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"})],
    "reading a password": [Request("ec2:GetPasswordData", f"{EC2}:instance/i-1", carried("prod"))],
    "running a command on a machine": [Request("ssm:SendCommand", f"{EC2}:instance/i-1", carried("prod"))],
    "reading the join token": [Request("ssm:GetParameter", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/lowtide/k3s-agent-token", {"aws:RequestedRegion": REGION})],
    "making a role": [Request("iam:CreateRole", f"arn:aws:iam::{ACCOUNT}:role/lowtide/prod/x")],
    "buying a reservation": [Request("ec2:PurchaseCapacityBlock", f"{EC2}:capacity-block-offering/x")],
    "a key without its option": [Request("kms:Decrypt", KEY, {"kms:ResourceAliases": ["alias/lowtide-gpu"], "kms:ViaService": "ec2.us-east-1.amazonaws.com"})],
}
