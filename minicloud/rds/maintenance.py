"""What waits for the maintenance window, and what happens when the window opens."""

import datetime
from collections.abc import Callable, Iterator

from moto.core.responses import ActionResult
from moto.rds.models import DBInstance

from minicloud.rds import windows
from minicloud.rds.limits import refuse

# Parameters of ModifyDBInstance that wait for the window unless ApplyImmediately, with their attributes in moto's record.
WAITS_FOR_WINDOW = {"MultiAZ": "multi_az", "DBInstanceClass": "db_instance_class", "AllocatedStorage": "allocated_storage"}


def open_window(plane, db: DBInstance) -> None:
    """Begin the changes that wait, if the instance's maintenance window is open now."""
    with plane.changing:
        if db.pending_modified_values and db.status == "available" and windows.is_open(db.preferred_maintenance_window):
            _apply_pending(plane, db)


def _apply_pending(plane, db: DBInstance) -> None:
    values, db.pending_modified_values = db.pending_modified_values, {}
    before = (db.db_instance_class, db.multi_az)
    for name, value in values.items():
        setattr(db, WAITS_FOR_WINDOW[name], value)
    note_storage(db, values)
    plane.work(db, "modifying", *interruptions(plane, db, *before))


def note_storage(db: DBInstance, values) -> None:
    """Remember when a change of storage was made: RDS allows so many a day."""
    if values.get("AllocatedStorage"):
        db.storage_changes.append(datetime.datetime.now(datetime.UTC))


def interruptions(plane, db: DBInstance, old_class: str, had_standby: bool) -> Iterator[Callable]:
    """Yield the steps of what interrupts: a restart for a new class, by a failover where there is a standby; and the
    standby itself, when `db.multi_az` has changed."""
    instance = plane.instances[db]
    if db.db_instance_class != old_class:
        yield lambda: instance.fail_over(planned=True) if instance.in_sync else instance.reboot()
        yield lambda: plane.tell(db, "class")
    if db.multi_az and not had_standby:
        yield instance.add_standby
        yield lambda: setattr(db, "secondary_availability_zone", instance.zones[1])
        yield lambda: plane.tell(db, "multi-az")
    if had_standby and not db.multi_az:
        instance.multi_az, db.secondary_availability_zone = False, None
        yield instance.drop_standby
        yield lambda: plane.tell(db, "multi-az")


class Maintenance:
    """The operations on AWS's own maintenance, of which there never is any here: engines and machine are yours to patch."""

    def describe_pending_maintenance_actions(self) -> ActionResult:
        self._find_resource(self.params.get("ResourceIdentifier"))
        return ActionResult({"PendingMaintenanceActions": []})

    def apply_pending_maintenance_action(self) -> ActionResult:
        resource = self.params["ResourceIdentifier"]
        self._find_resource(resource)
        refuse("ResourceNotFoundFault", f"There is no pending maintenance action {self.params['ApplyAction']} for {resource}: "
               "DescribePendingMaintenanceActions lists what is pending.")

    def _find_resource(self, arn: str | None) -> None:
        if arn and arn not in {db.db_instance_arn for db in self.backend.databases.values()}:
            refuse("ResourceNotFoundFault", f"The specified resource name does not match an RDS resource: {arn}")
