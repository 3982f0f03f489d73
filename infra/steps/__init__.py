"""What Pulumi starts as `python -m infra.steps.…`; nothing here imports Pulumi or the stack at run time."""
