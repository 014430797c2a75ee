"""What the operator does to EC2, done by AWS's Python SDK against the simulator."""

import base64
import gzip
import json
import pathlib
import time
from datetime import datetime, timedelta, timezone

import moto
import pytest
from botocore.exceptions import ClientError

USER_DATA = "#cloud-config\nhostname: gpu\n"


def refused(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    response = caught.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def subnets(ec2):
    return {s["AvailabilityZoneId"]: s["SubnetId"] for s in ec2.describe_subnets()["Subnets"]}


def template(ec2, name="nodes"):
    data = {
        "ImageId": "ami-0123456789abcdef0", "UserData": base64.b64encode(USER_DATA.encode()).decode(),
        "IamInstanceProfile": {"Name": "gpu-node"}, "SecurityGroupIds": ["sg-0123456789abcdef0"],
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "from", "Value": "template"}]}],
    }
    return ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]


def fleet(ec2, overrides, market="spot", count=1, token=None, **more):
    names = {t["LaunchTemplateName"] for t in ec2.describe_launch_templates()["LaunchTemplates"]}
    if "nodes" not in names:
        template(ec2)
    arguments = {
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {"LaunchTemplateSpecification": {"LaunchTemplateName": "nodes", "Version": "$Latest"}, "Overrides": overrides}
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": market},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "lowtide-claim", "Value": "claim-1"}]}],
        **({"ClientToken": token} if token else {}), **more,
    }
    return lambda: ec2.create_fleet(**arguments)


def one(ec2, zone="use1-az4", it="g6.xlarge", **more):
    answer = fleet(ec2, [{"InstanceType": it, "SubnetId": subnets(ec2)[zone]}], **more)()
    assert answer["Errors"] == [], answer["Errors"]
    return answer["Instances"][0]["InstanceIds"][0]


def priced_zone(ec2, it="g6.xlarge"):
    rows = ec2.describe_spot_price_history(InstanceTypes=[it], StartTime=datetime.now(timezone.utc))["SpotPriceHistory"]
    return min(rows, key=lambda row: float(row["SpotPrice"]))["AvailabilityZoneId"]


# --- places and types -------------------------------------------------------------------------------------------------


def test_regions_zones_and_subnets(simulator):
    ec2 = simulator.client("ec2")
    regions = {r["RegionName"] for r in ec2.describe_regions()["Regions"]}
    assert {"us-east-1", "eu-south-2", "ap-northeast-1"} <= regions
    assert refused(ec2.describe_regions, RegionNames=["xx-bad-1"])[0] == "InvalidParameterValue"
    zones = {z["ZoneId"]: z for z in ec2.describe_availability_zones()["AvailabilityZones"]}
    assert zones["use1-atl2-az1"]["ZoneType"] == "local-zone"
    assert zones["use1-az1"]["ZoneName"] != "us-east-1a", "names are shifted against ids"
    here = subnets(ec2)
    assert set(here) == set(zones)
    found = ec2.describe_subnets(SubnetIds=[here["use1-az2"]])["Subnets"]
    assert [s["AvailabilityZone"] for s in found] == [zones["use1-az2"]["ZoneName"]]
    assert refused(ec2.describe_subnets, SubnetIds=["subnet-00000000000000000"]) == ("InvalidSubnetID.NotFound", 400)
    other = simulator.client("ec2", "eu-west-1")
    assert refused(other.describe_subnets, SubnetIds=[here["use1-az2"]])[0] == "InvalidSubnetID.NotFound"
    images = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["arm64"]}])["Images"]
    assert [image["Architecture"] for image in images] == ["arm64"]


