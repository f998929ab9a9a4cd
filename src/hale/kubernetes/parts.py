"""What all objects of one deployment are made of. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from hale.core.deployment import Template
from hale.kubernetes.findings import Findings
from hale.kubernetes.names import Known, Names, Object
from hale.kubernetes.settings import Settings
from hale.spec.schema import Spec

SECURITY: Object = {
    "allowPrivilegeEscalation": False,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What every container is kept from."""

POD: Object = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,  # variables named after Services, in the place of others
}
"""What no pod has."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A deployment on its way to a cluster; what is found on the way goes into `findings`."""

    spec: Spec
    template: Template
    settings: Settings
    names: Names
    known: Known
    findings: Findings

    @property
    def port(self) -> int:
        """The one that requests go to."""
        return self.template.ports[0]

    def manifest(
        self,
        api_version: str,
        kind: str,
        spec: Object,
        *,
        name: str | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Object:
        """An object; of the deployment's own name if no other is given."""
        metadata = self.names.metadata(self.names.base if name is None else name, annotations)
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
