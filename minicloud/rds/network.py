"""The network of a DB instance: its subnets, and what its security groups let through.

The notebook stands for a host in the default VPC: its address is NOTEBOOK, and it is a member of the VPC's default
security group. So is a DB instance that is created without `VpcSecurityGroupIds`, and the members of that group may
reach each other. https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html
"""

import ipaddress

from moto.ec2.models import ec2_backends
from moto.ec2.models.security_groups import SecurityGroup, SecurityGroupBackend
from moto.rds.models import DBSubnetGroup

from minicloud.rds.limits import refuse

NOTEBOOK = "172.31.0.10"
OUTSIDE = "198.51.100.10"  # the notebook's address as other VPCs see it, through the internet


def admits(record, ports: set[int]) -> bool:
    """Say whether the security groups of a DB instance (or cluster) let the notebook reach one of these ports."""
    ec2 = ec2_backends[record.account_id][record.region]
    names = record.vpc_security_group_ids or _default_group(record)  # moto leaves a restored cluster without any
    groups = [ec2.get_security_group_from_id(name) for name in names]
    at_home = all(group.vpc_id == ec2.default_vpc.id for group in groups if group)
    if not at_home and not getattr(record, "publicly_accessible", False):
        return False  # no route leads there
    own = ec2.get_default_security_group(ec2.default_vpc.id).id if at_home else None
    address = ipaddress.ip_address(NOTEBOOK if at_home else OUTSIDE)
    return any(_covers(rule, ports) and _is_from(rule, address, own)
               for group in groups if group for rule in group.ingress_rules)


def _covers(rule, ports: set[int]) -> bool:
    if rule.ip_protocol in ("-1", -1):
        return True
    return rule.ip_protocol in ("tcp", "6") and any(int(rule.from_port) <= port <= int(rule.to_port) for port in ports)


def _is_from(rule, address, own: str | None) -> bool:
    networks = [rule.ip_range["CidrIp"]] if rule.ip_range and rule.ip_range.get("CidrIp") else []
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks) or bool(
        own and rule.source_group and rule.source_group.get("GroupId") == own)


def place(record, names: list[str] | None) -> None:
    """Give a new DB instance or cluster its security groups: those asked for, else the default one of its VPC."""
    record.vpc_security_group_ids = list(names or _default_group(record))


def _default_group(record) -> list[str]:
    ec2, subnets = ec2_backends[record.account_id][record.region], getattr(record, "db_subnet_group", None)
    subnets = record.backend.subnet_groups.get(getattr(subnets, "name", subnets) or "")  # of a cluster it is the name
    return [ec2.get_default_security_group(subnets.vpc_id if subnets else ec2.default_vpc.id).id]


def check_groups(backend, names: list[str] | None, subnets: DBSubnetGroup | None) -> None:
    """Refuse security groups that are not there, or not in the VPC of the DB subnet group (None: the default VPC)."""
    ec2 = ec2_backends[backend.account_id][backend.region_name]
    vpc = subnets.vpc_id if subnets else ec2.default_vpc.id
    for name in names or []:
        group = ec2.get_security_group_from_id(name)
        if group is None:
            refuse("InvalidParameterValue", f"Invalid security group, groupId= {name}, groupName=.")
        if group.vpc_id != vpc:
            refuse("InvalidParameterCombination", "The DB instance and EC2 security group are in different VPCs. The DB "
                   f"instance is in {vpc} and the EC2 security group is in {group.vpc_id}")


def check_subnets(backend, names: list[str]) -> None:
    """Refuse subnets for a DB subnet group that are unknown, of several VPCs, or all in one Availability Zone."""
    known = {subnet.id: subnet for subnet in ec2_backends[backend.account_id][backend.region_name].describe_subnets()}
    missing = [name for name in names if name not in known]
    if missing:
        refuse("InvalidSubnet", f"Some input subnets are invalid: {', '.join(missing)}.")
    if len({known[name].vpc_id for name in names}) > 1:
        refuse("InvalidSubnet", "The subnets are not all in one VPC.")
    zones = {known[name].availability_zone for name in names}
    if len(zones) < 2:
        refuse("DBSubnetGroupDoesNotCoverEnoughAZs", "The DB subnet group doesn't meet Availability Zone (AZ) coverage "
               f"requirement. Current AZ coverage: {', '.join(sorted(zones)) or 'none'}. Add subnets to cover at least 2 AZs.")


def open_default_groups() -> None:
    """Give a default security group the rule that AWS makes it with and moto leaves out: its members reach each other."""
    create = SecurityGroupBackend.create_security_group

    def create_security_group(ec2, name, *args, **options) -> SecurityGroup:
        group = create(ec2, name, *args, **options)
        if name == "default":
            ec2.authorize_security_group_ingress(group.id, "-1", None, None, [],
                                                 source_groups=[{"GroupId": group.id}], vpc_id=group.vpc_id)
        return group

    SecurityGroupBackend.create_security_group = create_security_group
