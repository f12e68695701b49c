"""A function in a process of its own, so that nothing stays behind in this one.

The process is forked from a server that has imported TensorFlow, and has run nothing
yet: it starts in less than a tenth of a second, where an import takes several.
"""

import multiprocessing
import os
import signal
import threading
import traceback

from edcn_tf.errors import InputError

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["edcn_tf.tuning.trial"])


class ProcessError(InputError):
    """What ended a process before it had a result."""


def run_apart(function, *arguments, log):
    """Calls a function in a process of its own and returns what it returns.

    It ends with this process, whatever ends that.

    Args:
        function: A function of a module.
        *arguments: What it takes; they are pickled, as is what it returns.
        log: File that what it prints is added to.

    Raises:
        ProcessError: If the function raises an error, or its process is killed.
    """
    receiver, sender = _context.Pipe(duplex=False)
    process = _context.Process(
        target=_main, args=(function, arguments, str(log), sender)
    )
    process.start()
    sender.close()
    try:
        done, value = receiver.recv()
    except EOFError:
        process.join()
        done, value = False, _reason(process.exitcode)
    finally:
        process.join(1)
        process.kill()  # where this one was interrupted
        process.join()
        receiver.close()
    if not done:
        raise ProcessError(f"{value} ({log})")
    return value


def _reason(exit_code):
    if exit_code == -signal.SIGKILL:
        return "killed by SIGKILL, as the system does where memory runs out"
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return f"ended with status {exit_code}"


def _main(function, arguments, log, sender):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the searching process is told
    threading.Thread(target=_end_with_parent, daemon=True).start()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(out, 1)
    os.dup2(out, 2)
    try:
        answer = True, function(*arguments)
    except Exception as error:
        traceback.print_exc()
        answer = False, _one_line(error)
    sender.send(answer)


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def _one_line(error):
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
