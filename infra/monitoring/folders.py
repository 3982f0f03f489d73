"""What is in the folder of a part of monitoring, on its host. Steps import this module: keep it light."""

#: The configurations, of which `names.CURRENT` is a link to the one in use; and what the part keeps.
CONFIGURATIONS, DATA = "configurations", "data"
#: What the step applied last: the revision, then a line of `sha256sum` for each file, which the next update
#: compares.
APPLIED = ".applied"
#: Prints these lines for the files in the working directory.
DIGESTS = "find . ! -type d -exec sha256sum -- {} +"
