"""An update of a stack in a cluster: it waits for changed pods, judges them, and takes bad ones back."""