def test_instance_types_say_what_real_ec2_says(simulator):
    ec2 = simulator.client("ec2")
    ours = {t["InstanceType"]: t for page in ec2.get_paginator("describe_instance_types").paginate(PaginationConfig={"PageSize": 7})
            for t in page["InstanceTypes"]}
    path = pathlib.Path(moto.__file__).parent / "ec2/resources/instance_types.json.gz"
    theirs = json.load(gzip.open(path))
    compared = 0
    for name, our in ours.items():
        real = theirs.get(name)
        if real is None:
            continue
        compared += 1
        assert our["VCpuInfo"]["DefaultVCpus"] == real["VCpuInfo"]["DefaultVCpus"], name
        assert our["MemoryInfo"] == real["MemoryInfo"], name
        assert our["ProcessorInfo"]["SupportedArchitectures"] == real["ProcessorInfo"]["SupportedArchitectures"], name
        assert sorted(our["SupportedUsageClasses"]) == sorted(real["SupportedUsageClasses"]), name
        assert our["CurrentGeneration"] == real["CurrentGeneration"], name
        assert our.get("InstanceStorageInfo", {}).get("TotalSizeInGB") == real.get("InstanceStorageInfo", {}).get("TotalSizeInGB"), name
        keys = ["Name", "Manufacturer", "Count", "LogicalGpuCount", "GpuPartitionSize", "MemoryInfo"]
        gpus = lambda info: [{key: gpu[key] for key in keys} for gpu in info["Gpus"]]
        assert gpus(our["GpuInfo"]) == gpus(real["GpuInfo"]), name
        assert our["GpuInfo"]["TotalGpuMemoryInMiB"] == real["GpuInfo"]["TotalGpuMemoryInMiB"], name
    assert compared > 50
    assert (ours["g6f.large"]["GpuInfo"]["Gpus"][0]["Count"], ours["g6f.large"]["GpuInfo"]["Gpus"][0]["LogicalGpuCount"]) == (0, 1)
    assert refused(ec2.describe_instance_types, InstanceTypes=["zz9.bogus"]) == ("InvalidInstanceType", 400)


@pytest.mark.parametrize("location", ["region", "availability-zone", "availability-zone-id"])
def test_offerings_per_location_type(simulator, location):
    ec2 = simulator.client("ec2", "eu-central-1")
    rows = [row for page in ec2.get_paginator("describe_instance_type_offerings").paginate(LocationType=location, MaxResults=50)
            for row in page["InstanceTypeOfferings"]]
    assert len({(r["InstanceType"], r["Location"]) for r in rows}) == len(rows) > 10
    if location == "availability-zone-id":
        real = pathlib.Path(moto.__file__).parent / "ec2/resources/instance_type_offerings/availability-zone-id/eu-central-1.json.gz"
        offered = {(r["InstanceType"], r["Location"]) for r in json.load(gzip.open(real))}
        assert {(r["InstanceType"], r["Location"]) for r in rows} <= offered


# --- the market -------------------------------------------------------------------------------------------------------


def test_spot_price_history(simulator):
    ec2 = simulator.client("ec2")
    now = datetime.now(timezone.utc)
    first = ec2.describe_spot_price_history(StartTime=now, MaxResults=5)
    assert len(first["SpotPriceHistory"]) == 5 and first["NextToken"]
    rows = [r for page in ec2.get_paginator("describe_spot_price_history").paginate(StartTime=now, PaginationConfig={"PageSize": 5})
            for r in page["SpotPriceHistory"]]
    pools = [(r["AvailabilityZoneId"], r["InstanceType"]) for r in rows]
    assert len(set(pools)) == len(pools), "StartTime=now gives one row per pool"
    assert ec2.describe_spot_price_history(StartTime=now)["NextToken"] == ""
    row = rows[0]
    assert {row["ProductDescription"]} == {"Linux/UNIX"} and row["AvailabilityZone"] and isinstance(row["SpotPrice"], str)
    simulator.order("tick", seconds=1)  # the history tells a second one price
    simulator.order("price", region="us-east-1", zone=row["AvailabilityZoneId"], instance_type=row["InstanceType"], price_per_hour="9.99")
    query = {"InstanceTypes": [row["InstanceType"]], "AvailabilityZoneId": row["AvailabilityZoneId"]}
    time.sleep(0.01)
    current = ec2.describe_spot_price_history(StartTime=datetime.now(timezone.utc) + timedelta(seconds=1), **query)["SpotPriceHistory"]
    assert [float(r["SpotPrice"]) for r in current] == [9.99]
    assert len(ec2.describe_spot_price_history(**query)["SpotPriceHistory"]) == 2, "one row per change"
    assert ec2.describe_spot_price_history(InstanceTypes=["g5.xlarge"])["SpotPriceHistory"] == [], "unknown stays unknown"
    assert ec2.describe_spot_price_history(ProductDescriptions=["Windows"])["SpotPriceHistory"] == []
    both = {"AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az1"}
    assert refused(ec2.describe_spot_price_history, **both)[0] == "InvalidParameterCombination"


