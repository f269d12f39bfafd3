"""The ``underseal-auditor`` command's tree."""

from __future__ import annotations

import typer

from underseal_auditor.cli.approvals import app as approvals_app
from underseal_auditor.cli.ceremony import app as ceremony_app
from underseal_auditor.cli.epoch import app as epoch_app
from underseal_auditor.cli.erasures import app as erasures_app
from underseal_auditor.cli.guardian import app as guardian_app
from underseal_auditor.cli.log import app as log_app
from underseal_auditor.cli.mirror import app as mirror_app
from underseal_auditor.cli.policy import app as policy_app
from underseal_auditor.cli.registrar import app as registrar_app
from underseal_auditor.cli.shares import app as shares_app
from underseal_auditor.cli.witness import app as witness_app

app = typer.Typer(
    name="underseal-auditor",
    help="Keys, policy and release: the only program that opens a score.",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.add_typer(ceremony_app, name="ceremony")
app.add_typer(epoch_app, name="epoch")
app.add_typer(shares_app, name="shares")
app.add_typer(guardian_app, name="guardian")
app.add_typer(registrar_app, name="registrar")
app.add_typer(policy_app, name="policy")
app.add_typer(approvals_app, name="approvals")
app.add_typer(mirror_app, name="mirror")
app.add_typer(erasures_app, name="erasures")
app.add_typer(log_app, name="log")
app.add_typer(witness_app, name="witness")
