"""``compactproofs gate serve``: a gate for other programs on this machine."""

import json as json_module
import signal
from pathlib import Path
from typing import Annotated

import typer

from ..kernel import OptionError, UserError
from ._gate import GateDirectory, OfNetwork, fraction, load_subject


def serve(
    directory: Annotated[Path, GateDirectory],
    network: Annotated[str, OfNetwork],
    port: Annotated[int, typer.Option(help="On 127.0.0.1; 0 takes a free one.")] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="Of mode 600: TOKEN or NAME TOKEN a line; made if it is not there "
            "(default: the gate's directory with .token after its name)."
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            help="Data as gate watch has --mine: every input is tested, and once inputs are not "
            "like the counted ones the service refuses all until it is started again."
        ),
    ] = None,
    watch_alpha: Annotated[
        str, typer.Option(help="Probability of a false alarm of --watch, ever.")
    ] = "1/1000",
    rate: Annotated[float, typer.Option(help="Requests a second of each client.")] = 2000.0,
    body: Annotated[int, typer.Option(help="Most bytes of a request.")] = 4 << 20,
    batch: Annotated[int, typer.Option(help="Most inputs of a request.")] = 1024,
) -> None:
    """Serve POST /admit, GET /status and GET /healthz on 127.0.0.1 until SIGTERM or Ctrl-C.

    Clients send Authorization: Bearer TOKEN. Logs are JSON lines on stderr.
    """
    for name, value in (("rate", rate), ("body", body), ("batch", batch)):
        if not value >= 1:
            raise OptionError(f"--{name} {value}: pass 1 or more")
    try:
        from ..gate._serve import Served, create_app, listen, log_to_stderr, server_of
        from ..gate._serve_guard import Limits
        from ..gate._serve_tokens import read_or_create_tokens
    except ImportError as error:
        raise UserError(
            f"serving needs FastAPI and uvicorn ({error.name} is missing): "
            "pip install 'compactproofs[serve]'"
        ) from None
    from ..gate import Gate
    from ..gate._judge import GateJudge, head_of
    from ..gate._watch import LiveWatch

    subject = load_subject(network)
    live = None
    if watch is not None:
        gate = Gate.open(directory, subject.network)
        mined, level = gate.activations(subject.inputs(watch)), fraction("watch-alpha", watch_alpha)
        live = LiveWatch(
            gate,
            mined,
            level,
            lambda reason: log_to_stderr(
                json_module.dumps({"event": "watch fired", "reason": reason})
            ),
        )
    served = Served(lambda: GateJudge(directory, subject.network, live), lambda: head_of(directory))
    file = token_file or directory.with_name(f"{directory.resolve().name}.token")
    tokens = read_or_create_tokens(file)
    app = create_app(served, tokens, Limits(body=body, rate=rate, batch=batch), log_to_stderr)
    # The server ends what it has begun, and then passes the signal on to this.
    signal.signal(signal.SIGTERM, _end)
    with listen(port) as listener:
        where = listener.getsockname()
        log_to_stderr(
            json_module.dumps(
                {"event": "listening", "host": where[0], "port": where[1], "tokens": str(file)}
            )
        )
        server_of(app).run(sockets=[listener])


def _end(*_: object) -> None:
    raise typer.Exit