def test_placement_scores(simulator):
    ec2 = simulator.client("ec2")
    query = {"InstanceTypes": ["g6.xlarge", "g6.4xlarge", "g6e.xlarge"], "TargetCapacity": 1, "RegionNames": ["us-east-1", "us-west-2"]}
    before = {s["Region"]: s["Score"] for s in ec2.get_spot_placement_scores(**query)["SpotPlacementScores"]}
    simulator.order("capacity", region="us-east-1", capacity_type="spot", available=0)
    after = {s["Region"]: s["Score"] for s in ec2.get_spot_placement_scores(**query)["SpotPlacementScores"]}
    assert after["us-east-1"] == 1 < before["us-east-1"] and after["us-west-2"] == before["us-west-2"]
    zones = ec2.get_spot_placement_scores(SingleAvailabilityZone=True, **query)["SpotPlacementScores"]
    assert len(zones) <= 10 and all(z["AvailabilityZoneId"] for z in zones)


def test_price_list(simulator):
    pricing = simulator.client("pricing")
    filters = {"operatingSystem": "Linux", "tenancy": "Shared", "preInstalledSw": "NA", "capacitystatus": "Used", "regionCode": "us-east-1"}
    asked = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in filters.items()]
    prices = {}
    for page in pricing.get_paginator("get_products").paginate(ServiceCode="AmazonEC2", Filters=asked, PaginationConfig={"PageSize": 20}):
        for text in page["PriceList"]:
            product = json.loads(text)
            (term,) = product["terms"]["OnDemand"].values()
            (dimension,) = term["priceDimensions"].values()
            name = product["product"]["attributes"]["instanceType"]
            assert name not in prices
            prices[name] = dimension["pricePerUnit"]["USD"]
    assert prices["g6.xlarge"] == "0.8048000000" and "p5e.48xlarge" not in prices
    assert refused(simulator.client("pricing", "eu-west-1").get_products, ServiceCode="AmazonEC2")[0] == "AccessDeniedException"


# --- launching --------------------------------------------------------------------------------------------------------


def test_a_fleet_launches_where_it_was_asked_to(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    answer = fleet(ec2, [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]}], token="t-1")()
    (group,) = answer["Instances"]
    assert (group["Lifecycle"], group["InstanceType"], group["AvailabilityZoneId"]) == ("spot", "g6.xlarge", zone)
    assert group["SubnetId"] == subnets(ec2)[zone] and group["AvailabilityZone"].startswith("us-east-1")
    assert group["LaunchTemplateAndOverrides"]["Overrides"]["SubnetId"] == subnets(ec2)[zone]
    (instance_id,) = group["InstanceIds"]
    (reservation,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    (instance,) = reservation["Instances"]
    tags = {t["Key"]: t["Value"] for t in instance["Tags"]}
    assert tags["lowtide-claim"] == "claim-1" and tags["from"] == "template" and tags["aws:ec2:fleet-id"] == answer["FleetId"]
    assert instance["InstanceLifecycle"] == "spot" and instance["SpotInstanceRequestId"].startswith("sir-")
    assert instance["ClientToken"] == "t-1" and instance["Placement"]["AvailabilityZoneId"] == zone
    until(lambda: simulator.instance(instance_id)["state"] == "running")
    assert simulator.http("GET", f"/_sim/instances/{instance_id}/user-data") == (200, USER_DATA)
    request = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[instance["SpotInstanceRequestId"]])["SpotInstanceRequests"][0]
    assert (request["State"], request["Status"]["Code"], request["InstanceId"]) == ("active", "fulfilled", instance_id)


