"""The models that updates copied to a node's host: their links, and the files of the copies in use."""

from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, problem, warning, worst
from infra.doctor.sites.docker_node import DockerNodeSite
from infra.models.files import ModelsError, versions
from infra.paths import project_path
from infra.update.written import models


async def copies(site: DockerNodeSite) -> Outcome:
    """Whether links and files are as the last update wrote them; compares what the next update compares."""
    stack, node = site.stack, site.node
    repair = f"`pulumi up --stack {stack.name}` copies it again"
    try:
        known = versions(project_path(stack.models.path))
        question = models.question(stack, [node])
    except ModelsError as error:
        return problem(str(error), "correct models.path in the stack file")
    with failing(repair):
        output = await site.host.access.output(question.command())
    found = models.parsed(output, known).get(node.name, models.ModelDifferences())
    return worst(
        [warning(f"{reason} ({site.host.access.host})", repair) for reason in found.reasons],
        f"{len(known)} models are as they were copied",
    )
