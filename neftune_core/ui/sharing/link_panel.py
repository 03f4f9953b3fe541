"""The panel of a copied link: its QR code, and buttons that share a study that has ended or create a class."""

from __future__ import annotations

from typing import Any

import gradio as gr

from neftune_core.errors import InvalidSetting
from neftune_core.language import later, say
from neftune_core.studies.records.record import asked_from
from neftune_core.studies.sharing.classes import LIFETIME_DAYS, make_class
from neftune_core.studies.sharing.shares import share, shared_link, withdraw
from neftune_core.ui.parts.markup import page_html
from neftune_core.ui.parts.plot import scripted
from neftune_core.ui.parts.strip import code_of
from neftune_core.ui.parts.wiring import QUIET, events, reports_errors
from neftune_core.ui.server.lab import Lab, require_key
from neftune_core.ui.server.rate_limits import HOUR, TooManyCalls, Window

CLASSES_AN_HOUR = 20
OPENS_SETTINGS = later("Anyone who scans the code opens the page with these settings.")
OPENS_STUDY = later(
    "Anyone with this link can read the study: its curves, verdict and settings, and the answers with their prompts, "
    "but not your rows. Nobody can change it, and you can withdraw the link."
)
OPENS_CLASS = later(
    "Class {code}: anyone with this link can join the class and see all its studies. The class ends after {days} days."
)
WITHDRAWN = later("The link has been withdrawn.")
NOT_HERE = later("The host of this server does not let visitors share studies.")


def build(lab: Lab, key: gr.Textbox) -> None:
    """Build the panel, which opens when a link is copied.

    Args:
        lab: The state shared by all visitors.
        key: Component with the visitor's key.
    """
    panel = scripted("link-code", page_html("link-code"), elem_id="lab-link-code")
    classes = Window(CLASSES_AN_HOUR, HOUR)

    @reports_errors
    def answer(key: str, pressed: gr.EventData) -> dict[str, Any]:
        """Perform the action of the pressed button.

        Args:
            key: The visitor's key.
            pressed: The event, with `link`, `job` and `action`.

        Returns:
            The content of the panel.
        """
        given = {name: str(getattr(pressed, name, "") or "") for name in ("link", "job", "action")}
        return content(lab, classes, key, **given)

    events(panel).click(answer, key, panel, trigger_mode="always_last", **QUIET)


def content(lab: Lab, classes: Window, key: str, link: str, job: str, action: str) -> dict[str, Any]:
    """Return the content of the panel after an action.

    Args:
        lab: The state shared by all visitors.
        classes: Limit on new classes per IP address.
        key: The visitor's key.
        link: Link to the page with its settings.
        job: Id of the study shown on the page; "" for none.
        action: "share", "withdraw" or "class"; "" if the link was copied.

    Returns:
        The result of `code_of`, an explanation as `about`, the available actions as `offers`, and `copied` if the
        browser should copy the link.

    Raises:
        LabError: If the action fails.
        InvalidSetting: If this server does not offer sharing.
    """
    if action and not lab.limits.sharing:
        raise InvalidSetting(say(NOT_HERE))
    if action == "class":
        return _new_class(link, require_key(key), classes)
    if action == "share":
        shared = f"{link.partition('?')[0]}?shared={share(job, require_key(key))}"
        return {**code_of(shared), "about": say(OPENS_STUDY), "offers": ["withdraw"], "copied": True}
    if action == "withdraw":
        withdraw(job, require_key(key))
    is_known = lab.limits.sharing and bool(key)
    mine = shared_link(job, key) if is_known and job else None
    found = {"share": mine is not None, "withdraw": bool(mine), "class": is_known}
    about = say(WITHDRAWN if action == "withdraw" else OPENS_SETTINGS)
    return {**code_of(link), "about": about, "offers": [name for name, offered in found.items() if offered]}


def _new_class(page: str, owner: str, counted: Window) -> dict[str, Any]:
    if counted.wait(asked_from.get()):
        raise TooManyCalls(
            say(
                "Too many classes were created from your IP address within an hour: try again later, or use one "
                "of the classes already created."
            )
        )
    code = make_class(owner)
    link = f"{page.partition('?')[0]}?class={code}"
    about = say(OPENS_CLASS, code=code, days=LIFETIME_DAYS)
    return {**code_of(link), "about": about, "offers": ["open"], "copied": True}