def test_ice_comes_per_override_inside_a_200(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    simulator.order("capacity", zone=zone, instance_type="g6.xlarge", capacity_type="spot", available=0)
    other = next(r for r in ec2.describe_spot_price_history(InstanceTypes=["g6.xlarge"])["SpotPriceHistory"] if r["AvailabilityZoneId"] != zone)
    overrides = [
        {"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]},
        {"InstanceType": "g6.xlarge", "AvailabilityZoneId": other["AvailabilityZoneId"]},
    ]
    answer = fleet(ec2, overrides)()
    assert [e["ErrorCode"] for e in answer["Errors"]] == ["InsufficientInstanceCapacity"]
    assert answer["Errors"][0]["LaunchTemplateAndOverrides"]["Overrides"]["SubnetId"] == subnets(ec2)[zone]
    assert answer["Errors"][0]["Lifecycle"] == "spot"
    assert [i["AvailabilityZoneId"] for i in answer["Instances"]] == [other["AvailabilityZoneId"]]
    none = fleet(ec2, overrides[:1])()
    assert none["Instances"] == [] and none["ResponseMetadata"]["HTTPStatusCode"] == 200
    unsupported = fleet(ec2, [{"InstanceType": "g5.xlarge", "SubnetId": subnets(ec2)[zone]}])()
    assert [e["ErrorCode"] for e in unsupported["Errors"]] == ["InvalidFleetConfiguration"]


def test_a_gang_launches_whole_or_not_at_all(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    override = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]}]
    gang = {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized", "MinTargetCapacity": 3, "SingleInstanceType": True}}
    simulator.order("capacity", zone=zone, available=2)
    answer = fleet(ec2, override, count=3, **gang)()
    assert answer["Instances"] == [] and [e["ErrorCode"] for e in answer["Errors"]] == ["UnfulfillableCapacity"]
    assert simulator.state()["instances"] == []
    simulator.order("capacity", zone=zone, available=3)
    assert len(fleet(ec2, override, count=3, **gang)()["Instances"][0]["InstanceIds"]) == 3
    alone = {"SpotOptions": {"MinTargetCapacity": 3}}
    assert refused(fleet(ec2, override, count=3, **alone))[0] == "InvalidParameterCombination"


def test_the_cheapest_override_wins_unless_told_otherwise(simulator):
    ec2 = simulator.client("ec2")
    rows = ec2.describe_spot_price_history(InstanceTypes=["g6.xlarge"])["SpotPriceHistory"]
    overrides = [{"InstanceType": "g6.xlarge", "AvailabilityZoneId": r["AvailabilityZoneId"]} for r in rows]
    where = lambda **more: [i["AvailabilityZoneId"] for i in fleet(ec2, overrides, **more)()["Instances"]]
    assert where() == [priced_zone(ec2)]
    spread = where(count=len(rows), SpotOptions={"AllocationStrategy": "diversified"})
    assert sorted(spread) == sorted(r["AvailabilityZoneId"] for r in rows)


def test_quotas_are_readable_and_bind(simulator):
    ec2, quotas = simulator.client("ec2"), simulator.client("service-quotas")
    zone = priced_zone(ec2)
    assert len(quotas.list_service_quotas(ServiceCode="ec2")["Quotas"]) == 4
    simulator.order("quota", region="us-east-1", code="L-3819A6DF", vcpus=3)
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-3819A6DF")["Quota"]["Value"] == 3.0
    assert refused(quotas.get_service_quota, ServiceCode="ec2", QuotaCode="L-NOPE")[0] == "NoSuchResourceException"
    override = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]}]
    assert [e["ErrorCode"] for e in fleet(ec2, override)()["Errors"]] == ["MaxSpotInstanceCountExceeded"]
    simulator.order("quota", region="us-east-1", code="L-DB2E81BA", vcpus=3)
    assert [e["ErrorCode"] for e in fleet(ec2, override, "on-demand")()["Errors"]] == ["VcpuLimitExceeded"]


def test_client_tokens(simulator):
    ec2 = simulator.client("ec2")
    overrides = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[priced_zone(ec2)]}]
    first, again = fleet(ec2, overrides, token="same")(), fleet(ec2, overrides, token="same")()
    assert first["Instances"] == again["Instances"] and first["FleetId"] == again["FleetId"]
    assert len(simulator.state()["instances"]) == 1
    assert refused(fleet(ec2, overrides, "on-demand", token="same")) == ("IdempotentParameterMismatch", 400)
    elsewhere = simulator.client("ec2", "us-west-2")
    assert one(elsewhere, priced_zone(elsewhere), token="same") != first["Instances"][0]["InstanceIds"][0], "tokens are regional"
    ec2.terminate_instances(InstanceIds=first["Instances"][0]["InstanceIds"])
    until(lambda: simulator.instance(first["Instances"][0]["InstanceIds"][0])["state"] == "terminated")
    assert refused(fleet(ec2, overrides, token="same"))[0] == "IdempotentInstanceTerminated"


def test_run_instances(simulator):
    ec2 = simulator.client("ec2")
    template(ec2)
    zone = priced_zone(ec2)
    base = {"LaunchTemplate": {"LaunchTemplateName": "nodes"}, "InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]}
    spot = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}}
    answer = ec2.run_instances(MinCount=1, MaxCount=2, ClientToken="r", **base, **spot)
    assert [i["InstanceLifecycle"] for i in answer["Instances"]] == ["spot", "spot"]
    assert ec2.run_instances(MinCount=1, MaxCount=2, ClientToken="r", **base, **spot)["ReservationId"] == answer["ReservationId"]
    simulator.order("capacity", zone=zone, available=0)
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, **base, **spot) == ("InsufficientInstanceCapacity", 500)
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, DryRun=True, **base) == ("DryRunOperation", 412)
    low = {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.002"}}}
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, **base, **low) == ("SpotMaxPriceTooLow", 400)
    local = {**base, "SubnetId": subnets(ec2)["use1-atl2-az1"]}
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, **local) == ("Unsupported", 400)
    assert simulator.state()["run_instances_calls"] == 6


