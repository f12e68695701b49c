"""The table of quality as Markdown."""

import numpy as np

from ..runs import markdown, mean


def table_of(models, titles, ours="EDCN"):
    """The figures of `compared` as Markdown: a line a model."""
    heads = [
        *("model", "settings", "validation AUC", "test AUC", "test log loss"),
        *(f"{ours} is ahead by (95 %)", "seconds"),
    ]
    table = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for name, figures in models.items():
        ahead = figures.get("ahead")
        table.append(
            [
                titles[name],
                str(figures["settings_tried"]),
                *(mean(figures[key]) for key in ("valid_auc", "auc", "log_loss")),
                "{auc:+.4f} ({low:+.4f} to {high:+.4f})".format(**ahead)
                if ahead
                else "",
                f"{np.mean(figures['training_seconds']):.0f}",
            ]
        )
    return markdown(table)


def section(result, titles, ours):
    """A split's title and table, and how far the model `ours` goes."""
    lines = [
        f"**{result['title']}** ({result['test_rows']:,} test rows, "
        f"{result['click_rate']:.1%} positive)\n\n" + table_of(result["models"], titles)
    ]
    best = result["best_possible_auc"]
    if best:
        reached = (np.mean(result["models"][ours]["auc"]) - 0.5) / (best - 0.5)
        lines.append(
            f"Best possible test AUC: {best:.4f}; EDCN goes {reached:.1%} of the way "
            "there from 0.5.\n"
        )
    return "\n".join(lines)
