"""When a training is measured, saved and over: functions of how far it has come."""

import signal

from axone.llm.checkpoints.checkpoint import TrainingState
from axone.llm.training.callbacks import Outcome
from axone.llm.training.config import TrainerConfig


class Pace:
    """What is due, by a TrainerConfig.

    Parameters
    ----------
    config : TrainerConfig
    """

    def __init__(self, config: TrainerConfig) -> None:
        self._config = config

    def is_finished(self, progress: TrainingState) -> bool:
        """Tell whether no step is left, or no patience."""
        patience = self._config.early_stopping_patience
        impatient = patience is not None and progress.evaluations_since_best >= patience
        return progress.step >= self._config.steps or impatient

    def is_complete(self, progress: TrainingState) -> bool:
        """Tell whether there is nothing left to do: finished, and all of the held-out text measured."""
        return self.is_finished(progress) and progress.full_loss is not None

    def is_evaluation_due(self, progress: TrainingState) -> bool:
        """Tell whether the held-out text is to be measured before the next step."""
        if self.is_finished(progress):
            return progress.full_loss is None
        return progress.step > 0 and progress.step % self._config.eval_every == 0 and progress.validation_loss is None

    def is_save_due(self, progress: TrainingState) -> bool:
        """Tell whether a checkpoint is to be written: at the start, after measuring, and when it is time."""
        every = self._config.save_every
        timely = every is not None and progress.step % every == 0
        return progress.step == 0 or progress.validation_loss is not None or timely

    def outcome(self, progress: TrainingState, number: int | None) -> Outcome:
        """Return how training ended: a signal counts if it left something to do."""
        if not self.is_complete(progress):
            return "terminated" if number == signal.SIGTERM else "interrupted"
        return "finished" if progress.step >= self._config.steps else "stopped"