def test_capacity_reservations_are_described_and_used_by_targeted_launches(simulator):
    ec2 = simulator.client("ec2")
    template(ec2)
    zone = priced_zone(ec2)
    order = {"region": "us-east-1", "zone": zone, "instance_type": "g6.xlarge", "count": 1, "ends_in_seconds": 3600.0}
    reservation = simulator.order("reservation", **order)["capacity_reservation_id"]
    found = ec2.describe_capacity_reservations(CapacityReservationIds=[reservation])["CapacityReservations"][0]
    assert (found["AvailabilityZoneId"], found["InstanceType"], found["State"]) == (zone, "g6.xlarge", "active")
    assert (found["TotalInstanceCount"], found["AvailableInstanceCount"], found["EndDateType"]) == (1, 1, "limited")
    assert 3500 < (found["EndDate"] - datetime.now(timezone.utc)).total_seconds() <= 3600
    into = {"CapacityReservationSpecification": {"CapacityReservationTarget": {"CapacityReservationId": reservation}}}
    base = {"LaunchTemplate": {"LaunchTemplateName": "nodes"}, "InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[zone]}
    launched = ec2.run_instances(MinCount=1, MaxCount=1, **base, **into)["Instances"][0]
    assert launched["CapacityReservationId"] == reservation and "InstanceLifecycle" not in launched
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, **base, **into) == ("ReservationCapacityExceeded", 400)
    larger = {**base, "InstanceType": "g6.2xlarge"}
    assert refused(ec2.run_instances, MinCount=1, MaxCount=1, **larger, **into) == ("InvalidParameterValue", 400)
    missing = refused(ec2.describe_capacity_reservations, CapacityReservationIds=["cr-00000000000000000"])
    assert missing == ("InvalidCapacityReservationId.NotFound", 400)
    filters = [{"Name": "capacity-reservation-id", "Values": [reservation, "cr-00000000000000000"]}]
    left = ec2.describe_capacity_reservations(Filters=filters)["CapacityReservations"]
    assert [r["AvailableInstanceCount"] for r in left] == [0]


def test_a_region_that_is_off_answers_as_aws_does(simulator):
    simulator.order("region", region="ap-southeast-3", on=False)
    assert refused(simulator.client("ec2", "ap-southeast-3").describe_availability_zones) == ("AuthFailure", 401)
    regions = simulator.client("ec2").describe_regions(AllRegions=True)["Regions"]
    assert {r["OptInStatus"] for r in regions if r["RegionName"] == "ap-southeast-3"} == {"not-opted-in"}


def test_launch_templates(simulator):
    ec2 = simulator.client("ec2")
    made = template(ec2)
    assert made["LatestVersionNumber"] == 1
    assert refused(template, ec2=ec2)[0] == "InvalidLaunchTemplateName.AlreadyExistsException"
    version = ec2.create_launch_template_version(
        LaunchTemplateName="nodes", SourceVersion="1", LaunchTemplateData={"ImageId": "ami-0fedcba9876543210"})["LaunchTemplateVersion"]
    assert version["VersionNumber"] == 2 and version["LaunchTemplateData"]["UserData"] == base64.b64encode(USER_DATA.encode()).decode()
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=made["LaunchTemplateId"], Versions=["$Latest"])
    assert [v["LaunchTemplateData"]["ImageId"] for v in versions["LaunchTemplateVersions"]] == ["ami-0fedcba9876543210"]
    ec2.delete_launch_template(LaunchTemplateName="nodes")
    assert refused(ec2.delete_launch_template, LaunchTemplateName="nodes")[0] == "InvalidLaunchTemplateName.NotFoundException"


# --- living and dying -------------------------------------------------------------------------------------------------


