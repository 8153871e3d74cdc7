"""HUP in the master: has a child read the settings again, then requests a restart with them from the supervisor.

Wrong settings change nothing. The master itself reads no file: the modules for that (tomllib, difflib) would stay in
its memory.
"""

from __future__ import annotations

from starman import log
from starman.config.revision import decode_settings, encode_settings, revise_settings
from starman.errors import StarmanError
from starman.process.messages import Approved, Failed
from starman.process.status import Phase
from starman.process.supervision.rollout import Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.master.trial import Trial
    from starman.process.message_base import Message
    from starman.process.supervision.supervisor import Supervisor
    from starman.process.worker_spec import WorkerSpec

# How long reading the settings may take (seconds).
_READ_SECONDS = 20.0


def terms_of(settings: Settings, *, loads: bool, text: str = "") -> Terms:
    """The part of `settings` that the supervisor needs.

    loads: whether the server loads the application, rather than being passed a callable. text: the same settings,
    encoded.
    """
    terms = Terms(
        settings.workers,
        preload=settings.preload_app and loads,
        boot_timeout=settings.boot_timeout,
        graceful_timeout=settings.graceful_timeout,
        batch=settings.restart_batch,
    )
    terms.worker_timeout = settings.longest_silence
    terms.reload = settings.reload
    terms.settings = text
    terms.hooks = settings.hooks is not None
    return terms


class Reload:
    """Restarts the workers with settings that were read again. Only the master's loop calls."""

    __slots__ = ("_spec", "_supervisor", "_trial")

    def __init__(self, spec: WorkerSpec, supervisor: Supervisor, trial: Trial) -> None:
        """`trial` is used for reading settings only."""
        self._spec = spec
        self._supervisor = supervisor
        self._trial = trial

    @property
    def busy(self) -> bool:
        """Whether a child is reading the settings."""
        return self._trial.deadline is not None

    def begin(self) -> None:
        """Begin to read the settings. `check_trial` then has the workers replaced."""
        if self._supervisor.phase is Phase.STOPPING:
            return
        if self._spec.application is not None:
            log.info("restarting the workers; the application was given as a callable, so its code stays as it is")
        else:
            log.info("restarting the workers with fresh code")
        if self._spec.program.reread is None:
            self._supervisor.restart()
        else:
            self._trial.start(self._read_settings, _READ_SECONDS)

    def check_trial(self, now: float) -> bool:
        """If the settings have been read, request a restart with them, or log why not. Returns whether it requested
        one."""
        outcome = self._trial.take_outcome(now)
        if isinstance(outcome, Approved):
            for line in outcome.notes.splitlines():
                log.warning(line)
            settings = decode_settings(outcome.settings)
            log.configure(settings.log_level, settings.log_format)
            loads = self._spec.application is None
            self._supervisor.restart(terms_of(settings, loads=loads, text=outcome.settings))
        elif outcome is not None:
            self._supervisor.children.black_box.on_failed_restart(outcome.message, outcome.details, now)
            log.error(f"restart given up, the old workers stay: {outcome.describe()}")
        return isinstance(outcome, Approved)

    def _read_settings(self, channel: Channel) -> Message:
        """In the trial's child: read the settings, and compare them with those in use."""
        in_use = self._supervisor.terms.settings
        running = decode_settings(in_use) if in_use else self._spec.settings
        reread = self._spec.program.reread
        assert reread is not None
        try:
            settings, refused = revise_settings(running, reread())
            warnings = [line for line in settings.warnings() if line not in running.warnings()]
            return Approved(encode_settings(settings), "\n".join([*refused, *warnings]))
        except StarmanError as error:
            return Failed(str(error), error.details)
