"""The steps that Pulumi starts as `python -m infra.steps.…`. They import neither Pulumi nor the stack."""