def test_describe_filters_and_pages(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    spots = [one(ec2, zone) for _ in range(5)]
    kept = one(ec2, zone, market="on-demand")
    ids = lambda **query: [i["InstanceId"] for page in ec2.get_paginator("describe_instances").paginate(**query)
                           for r in page["Reservations"] for i in r["Instances"]]
    assert sorted(ids(PaginationConfig={"PageSize": 5})) == sorted([*spots, kept])
    by = lambda name, *values: ids(Filters=[{"Name": name, "Values": list(values)}])
    assert sorted(by("instance-lifecycle", "spot")) == sorted(spots)
    assert by("instance-id", kept) == [kept]
    assert len(by("tag:lowtide-claim", "claim-*")) == 6 and by("tag:lowtide-claim", "other") == []
    ec2.create_tags(Resources=[kept], Tags=[{"Key": "late", "Value": "1"}])
    assert by("tag-key", "late") == [kept]
    assert {t["Key"] for t in ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [kept]}])["Tags"]} >= {"late", "lowtide-claim"}
    until(lambda: len(by("instance-state-name", "running")) == 6)
    assert len(ec2.describe_instance_status(InstanceIds=[kept])["InstanceStatuses"]) == 1
    assert refused(ec2.describe_instances, InstanceIds=["i-00000000000000000"]) == ("InvalidInstanceID.NotFound", 400)
    assert refused(ec2.describe_instances, InstanceIds=[kept], MaxResults=5)[0] == "InvalidParameterCombination"
    assert refused(ec2.describe_instances, InstanceIds=["nonsense"])[0] == "InvalidInstanceID.Malformed"


def test_scheduled_events_are_shown_by_status_and_said_by_health(simulator):
    ec2, sqs = simulator.client("ec2"), simulator.client("sqs")
    zone = priced_zone(ec2)
    retired, kept = one(ec2, zone, market="on-demand"), one(ec2, zone, market="on-demand")
    until(lambda: all(simulator.instance(i)["state"] == "running" for i in (retired, kept)))
    codes = ec2.meta.service_model.shape_for("EventCode").enum
    shown = lambda: {s["InstanceId"]: s["Events"] for s in ec2.describe_instance_status(
        Filters=[{"Name": "event.code", "Values": codes}], IncludeAllInstances=True, MaxResults=1000)["InstanceStatuses"]}
    assert shown() == {}
    for code in codes:
        simulator.order("schedule", instance_id=kept, code=code, in_seconds=86400)
    assert [e["Code"] for e in shown()[kept]] == list(codes), "every code of the model, and no other"
    simulator.order("schedule", instance_id=kept)
    assert all(e["Description"].startswith("[Canceled] ") for e in shown()[kept])
    simulator.order("schedule", instance_id=retired, code="instance-retirement", in_seconds=1, health=True)
    (event,) = shown()[retired]
    assert event["InstanceEventId"].startswith("instance-event-") and event["NotBefore"].tzinfo
    until(lambda: simulator.instance(retired)["state"] == "terminated")
    (gone,) = ec2.describe_instances(InstanceIds=[retired])["Reservations"][0]["Instances"]
    assert gone["StateReason"]["Code"] == "Server.ScheduledStop"
    url = sqs.get_queue_url(QueueName="lowtide-interruptions")["QueueUrl"]
    events = [json.loads(m["Body"]) for m in sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]]
    (health,) = [e for e in events if e["source"] == "aws.health"]
    assert health["detail"]["affectedEntities"][0]["entityValue"] == retired
    assert health["detail"]["eventTypeCode"] == "AWS_EC2_INSTANCE_RETIREMENT_SCHEDULED"
    assert refused(ec2.describe_instance_status, InstanceIds=[kept], MaxResults=5)[0] == "InvalidParameterCombination"
    assert refused(ec2.describe_instance_status, Filters=[{"Name": "event.mood", "Values": ["x"]}])[0] == "InvalidParameterValue"


