"""What the nouns of a workspace know of it."""

import gatecast.workspace


class Handle:
    """A Gatecast workspace, `gatecast`, and its settings.

    Parameters
    ----------
    workspace : gatecast.workspace.Workspace
    """

    def __init__(self, workspace: gatecast.workspace.Workspace) -> None:
        self.gatecast = workspace

    @property
    def name(self) -> str:
        """Its name."""
        return self.gatecast.name

    @property
    def resource_group(self) -> str:
        """A setting of the workspace."""
        return self.gatecast.resource_group

    @property
    def location(self) -> str:
        """A setting of the workspace."""
        return self.gatecast.location

    @property
    def subscription_id(self) -> str:
        """A setting of the workspace."""
        return self.gatecast.subscription_id
