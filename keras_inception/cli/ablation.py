"""analyze ablation: the flags become trainings of networks that lack a part, and these tables and a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from tyro.conf import UseAppendAction, arg

from keras_inception.cli.screen import check_output, console, fields, flag, listed, load_tensorflow, print_table, say

if TYPE_CHECKING:
    from keras_inception.analysis.ablation import Result


def ablation(
    data: Annotated[str | None, flag("SOURCE", "required")] = None,
    output: Annotated[Path | None, flag("FOLDER", "required")] = None,
    questions: Annotated[str, flag("LIST", "all")] = "",
    seeds: int = 3,
    minutes: Annotated[float | None, flag("FLOAT", "no limit")] = None,
    architecture: str = "googlenet-small",
    width: float = 1.0,
    epochs: Annotated[int | None, flag("INT", "30")] = None,
    batch_size: Annotated[int | None, flag("INT", "32")] = None,
    image_size: Annotated[int | None, flag("INT", "the architecture's: 32 for googlenet-small")] = None,
    data_dir: Annotated[str | None, flag("FOLDER", "TFDS's own, ~/tensorflow_datasets")] = None,
    set: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="SECTION.FIELD=VALUE")] = (),
) -> None:
    """Train a network beside others that lack a part of its modules, over seeds, and tell what the parts are good for.

    Example: keras-inception analyze ablation --data photos/ --output ablation/ --width 0.25 --epochs 12

    Questions: reduction (narrower 1×1 in front of 3×3 and 5×5, down to one channel), naive (none), plain (3×3
    convolutions of as many multiply-adds in place of branches), classifier (a fully connected layer in place of the
    global average), projection (none behind the pool). All together are 10 networks.

    Stopped at any moment, the same command goes on; all networks are trained with the first seed first.

    Args:
        data: As train takes it.
        output: Folder for the runs, the tables, pictures and page; it is made.
        questions: Those to ask, with commas; others can be asked later in the same folder.
        seeds: How many trainings of each network.
        minutes: After which no further training begins.
        architecture: The given network: googlenet, googlenet-bn, googlenet-small, or a file.
        width: Factor on every width of it.
        epochs: Of every training.
        batch_size: Images per step.
        image_size: Side of the square input in px.
        data_dir: Where TFDS keeps its sets.
        set: Any other field of a run's configuration; may be given several times.
    """
    from keras_inception.config import RunConfig
    from keras_inception.errors import ConfigError

    if data is None:
        raise ConfigError("no data given; give --data SOURCE")
    if output is None:
        raise ConfigError("no folder given for the trainings; give --output FOLDER")
    check_output(output, folder=True)
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; it takes a number ≥ 1")
    values = fields(
        set,
        data=data,
        data_dir=data_dir,
        image_size=image_size,
        architecture=architecture,
        width=width,
        epochs=epochs,
        batch_size=batch_size,
    )
    config = RunConfig().override(values)
    config.model.table()  # an unknown architecture is refused before TensorFlow is loaded
    load_tensorflow()
    from keras_inception.analysis.ablation import Question, ablate
    from keras_inception.analysis.ablation_page import ablation_tables, legend, write_ablation
    from keras_inception.data.decode import printable

    known = get_args(Question)
    asked: Any = listed(questions, "question", known) or known
    title = f"Ablation of {config.model.table().name} on {config.data.source}"
    lead = (
        f"Networks that differ from {config.model.table().name} in one thing, trained by the recipe "
        f"{config.training.recipe} for {config.training.epochs} epochs."
    )
    screen = console()

    def on_run(name: str, seed: int) -> None:
        say(screen, f"training {name}, seed {seed}")

    def on_result(results: "list[Result]") -> None:
        write_ablation(output, results, title=title, lead=lead)

    numbers = range(1, seeds + 1)
    results = ablate(
        config, output, questions=asked, seeds=numbers, minutes=minutes, on_run=on_run, on_result=on_result
    )
    if not any(one.seeds for one in results):
        say(screen, "nothing has been trained; give more --minutes")
        return
    for shown in ablation_tables(results):
        print_table(screen, shown)
    say(screen, legend(results))
    page = write_ablation(output, results, title=title, lead=lead)
    say(screen, f"the page, with its pictures and values, is {printable(str(page))}")