def test_terminate_is_idempotent_and_all_or_nothing(simulator):
    ec2 = simulator.client("ec2")
    instance_id = one(ec2, priced_zone(ec2))
    assert refused(ec2.terminate_instances, InstanceIds=[instance_id, "i-00000000000000000"])[0] == "InvalidInstanceID.NotFound"
    assert simulator.instance(instance_id)["state"] in ("pending", "running")
    (change,) = ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]
    assert change["CurrentState"] == {"Code": 32, "Name": "shutting-down"}
    until(lambda: simulator.instance(instance_id)["state"] == "terminated")
    (again,) = ec2.terminate_instances(InstanceIds=[instance_id])["TerminatingInstances"]
    assert again["CurrentState"]["Name"] == again["PreviousState"]["Name"] == "terminated"
    (gone,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    assert gone["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    simulator.order("tick", seconds=3601)
    assert refused(ec2.describe_instances, InstanceIds=[instance_id])[0] == "InvalidInstanceID.NotFound", "after an hour it is forgotten"


@pytest.mark.parametrize("simulator", [["--visibility-lag-ms", "400", "--no-throttling"]], indirect=True)
def test_a_new_instance_may_not_be_seen_at_once(simulator):
    ec2 = simulator.client("ec2")
    instance_id = one(ec2, priced_zone(ec2))
    assert refused(ec2.describe_instances, InstanceIds=[instance_id])[0] == "InvalidInstanceID.NotFound"
    assert ec2.describe_instances()["Reservations"] == []
    until(lambda: ec2.describe_instances()["Reservations"])


def test_an_interruption_tells_everyone_and_then_takes_the_instance(simulator):
    ec2, sqs = simulator.client("ec2"), simulator.client("sqs")
    instance_id = one(ec2, priced_zone(ec2))
    until(lambda: simulator.instance(instance_id)["state"] == "running")
    imds = f"/_imds/{instance_id}/latest"
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    status, token = simulator.http("PUT", f"{imds}/api/token", headers=ttl)
    assert status == 200
    read = lambda path: simulator.http("GET", f"{imds}/meta-data/{path}", headers={"X-aws-ec2-metadata-token": token})
    assert read("instance-id") == (200, instance_id) and read("placement/region") == (200, "us-east-1")
    assert read("spot/instance-action")[0] == 404 and read("events/recommendations/rebalance")[0] == 404
    assert simulator.http("GET", f"{imds}/meta-data/instance-id")[0] == 401
    assert simulator.http("PUT", f"{imds}/api/token", headers={**ttl, "X-Forwarded-For": "10.0.0.1"})[0] == 403
    assert simulator.http("PUT", f"{imds}/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": "21601"})[0] == 400

    order = {"instance_id": instance_id, "notice_seconds": 1.5, "rebalance_first": True, "rebalance_lead_seconds": 0.3, "message": "duplicate"}
    simulator.order("interrupt", **order)
    assert json.loads(read("events/recommendations/rebalance")[1])["noticeTime"].endswith("Z")
    until(lambda: read("spot/instance-action")[0] == 200)
    assert json.loads(read("spot/instance-action")[1])["action"] == "terminate"
    (request,) = ec2.describe_spot_instance_requests(Filters=[{"Name": "instance-id", "Values": [instance_id]}])["SpotInstanceRequests"]
    assert (request["State"], request["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")
    assert simulator.instance(instance_id)["state"] == "running"
    until(lambda: simulator.instance(instance_id)["state"] == "terminated")
    (gone,) = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    assert gone["StateReason"]["Code"] == "Server.SpotInstanceTermination"

    url = sqs.get_queue_url(QueueName="lowtide-interruptions")["QueueUrl"]
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    events = [json.loads(m["Body"]) for m in received]
    assert sorted(e["detail-type"] for e in events) == [
        "EC2 Instance Rebalance Recommendation", *["EC2 Instance State-change Notification"] * 4, *["EC2 Spot Instance Interruption Warning"] * 2]
    warning = next(e for e in events if "Warning" in e["detail-type"])
    assert warning["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
    assert (warning["source"], warning["region"]) == ("aws.ec2", "us-east-1")
    assert warning["resources"] == [f"arn:aws:ec2:us-east-1:123456789012:instance/{instance_id}"]
    (line,) = simulator.bill()["lines"]
    assert line["waived"] and line["amount_micro_usd"] == 0


def test_cancelling_a_spot_request_leaves_the_instance(simulator):
    ec2 = simulator.client("ec2")
    instance_id = one(ec2, priced_zone(ec2))
    request = simulator.instance(instance_id)["spot_request"]["id"]
    assert ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[request])["CancelledSpotInstanceRequests"][0]["State"] == "cancelled"
    assert simulator.instance(instance_id)["spot_request"]["status_code"] == "request-canceled-and-instance-running"
    assert refused(ec2.cancel_spot_instance_requests, SpotInstanceRequestIds=["sir-none"])[0] == "InvalidSpotInstanceRequestID.NotFound"


def test_the_bill_follows_the_price_at_the_start_of_each_hour(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    simulator.order("price", region="us-east-1", zone=zone, instance_type="g6.xlarge", price_per_hour="0.30")
    instance_id = one(ec2, zone)
    until(lambda: simulator.instance(instance_id)["state"] == "running")
    simulator.order("tick", seconds=1800)
    simulator.order("price", region="us-east-1", zone=zone, instance_type="g6.xlarge", price_per_hour="0.60")
    simulator.order("tick", seconds=3600)
    ec2.terminate_instances(InstanceIds=[instance_id])
    (line,) = simulator.bill()["lines"]
    assert [s["micro_usd_per_hour"] for s in line["segments"]] == [300_000, 600_000]
    ran = line["ended_at_ms"] - line["launched_at_ms"]
    assert ran % 1000 == 0
    assert line["amount_micro_usd"] == round(300_000 + 600_000 * (ran - 3_600_000) / 3_600_000)


# --- SQS, STS, and being refused --------------------------------------------------------------------------------------


def test_a_queue_keeps_what_is_not_deleted(simulator):
    sqs = simulator.client("sqs", "eu-south-2")
    url = sqs.get_queue_url(QueueName="lowtide-interruptions")["QueueUrl"]
    assert refused(sqs.get_queue_url, QueueName="other")[0] == "AWS.SimpleQueueService.NonExistentQueue"
    sqs.send_message(QueueUrl=url, MessageBody='{"a":1}')
    (first,) = sqs.receive_message(QueueUrl=url, VisibilityTimeout=1)["Messages"]
    assert sqs.receive_message(QueueUrl=url).get("Messages", []) == []
    (again,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, AttributeNames=["All"])["Messages"]
    assert again["MessageId"] == first["MessageId"] and again["Attributes"]["ApproximateReceiveCount"] == "2"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    started = time.monotonic()
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    assert 0.9 < time.monotonic() - started < 3
    simulator.order("sqs", region="eu-south-2", body="not json")
    assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "not json"


def test_identity_and_refusals(simulator):
    assert simulator.client("sts").get_caller_identity()["Account"] == "123456789012"
    assert refused(simulator.client("ec2", key="INVALID").describe_regions) == ("AuthFailure", 401)
    ec2, sqs = simulator.client("ec2"), simulator.client("sqs")
    simulator.order("deny", service="ec2", action="CreateFleet", on=True)
    override = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[priced_zone(ec2)]}]
    assert refused(fleet(ec2, override)) == ("UnauthorizedOperation", 403)
    simulator.order("deny", service="ec2", action="CreateFleet", on=False)
    fleet(ec2, override)()
    simulator.order("deny", service="sqs", on=True)
    assert refused(sqs.get_queue_url, QueueName="lowtide-interruptions")[0] == "AccessDeniedException"


def test_a_stalled_launch_is_done_though_unanswered(simulator):
    ec2 = simulator.client("ec2")
    override = [{"InstanceType": "g6.xlarge", "SubnetId": subnets(ec2)[priced_zone(ec2)]}]
    template(ec2)
    simulator.order("stall", action="CreateFleet", seconds=0.8, when="after", times=1)
    from threading import Thread
    call = Thread(target=fleet(ec2, override, token="t"))
    started = time.monotonic()
    call.start()
    until(lambda: simulator.state()["instances"])
    assert time.monotonic() - started < 0.8, "the effect comes before the answer"
    call.join()
    assert time.monotonic() - started > 0.8


@pytest.mark.parametrize("simulator", [["--boot-ms", "0", "--visibility-lag-ms", "0"]], indirect=True)
def test_buckets_run_dry_per_region_and_api(simulator):
    ec2 = simulator.client("ec2")
    run = {"ImageId": "ami-0123456789abcdef0", "InstanceType": "g6.xlarge", "MinCount": 1, "MaxCount": 1}
    codes = []
    for _ in range(12):
        try:
            ec2.run_instances(**run)
        except ClientError as error:
            codes.append((error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]))
    assert ("RequestLimitExceeded", 503) in codes
    simulator.client("ec2", "us-west-2").run_instances(**run)


def test_boot_orders_are_kept_with_the_instance(simulator):
    ec2 = simulator.client("ec2")
    zone = priced_zone(ec2)
    simulator.order("boot", seconds=30, outcome="no-gpus", zone=zone, next=1)
    odd, normal = one(ec2, zone), one(ec2, zone)
    until(lambda: simulator.instance(normal)["state"] == "running")
    assert [simulator.instance(i)["boot_outcome"] for i in (odd, normal)] == ["no-gpus", "ok"]
    assert simulator.instance(odd)["state"] == "pending"
    assert simulator.http("POST", "/_sim/boot", {"outcome": "explodes"})[0] == 400
    assert simulator.http("POST", "/_sim/capacity", {"availabel": 0})[0] == 400, "unknown fields are refused"
