"""The new program's part in an upgrade (USR2): answers the trial, or takes over from the previous program."""

from __future__ import annotations

import os
import sys

from starman import log
from starman.config.revision import decode_settings
from starman.errors import StarmanError
from starman.log.tracebacks import exception_line, format_exception
from starman.process.handover import FORMAT, HANDOVER_VARIABLE, IN_FILE, TRIAL_VARIABLE, Handover, decode
from starman.process.host.text_file import load_text
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.message_base import Message
    from starman.wsgi.call import Application


def take_handover() -> Handover | None:
    """The state that the previous program of this process has left; None at an ordinary start. Removes the variable.

    Raises ValueError for an invalid state, and OSError.
    """
    text = os.environ.pop(HANDOVER_VARIABLE, None)
    if text is not None and text.startswith(IN_FILE):
        text = load_text(int(text.removeprefix(IN_FILE)))
    return None if text is None else decode(text)


def settings_of_handover(handover: Handover, read: Callable[[], Settings]) -> Settings:
    """The settings that the trial has tested, because the file may have changed since; those of `read` if they are
    unusable."""
    try:
        return decode_settings(handover.settings)
    except ValueError as error:
        log.warning(f"cannot use the settings that the upgrade has tested, so they are read again: {error}")
        return read()


def answer_trial(read: Callable[[], Settings], load_by: Callable[[Settings], Application] | None = None) -> None:
    """If this process is the trial of an upgrade: load settings and application, report the result, and exit.

    `read` reads the settings. `load_by` loads the application in place of `server.load`. Returns if this is not a
    trial.
    """
    text = os.environ.pop(TRIAL_VARIABLE, None)
    if text is None:
        return
    from starman.process.channel import Channel
    from starman.process.exiting import exit_unserved
    from starman.process.forking import install_handlers
    from starman.process.long_messages import send_answer
    from starman.process.worker.stack_dumps import enable_stack_dumps

    enable_stack_dumps()
    install_handlers(stop_ends=True)
    number, fd, _ = text.split(":", 2)
    try:
        channel = Channel.of_descriptor(int(fd))
        os.set_inheritable(channel.fileno(), False)
        send_answer(channel, _tried(number, channel, read, load_by))
        exit_unserved(0)
    finally:
        # An application may have started threads that never end.
        os._exit(0)


def _tried(
    number: str, channel: Channel, read: Callable[[], Settings], load_by: Callable[[Settings], Application] | None
) -> Message:
    from starman.config.revision import decode_known_settings, encode_settings, revise_settings
    from starman.process.long_messages import receive_text
    from starman.process.messages import Approved, Failed
    from starman.server import try_settings

    version = f"starman {VERSION} on Python {'.'.join(map(str, sys.version_info[:3]))}"
    try:
        if number != str(FORMAT):
            return Failed(f"{version} hands over in format {FORMAT}, not {number}: stop the server and start it again")
        running = receive_text(channel)
        found = read()
        # What cannot change in a running server cannot change by an upgrade either: its listeners, its user.
        settings, refused = revise_settings(decode_known_settings(running, found), found)
        try_settings(settings, load_by=load_by)
        return Approved(encode_settings(settings), "\n".join([version, *refused]))
    except StarmanError as error:
        return Failed(f"{version}: {error}", error.details)
    except BaseException as error:
        return Failed(f"{version}: {exception_line(error)}", format_exception(error))
