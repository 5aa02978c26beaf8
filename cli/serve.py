"""act-model serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from . import console, tables
from .options import Checkpoint, Json, Runtime


def serve(
    checkpoint: Checkpoint = None,
    bind: Annotated[str, typer.Option(help="ADDRESS:PORT, or unix:FILE.")] = "127.0.0.1:8765",
    token_file: Annotated[
        Path | None, typer.Option(help="Clients must send the token in it.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    runtime: Runtime = "torch",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    json: Json = False,
) -> None:
    """Answer observations with actions over a websocket, until Ctrl-C or SIGTERM.

    For our own client and for openpi's. Only this machine is served without token and TLS.

    Example: act-model serve run/best --bind 127.0.0.1:8765
    """
    with console.errors():
        from act_model.lineage import find_checkpoint
        from act_model.serve.access import access_of
        from act_model.serve.server import serve_policy

        access = access_of(bind, token_file=token_file, tls_cert=tls_cert, tls_key=tls_key)
        folder = find_checkpoint(checkpoint)
        report = serve_policy(
            folder,
            access,
            runtime=runtime,
            device=device,
            ready=lambda url: console.say(f"serving {folder} at {url}"),
        )
        if json:
            console.write_json(report.model_dump(mode="json"))
            return
        requests = ", ".join(f"{n} {outcome}" for outcome, n in report.requests.items() if n)
        console.out.print(
            Text(
                f"served {report.url} for {report.seconds:.1f} s: {report.sessions} sessions, "
                f"requests: {requests or 'none'}; {report.malformed} malformed messages, "
                f"{report.turned_away} turned away, mean inference "
                f"{tables.ms(report.mean_infer_ms)} ms"
            ),
            soft_wrap=True,
        )
