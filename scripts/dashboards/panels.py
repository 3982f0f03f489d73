"""The kinds of panels and the frame that all dashboards of a fleet share."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

#: Grafana's grid has so many columns.
WIDTH = 24
_HEIGHT, _STAT_HEIGHT = 8, 4
_DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

#: What a panel shows: its expression, and the name of its series from their labels.
Query = tuple[str, str]
Part = dashboard.Row | stat.Panel | timeseries.Panel | table.Panel
#: A value from which a colour counts; the first one has none.
Steps = Sequence[tuple[float | None, str]]

GOOD_IS_ONE: Steps = ((None, "red"), (1, "green"))
BAD_IS_MORE: Steps = ((None, "green"), (1, "red"))


def board(uid: str, title: str, description: str) -> dashboard.Dashboard:
    """A dashboard of the last hour, with links to the others, and the alerts that fire as annotations."""
    return (
        dashboard.Dashboard(title)
        .uid(f"gpu-inference-{uid}")
        .description(description)
        .tags(["gpu-inference"])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Fleet dashboards")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["gpu-inference"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(
            dashboard.AnnotationQuery()
            .name("Alerts")
            .datasource(_DATASOURCE)
            .enable(True)
            .icon_color("red")
            .expr('ALERTS{alertname=~"Fleet.*", alertstate="firing"}')
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )


def filled(made: dashboard.Dashboard, *parts: Part) -> dashboard.Dashboard:
    """The dashboard with its rows and panels, from left to right and down, numbered for links to them."""
    for place, part in enumerate(parts, start=1):
        if isinstance(part, dashboard.Row):
            made = made.with_row(part.id(place))
        else:
            made = made.with_panel(part.id(place))
    return made


def variable(name: str, label: str, metric: str, *, of: str | None = None) -> dashboard.QueryVariable:
    """A variable with the values that the label `of` (by default: `name`) has in `metric`; all by default."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_DATASOURCE)
        .query(f"label_values({metric}, {of or name})")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        # A series without the label counts, too.
        .all_value(".*")
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )


def row(title: str) -> dashboard.Row:
    """The heading of the panels that follow: the question that they answer."""
    return dashboard.Row(title)


def number(
    title: str, description: str, expr: str, unit: str, steps: Steps = ((None, "text"),), *, span: int = 4
) -> stat.Panel:
    """The present value, coloured by `steps`."""
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(_DATASOURCE)
        .with_target(_query(expr, "", instant=True))
        .unit(unit)
        .no_value("–")
        .thresholds(_thresholds(steps))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .height(_STAT_HEIGHT)
        .span(span)
    )


def chart(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    span: int = 12,
    stacked: bool = False,
    limit: float | None = None,
    most: float | None = None,
) -> timeseries.Panel:
    """Lines over time from 0 on. `limit` is where a red line says "too much", `most` the end of the axis."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(_DATASOURCE)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(25 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
        .height(_HEIGHT)
        .span(span)
    )
    for at, (expr, name) in enumerate(queries):
        panel = panel.with_target(_query(expr, name).ref_id(chr(ord("A") + at)))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    if limit is not None:
        panel = panel.thresholds(_thresholds(((None, "green"), (limit, "red")))).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    return panel if most is None else panel.max(most)


def listing(
    title: str, description: str, columns: Sequence[tuple[str, str, str]], *, by: str, to: str
) -> table.Panel:
    """A row for each value of the label `by`, which leads to the address `to`; a column is its title, its
    expression and its unit."""
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(_DATASOURCE)
        .height(_HEIGHT)
        .span(WIDTH)
        .override_by_name(by, [models.DynamicConfigValue("links", [{"title": "Open", "url": to}])])
    )
    names: dict[str, str] = {}
    for at, (name, expr, unit) in enumerate(columns):
        letter = chr(ord("A") + at)
        query = _query(expr, "", instant=True).format(prometheus_models.PromQueryFormat.TABLE).ref_id(letter)
        panel = panel.with_target(query).override_by_name(name, [models.DynamicConfigValue("unit", unit)])
        names[f"Value #{letter}"] = name
    return panel.with_transformation(
        models.DataTransformerConfig(
            id_val="joinByField",
            options={
                "byField": by,
                "mode": "outer",
            },
        )
    ).with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "renameByName": names,
                "excludeByName": {"Time": True, **{f"Time {at}": True for at in range(1, len(columns) + 1)}},
            },
        )
    )


def _query(expr: str, name: str, *, instant: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(expr).datasource(_DATASOURCE)
    if name:
        query = query.legend_format(name)
    return query.instant() if instant else query.range()


def _thresholds(steps: Steps) -> Builder[models.ThresholdsConfig]:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )
