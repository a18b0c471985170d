"""Tables of the evaluation of an encoder: held-out cells, sources left out, declared parcels."""

from timesenmap.model.caption_scores import FREQUENT, QuestionReport
from timesenmap.model.evaluation import Interval
from timesenmap.model.held_out import HeldOutReport
from timesenmap.model.left_out import LeftOutReport
from timesenmap.model.sheets import Sheet, percent
from timesenmap.workflows.parcels import ParcelsReport

_RARE = f"in brackets the mean over those with at least {FREQUENT} samples"


def held_out_notes(report: HeldOutReport) -> list[str]:
    """What was tested, in sentences."""
    sources = ", ".join(f"{name} {rows:,}" for name, rows in report.sources.items())
    sides = report.sides
    tested = (
        f"Encoder {report.encoder} ({report.encoder_sha256[:12]}), temperature {report.temperature:.4f}. "
        f"{sum(report.sources.values()):,} measured series in test cells of {report.cell:g} degrees (split seed "
        f"{report.split_seed}); {sides['train']:,} measured ones train, {sides['validation']:,} choose. "
        f"Tested: {sources}."
    )
    how = (
        "Zero-shot, from the captions' own sentences, against a supervised forest (scikit-learn ExtraTrees, "
        f"{report.trees} trees, balanced) cross-validated in five random folds on the same series. Macro F1: mean over "
        f"the classes present; {_RARE}. Percent, 95 % intervals by resampling cells; a draw without a rare class "
        "leaves it out, so that intervals of macro F1 lie high where rare classes are missed."
    )
    return [tested, how]


def held_out_sheets(report: HeldOutReport) -> list[Sheet]:
    """Tables of a held-out evaluation."""
    return [
        _questions(report),
        *(_classes(question) for question in report.questions[1:]),
        *(_sources(question) for question in report.questions[1:]),
        _calibration(report),
        _wordings(report),
        _prompts(report),
        _nonsense(report),
        _shown(report),
    ]


def _questions(report: HeldOutReport) -> Sheet:
    header = ["question", "series", "classes", "options", "accuracy", "macro F1", "forest accuracy", "forest macro F1",
              "difference of macro F1", "calibration error"]  # fmt: skip
    rows = []
    for q in report.questions:
        assert q.forest is not None
        rows.append([
            q.name, f"{q.rows:,}", f"{q.classes_present} ({q.classes_frequent})", str(q.options),
            percent(q.scores.accuracy), f"{percent(q.scores.macro_f1)} [{_value(q.scores.macro_f1_frequent)}]",
            percent(q.forest.accuracy), f"{percent(q.forest.macro_f1)} [{_value(q.forest.macro_f1_frequent)}]",
            percent(q.difference), percent(q.reliability.error),
        ])  # fmt: skip
    return Sheet("Held-out cells", header, rows)


def _classes(q: QuestionReport) -> Sheet:
    header = ["class", "series", "recall", "precision", "F1", "forest recall", "forest precision", "forest F1"]
    rows = [
        [
            c.name,
            f"{c.rows:,}",
            *(
                percent(value)
                for value in (c.recall, c.precision, c.f1, c.forest_recall, c.forest_precision, c.forest_f1)
            ),
        ]
        for c in q.classes
    ]
    return Sheet(f"Classes: {q.name}", header, rows)


def _sources(q: QuestionReport) -> Sheet:
    header = ["source", "series", "classes", "accuracy", "macro F1", "forest accuracy", "forest macro F1",
              "calibration error"]  # fmt: skip
    rows = []
    for s in q.sources:
        forest = [percent(s.forest.accuracy), percent(s.forest.macro_f1)] if s.forest else ["-", "-"]
        rows.append([
            s.name, f"{s.rows:,}", str(s.classes), percent(s.scores.accuracy), percent(s.scores.macro_f1), *forest,
            percent(s.calibration_error),
        ])  # fmt: skip
    return Sheet(f"Sources: {q.name}", header, rows)


def _calibration(report: HeldOutReport) -> Sheet:
    least = [kept.confidence for kept in report.questions[0].kept]
    header = ["question", "calibration error", *(f"confidence >= {value:g}: kept / right" for value in least)]
    rows = [
        [q.name, percent(q.reliability.error), *(f"{percent(k.coverage)} / {percent(k.accuracy)}" for k in q.kept)]
        for q in report.questions
    ]
    rows.append(["finest captions and land cover together", percent(report.reliability.error), *["-"] * len(least)])
    return Sheet("Calibration, and what is right where only sure answers count", header, rows)


def _wordings(report: HeldOutReport) -> Sheet:
    header = ["question", "series", "accuracy", "macro F1", "calibration error"]
    rows = [
        [
            w.question,
            f"{w.rows:,}",
            percent(w.scores.accuracy),
            percent(w.scores.macro_f1),
            percent(w.calibration_error),
        ]
        for w in report.wordings
    ]
    return Sheet("All options in words never used in training", header, rows)


def _prompts(report: HeldOutReport) -> Sheet:
    header = ["prompt", "should find", "among", "series", "recall", "precision", "F1", "F1 in trained words",
              "nearest option"]  # fmt: skip
    rows = [
        [p.prompt, p.caption, p.question, f"{p.rows:,}", percent(p.recall), percent(p.precision), percent(p.f1),
         percent(p.f1_trained), p.nearest]
        for p in report.prompts
    ]  # fmt: skip
    return Sheet("Prompts of users, one at a time beside the other options in trained words", header, rows)


def _nonsense(report: HeldOutReport) -> Sheet:
    header = ["prompt", "won", "mean confidence there", "won with a confidence of at least 50"]
    rows = [[n.prompt, percent(n.won), percent(n.confidence), percent(n.confident)] for n in report.nonsense]
    return Sheet("Nonsense beside the land covers", header, rows)


def _shown(report: HeldOutReport) -> Sheet:
    names = list(dict.fromkeys(s.question for s in report.shown))
    header = ["shown"]
    for name in names:
        header += [f"{name}: series", "accuracy", "macro F1", "calibration error"]
    rows = []
    for shown in dict.fromkeys(s.shown for s in report.shown):
        row = [shown]
        for name in names:
            found = [s for s in report.shown if (s.shown, s.question) == (shown, name)]
            for s in found:
                row += [f"{s.rows:,}", percent(s.scores.accuracy), percent(s.scores.macro_f1),
                        percent(s.calibration_error)]  # fmt: skip
            row += ["-"] * (0 if found else 4)
        rows.append(row)
    return Sheet("Parts of the year and of the bands", header, rows)


def left_out_notes(report: LeftOutReport) -> list[str]:
    """What was trained and tested, in sentences."""
    skipped = [
        f"{source.name}: {question} ({why})"
        for group in report.groups
        for source in group.sources
        for question, why in source.not_asked.items()
    ]
    how = (
        f"Each group was left out of training together ({report.epochs} epochs, seed {report.seed}), then tested on "
        "the whole of each source. Macro F1 over the classes present, asked among these and among all; the forest "
        f"({report.trees} trees) is cross-validated on the same series, so it knows the place; {_RARE}. Percent, 95 % "
        "intervals by resampling cells (rows where cells are few)."
    )
    return [how, f"Not asked: {'; '.join(skipped)}."] if skipped else [how]


def left_out_sheets(report: LeftOutReport) -> list[Sheet]:
    """Tables of sources left out."""
    header = ["source", "question", "shown", "series", "classes", "accuracy", "macro F1", "macro F1 among all",
              "forest macro F1", "ratio", "calibration error"]  # fmt: skip
    rows, details = [], []
    for group in report.groups:
        for source in group.sources:
            for asked in source.questions:
                q = asked.among_present
                assert q.forest is not None
                rows.append([
                    source.name, q.name, asked.shown, f"{q.rows:,}", f"{q.classes_present} ({q.classes_frequent})",
                    percent(q.scores.accuracy), f"{percent(q.scores.macro_f1)} [{_value(q.scores.macro_f1_frequent)}]",
                    f"{percent(asked.among_all.macro_f1)} of {asked.options}",
                    f"{percent(q.forest.macro_f1)} [{_value(q.forest.macro_f1_frequent)}]",
                    f"{_number(asked.ratio)} [{_number(asked.ratio_frequent)}]", percent(q.reliability.error),
                ])  # fmt: skip
                sheet = _classes(q)
                details.append(sheet._replace(title=f"{source.name}, {asked.shown}: {q.name}"))
    return [Sheet("Sources left out of training", header, rows), *details]


def parcels_notes(report: ParcelsReport) -> list[str]:
    """What was mapped and compared, in sentences."""
    made = f"Mapped by make-map with encoder {report.encoder} ({report.encoder_sha256[:12]}): {report.scenes} scenes, "
    compared = f"{report.first_month} to {report.last_month}; compared with {report.labels} on the pixels of declared "
    return [made + compared + "parcels of a class that was asked for."]


def parcels_sheets(report: ParcelsReport) -> list[Sheet]:
    """Tables of the agreement with declared parcels."""
    header = ["prompts", "pixels", "overall", "macro F1", "mean confidence", "calibration error"]
    rows = [
        [s.title, f"{s.pixels:,}", percent(s.accuracy), percent(s.macro_f1), percent(s.confidence), percent(s.error)]
        for s in report.sets
    ]
    sheets = [Sheet("Agreement with declared parcels", header, rows)]
    for s in report.sets:
        named = [
            [c.name, ", ".join(s.words[c.name]), f"{c.rows:,}", percent(c.recall), percent(c.precision), percent(c.f1)]
            for c in s.classes
        ]
        sheets.append(Sheet(f"Parcels: {s.title}", ["class", "words", "pixels", "recall", "precision", "F1"], named))
    return sheets


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _value(interval: Interval) -> str:
    return percent(interval.value)
