"""Export records and arms as files or to the visitor's account, and import records from other machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_space

from neftune_core.errors import DataError, InvalidSetting, NotAvailable, RecordError
from neftune_core.export.archive import import_record, pack, pack_record
from neftune_core.export.report import write_report
from neftune_core.home import folder_bytes
from neftune_core.language import later, say
from neftune_core.noise.names import arm_words
from neftune_core.studies.records.record import Record, asked_from, find
from neftune_core.sweeps.table import write_table
from neftune_core.ui.parts.markup import quiet
from neftune_core.ui.parts.wiring import LATEST, QUIET, events, reports_errors
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.uploads import keep_uploads_at_home, output_folder, upload_quota

RECORD = "record"
FORMS = {
    RECORD: later("The whole record, to open in another lab"),
    "adapter": later("One arm: its adapter (PEFT)"),
    "merged": later("One arm: the whole model (transformers)"),
    "script": later("Code: study.toml and a script for transformers and PEFT"),
    "report": later("Report: one HTML file to read, print or send"),
}
OF_A_SWEEP = {"report": FORMS["report"], "table": later("Table: every arm with its effects and seeds, as JSON")}
OF_AN_ARM = ("adapter", "merged")


REPOSITORY_INFO = later(
    "If the repository does not exist, it is created, and is private unless you choose otherwise. An existing "
    "repository keeps its visibility."
)


def build(lab: Lab, key: gr.Textbox, record_id: gr.Textbox, finished: gr.State) -> None:
    """Build the export section of the Runs tab for the opened record.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key.
        record_id: Component with the id of the opened record.
        finished: State that changes when a watched study ends.
    """
    with gr.Accordion(say("Export"), open=False, visible=False, elem_id="runs-take") as box:
        form = gr.Radio(
            [(say(words), name) for name, words in FORMS.items()],
            value=RECORD,
            label=say("Contents"),
            elem_id="take-what",
        )
        arm = gr.Dropdown([], label=say("Arm"), visible=False, elem_id="take-arm")
        make = gr.Button(say("Create the file"), size="md", elem_id="take-make")
        file = gr.File(label=say("Your file"), interactive=False, visible=False, elem_id="take-file", height=90)
        # Visitors can sign in on a Space that enables OAuth.
        account = _account() if get_space() is not None and os.environ.get("OAUTH_CLIENT_ID") else None
        said = gr.HTML(apply_default_css=False, elem_id="take-said")
    chosen = [key, record_id, form, arm]
    record_id.change(reports_errors(_record_updates), chosen[:2], [box, form, arm, file, said], **QUIET)
    # The arms are listed again when the list is shown and when a study ends, since it may have saved more arms.
    gr.on([form.input, events(finished).change], reports_errors(_arm_update), chosen, arm, **LATEST)
    make.click(reports_errors(_maker(lab)), chosen, [file, said], **QUIET, concurrency_limit=1)
    if account is not None:
        *settings, push = account
        events(push).click(reports_errors(_upload), [*chosen, *settings], said, **QUIET, concurrency_limit=1)


def build_import(lab: Lab, key: gr.Textbox) -> gr.Textbox:
    """Build the components that import a record from another machine.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key.

    Returns:
        A component with the id of the last imported record.
    """
    imported = gr.Textbox(visible=False, label=say("Record"))
    with gr.Accordion(say("Import a record from another installation"), open=False, elem_id="runs-bring"):
        file = gr.File(label=say("The zip file of a record"), file_types=[".zip"], elem_id="bring-file", height=110)

    @reports_errors
    def import_file(key: str, given: Any) -> str:
        """Import a record.

        Args:
            key: The visitor's key.
            given: Path of the uploaded zip file; None for none.

        Returns:
            Id of the record.

        Raises:
            DataError: If no file was chosen.
        """
        if not given:
            raise DataError(say("No file was chosen: choose the zip file of a record."))
        lab.jobs.admit(asked_from.get())  # an import counts as a new study
        return import_record(Path(str(given)), require_key(key), lab.limits).id

    file.upload(import_file, [key, file], imported, **QUIET, concurrency_limit=2)
    return imported


def _account() -> tuple[gr.Textbox, gr.Checkbox, gr.Button]:
    """Build the components of the upload: name of the repository, whether it is public, and the button."""
    gr.LoginButton(size="md", elem_id="take-sign-in")
    name = gr.Textbox(
        "",
        label=say("Repository in your account"),
        info=say(REPOSITORY_INFO),
        max_length=96,
        elem_id="take-name",
    )
    public = gr.Checkbox(False, label=say("Make it public"), elem_id="take-public")
    return name, public, gr.Button(say("Upload to your account"), size="md", elem_id="take-push")


def _record_updates(key: str, record_id: str) -> list[Any]:
    record = find(record_id, require_key(key)) if record_id else None
    forms = OF_A_SWEEP if record and record.is_sweep else FORMS
    arms = _arms(record)
    return [
        gr.update(visible=record is not None),
        gr.update(choices=[(say(words), name) for name, words in forms.items()], value=next(iter(forms))),
        gr.update(choices=_listed(arms), value=next(iter(arms), None), visible=False),
        gr.update(value=None, visible=False),
        "",
    ]


def _arms(record: Record | None) -> dict[str, str]:
    """Return the saved arms as labels by choice, such as `uniform-alpha-5 / seed 0`; best weights come last."""
    from neftune_core.studies.comparison import saved_arms, saved_best, saved_seeds

    if record is None or record.is_sweep:
        return {}
    with contextlib.suppress(RecordError):
        seeds = saved_seeds(record)
        saved = [(arm, seed) for of in (saved_arms, saved_best) for seed in seeds for arm in of(record, seed)]
        return {f"{arm} / seed {seed}": f"{arm_words(arm)} / {say('seed {seed}', seed=seed)}" for arm, seed in saved}
    return {}


def _listed(arms: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(words, name) for name, words in arms.items()]


def _arm_update(key: str, record_id: str, form: str, arm: str | None) -> Any:
    try:
        arms = _arms(find(record_id, require_key(key)) if record_id else None)
    except RecordError:  # deleted in the meantime
        arms = {}
    chosen = arm if arm in arms else next(iter(arms), None)
    return gr.update(choices=_listed(arms), value=chosen, visible=form in OF_AN_ARM)


def _maker(lab: Lab) -> Callable[..., list[Any]]:
    def make(key: str, record_id: str, form: str, arm: str | None) -> list[Any]:
        """Make a file of a record.

        Args:
            key: The visitor's key.
            record_id: Id of the record.
            form: Kind of the file.
            arm: Arm and seed, as for `chosen_arm`; used only by files of one arm.

        Returns:
            The download button, and a note.
        """
        record = find(record_id, require_key(key))
        named = chosen_arm(arm) if form in OF_AN_ARM else ()
        folder, quota = output_folder("take", key, record.id, form, *map(str, named)), upload_quota(lab.limits)
        with quota.reserved(asked_from.get(), folder_bytes(record.folder)):
            try:
                made = _write_file(lab, record, form, arm, folder)
            except BaseException:
                with contextlib.suppress(OSError):  # an earlier file in the folder is kept
                    folder.rmdir()
                raise
        quota.keep(asked_from.get(), made)
        ready = quiet(say("The file is ready and stays available for a day."))
        return [gr.update(value=str(made), visible=True), ready]

    return make


def _write_file(lab: Lab, record: Record, form: str, arm: str | None, folder: Path) -> Path:
    """Write a record in the chosen form into `folder`, and return the path of the file."""
    from neftune_core.export.script import script_archive

    if form == RECORD:
        return pack_record(record, folder / f"{record.id}.zip")
    if form == "script":
        return script_archive(record, folder / f"study-{record.id}.zip", lab.limits)
    if form == "report":
        return write_report(record, folder / f"report-{record.id}.html")
    if form == "table":
        return write_table(record, folder / f"table-{record.id}.json")
    return Path(_with_arm(record, form, arm, lambda model, name: pack(model, folder / f"{name}.zip", name)))


def chosen_arm(chosen: str | None) -> tuple[str, int]:
    """Parse a choice such as "control / seed 0" into arm and seed.

    Raises:
        InvalidSetting: If the choice is malformed.
    """
    name, _, seed = (chosen or "").partition(" / seed ")
    if not (seed.isascii() and seed.isdigit() and len(seed) <= 10):
        raise InvalidSetting(say("Choose an arm first."))
    return name, int(seed)


def _with_arm(record: Record, form: str, arm: str | None, use: Callable[[Path, str], Any]) -> Any:
    """Write an arm to a temporary folder, and return `use(folder, name)`."""
    from neftune_core.export.models import write_model

    name, seed = chosen_arm(arm)
    # If this process is killed, the folder is deleted later with the uploads.
    folder = Path(tempfile.mkdtemp(prefix="arm-", dir=keep_uploads_at_home()))
    try:
        write_model(record, name, seed, form, folder / "model")
        return use(folder / "model", f"{record.id}-{name}-seed-{seed}-{form}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _upload(
    key: str, record_id: str, form: str, arm: str | None, name: str, public: bool, token: gr.OAuthToken | None
) -> str:
    """Upload an arm; connect this only if visitors can sign in, since Gradio would otherwise use the host's account.

    Raises:
        NotAvailable: If the visitor is not signed in.
        InvalidSetting: If `form` is not a model.
    """
    from neftune_core.space.folder import push_model

    if token is None:
        raise NotAvailable(say("Sign in first with the button above: the upload goes to your own account."))
    if form not in OF_AN_ARM:
        raise InvalidSetting(say("Only models can be uploaded: choose the adapter or the whole model of one arm."))
    record = find(record_id, require_key(key))
    repository = name.strip() or f"neftune-{record.id}"
    address = _with_arm(
        record, form, arm, lambda model, _: push_model(model, repository, token=token.token, private=not public)
    )
    return quiet(say("Uploaded to {address}.", address=address))
