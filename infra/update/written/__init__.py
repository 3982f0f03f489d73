"""What steps wrote on the hosts, as it is now: the files of gateways and of monitoring, and the
links and copies of models.

Pulumi does not read what a step wrote. So the program reads it before it declares anything. A difference
becomes an input of the step, which then runs again: a preview shows it, and an update repairs it.
"""

from infra.update.written.fleet import Written, questions, read, written
from infra.update.written.models import ModelDifferences

__all__ = ["ModelDifferences", "Written", "questions", "read", "written"]
