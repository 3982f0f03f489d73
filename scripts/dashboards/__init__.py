"""Grafana's dashboards of a fleet: written from here, so that panels of a kind look alike."""
